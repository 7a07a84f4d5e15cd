"""What other processes do in the tests of a shared data directory; started by spawn."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from store_examples import consent, contact, reservation, vector

from feature_store.bulk import load_table
from feature_store.embedded import open_embedded
from feature_store.errors import StoreError
from feature_store.schema import parse_schema
from feature_store.state import ConsentState, CustomerChange, CustomerRecord, Demand
from feature_store.store import OnlineStore
from feature_store.tables import BLOCK_ROWS, ColumnMap, open_table


@dataclass(frozen=True, slots=True)
class Won:
    """What one worker got in a race."""

    reserved: int
    taken: int
    counted: int


def race(store: OnlineStore, worker: int, rounds: int) -> Won:
    """Plays every round against the other workers.

    For each there is one reservation of customer c1 to get and one contact of c2 to count; of a budget
    there are as many units as rounds for all together, of another three times as many, half of them given
    back at once; and everyone counts to `rounds` in the streams of c3 and c4.
    """
    reserved = taken = counted = 0
    for i in range(rounds):
        reserved += _reserve_once(store, worker, i)
        taken += not store.take([Demand("few", rounds, 1_000)], key=f"{worker}:{i}", now_ms=i, until_ms=5_000)
        back = f"{worker}:{i}:back"
        if not store.take([Demand("back", 3, 1_000)], key=back, now_ms=i, until_ms=5_000):
            store.settle(["back"], key=back, now_ms=i, spent=False)
        counted += store.record_contact("c2", contact(i), key=f"shared {i}")
        store.record_contact("c2", contact(i), key=f"{worker}:{i}")
        store.update(["c3", "c4"], count_up)
    return Won(reserved, taken, counted)


def _reserve_once(store: OnlineStore, worker: int, i: int) -> bool:
    """Whether this worker made the one reservation that there may be for the action of a round."""
    while True:
        state = store.read("c1")
        assert state is not None
        if any(event.action_id == f"action {i}" for event in state.contacts):
            return False
        if store.reserve(state, [reservation(i, key=f"{worker}:{i}", action=f"action {i}")]):
            return True


def count_up(_: str, record: CustomerRecord) -> CustomerChange:
    """One more in the customer's stream, and a due mark of that number."""
    count = int.from_bytes(record.stream, "big") + 1
    return CustomerChange(stream=count.to_bytes(4, "big"), due_at_ms=count)


def race_in_process(
    reopen: Callable[[Path], OnlineStore], data_dir: Path, worker: int, rounds: int, pipe: Connection
) -> None:
    """Opens the store, waits for the start, races and sends what it got."""
    store = reopen(data_dir)
    pipe.send("open")
    pipe.recv()
    pipe.send(race(store, worker, rounds))
    store.close()


def record_contacts(data_dir: Path, worker: int, count: int) -> None:
    """Records contacts of its own, and one under a key that all workers use."""
    store = open_embedded(data_dir)
    store.record_contact("c1", contact(0), key="shared")
    for i in range(count):
        store.record_contact("c1", contact(1 + worker * count + i), key=f"{worker}:{i}")
    store.close()


def object_on_request(data_dir: Path, pipe: Connection) -> None:
    """Opens the store, says so, and records one objection for every message until None."""
    store = open_embedded(data_dir)
    pipe.send("open")
    while (customer := pipe.recv()) is not None:
        store.put_consents([(customer, consent(ConsentState.OBJECTED, at_ms=5_000))])
        pipe.send("recorded")
    store.close()


def write_until_killed(data_dir: Path, pipe: Connection) -> None:
    """Records contacts and claims, telling the number of each only after it was acknowledged."""
    store = open_embedded(data_dir)
    i = 0
    while True:
        store.record_contact("c1", contact(i), key=str(i))
        store.claim(str(i), b"held", now_ms=0, ttl_ms=1_000)
        pipe.send(i)
        i += 1


def read_and_wait(data_dir: Path, pipe: Connection) -> None:
    """Takes a reader slot and keeps it until killed."""
    store = open_embedded(data_dir)
    store.read("c1")
    pipe.send("read")
    pipe.recv()


def put_many(data_dir: Path, map_size_bytes: int, count: int) -> None:
    """Puts more customers than the map first holds."""
    store = open_embedded(data_dir, map_size_bytes=map_size_bytes)
    store.put_customers((f"c{i:06d}", vector(*range(100))) for i in range(count))
    store.close()


def fill_the_disk(data_dir: Path, pipe: Connection) -> None:
    """Writes with no room for the file to grow, then without that limit; sends what happened."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = open_embedded(data_dir)
    store.put_customers([("c0", vector(1.0))])
    size = (data_dir / "state" / "data.mdb").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        store.put_customers((f"c{i}", vector(2.0)) for i in range(5_000))
        pipe.send("no error")
    except StoreError as error:
        pipe.send(f"{type(error).__name__}: {error}")
    state = store.read("c0")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.put_customers([("later", vector(3.0))])
    pipe.send((state.features.values.tolist(), sorted(store.customers())))  # type: ignore[union-attr]
    store.close()


def load_a_table(data_dir: Path, path: Path, schema_text: str, pipe: Connection) -> None:
    """Loads a table, telling after each block how many customers are kept, and waits to be told to go on."""
    store = open_embedded(data_dir / "store")
    schema = parse_schema(schema_text, source="test")
    store.put_schema(schema.digest, schema_text)
    table = open_table(path, schema=schema, columns=ColumnMap())
    files = {"mark_file": data_dir / "mark", "rejects": data_dir / "rejects.csv"}
    for progress in load_table(store, table, as_of_ms=5, window_rows=BLOCK_ROWS - 100, **files):
        pipe.send(progress.customers)
        pipe.recv()
    store.close()
