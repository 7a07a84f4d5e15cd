"""What a failing Redis does to the store: a clear error, soon, and recovery by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from redis_at_work import PASSWORD, Forwarder, RedisServer
from store_examples import consent, contact, vector

from feature_store.errors import StoreCorrupt, StoreError, StoreFull, StoreUnavailable
from feature_store.redis.breaker import OPENS_AFTER, Breaker
from feature_store.redis.store import RedisStore, open_redis
from feature_store.state import ConsentState, CustomerChange, Demand

TIMEOUT_MS = 60
"""Twice the default, as tests share two cores; what must be soon is measured against it."""

PATIENT_MS = 5_000
"""For what a test sets up and looks at, on a disk that others write to."""

SOON_S = 4 * TIMEOUT_MS / 1000
"""A call connects and asks at most, each within the timeout; the rest is for a busy machine."""

RECOVERY_S = 5.0
BOTH = ("c1", "c2")


@pytest.fixture
def store(own_redis: RedisServer) -> Iterator[RedisStore]:
    """A store with two customers, as a server opens it, on a server to do harm to."""
    opened = open_redis(own_redis.url_of("server"), timeout_ms=TIMEOUT_MS)
    _fill(opened)
    yield opened
    opened.close()


def _fill(store: RedisStore) -> None:
    store.put_customers((name, vector(float(i))) for i, name in enumerate(BOTH))
    store.put_consents((name, consent(ConsentState.OBJECTED)) for name in BOTH)


def failure_of(call: Callable[[], object]) -> tuple[StoreError, float]:
    """How a call that must fail failed, and after how many seconds."""
    start = time.perf_counter()
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value, time.perf_counter() - start


def recovered_after(store: RedisStore) -> float:
    """Seconds until both customers are read again, each with what is its own."""
    start = time.perf_counter()
    while True:
        try:
            states = [store.read(name) for name in BOTH]
        except StoreUnavailable:
            assert time.perf_counter() - start < RECOVERY_S
            continue
        assert [s and s.customer_id for s in states] == list(BOTH)
        assert [s.features.values[0] for s in states] == [0.0, 1.0]  # type: ignore[union-attr]
        assert all(s.consents[0].state is ConsentState.OBJECTED for s in states)  # type: ignore[union-attr]
        return time.perf_counter() - start


def worst_of(store: RedisStore, calls: int = 40) -> tuple[list[StoreError], float]:
    """The errors of many reads in a row, and the seconds of the slowest."""
    failures = [failure_of(lambda: store.read("c1")) for _ in range(calls)]
    return [error for error, _ in failures], max(took for _, took in failures)


def test_stopped_server(store: RedisStore, own_redis: RedisServer) -> None:
    """Without a server every call says so at once; a new one is used without being told."""
    own_redis.kill()

    errors, slowest = worst_of(store)

    own_redis.start()
    own_redis.with_users()
    _refill(own_redis)
    assert "see that it runs" in str(errors[0])
    assert "held back" in str(errors[-1])
    assert slowest < SOON_S
    assert recovered_after(store) < RECOVERY_S


def _refill(server: RedisServer) -> None:
    """What the stopped server held, as it keeps nothing on disk."""
    filler = open_redis(server.url)
    _fill(filler)
    filler.close()


def test_paused_server(store: RedisStore, own_redis: RedisServer) -> None:
    """A server that stands still costs a call its timeout, then nothing; late replies are nobody's."""
    _assert_pause_is_survived(store, own_redis, seconds=1.2)


@pytest.mark.slow
def test_server_paused_for_30_seconds(store: RedisStore, own_redis: RedisServer) -> None:
    """As long as an operator needs to notice."""
    _assert_pause_is_survived(store, own_redis, seconds=30.0)


def _assert_pause_is_survived(store: RedisStore, server: RedisServer, *, seconds: float) -> None:
    server.pause()
    end, between = time.monotonic() + seconds, threading.Event()
    took = []
    while time.monotonic() < end:
        error, waited = failure_of(lambda: store.read("c2"))
        assert isinstance(error, StoreUnavailable)
        took.append(waited)
        between.wait(0.01)
    server.resume()

    hiccups = len(took) // 500  # of a machine that is busy with something else
    assert sorted(took)[-1 - hiccups] < SOON_S
    assert sum(waited > TIMEOUT_MS / 2000 for waited in took) <= OPENS_AFTER + seconds / 0.5 + 1
    assert recovered_after(store) < RECOVERY_S


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that has everything on disk before it answers."""
    server = RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.kill()


def test_killed_under_load(durable_redis: RedisServer) -> None:
    """What was acknowledged is there after a kill, each contact once, and nobody has another's."""
    server = durable_redis
    with closing(open_redis(server.url, timeout_ms=PATIENT_MS)) as filler:
        _fill(filler)
    store = open_redis(server.url, timeout_ms=TIMEOUT_MS)
    acknowledged: dict[str, set[int]] = {name: set() for name in BOTH}
    stop = threading.Event()

    def record(worker: int) -> None:
        name, i = BOTH[worker % 2], worker
        while not stop.is_set():
            try:
                if store.record_contact(name, contact(i), key=str(i)):
                    acknowledged[name].add(i)
            except StoreUnavailable:
                continue  # the same again: it may have been counted
            i += 4

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(record, worker) for worker in range(4)]
        _wait_for(lambda: min(map(len, acknowledged.values())) > 40)
        server.kill()
        _wait_for(lambda: store._requests._servers._breaker.is_open)  # type: ignore[attr-defined]
        server.start()
        before = {name: len(counted) for name, counted in acknowledged.items()}
        _wait_for(lambda: all(len(acknowledged[name]) > before[name] for name in BOTH))
        stop.set()
        for done in work:
            done.result()

    store.close()
    with closing(open_redis(server.url, timeout_ms=PATIENT_MS)) as reader:
        states = {name: reader.read(name) for name in BOTH}
    for name, state in states.items():
        assert state is not None
        instants = [event.at_ms for event in state.contacts]
        assert len(instants) == len(set(instants))
        assert acknowledged[name] <= set(instants)
        assert {i % 2 for i in instants} == {BOTH.index(name)}


def _wait_for(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 20.0
    pause = threading.Event()
    while not seen():
        assert time.monotonic() < end
        pause.wait(0.01)


def test_full_memory(store: RedisStore, own_redis: RedisServer) -> None:
    """Writes are refused as a matter of room, reads go on, and no call is held back."""
    own_redis.do("CONFIG", "SET", "maxmemory", "1")
    grant = ("c1", consent(at_ms=9_000))

    refused = [
        failure_of(call)[0]
        for call in (
            lambda: store.put_customers([("c3", vector())]),
            lambda: store.put_consents([grant]),
            lambda: store.record_contact("c1", contact(), key="k"),
            lambda: store.claim("r", b"v", now_ms=0, ttl_ms=9),
            lambda: store.take([Demand("b", 1, 9)], key="k", now_ms=0, until_ms=9),
            lambda: store.update(["c1"], lambda _, record: CustomerChange(stream=b"x", due_at_ms=3)),
        )
    ]

    assert [type(error) for error in refused] == [StoreFull] * len(refused)
    assert recovered_after(store) < SOON_S
    assert store.erase("c2")
    own_redis.do("CONFIG", "SET", "maxmemory", "0")
    store.put_consents([grant])
    state = store.read("c1")
    assert state is not None
    assert state.consents[0].state is ConsentState.GRANTED


def test_server_that_becomes_a_replica(store: RedisStore, own_redis: RedisServer) -> None:
    """A write tells at once, and from then on its consents, which may be old, are not read either."""
    own_redis.do("REPLICAOF", "127.0.0.1", "1")

    written, _ = failure_of(lambda: store.put_consents([("c1", consent(at_ms=9_000))]))
    read, _ = failure_of(lambda: store.read("c1"))

    own_redis.do("REPLICAOF", "NO", "ONE")
    assert isinstance(written, StoreUnavailable)
    assert "replica" in str(written)
    assert isinstance(read, StoreUnavailable)
    assert "replica" in str(read)
    assert recovered_after(store) < RECOVERY_S


def test_replica_is_noticed_by_reads_alone(store: RedisStore, own_redis: RedisServer) -> None:
    """Within about a second, even where nothing is written."""
    own_redis.do("REPLICAOF", "127.0.0.1", "1")
    start = time.perf_counter()

    while True:
        try:
            store.read("c1")
        except StoreUnavailable:
            break
        assert time.perf_counter() - start < 2.0

    assert time.perf_counter() - start < 2.0


def test_password_that_changes(store: RedisStore, own_redis: RedisServer) -> None:
    """A user who is no longer let in is told apart from a server that is away; the password stays unsaid."""
    own_redis.do("ACL", "SETUSER", "server", "resetpass", ">another one")
    own_redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    errors, slowest = worst_of(store)

    own_redis.do("ACL", "SETUSER", "server", f">{PASSWORD}")
    assert any("does not let this user in" in str(error) for error in errors)
    assert not any(PASSWORD in str(error) for error in errors)
    assert slowest < SOON_S
    assert recovered_after(store) < RECOVERY_S


def test_slow_network(own_redis: RedisServer) -> None:
    """With 100 ms each way no call waits for its answer, and a fast network is used again."""
    road = Forwarder(own_redis.port)
    login = own_redis.url_of("server").rpartition("@")[0]
    store = open_redis(f"{login}@127.0.0.1:{road.port}", timeout_ms=TIMEOUT_MS)
    _fill(store)
    road.delay_s = 0.1

    errors, slowest = worst_of(store)

    road.delay_s = 0.0
    assert all(isinstance(error, StoreUnavailable) for error in errors)
    assert f"within {TIMEOUT_MS} ms" in str(errors[0])
    assert slowest < SOON_S
    assert recovered_after(store) < RECOVERY_S
    store.close()
    road.close()


def test_condition_tells_what_is_wrong(store: RedisStore, own_redis: RedisServer) -> None:
    """An operator sees each problem with its remedy, and none once they are mended."""
    own_redis.do("CONFIG", "SET", "maxmemory", "1")
    own_redis.do("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    wrong = store.condition()
    own_redis.do("CONFIG", "SET", "maxmemory", "0")
    own_redis.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
    own_redis.do("CONFIG", "SET", "appendonly", "yes")

    right = store.condition()

    assert [w.rpartition(": ")[2] for w in wrong.warnings] == [
        "set maxmemory-policy to noeviction",
        "raise maxmemory",
        "set appendonly yes",
    ]
    assert right.warnings == ()


@pytest.mark.parametrize("kind", "fchs")
def test_wrong_type_under_a_key(store: RedisStore, own_redis: RedisServer, kind: str) -> None:
    """It is never taken for an absent value, and concerns nobody else; erasing the customer removes it."""
    own_redis.do("DEL", f"arbiter:{{c1}}:{kind}")
    own_redis.do("LPUSH", f"arbiter:{{c1}}:{kind}", "not ours")

    for call in (
        lambda: store.read("c1"),
        lambda: store.read_many(["c2", "c1"]),
        lambda: store.update(["c1"], lambda _, r: None),
    ):
        error, _ = failure_of(call)
        assert isinstance(error, StoreCorrupt)
        assert "c1" in str(error)

    other = store.read("c2")
    assert other is not None
    assert store.erase("c1")
    store.put_customers([("c1", vector())])
    assert store.read("c1") is not None


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("c", lambda store: store.put_consents([("c1", consent())])),
        ("h", lambda store: store.record_contact("c1", contact(), key="k")),
        ("s", lambda store: store.put_signals("c1", [])),
        ("i", lambda store: store.identities("c1")),
    ],
)
def test_wrong_type_is_not_written_over(
    store: RedisStore, own_redis: RedisServer, kind: str, call: Callable[[RedisStore], object]
) -> None:
    """A writer stops at what it does not understand."""
    own_redis.do("DEL", f"arbiter:{{c1}}:{kind}")
    own_redis.do("HSET", f"arbiter:{{c1}}:{kind}", "not", "ours")

    error, _ = failure_of(lambda: call(store))

    assert isinstance(error, StoreCorrupt)
    assert own_redis.do("HGET", f"arbiter:{{c1}}:{kind}", "not") == b"ours"


@pytest.mark.parametrize("kind", "fc")
def test_truncated_value(store: RedisStore, own_redis: RedisServer, kind: str) -> None:
    """A value that was cut is damaged wherever it was cut, and says so for that customer only."""
    key = f"arbiter:{{c1}}:{kind}"
    whole = own_redis.do("GET", key)
    assert isinstance(whole, bytes)

    for length in (0, 1, 7, 12, len(whole) // 2, len(whole) - 1):
        own_redis.do("SET", key, whole[:length])
        error, _ = failure_of(lambda: store.read("c1"))
        assert isinstance(error, StoreCorrupt)
        assert "c1" in str(error)

    assert store.read("c2") is not None
    own_redis.do("SET", key, whole)
    assert recovered_after(store) < SOON_S


@pytest.mark.parametrize("kind", "fc")
def test_value_of_another_customer(store: RedisStore, own_redis: RedisServer, kind: str) -> None:
    """Whoever copied it there: it is not read as this customer's."""
    own_redis.do("SET", f"arbiter:{{c1}}:{kind}", own_redis.do("GET", f"arbiter:{{c2}}:{kind}"))

    error, _ = failure_of(lambda: store.read("c1"))

    assert isinstance(error, StoreCorrupt)
    assert "another customer" in str(error)


def test_clocks_that_differ(store: RedisStore) -> None:
    """Units and claims hold by the callers' clocks, an hour apart or not by the server's at all."""
    one, noon, hour = Demand("gifts", 1, 1_000), 1_000_000_000, 3_600_000
    store.take([one], key="ahead", now_ms=noon + hour, until_ms=noon + hour + 500)
    store.claim("r", b"ahead", now_ms=noon + hour, ttl_ms=500)

    behind = store.take([one], key="behind", now_ms=noon, until_ms=noon + 500)

    assert behind == ("gifts",)
    assert store.claim("r", b"behind", now_ms=noon, ttl_ms=500) == b"ahead"
    store.settle(["gifts"], key="ahead", now_ms=noon + hour + 1, spent=True)
    assert store.take([one], key="later", now_ms=noon + hour + 900, until_ms=noon + 2 * hour) == ("gifts",)
    assert store.take([one], key="later", now_ms=noon + hour + 1_001, until_ms=noon + 2 * hour) == ()


class _Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_breaker_opens_after_failures_in_a_row() -> None:
    """A success in between starts the count anew."""
    breaker = Breaker(opens_after=3, clock=_Clock())

    for outcome in "ffsff":
        breaker.failed("no answer") if outcome == "f" else breaker.succeeded()
    before = breaker.is_open
    breaker.failed("refused")

    assert (before, breaker.is_open, breaker.cause) == (False, True, "refused")
    assert not breaker.admits()


def test_breaker_lets_one_call_probe_at_a_time() -> None:
    """While open one call for each half second may try; the first success closes it for all."""
    clock = _Clock()
    breaker = Breaker(opens_after=1, probe_every_s=0.5, clock=clock)
    breaker.failed("no answer")

    admitted = []
    for _ in range(4):
        clock.now_s += 0.25
        admitted.append([breaker.admits() for _ in range(3)])
    breaker.succeeded()

    assert admitted == [[False] * 3, [True, False, False], [False] * 3, [True, False, False]]
    assert [breaker.admits() for _ in range(3)] == [True] * 3
