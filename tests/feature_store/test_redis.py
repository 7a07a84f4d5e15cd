"""The store on Redis, beyond what every store does."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1
from itertools import count
from pathlib import Path

import lmdb
import pytest
import redis
import trustme
from conformance import PHONE, StoreConformance, record_of
from redis.crc import key_slot
from redis_at_work import PASSWORD, Forwarder, RedisServer, documented_users, valkey_binary
from store_examples import consent, contact, vector

from feature_store.embedded import open_embedded
from feature_store.errors import StoreRefused, StoreUnavailable
from feature_store.redis.address import Credentials, Tls, parse_address
from feature_store.redis.store import RedisStore, open_redis
from feature_store.state import ConsentState, CustomerChange, CustomerRecord, Demand, Identity, Signal

PATIENT_MS = 5_000
"""Tests share two cores with whatever runs beside them."""


def reopen(folder: Path) -> RedisStore:
    """Opens the part of a server that belongs to a folder; what a server may not do an operator does."""
    server, *operator = [
        open_redis(url, prefix=_prefix(folder), timeout_ms=PATIENT_MS)
        for url in (folder.parent / "redis.url").read_text().split()
    ]
    return _Assisted(server, operator[0]) if operator else server  # type: ignore[return-value]


class _Assisted:
    """A server's store; what lists or counts customers is done by the operator's."""

    def __init__(self, server: RedisStore, operator: RedisStore) -> None:
        self._server, self._operator = server, operator
        self.customers, self.stats = operator.customers, operator.stats

    def __getattr__(self, name: str) -> object:
        return getattr(self._server, name)

    def close(self) -> None:
        self._server.close()
        self._operator.close()


def _prefix(folder: Path) -> str:
    return "arbiter:" + sha1(str(folder).encode()).hexdigest()[:12]


class TestRedisStore(StoreConformance):
    """The store on Redis is an online store, for a server with just the documented rights."""

    open_store = staticmethod(reopen)
    reopen = staticmethod(reopen)

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer, tmp_path: Path) -> None:
        urls = redis_server.url_of("server"), redis_server.url_of("operator")
        (tmp_path / "redis.url").write_text("\n".join(urls))


@pytest.mark.slow
class TestValkeyStore(StoreConformance):
    """The same on Valkey."""

    open_store = staticmethod(reopen)
    reopen = staticmethod(reopen)

    @pytest.fixture(scope="class")
    @staticmethod
    def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
        server = RedisServer(tmp_path_factory.mktemp("valkey"), binary=valkey_binary())
        server.with_users()
        yield server
        server.kill()

    @pytest.fixture(autouse=True)
    def _server(self, valkey: RedisServer, tmp_path: Path) -> None:
        (tmp_path / "redis.url").write_text(valkey.url_of("operator"))


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStore]:
    """A store as a server opens it."""
    opened = open_redis(redis_server.url_of("server"), timeout_ms=PATIENT_MS)
    yield opened
    opened.close()


def test_values_are_the_same_bytes_as_in_the_embedded_store(
    store: RedisStore, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Whatever is kept of a customer is one value for each kind, equal in both stores."""
    embedded = open_embedded(tmp_path, clock=lambda: 5_000)
    beside = open_redis(redis_server.url_of("server"), clock=lambda: 5_000, timeout_ms=PATIENT_MS)
    for each in (embedded, beside):
        each.put_customers([("c1", vector(1.0, 2.0))])
        each.put_consents([("c1", consent()), ("c1", consent(ConsentState.OBJECTED, purpose="analytics"))])
        each.record_contact("c1", contact(), key="k")
        each.put_signals("c1", [Signal("rain", True, 1, 2)])
        each.link([(PHONE, "c1")])
        each.update(["c1"], lambda name, record: CustomerChange(stream=b"seen", due_at_ms=7))
    embedded.close()

    with lmdb.open(str(tmp_path / "state"), max_dbs=20) as env, env.begin() as txn:
        names = (b"customers", b"consents", b"contacts", b"signals", b"stream", b"carried")
        kept = [txn.get(b"c1", db=env.open_db(name, txn=txn, create=False)) for name in names]

    assert kept == [redis_server.do("GET", f"arbiter:{{c1}}:{kind}") for kind in "fchsei"]
    beside.close()


@pytest.mark.parametrize("name", ["a}b", "}", "{", "{}x", "%7D", "%", "c{1}", "x}:f"])
def test_ids_with_braces_stay_in_one_slot(store: RedisStore, redis_server: RedisServer, name: str) -> None:
    """Braces in an id are no hash tag of their own: all values of the customer lie together."""
    store.put_customers([(name, vector(1.0))])
    store.put_consents([(name, consent())])
    store.link([(PHONE, name)])

    state = store.read(name)

    keys = [key for key in redis_server.do("KEYS", "*") if b":identity:" not in key]  # type: ignore[attr-defined]
    assert len(keys) == 3
    assert len({key_slot(key) for key in keys}) == 1
    assert state is not None
    assert (state.customer_id, state.consents) == (name, (consent(),))
    operator = open_redis(redis_server.url_of("operator"), timeout_ms=PATIENT_MS)
    assert list(operator.customers()) == [name]
    operator.close()


def test_prefixes_keep_companies_apart(redis_server: RedisServer) -> None:
    """Two prefixes on one server are two stores."""
    stores = [open_redis(redis_server.url, prefix=name, timeout_ms=PATIENT_MS) for name in ("a", "a:b")]

    stores[0].put_customers([("c1", vector())])
    stores[1].put_customers([("c2", vector())])

    assert [list(each.customers()) for each in stores] == [["c1"], ["c2"]]
    assert stores[0].stats().customers == 1
    for each in stores:
        each.close()


def test_server_may_not_list_customers(store: RedisStore) -> None:
    """A right that the user lacks is named with the page that lists what it needs."""
    with pytest.raises(StoreUnavailable, match=r"docs/redis\.md.*scan"):
        list(store.customers())

    assert store.read("c1") is None


def test_server_may_do_nothing_to_the_server(redis_server: RedisServer) -> None:
    """The documented users cannot read others' keys, change settings or empty the database."""
    redis_server.do("SET", "other:1", "x")
    refused = []
    for user in documented_users():
        with redis.Redis(
            host="127.0.0.1", port=redis_server.port, username=user, password=PASSWORD, protocol=2
        ) as client:
            for command in (("GET", "other:1"), ("CONFIG", "GET", "*"), ("FLUSHALL",), ("KEYS", "*")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)
                refused.append(command)

    assert len(refused) == 4 * len(documented_users()) == 16


def test_ingest_has_the_rights_it_needs(redis_server: RedisServer) -> None:
    """What applies events changes customers, asks who is due and who carries what, and takes no budgets."""
    store = open_redis(redis_server.url_of("ingest"), timeout_ms=PATIENT_MS)

    store.update(["c1"], lambda name, record: CustomerChange(stream=b"seen", due_at_ms=5))
    store.put_consents([("c1", consent())])
    store.link([(PHONE, "c1")])
    store.put_schema("sha256:", "text")

    assert (store.due(now_ms=5, limit=9), store.resolve(PHONE)) == (["c1"], ("c1",))
    assert store.schemas() == {"sha256:": "text"}
    with pytest.raises(StoreUnavailable, match="lacks a right"):
        store.left([Demand("b", 1, 1)], now_ms=0)
    store.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_server_that_throws_keys_away_is_refused(own_redis: RedisServer, policy: str) -> None:
    """Under a policy that evicts, an objection or a spent unit may vanish: Arbiter does not start."""
    own_redis.do("CONFIG", "SET", "maxmemory-policy", policy)

    with pytest.raises(StoreUnavailable, match="set it to noeviction"):
        open_redis(own_redis.url_of("server"), timeout_ms=PATIENT_MS)


def test_scripts_are_introduced_again_after_a_flush(store: RedisStore, redis_server: RedisServer) -> None:
    """A server that has forgotten the scripts, as one that took over has, is told them again."""
    store.put_signals("c1", [])
    redis_server.do("SCRIPT", "FLUSH")

    store.put_consents([("c1", consent())])

    assert store.claim("k", b"v", now_ms=0, ttl_ms=9) is None
    assert store.claim("k", b"w", now_ms=0, ttl_ms=9) == b"v"


def test_threads_share_connections_and_never_replies(store: RedisStore) -> None:
    """Each reply goes to who asked, whatever runs beside."""
    names = [f"c{i}" for i in range(50)]
    store.put_customers((name, vector(float(i))) for i, name in enumerate(names))

    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(store.read, names * 20))

    read = [(s.customer_id, float(s.features.values[0])) for s in states]  # type: ignore[union-attr]
    assert read == [(name, float(i)) for i, name in enumerate(names)] * 20


def test_killed_between_mark_and_values_leaves_the_mark(store: RedisStore) -> None:
    """An update that dies after marking left a mark that is early, never one that is missing."""
    store.update(["c1"], lambda name, record: CustomerChange(stream=b"1", due_at_ms=500))

    def dies(name: str, record: CustomerRecord) -> CustomerChange:
        return CustomerChange(stream=b"2", due_at_ms=100)

    values = store._values.replace
    store._values.replace = _die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        store.update(["c1"], dies)
    store._values.replace = values  # type: ignore[method-assign]

    assert store.due(now_ms=100, limit=9) == ["c1"]
    store.update(["c1"], lambda name, record: CustomerChange(due_at_ms=500))
    assert (store.due(now_ms=100, limit=9), store.due(now_ms=500, limit=9)) == ([], ["c1"])


def _die(*_: object) -> list[bool]:
    raise KeyboardInterrupt


def test_marks_follow_the_values_under_contention(store: RedisStore) -> None:
    """Of many writers that mark and unmark at once, the mark of the last one written stands."""
    numbers = count(1)

    def step(_: str, record: CustomerRecord) -> CustomerChange:
        number = next(numbers)
        due = 0 if number % 3 == 0 else number
        return CustomerChange(stream=str(due).encode(), due_at_ms=due)

    for _ in range(10):
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: store.update(["c1"], step), range(18)))
        last = int(record_of(store, "c1").stream)
        assert store.due(now_ms=last, limit=9) == (["c1"] if last else [])
        assert store.due(now_ms=last - 1, limit=9) == []


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://host", "scheme"),
        ("redis://", "host is missing"),
        ("redis://a,b/0", "several hosts"),
        ("redis://host/zero", "not a number"),
        ("redis://host/0/1", "nothing is known"),
        ("redis://host/0?timeout=3", "nothing is known"),
        ("redis+sentinel://a,b", "service's name"),
        ("redis+cluster://a/0", "nothing is known"),
        ("unix://host/path", "path begins"),
        ("redis://host:port/0", "not a number|[Pp]ort"),
    ],
)
def test_url_that_cannot_work(url: str, problem: str) -> None:
    """It is refused with what to write instead, and its password is not shown."""
    secret = url.replace("://", "://user:pa55@")

    with pytest.raises(StoreRefused, match=problem) as caught:
        parse_address(secret)

    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown", "db"),
    [
        ("redis://u:p%40ss@host", "Redis host:6379", 0),
        ("rediss://host:1/2", "Redis host:1", 2),
        ("unix:///run/redis.sock?db=3", "Redis /run/redis.sock", 3),
        ("redis+sentinel://u:p@a,b:2/main/4", "Redis main of the sentinels a:26379,b:2", 4),
        ("rediss+cluster://a:7,b", "Redis cluster a:7,b:6379", 0),
    ],
)
def test_url_is_read_in_full(url: str, shown: str, db: int) -> None:
    """Hosts, ports, service and database; who logs in is never part of what is shown."""
    address = parse_address(url)

    assert address.shown == shown
    assert (address.tls is not None) is url.startswith("rediss")
    assert address.db == db


def test_password_comes_from_url_setting_or_file(tmp_path: Path, redis_server: RedisServer) -> None:
    """The URL's comes first; a file is read for each connection; none of them is in any text."""
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    plain = redis_server.url.replace("://", "://server@")
    ways = [
        open_redis(redis_server.url_of("server"), credentials=Credentials("x", "wrong")),
        open_redis(plain, credentials=Credentials(password=PASSWORD)),
        open_redis(redis_server.url, credentials=Credentials("server", password_file=file)),
    ]

    assert [way.read("c1") for way in ways] == [None] * 3
    assert PASSWORD not in repr(Credentials("server", PASSWORD))
    with pytest.raises(StoreUnavailable) as caught:
        open_redis(plain, credentials=Credentials(password="wr0ng"))
    assert "user and password" in str(caught.value)
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="user and password"):
        open_redis(plain)  # not as the default user, who needs none
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        open_redis(plain, credentials=Credentials(password_file=tmp_path / "none"))
    for way in ways:
        way.close()


def test_unix_socket(redis_server: RedisServer) -> None:
    """A server on the same machine is reached by its socket, in a database of its own."""
    store = open_redis(f"unix://{redis_server.socket}?db=3", timeout_ms=PATIENT_MS)

    store.put_customers([("c1", vector())])

    assert redis_server.do("EXISTS", "arbiter:{c1}:f") == 0
    assert list(store.customers()) == ["c1"]
    store.close()


def test_tls(redis_server: RedisServer, tmp_path: Path) -> None:
    """The server's certificate must be from the named authority and for its name."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    door = Forwarder(redis_server.port, tls=context)
    login = Credentials("server", PASSWORD)

    def opened(host: str, ca: str) -> RedisStore:
        url = f"rediss://{host}:{door.port}"
        return open_redis(url, credentials=login, tls=Tls(tmp_path / ca), timeout_ms=PATIENT_MS)

    store = opened("localhost", "ca.pem")
    store.put_customers([("c1", vector())])
    assert store.read("c1") is not None
    for host, ca in (("localhost", "other.pem"), ("127.0.0.1", "ca.pem")):
        with pytest.raises(StoreUnavailable, match="certificate"):
            opened(host, ca)
    store.close()
    door.close()


def test_value_that_others_keep_changing_is_given_up(redis_server: RedisServer) -> None:
    """A writer that always comes too late stops and says so; what the others wrote stands."""
    mine, theirs = (open_redis(redis_server.url, timeout_ms=PATIENT_MS) for _ in range(2))
    numbers = count(1)

    def too_late(_: str, record: CustomerRecord) -> CustomerChange:
        theirs.update(["c1"], lambda _, record: CustomerChange(stream=str(next(numbers)).encode()))
        return CustomerChange(stream=b"mine")

    with pytest.raises(StoreUnavailable, match=r"c1.*others keep changing it"):
        mine.update(["c1"], too_late)

    assert record_of(theirs, "c1").stream == str(next(numbers) - 1).encode()
    for store in (mine, theirs):
        store.close()


def test_identities_agree_in_both_directions_under_contention(store: RedisStore) -> None:
    """Whatever links and unlinks at once: who carries an identity is who lists it."""
    names = [f"c{i}" for i in range(3)]
    email = Identity("email", "zoe@example.org")
    links = [(identity, name) for identity in (PHONE, email) for name in names]

    def link_or_unlink(i: int) -> None:
        (store.link if i % 2 else store.unlink)([links[i % 5], links[(i * 7) % 6]])

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(link_or_unlink, range(40)))
        for identity in (PHONE, email):
            listing = tuple(name for name in names if identity in store.identities(name))
            assert store.resolve(identity) == listing


def test_erasing_ends_with_nothing_left_in_redis(store: RedisStore, redis_server: RedisServer) -> None:
    """Damaged values included: no key of Arbiter names the customer any more."""
    operator = open_redis(redis_server.url_of("operator"), timeout_ms=PATIENT_MS)
    store.put_customers([("c1", vector())])
    store.link([(PHONE, "c1"), (PHONE, "c2")])
    store.update(["c1"], lambda _, record: CustomerChange(stream=b"seen", due_at_ms=5))
    redis_server.do("SET", "arbiter:{c1}:i", b"damaged")

    erased = operator.erase("c1"), operator.erase("c1")

    left = redis_server.do("KEYS", "*{c1}*")
    assert erased == (True, False)
    assert left == []
    assert (store.resolve(PHONE), store.due(now_ms=9, limit=9)) == (("c2",), [])
    operator.close()
