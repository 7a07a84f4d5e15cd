"""Who looks at pages: sessions in sealed cookies, and links that open one call once."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken
from starlette.requests import Request
from starlette.responses import Response

from engine.errors import SetupInvalid
from engine.security.callers import Caller, Role

COOKIE: Final = "arbiter_session"
CALL_COOKIE: Final = "arbiter_call"
"""Of a session for one call; browsers show it to the pages of that call only."""
IDLE_S: Final = 15 * 60
"""Without a look at any page for so long a session ends: an agent who left the desk is out."""
LONGEST_S: Final = 12 * 3600
"""A working day with its breaks; then who it is is proven anew."""
LINK_S: Final = 60
"""A link is opened by a desktop within a second or two of the ring; a minute is for slow ones."""
_RENEW_S: Final = 30
"""Age from which a cookie is made anew: not with each request, as pages ask for parts at once."""
_KEY_FILE: Final = "web.key"
_MOST_REVOKED: Final = 100_000
DEMO: Final = "demo"
"""The name of who looks where nobody has to say who they are."""


class PageRole(StrEnum):
    """What somebody does with pages. Who is admin may do all of it."""

    AGENT = "agent"
    MARKETER = "marketer"
    PRIVACY = "privacy"
    SRE = "sre"
    ADMIN = "admin"


_NEEDS: Final[Mapping[PageRole, frozenset[Role]]] = {
    PageRole.AGENT: frozenset({Role.DECIDE, Role.OUTCOME, Role.CONSENT}),
    PageRole.MARKETER: frozenset({Role.RULES}),
    PageRole.PRIVACY: frozenset({Role.CONSENT, Role.READ_LOG}),
    PageRole.SRE: frozenset({Role.OPERATE}),
    PageRole.ADMIN: frozenset({Role.ADMIN}),
}
"""What the roles file must grant: pages let nobody do what the same token could not do over gRPC."""


def page_roles(granted: frozenset[Role]) -> frozenset[PageRole]:
    """What a caller with these roles does with pages."""
    return frozenset(role for role, needed in _NEEDS.items() if needed <= granted)


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody at the pages until `ends_s`, in seconds since the epoch.

    `open` where nobody had to prove who they are; `call` is the only one whose pages it opens, "" for all.
    """

    id: str
    who: str
    roles: frozenset[PageRole]
    ends_s: float
    open: bool = False
    call: str = ""

    def may(self, role: PageRole | frozenset[PageRole]) -> bool:
        """Whether they do what that role does, or one of these."""
        wanted = {role} if isinstance(role, PageRole) else role
        return PageRole.ADMIN in self.roles or not self.roles.isdisjoint(wanted)

    @property
    def caller(self) -> Caller | None:
        """Who records what is done in it; None where nobody proved to be anybody."""
        return None if self.open else Caller(self.who, frozenset(), self.ends_s)


def form_token(session: Session) -> str:
    """What our own forms carry and no stranger's page knows: made of the session, which only we can read."""
    return hashlib.blake2b(session.id.encode(), digest_size=16, person=b"arbiter-form").hexdigest()


@dataclass(frozen=True, slots=True)
class _Kept:
    """How browsers are to keep our cookies."""

    framed: bool
    secure: bool

    def put(self, response: Response, name: str, value: str, *, path: str = "/", age_s: int | None) -> None:
        attributes = [f"{name}={value}", f"Path={path}", "HttpOnly"]
        if age_s is not None:
            attributes.append(f"Max-Age={age_s}")
        if self.framed:  # another site's page shows ours: each such site has cookies of its own
            attributes += ["SameSite=None", "Secure", "Partitioned"]
        else:
            attributes += ["SameSite=Strict", *(["Secure"] if self.secure else [])]
        response.headers.append("Set-Cookie", "; ".join(attributes))


class Sessions:
    """Begins, finds, renews and ends sessions. Safe for threads.

    A session is its cookie, sealed by a key in the data directory: it outlives this process, and nothing
    is kept of it but that it was ended early. A link is sealed by a key of this process, as calls are its.
    """

    def __init__(self, *, key: bytes, open_to_all: bool, framed: bool, clock_s: Callable[[], float]) -> None:
        """`open_to_all` where nobody has to prove who they are; `framed` where other sites show our pages."""
        self._seal = Fernet(urlsafe_b64encode(key))
        self._links = Fernet(Fernet.generate_key())
        self._framed = framed
        self._clock_s = clock_s
        self._guard = threading.Lock()
        self._used: dict[bytes, float] = {}
        self._ended: dict[str, float] = {}
        self.open_to_all = open_to_all

    def begin(self, caller: Caller) -> Session:
        """A session for somebody who proved who they are: the token is needed to begin, not to go on."""
        ends_s = self._clock_s() + LONGEST_S
        return Session(_fresh_id(), caller.subject, page_roles(caller.roles), ends_s)

    def begin_open(self, role: PageRole = PageRole.ADMIN) -> Session:
        """A session for anybody."""
        return Session(_fresh_id(), DEMO, frozenset({role}), self._clock_s() + LONGEST_S, open=True)

    def begin_for_call(self, who: str, call: str) -> Session:
        """A session of an agent for one call."""
        ends_s = self._clock_s() + LONGEST_S
        return Session(_fresh_id(), who, frozenset({PageRole.AGENT}), ends_s, self.open_to_all, call)

    def of(self, request: Request) -> Session | None:
        """Whose request it is; where access is open, anybody's. None where a session ended or never was."""
        found = [self._read(request.cookies.get(name, "")) for name in (COOKIE, CALL_COOKIE)]
        for session in found:
            if session is not None:
                return session
        return self.begin_open() if self.open_to_all else None

    def keep(self, request: Request, response: Response, session: Session) -> None:
        """Has the browser keep the session for as long again, unless that was done just now."""
        name = CALL_COOKIE if session.call else COOKIE
        held = request.cookies.get(name, "")
        if self._read(held) == session and self._age_s(held) < _RENEW_S:
            return
        sealed = self._seal.encrypt_at_time(_written(session), int(self._clock_s())).decode()
        path = f"/pop/{session.call}" if session.call else "/"
        self._cookies(request).put(response, name, sealed, path=path, age_s=None)

    def end(self, request: Request, response: Response, session: Session) -> None:
        """Ends a session for whoever has its cookie."""
        with self._guard:
            _forget(self._ended, self._clock_s())
            self._ended[session.id] = session.ends_s
            while len(self._ended) > _MOST_REVOKED:
                self._ended.pop(next(iter(self._ended)))
        self._cookies(request).put(response, COOKIE, "", age_s=0)

    def prefer(self, request: Request, response: Response, cookie: str, value: str) -> None:
        """Has the browser remember what a reader chose."""
        self._cookies(request).put(response, cookie, value, age_s=365 * 86_400)

    def link(self, said: Mapping[str, Any]) -> str:
        """A text that opens what it says once, within a minute. Nobody else can read it."""
        content = json.dumps({"id": _fresh_id(), **said}).encode()
        return self._links.encrypt_at_time(content, int(self._clock_s())).decode()

    def opened(self, link: str) -> Mapping[str, Any] | None:
        """What a link says; None where it is not ours, too old, or was used."""
        now_s = self._clock_s()
        try:
            said: dict[str, Any] = json.loads(self._links.decrypt_at_time(link.encode(), LINK_S, int(now_s)))
        except (InvalidToken, UnicodeEncodeError):
            return None
        name = said["id"].encode()
        with self._guard:
            _forget(self._used, now_s)
            if name in self._used:
                return None
            self._used[name] = now_s + LINK_S + 1
        return said

    def _cookies(self, request: Request) -> _Kept:
        return _Kept(self._framed, request.url.scheme == "https")

    def _read(self, sealed: str) -> Session | None:
        now_s = self._clock_s()
        try:
            content = self._seal.decrypt_at_time(sealed.encode(), IDLE_S, int(now_s))
            session = _session(json.loads(content))
        except (InvalidToken, UnicodeEncodeError, ValueError, KeyError, TypeError):
            return None
        if now_s >= session.ends_s or session.id in self._ended or session.open != self.open_to_all:
            return None
        return session

    def _age_s(self, sealed: str) -> float:
        return self._clock_s() - self._seal.extract_timestamp(sealed.encode())


def _forget(until: dict[Any, float], now_s: float) -> None:
    for name in [name for name, end_s in until.items() if end_s < now_s]:
        del until[name]


def _fresh_id() -> str:
    return secrets.token_urlsafe(18)


def _written(session: Session) -> bytes:
    said = {
        "id": session.id, "who": session.who, "roles": sorted(session.roles), "ends": session.ends_s,
        "open": session.open, "call": session.call,
    }  # fmt: skip
    return json.dumps(said).encode()


def _session(said: Mapping[str, Any]) -> Session:
    roles = frozenset(PageRole(role) for role in said["roles"])
    return Session(said["id"], said["who"], roles, said["ends"], said["open"], said["call"])


def session_key(data_dir: Path) -> bytes:
    """The key that seals sessions, made on first use and readable by the server only. Raises SetupInvalid."""
    path = data_dir / _KEY_FILE
    try:
        _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise SetupInvalid(f"{path}: the key of sessions cannot be kept: {error.strerror}") from error
    if len(key) != 32:
        raise SetupInvalid(f"{path}: is no key of 32 bytes; delete it, and who is signed in signs in again")
    return key


def _make_key(path: Path) -> None:
    """Puts a fresh key in place, whole, unless there is one."""
    if path.exists():
        return
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
    try:
        os.link(fresh, path)
    except FileExistsError:  # another process was first
        pass
    finally:
        fresh.unlink()


def with_roles(session: Session, roles: Sequence[PageRole]) -> Session:
    """The same in other roles, as whoever tries Arbiter out may choose."""
    return replace(session, roles=frozenset(roles))
