"""Who calls: what they may do, and who it is while their call is answered."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

Answer = TypeVar("Answer")


class Role(StrEnum):
    """What a caller may do; `engine.security.authorising.METHODS` says which method needs which.

    RULES and OPERATE are for pages (`engine.web.sessions`): no method needs them.
    """

    DECIDE = "decide"
    READ_LOG = "read_log"
    OUTCOME = "outcome"
    CONSENT = "consent"
    EVENTS = "events"
    RULES = "rules"
    OPERATE = "operate"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who proved who they are; `until_s` is when the proof ends, in seconds since the epoch."""

    subject: str
    roles: frozenset[Role]
    until_s: float


_calling: Final[ContextVar[Caller | None]] = ContextVar("calling", default=None)


def calling() -> Caller | None:
    """Whose call this thread answers now; None where nobody had to prove who they are."""
    return _calling.get()


def subject() -> str:
    """The name of whose call this is; empty where nobody had to prove it."""
    caller = _calling.get()
    return "" if caller is None else caller.subject


def answer_as(caller: Caller | None, handle: Callable[..., Answer], *arguments: Any) -> Answer:  # noqa: ANN401  # any handler's
    """What `handle` gives, while `calling` says who the caller is."""
    before = _calling.set(caller)
    try:
        return handle(*arguments)
    finally:
        _calling.reset(before)
