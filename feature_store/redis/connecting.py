"""Opens connections: logs in, and lets no server in that is a replica, too old or of another topology."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as NoConnection
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from feature_store.errors import StoreUnavailable
from feature_store.redis.address import Address, Credentials, Place, Tls, Topology

OLDEST = (6, 2)
"""First version of Redis with all commands used; every Valkey has them."""

AnyConnection = Connection | UnixDomainSocketConnection

GREETING = ("HELLO", "2")
"""Asks who the server is. RESP2: the replies are the same and cheaper to set up."""


class WrongServer(NoConnection):
    """The server that answered is not one to work with; the text says why."""


@dataclass(frozen=True, slots=True)
class Door:
    """How connections to servers of one address are opened."""

    credentials: Credentials
    tls: Tls | None
    db: int
    timeout_s: float
    clustered: bool

    def open(self, place: Place) -> AnyConnection:
        """A connection that is logged in. Raises redis-py's errors, WrongServer and StoreUnavailable."""
        connection = self._unopened(place)
        connection.connect()
        try:
            connection.send_command(*GREETING, check_health=False)
            check_server(connection.read_response(), clustered=self.clustered)
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _unopened(self, place: Place) -> AnyConnection:
        host, port = place
        login = self.credentials.words()
        options: dict[str, object] = {
            "socket_timeout": self.timeout_s,
            "socket_connect_timeout": self.timeout_s,
            "db": self.db,
            "protocol": 2,
            "driver_info": None,  # saves two round trips
            "username": login[0] if len(login) == 2 else None,
            "password": login[-1] if login else None,
        }
        if not port:
            return UnixDomainSocketConnection(path=host, **options)  # type: ignore[abstract]  # it has `host`
        options |= {"host": host, "port": port, "socket_keepalive": True}
        if self.tls is None:
            return Connection(**options)
        return SSLConnection(**options, **_tls_options(self.tls))  # type: ignore[arg-type]  # as declared above


def door_of(address: Address, *, timeout_s: float) -> Door:
    """The door of an address."""
    return Door(
        credentials=address.credentials,
        tls=address.tls,
        db=address.db,
        timeout_s=timeout_s,
        clustered=address.topology is Topology.CLUSTER,
    )


def check_server(reply: object, *, clustered: bool) -> None:
    """Raises WrongServer for a server that HELLO shows to be unfit."""
    fields = _fields(reply)
    version = str(fields.get("version", ""))
    if _numbers(version) < OLDEST:
        raise WrongServer(f"its version {version} is too old; Redis 6.2 or newer, or Valkey, is needed")
    if (fields.get("mode") == "cluster") is not clustered:
        raise WrongServer(
            "it is no cluster: use redis://" if clustered else "it is part of a cluster: use redis+cluster://"
        )
    if not clustered and fields.get("role") != "master":
        raise WrongServer(
            "it is a replica, whose consents may be old (READONLY); name the primary, or use redis+sentinel://"
        )


def primary_of(address: Address, *, timeout_s: float) -> Callable[[], Place]:
    """Asks the sentinels where the primary is, each time it is called."""
    options: dict[str, object] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.tls is not None:
        options |= {"ssl": True, **_tls_options(address.tls)}
    sentinel = Sentinel(list(address.places), sentinel_kwargs=options)

    def locate() -> Place:
        try:
            host, port = sentinel.discover_master(address.service)
        except MasterNotFoundError as error:
            raise StoreUnavailable(
                f"{address.shown}: no sentinel knows a primary ({error}); look at the sentinels"
            ) from error
        return str(host), int(port)

    return locate


def _tls_options(tls: Tls) -> dict[str, object]:
    """redis-py's options: the server's certificate and name are always checked."""
    return {
        "ssl_ca_certs": None if tls.ca is None else str(tls.ca),
        "ssl_certfile": None if tls.certificate is None else str(tls.certificate),
        "ssl_keyfile": None if tls.key is None else str(tls.key),
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }


def _fields(reply: object) -> dict[str, object]:
    """The reply to HELLO, which RESP2 gives as names and values in turn."""
    if not isinstance(reply, list):
        return {}
    plain = [word.decode() if isinstance(word, bytes) else word for word in reply]
    return dict(zip(plain[::2], plain[1::2], strict=False))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(word) for word in version.split(".")[:2] if word.isdecimal())
