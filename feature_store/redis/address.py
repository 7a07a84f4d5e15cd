"""Where a Redis is and how to be let in, from a URL. What is secret is never shown.

- `redis://[user[:password]@]host[:port][/db]`: one server.
- `unix://[user[:password]@]/path/to/socket[?db=0]`: one server on this machine.
- `redis+sentinel://[...@]host[:port],host[:port]/service[/db]`: the primary that Sentinel names.
- `redis+cluster://[...@]host[:port],host[:port]`: a cluster, by any of its nodes.

`rediss`, `rediss+sentinel` and `rediss+cluster` are the same with TLS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from feature_store.errors import StoreRefused, StoreUnavailable

DEFAULT_PORT: Final = 6379
DEFAULT_SENTINEL_PORT: Final = 26379

Place = tuple[str, int]
"""Host and port; a Unix socket is its path and 0."""


class Topology(StrEnum):
    """How the servers hang together."""

    ONE = "one"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Tls:
    """What a TLS connection is checked with; None for the system's authorities, or no certificate of ours."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who logs in. A password in a file is read for each connection, so that it can be changed there."""

    user: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None

    def words(self) -> tuple[str, ...]:
        """What AUTH takes; empty where nobody is named. Raises StoreUnavailable."""
        password = self.password
        if self.password_file is not None:
            try:
                password = self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise StoreUnavailable(
                    f"{self.password_file}: the store's password cannot be read from it: {error}"
                ) from error
        if self.user:  # without a password too: nobody becomes the default user unawares
            return self.user, password
        return (password,) if password else ()


NOBODY = Credentials()
"""Logs in as the server's default user."""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL."""

    topology: Topology
    places: tuple[Place, ...]
    service: str = ""
    db: int = 0
    tls: Tls | None = None
    credentials: Credentials = NOBODY

    @property
    def shown(self) -> str:
        """The address for people and logs, without who logs in."""
        hosts = ",".join(place_text(place) for place in self.places)
        if self.topology is Topology.SENTINEL:
            return f"Redis {self.service} of the sentinels {hosts}"
        return f"Redis cluster {hosts}" if self.topology is Topology.CLUSTER else f"Redis {hosts}"


def place_text(place: Place) -> str:
    """A place for people."""
    host, port = place
    return f"{host}:{port}" if port else host


def without_secrets(url: str) -> str:
    """A URL for people and logs: the password is replaced by ***."""
    before, found, after = url.rpartition("@")
    if not found:
        return url
    scheme, separator, login = before.partition("://")
    user, has_password, _ = login.partition(":")
    return f"{scheme}{separator}{user}{':***' if has_password else ''}@{after}"


def parse_address(url: str, *, credentials: Credentials = NOBODY, tls: Tls | None = None) -> Address:
    """The address in a URL; `credentials` fill what the URL does not say. Raises StoreRefused."""
    try:
        return _parsed(url, credentials, tls)
    except ValueError as error:
        raise StoreRefused(
            f"store {without_secrets(url)!r}: {error}; write redis://host:6379/0, unix:///path/to/socket, "
            "redis+sentinel://host,host/service or redis+cluster://host,host (rediss for TLS)"
        ) from error


def _parsed(url: str, given: Credentials, tls: Tls | None) -> Address:
    parts = urlsplit(url)
    secured, topology = _scheme(parts.scheme)
    login, _, hosts = parts.netloc.rpartition("@")
    credentials = _credentials(login, given)
    if parts.scheme == "unix":
        return _socket(parts, hosts, credentials)
    if parts.query or parts.fragment:
        raise ValueError(f"nothing is known of {parts.query or parts.fragment!r}")
    port = DEFAULT_SENTINEL_PORT if topology is Topology.SENTINEL else DEFAULT_PORT
    places = tuple(_place(text, port) for text in hosts.split(","))
    if topology is Topology.ONE and len(places) > 1:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    service, db = _path(parts.path, topology)
    return Address(
        topology=topology,
        places=places,
        service=service,
        db=db,
        tls=(tls or Tls()) if secured else None,
        credentials=credentials,
    )


def _scheme(scheme: str) -> tuple[bool, Topology]:
    known = {
        "redis": (False, Topology.ONE),
        "rediss": (True, Topology.ONE),
        "unix": (False, Topology.ONE),
        "redis+sentinel": (False, Topology.SENTINEL),
        "rediss+sentinel": (True, Topology.SENTINEL),
        "redis+cluster": (False, Topology.CLUSTER),
        "rediss+cluster": (True, Topology.CLUSTER),
    }
    if scheme not in known:
        raise ValueError(f"the scheme {scheme!r} is not known")
    return known[scheme]


def _credentials(login: str, given: Credentials) -> Credentials:
    user, _, password = login.partition(":")
    if password:
        return Credentials(unquote(user), unquote(password))
    return Credentials(unquote(user) or given.user, given.password, given.password_file)


def _socket(parts: SplitResult, host: str, credentials: Credentials) -> Address:
    if host or not parts.path:
        raise ValueError("a socket's path begins with /")
    query = parse_qs(parts.query, strict_parsing=bool(parts.query))
    db = query.pop("db", ["0"])
    if query:
        raise ValueError(f"nothing is known of {', '.join(query)}")
    return Address(Topology.ONE, ((unquote(parts.path), 0),), db=_number(db[0]), credentials=credentials)


def _place(text: str, default_port: int) -> Place:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or default_port


def _path(path: str, topology: Topology) -> tuple[str, int]:
    """Service and database. A cluster has neither."""
    words = [unquote(word) for word in path.split("/") if word]
    service = ""
    if topology is Topology.SENTINEL:
        if not words:
            raise ValueError("the service's name is missing after the sentinels")
        service = words.pop(0)
    most = 0 if topology is Topology.CLUSTER else 1
    if len(words) > most:
        raise ValueError(f"nothing is known of {'/'.join(words)!r}")
    return service, _number(words[0]) if words else 0


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"the database {text!r} is not a number")
    return int(text)
