"""The LMDB store: the conformance suite, several processes, crashes, growth and clear errors."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import lmdb
import pytest
import store_workers
from conformance import StoreConformance
from store_examples import DAY_MS, consent, contact, same_vector, vector

from feature_store.embedded import EmbeddedStore, environment, open_embedded
from feature_store.errors import StoreCorrupt, StoreRefused, StoreUnavailable
from feature_store.state import ConsentState, CustomerChange, Identity

SPAWN = multiprocessing.get_context("spawn")
TINY_MAP = 128 << 10
FAR_FUTURE_MS = 1 << 50
PHONE = Identity("phone", "+41790000000")


class TestEmbeddedStore(StoreConformance):
    """The store on LMDB is an online store."""

    open_store = staticmethod(open_embedded)
    reopen = staticmethod(open_embedded)


def _start(target: object, *arguments: object) -> tuple[BaseProcess, Connection]:
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(*arguments, there), daemon=True)  # type: ignore[arg-type]
    process.start()
    there.close()
    return process, here


def test_state_survives_closing(tmp_path: Path) -> None:
    """What was written is there when the directory is opened again."""
    store = open_embedded(tmp_path)
    store.put_customers([("c1", vector(7.0))])
    store.put_consents([("c1", consent())])
    store.close()

    reopened = open_embedded(tmp_path)
    state = reopened.read("c1")
    reopened.close()

    assert state is not None
    assert same_vector(state.features, vector(7.0))
    assert state.consents == (consent(),)


def test_processes_count_exactly(tmp_path: Path) -> None:
    """Four processes that record contacts at once lose none and count the shared one once."""
    store = open_embedded(tmp_path)
    store.put_customers([("c1", vector())])
    workers = [SPAWN.Process(target=store_workers.record_contacts, args=(tmp_path, n, 25)) for n in range(4)]

    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    state = store.read("c1")
    store.close()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert state is not None
    assert [event.at_ms for event in state.contacts] == list(range(101))


def test_objection_is_seen_by_the_next_read_elsewhere(tmp_path: Path) -> None:
    """When `put_consents` returned in one process, the next read in another obeys it."""
    store = open_embedded(tmp_path)
    names = [f"c{i}" for i in range(20)]
    store.put_customers((name, vector()) for name in names)
    store.put_consents((name, consent()) for name in names)
    process, pipe = _start(store_workers.object_on_request, tmp_path)
    assert pipe.recv() == "open"

    states = []
    for name in names:
        pipe.send(name)
        pipe.recv()
        read = store.read(name)
        states.append(read.consents[0].state if read else None)

    pipe.send(None)
    process.join(60)
    store.close()
    assert states == [ConsentState.OBJECTED] * len(names)


def test_killed_writer_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """After kill -9 every acknowledged contact and claim is there, and others can write on."""
    survivor = open_embedded(tmp_path)
    survivor.put_customers([("c1", vector())])
    process, pipe = _start(store_workers.write_until_killed, tmp_path)

    acknowledged = [pipe.recv() for _ in range(60)]
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(60)
    while pipe.poll():
        try:
            acknowledged.append(pipe.recv())
        except EOFError:
            break

    state = survivor.read("c1")
    assert state is not None
    assert {event.at_ms for event in state.contacts} >= set(acknowledged)
    assert all(survivor.claim(str(i), b"", now_ms=1, ttl_ms=0) == b"held" for i in acknowledged)
    assert survivor.record_contact("c1", contact(10**6), key="after")
    survivor.close()


def test_slots_of_killed_readers_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all reader slots taken a read says so; when their holder was killed, reads go on."""
    monkeypatch.setattr(environment, "MAX_READERS", 1)
    store = open_embedded(tmp_path)
    process, pipe = _start(store_workers.read_and_wait, tmp_path)
    assert pipe.recv() == "read"

    with pytest.raises(StoreUnavailable, match="reader slots are taken"):
        store.read("c1")
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(60)

    assert store.read("c1") is None
    store.close()


def test_map_grows_and_other_processes_follow(tmp_path: Path) -> None:
    """A store outgrows its map while others have it open; they read and write on."""
    store = open_embedded(tmp_path, map_size_bytes=TINY_MAP)
    store.put_customers([("first", vector())])
    process = SPAWN.Process(target=store_workers.put_many, args=(tmp_path, TINY_MAP, 5_000))

    process.start()
    process.join(60)

    read = store.read("c004999")
    store.put_customers((f"d{i:06d}", vector(*range(100))) for i in range(5_000))
    names = list(store.customers())
    store.close()
    assert process.exitcode == 0
    assert read is not None
    assert len(names) == 10_001


def test_threads_read_while_the_map_grows(tmp_path: Path) -> None:
    """Growing the map never pulls it from under a reading thread."""
    store = open_embedded(tmp_path, map_size_bytes=TINY_MAP)
    store.put_customers([("c1", vector(1.0, 2.0))])

    def grow(part: int) -> bool:
        store.put_customers((f"x{part}-{i}", vector(*range(100))) for i in range(500))
        return True

    def read(_: int) -> bool:
        return all(same_vector(s.features, vector(1.0, 2.0)) for s in [store.read("c1")] * 50 if s)

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(grow if i % 4 == 0 else read, i) for i in range(48)]
        done = [job.result() for job in jobs]

    count = len(list(store.customers()))
    store.close()
    assert all(done)
    assert count == 1 + 12 * 500


def test_full_disk_is_told_and_harms_nothing(tmp_path: Path) -> None:
    """A write without room raises StoreFull; reads go on, and so do writes once there is room."""
    process, pipe = _start(store_workers.fill_the_disk, tmp_path)

    error, (values, names) = pipe.recv(), pipe.recv()
    process.join(60)

    assert error.startswith("StoreFull: ")
    assert "free space" in error
    assert (values, names) == ([1.0], ["c0", "later"])


def test_directory_is_opened_once_in_a_process(tmp_path: Path) -> None:
    """A second opening in one process is refused in words, and the first stays good."""
    store = open_embedded(tmp_path)
    store.put_customers([("c1", vector())])

    with pytest.raises(StoreUnavailable, match="has it open already"):
        open_embedded(tmp_path)

    state = store.read("c1")
    store.close()
    open_embedded(tmp_path).close()
    assert state is not None


def test_path_that_is_no_directory(tmp_path: Path) -> None:
    """A data directory that is a file is named in the error."""
    (tmp_path / "data").write_text("")

    with pytest.raises(StoreUnavailable, match="data: cannot be opened"):
        open_embedded(tmp_path / "data")


def test_file_that_is_no_database(tmp_path: Path) -> None:
    """A database file that holds something else is StoreCorrupt, with what to do."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "data.mdb").write_bytes(b"not a database" * 1000)

    with pytest.raises(StoreCorrupt, match="move the directory away"):
        open_embedded(tmp_path)


def test_files_are_private(tmp_path: Path) -> None:
    """Customer data is readable by its owner only."""
    open_embedded(tmp_path / "data").close()

    modes = {p.stat().st_mode & 0o077 for p in (tmp_path / "data").rglob("data.mdb")}

    assert modes == {0}


@pytest.mark.parametrize("kind", [b"customers", b"consents", b"contacts", b"signals"])
def test_value_of_another_customer_is_never_returned(tmp_path: Path, kind: bytes) -> None:
    """Stored bytes that were moved to another customer's key are refused on read and on write."""
    store = open_embedded(tmp_path)
    store.put_customers([("c1", vector()), ("c2", vector())])
    store.put_consents([("c1", consent())])
    store.record_contact("c1", contact(), key="k")
    store.put_signals("c1", [])
    store.close()
    with lmdb.open(str(tmp_path / "state"), max_dbs=5) as env, env.begin(write=True) as txn:
        database = env.open_db(kind, txn=txn)
        txn.put(b"c2", txn.get(b"c1", db=database) or b"", db=database)
    store = open_embedded(tmp_path)

    with pytest.raises(StoreCorrupt, match="belongs to another customer"):
        store.read("c2")

    assert store.read("c1") is not None
    store.close()


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (b"stream", lambda store: store.update(["c2"], lambda _, record: None)),
        (b"carried", lambda store: store.identities("c2")),
    ],
)
def test_value_of_another_customer_is_never_updated(
    tmp_path: Path, kind: bytes, call: Callable[[EmbeddedStore], object]
) -> None:
    """What ingestion remembers and the identities of one customer are never taken for another's."""
    store = open_embedded(tmp_path)
    store.update(["c1"], lambda _, record: CustomerChange(stream=b"seen"))
    store.link([(PHONE, "c1")])
    store.close()
    with lmdb.open(str(tmp_path / "state"), max_dbs=5) as env, env.begin(write=True) as txn:
        database = env.open_db(kind, txn=txn)
        txn.put(b"c2", txn.get(b"c1", db=database) or b"", db=database)
    store = open_embedded(tmp_path)

    with pytest.raises(StoreCorrupt, match="belongs to another customer"):
        call(store)

    store.close()


def test_customer_with_damaged_values_is_erased_too(tmp_path: Path) -> None:
    """Erasure needs no value to be whole: identities are searched for where their list is damaged."""
    store = open_embedded(tmp_path)
    store.put_customers([("c1", vector()), ("c2", vector())])
    store.link([(PHONE, "c1"), (PHONE, "c2")])
    store.close()
    with lmdb.open(str(tmp_path / "state"), max_dbs=5) as env, env.begin(write=True) as txn:
        for kind in (b"customers", b"contacts", b"carried"):
            txn.put(b"c1", b"damaged", db=env.open_db(kind, txn=txn))
    store = open_embedded(tmp_path)

    erased = store.erase("c1")

    left = store.resolve(PHONE), store.identities("c1"), list(store.customers())
    store.close()
    assert erased is True
    assert left == (("c2",), (), ["c2"])


def test_a_failing_write_does_not_take_others_along(tmp_path: Path) -> None:
    """Writes that share a commit with one that fails are kept; only that one fails."""
    store = open_embedded(tmp_path)
    store.put_customers([("good", vector())])
    store.close()
    with lmdb.open(str(tmp_path / "state"), max_dbs=5) as env, env.begin(write=True) as txn:
        txn.put(b"bad", b"damaged", db=env.open_db(b"contacts", txn=txn))
    store = open_embedded(tmp_path)

    def record(i: int) -> str:
        try:
            return str(store.record_contact("bad" if i % 4 == 0 else "good", contact(i), key=str(i)))
        except StoreCorrupt:
            return "corrupt"

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(record, range(80)))

    state = store.read("good")
    store.close()
    assert told == ["corrupt" if i % 4 == 0 else "True" for i in range(80)]
    assert state is not None
    assert len(state.contacts) == 60


def test_expired_claims_do_not_pile_up(tmp_path: Path) -> None:
    """A long run of claims leaves only the living ones behind."""
    store = open_embedded(tmp_path)

    for i in range(300):
        store.claim(f"r{i}", b"x" * 100, now_ms=i * 10, ttl_ms=100)
    store.claim("last", b"x", now_ms=10_000, ttl_ms=100)
    store.claim("last-2", b"x", now_ms=10_000, ttl_ms=100)
    store.close()

    with lmdb.open(str(tmp_path / "claims"), max_dbs=2) as env, env.begin() as txn:
        left = [txn.stat(env.open_db(name, txn=txn))["entries"] for name in (b"claims", b"expiries")]
    assert left == [2, 2]


def test_claims_of_an_earlier_boot_are_forgotten(tmp_path: Path) -> None:
    """Claims are not fsynced, so a directory from before a reboot starts without them, state kept."""
    store = open_embedded(tmp_path)
    store.put_customers([("c1", vector())])
    store.claim("r1", b"first", now_ms=0, ttl_ms=100)
    store.close()
    (tmp_path / "claims.boot").write_text("another boot")
    (tmp_path / "claims" / "data.mdb").write_bytes(b"torn by the power cut" * 1000)

    store = open_embedded(tmp_path)
    held = store.claim("r1", b"second", now_ms=0, ttl_ms=100)
    state = store.read("c1")
    store.close()

    assert held is None
    assert state is not None


def test_claims_of_this_boot_survive_closing(tmp_path: Path) -> None:
    """A restarted server still knows the claims of the one before."""
    store = open_embedded(tmp_path)
    store.claim("r1", b"first", now_ms=0, ttl_ms=100)
    store.close()

    store = open_embedded(tmp_path)
    held = store.claim("r1", b"second", now_ms=0, ttl_ms=100)
    store.close()

    assert held == b"first"


def test_contact_from_a_wrong_clock_does_not_wipe_history(tmp_path: Path) -> None:
    """A contact dated far ahead counts, and the contacts that caps need stay."""
    now_ms = 1_000 * DAY_MS
    store = open_embedded(tmp_path, clock=lambda: now_ms)
    store.put_customers([("c1", vector())])
    store.record_contact("c1", contact(now_ms), key="true")

    store.record_contact("c1", contact(FAR_FUTURE_MS), key="wrong")

    state = store.read("c1")
    store.close()
    assert state is not None
    assert [event.at_ms for event in state.contacts] == [now_ms, FAR_FUTURE_MS]


def test_history_is_as_long_as_asked(tmp_path: Path) -> None:
    """The window of kept contacts is a setting of the store."""
    store = open_embedded(tmp_path, contact_history_ms=DAY_MS)
    store.put_customers([("c1", vector())])
    store.record_contact("c1", contact(DAY_MS), key="old")

    store.record_contact("c1", contact(3 * DAY_MS), key="new")

    state = store.read("c1")
    store.close()
    assert state is not None
    assert [event.at_ms for event in state.contacts] == [3 * DAY_MS]


def test_overlong_id_is_refused(tmp_path: Path) -> None:
    """An id beyond what the store can index is refused with its length."""
    store = open_embedded(tmp_path)

    with pytest.raises(StoreRefused, match="600 bytes"):
        store.record_contact("x" * 600, contact(), key="k")

    store.close()
