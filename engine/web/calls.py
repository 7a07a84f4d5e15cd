"""Calls in progress: whose they are, who listens, and that they end. In this process's memory only."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from engine.errors import CallTaken, CallUnknown, RequestInvalid, Violation
from feature_store.state import Identity

CALL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:~-]{0,63}")
"""What telephony names calls by; as part of an address it needs no escaping."""
MAX_AGENT: Final = 128
MAX_NAME: Final = 80
MAX_IDENTITY: Final = 128
MOST: Final = 10_000
"""Calls remembered; those that began first are forgotten beyond that."""
LONGEST_S: Final = 4 * 3600
"""Age at which a call has ended, though nobody said so."""
REMEMBERED_S: Final = 600
"""How long after its end it is known that there was a call, though nothing about it."""
_BEHIND: Final = 64
"""Events that a slow page may miss before the oldest are dropped; each only says that something is new."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of one agent. What a page shows and does of it is kept in `talk`, whose owner `guard` is.

    When it has ended nothing of the customer is left.
    """

    id: str
    agent: str
    identity: Identity | None
    name: str
    rang_s: float
    ended_s: float | None = None
    guard: threading.RLock = field(default_factory=threading.RLock)
    talk: Any = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something new: what, and for "go" where."""

    name: str
    data: str = ""


class Listener:
    """One page that waits for events."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    def tell(self, event: Event | None) -> None:
        """From any thread; None ends the waiting."""
        try:
            self._loop.call_soon_threadsafe(self._put, event)
        except RuntimeError:  # its loop has ended, and the page with it
            return

    def _put(self, event: Event | None) -> None:
        while self._events.qsize() >= _BEHIND:
            self._events.get_nowait()
        self._events.put_nowait(event)

    async def next(self, wait_s: float) -> Event | None:
        """The next event; None where the waiting ends. Raises TimeoutError after so long without any."""
        return await asyncio.wait_for(self._events.get(), wait_s)


class Calls:
    """All calls of this process. Safe for threads."""

    def __init__(self, *, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._guard = threading.Lock()
        self._calls: dict[str, Call] = {}
        self._listeners: dict[str, set[Listener]] = {}
        self._closed = False
        self.ended: list[Callable[[Call], None]] = []
        """Told of each call that ends, while all about it is still there."""

    def now_s(self) -> float:
        """Now, by the clock of calls."""
        return self._clock_s()

    def ring(self, call_id: str, agent: str, identity: Identity, name: str = "") -> Call:
        """A call begins, and the agent's waiting page is told; said again, it is the same call.

        Raises RequestInvalid, and CallTaken where it is another's.
        """
        _check(call_id, agent, identity, name)
        self._forget()
        with self._guard:
            call = self._calls.get(call_id)
            if call is None:
                call = Call(call_id, agent, identity, name, self._clock_s())
                self._calls[call_id] = call
            elif call.ended_s is not None or (call.agent, call.identity) != (agent, identity):
                raise CallTaken("a call of this id has another identity or agent, or has ended")
        self.tell(desk_of(agent), Event("go", f"/pop/{call_id}"))
        return call

    def get(self, call_id: str) -> Call:
        """A call, also one that ended lately. Raises CallUnknown."""
        with self._guard:
            call = self._calls.get(call_id)
        if call is None:
            raise CallUnknown("this call is not known, or not any more")
        return call

    def of_agent(self, agent: str | None) -> tuple[Call, ...]:
        """Calls in progress of an agent, of anybody for None; the last first."""
        with self._guard:
            found = [c for c in self._calls.values() if c.ended_s is None and agent in (None, c.agent)]
        return tuple(reversed(found))

    def end(self, call_id: str) -> None:
        """A call ends: pages are told, and nothing of the customer is kept. Raises CallUnknown."""
        call = self.get(call_id)
        with call.guard:
            if call.ended_s is not None:
                return
            for told in self.ended:
                told(call)
            call.ended_s = self._clock_s()
            call.identity, call.name, call.talk = None, "", None
        self.tell(f"call:{call_id}", Event("go", f"/pop/{call_id}"))

    def tell(self, whom: str, event: Event) -> None:
        """Tells every page that listens under that name; those of everybody too."""
        with self._guard:
            listeners = [*self._listeners.get(whom, ())]
            if whom.startswith("desk:"):
                listeners += self._listeners.get(desk_of(None), ())
        for listener in listeners:
            listener.tell(event)

    @contextmanager
    def listening(self, *names: str) -> Iterator[Listener]:
        """A listener for what is told under these names, while the block runs."""
        listener = Listener(asyncio.get_running_loop())
        with self._guard:
            for name in names:
                self._listeners.setdefault(name, set()).add(listener)
            if self._closed:
                listener.tell(None)
        try:
            yield listener
        finally:
            with self._guard:
                for name in names:
                    self._listeners[name].discard(listener)
                    if not self._listeners[name]:
                        del self._listeners[name]

    def close(self) -> None:
        """Ends all waiting, so that no page holds up the end of the process; calls are ended too."""
        with self._guard:
            self._closed = True
            listeners = {each for held in self._listeners.values() for each in held}
        for listener in listeners:
            listener.tell(None)
        for call in self.of_agent(None):
            self.end(call.id)

    def _forget(self) -> None:
        """Ends calls that nobody ended, and forgets those that ended a while ago or are too many."""
        now_s = self._clock_s()
        for call in self.of_agent(None):
            if now_s - call.rang_s >= LONGEST_S:
                self.end(call.id)
        with self._guard:
            old = [c.id for c in self._calls.values() if c.ended_s and now_s - c.ended_s >= REMEMBERED_S]
            for call_id in old:
                del self._calls[call_id]
            excess = list(self._calls)[: max(0, len(self._calls) - MOST + 1)]
        for call_id in excess:
            self.end(call_id)
            with self._guard:
                self._calls.pop(call_id, None)


def desk_of(agent: str | None) -> str:
    """The name under which an agent's waiting page listens; None for one that hears of every call."""
    return "everybody" if agent is None else f"desk:{agent}"


def _check(call_id: str, agent: str, identity: Identity, name: str) -> None:
    wrong = []
    if not CALL_ID.fullmatch(call_id):
        wrong.append(Violation("call", "is 1 to 64 letters, digits and _ . : ~ -"))
    if not (1 <= len(agent) <= MAX_AGENT and agent.isprintable()):
        wrong.append(Violation("agent", f"is 1 to {MAX_AGENT} printable characters"))
    if not identity.type or not 1 <= len(identity.value) <= MAX_IDENTITY:
        wrong.append(Violation("identity", "is TYPE:VALUE, such as phone:+41790000131"))
    if len(name) > MAX_NAME:
        wrong.append(Violation("name", f"has more than {MAX_NAME} characters"))
    if wrong:
        raise RequestInvalid(wrong)


def identity_in(text: str) -> Identity:
    """An identity as links and telephony write it, TYPE:VALUE. A plus that a link lost is put back."""
    kind, _, value = text.partition(":")
    if kind == "phone" and value.startswith(" "):
        value = f"+{value.strip()}"
    return Identity(kind, value.strip())
