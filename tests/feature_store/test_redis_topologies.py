"""Redis Cluster and Sentinel, with real processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha1
from pathlib import Path

import pytest
from conformance import StoreConformance
from redis_at_work import PASSWORD, RedisServer
from store_examples import consent, contact, vector

from feature_store.errors import StoreUnavailable
from feature_store.redis.keys import Keys
from feature_store.redis.store import RedisStore, open_redis
from feature_store.state import CustomerChange, Demand, Identity

PATIENT_MS = 2_000
PHONE = Identity("phone", "+41790000000")
NAMES = [f"c{i}" for i in range(40)]
HALF = 8192


def wait_for(seen: Callable[[], bool], seconds: float = 20.0) -> None:
    end, pause = time.monotonic() + seconds, threading.Event()
    while not seen():
        assert time.monotonic() < end
        pause.wait(0.02)


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Two primaries that have half of the slots each."""
    with _two_nodes(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture
def nodes(two_nodes: list[RedisServer]) -> list[RedisServer]:
    """The same, empty."""
    for server in two_nodes:
        server.do("FLUSHALL")
    return two_nodes


@contextmanager
def _two_nodes(folder: Path) -> Iterator[list[RedisServer]]:
    with ExitStack() as stack:
        servers = []
        for name in ("a", "b"):
            server = RedisServer(folder / name, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            stack.callback(server.kill)
            server.with_users()
            servers.append(server)
        for server, first in zip(servers, (0, HALF), strict=True):
            server.do("CLUSTER", "ADDSLOTS", *range(first, first + HALF))
        servers[1].do("CLUSTER", "SET-CONFIG-EPOCH", 2)
        servers[0].do("CLUSTER", "MEET", "127.0.0.1", servers[1].port)
        for server in servers:
            wait_for(lambda server=server: b"cluster_state:ok" in _info(server))  # type: ignore[misc]
        yield servers


def _info(server: RedisServer) -> bytes:
    info = server.do("CLUSTER", "INFO")
    return info if isinstance(info, bytes) else str(info).replace("'", "").encode().replace(b" ", b"")


def reopen(folder: Path) -> RedisStore:
    """Opens the part of a cluster that belongs to a folder."""
    prefix = "arbiter:" + sha1(str(folder).encode()).hexdigest()[:12]
    return open_redis((folder.parent / "redis.url").read_text(), prefix=prefix, timeout_ms=PATIENT_MS)


@pytest.mark.slow
class TestClusterStore(StoreConformance):
    """A cluster is an online store."""

    open_store = staticmethod(reopen)
    reopen = staticmethod(reopen)

    @pytest.fixture(autouse=True)
    def _server(self, nodes: list[RedisServer], tmp_path: Path) -> None:
        (tmp_path / "redis.url").write_text(_url(nodes[0]))


@pytest.fixture
def cluster(nodes: list[RedisServer]) -> Iterator[RedisStore]:
    """A store on them, opened with the rights of an operator by the second alone."""
    store = open_redis(_url(nodes[1]), timeout_ms=PATIENT_MS)
    yield store
    store.close()


def _url(server: RedisServer) -> str:
    return server.url_of("operator").replace("redis://", "redis+cluster://").removesuffix("/0")


def keys_of(server: RedisServer) -> int:
    size = server.do("DBSIZE")
    assert isinstance(size, int)
    return size


def test_customers_are_spread_and_whole(cluster: RedisStore, nodes: list[RedisServer]) -> None:
    """Both nodes have customers, and all of one customer is on one of them."""
    cluster.put_customers((name, vector(float(i))) for i, name in enumerate(NAMES))
    cluster.put_consents((name, consent()) for name in NAMES)
    cluster.link((PHONE, name) for name in NAMES)
    cluster.update(NAMES, lambda name, record: CustomerChange(stream=name.encode(), due_at_ms=5))
    cluster.merge_features(NAMES, lambda places, stored: [value or b"" for value in stored])
    for name in NAMES:
        assert cluster.record_contact(name, contact(), key="k")

    states = cluster.read_many([*NAMES, "unknown"])

    assert all(keys_of(server) > len(NAMES) for server in nodes)
    assert states.pop() is None
    assert [float(s.features.values[0]) for s in states] == [float(i) for i in range(40)]  # type: ignore[union-attr]
    assert all(s.consents == (consent(),) and s.contacts == (contact(),) for s in states)  # type: ignore[union-attr]
    assert list(cluster.customers()) == sorted(NAMES)
    assert cluster.resolve(PHONE) == tuple(sorted(NAMES))
    assert sorted(cluster.due(now_ms=5, limit=99)) == sorted(NAMES)
    assert cluster.stats().customers == len(NAMES)
    assert cluster.condition().facts["servers"] == "2"


def test_budgets_are_taken_together(cluster: RedisStore) -> None:
    """All budgets of one call are in one slot, whatever they are called."""
    demands = [Demand(f"budget {i}", 1, 1_000) for i in range(20)]

    first = cluster.take(demands, key="k1", now_ms=0, until_ms=9)
    second = cluster.take(demands, key="k2", now_ms=0, until_ms=9)

    assert first == ()
    assert second == tuple(demand.budget for demand in demands)


def test_slots_that_move_are_followed(cluster: RedisStore, nodes: list[RedisServer]) -> None:
    """What one key holds is found while its slot is on its way; all of a customer, once it has moved."""
    cluster.put_customers((name, vector(float(i))) for i, name in enumerate(NAMES))
    slots = [nodes[0].do("CLUSTER", "KEYSLOT", Keys("arbiter").of(name, b"f")[0]) for name in NAMES]
    name, slot = next((n, s) for n, s in zip(NAMES, slots, strict=True) if int(str(s)) < HALF)
    ids = [str(server.do("CLUSTER", "MYID"), "ascii") for server in nodes]  # type: ignore[call-overload]
    key = Keys("arbiter").of(name, b"f")[0]
    nodes[1].do("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    nodes[0].do("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    nodes[0].do("MIGRATE", "127.0.0.1", nodes[1].port, key, 0, 5_000)

    cluster.link([(PHONE, name)])
    while_moving = cluster.identities(name)
    with pytest.raises(StoreUnavailable, match="slot is being moved"):
        cluster.read(name)
    with pytest.raises(StoreUnavailable, match="slot is being moved"):
        cluster.record_contact(name, contact(), key="k")
    for server in reversed(nodes):
        server.do("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
    cluster.record_contact(name, contact(), key="k")
    cluster.put_consents([(name, consent())])
    after = cluster.read(name)

    assert while_moving == (PHONE,)
    assert after is not None
    assert (after.consents, after.contacts) == ((consent(),), (contact(),))
    assert nodes[1].do("EXISTS", key) == 1


def test_node_that_is_away_fails_its_customers_only(tmp_path: Path) -> None:
    """With one node killed the other's customers are read, where the cluster allows it, and stores open."""
    with _two_nodes(tmp_path) as nodes:
        for server in nodes:
            server.do("CONFIG", "SET", "cluster-require-full-coverage", "no")
        cluster = open_redis(_url(nodes[1]), timeout_ms=PATIENT_MS)
        cluster.put_customers((name, vector()) for name in NAMES)
        nodes[0].kill()

        found = {name: _is_read(cluster, name) for name in NAMES}
        later = open_redis(_url(nodes[1]), timeout_ms=PATIENT_MS)

        assert set(found.values()) == {True, False}
        assert {name: _is_read(later, name) for name in NAMES} == found
        for store in (cluster, later):
            store.close()


def _is_read(store: RedisStore, name: str) -> bool:
    try:
        return store.read(name) is not None
    except StoreUnavailable:
        return False


@pytest.mark.parametrize(
    ("clustered_server", "scheme", "advice"),
    [(True, "redis", "use redis+cluster://"), (False, "redis+cluster", "use redis://")],
)
def test_wrong_scheme_is_told(tmp_path: Path, clustered_server: bool, scheme: str, advice: str) -> None:
    """A node of a cluster is no server of its own, nor the other way round."""
    options = ("--cluster-enabled", "yes") if clustered_server else ()
    server = RedisServer(tmp_path / "redis", *options)

    with pytest.raises(StoreUnavailable) as caught:
        open_redis(f"{scheme}://127.0.0.1:{server.port}", timeout_ms=PATIENT_MS)

    server.kill()
    assert advice in str(caught.value)


def test_sentinel_names_the_primary_and_its_successor(tmp_path: Path) -> None:
    """When the primary dies, the store goes on with the replica that took over, without being told."""
    with ExitStack() as stack:
        primary, replica = (_started(stack, tmp_path / name) for name in ("primary", "replica"))
        replica.do("REPLICAOF", "127.0.0.1", primary.port)
        wait_for(lambda: b"master_link_status:up" in _replication(replica))
        sentinel = _sentinel(stack, tmp_path / "sentinel", primary)
        url = f"redis+sentinel://server:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{sentinel.port}/main/0"
        store = open_redis(url, timeout_ms=PATIENT_MS)
        stack.callback(store.close)
        store.put_customers([("c1", vector())])
        primary.do("WAIT", 1, 2_000)
        wait_for(lambda: b"num-slaves" in _known(sentinel) and _slaves(sentinel) == 1)

        primary.kill()

        wait_for(lambda: _is_read(store, "c1"))
        store.put_consents([("c1", consent())])
        assert replica.do("EXISTS", "arbiter:{c1}:c") == 1


def _started(stack: ExitStack, folder: Path) -> RedisServer:
    server = RedisServer(folder, "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
    stack.callback(server.kill)
    server.with_users()
    return server


def _sentinel(stack: ExitStack, folder: Path, primary: RedisServer) -> RedisServer:
    folder.mkdir()
    settings = folder / "sentinel.conf"
    settings.write_text(
        f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds main 300\n"
        "sentinel failover-timeout main 2000\n"
    )
    server = RedisServer(folder, mode=(str(settings), "--sentinel"))
    stack.callback(server.kill)
    return server


def _replication(server: RedisServer) -> bytes:
    return str(server.do("INFO", "replication")).replace("'", "").replace(": ", ":").encode()


def _known(sentinel: RedisServer) -> bytes:
    return str(sentinel.do("SENTINEL", "MASTER", "main")).encode()


def _slaves(sentinel: RedisServer) -> int:
    reply = sentinel.do("SENTINEL", "REPLICAS", "main")
    return len(reply) if isinstance(reply, list) else 0
