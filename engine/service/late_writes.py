"""Nothing stays behind of a customer who was erased while something was written of them.

An erasure enters the customer in the register first and clears all places after. Whoever writes goes the
other way: looks at the register, reads, writes, and looks again. An erasure that begins after the first look
is seen by the second, unless it began so late that it finds what was written: there is no moment at which
neither does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.erasure import erase_one
from engine.decisionlog.errors import LogError
from engine.decisionlog.frame import MAX_OFFSET
from engine.service.erased import ErasedCustomers, ErasedEntry, nobody
from feature_store.errors import StoreError
from feature_store.store import OnlineStore

_log = structlog.get_logger("engine.service.late_writes")


class Writing(Protocol):
    """One piece of work, from before anything was read of a customer until it is written."""

    def is_erased(self, customer_id: str) -> bool:
        """Whether the customer was erased before it began, so that nothing may be written."""
        ...

    def took_back(self, customer_id: str, position: int | None) -> bool:
        """Whether the customer was erased since, and so what was written is gone again.

        `position` is that of the entry in the log, segment and offset together; None where there is none.
        """
        ...


class LateWrites(Protocol):
    """What those who write of customers ask. Safe for threads."""

    def begin(self, log: str) -> Writing:
        """The beginning of a piece of work that writes to a log and the store; before anything is read."""
        ...


class _NobodyErased:
    def begin(self, _log: str) -> _NobodyErased:
        return self

    def is_erased(self, _customer_id: str) -> bool:
        return False

    def took_back(self, _customer_id: str, _position: int | None) -> bool:
        return False


NOBODY_ERASED: Final = _NobodyErased()
"""Where there is no register."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredErasures:
    """Late writes by the register of a data directory. `directories` are those of its logs by name."""

    register: ErasedCustomers
    store: OnlineStore
    directories: Mapping[str, Path]
    checkpoints_of: Callable[[str], Checkpoints | None]
    clock: Callable[[], int]

    def begin(self, log: str) -> Writing:
        """Looks at the register."""
        return _Begun(self, log, self.look())

    def look(self) -> Callable[[str], ErasedEntry | None]:
        """Who is erased now; nobody where the register cannot be read: then no erasure can begin either."""
        try:
            return self.register.now()
        except LogError:
            return nobody

    def clear(self, log: str, customer_id: str, position: int | None, erasure: ErasedEntry) -> None:
        """Clears a place in a log, and the store again; where it cannot, our own log says so."""
        try:
            if position is not None:
                erase_one(
                    self.directories[log],
                    position >> 40,
                    position & MAX_OFFSET,
                    actor=erasure.actor,
                    reason=erasure.reason,
                    now_ms=self.clock(),
                    checkpoints=self.checkpoints_of(log),
                )
            self.store.erase(customer_id)
        except (LogError, StoreError) as error:
            _log.error("erasure.incomplete", place=log, cause=str(error), advice="erase the customer again")


@dataclass(frozen=True, slots=True)
class _Begun:
    erasures: RegisteredErasures
    log: str
    before: Callable[[str], ErasedEntry | None]

    def is_erased(self, customer_id: str) -> bool:
        return self.before(customer_id) is not None

    def took_back(self, customer_id: str, position: int | None) -> bool:
        after = self.erasures.look()
        erasure = None if after is self.before else after(customer_id)
        if erasure is None:
            return False
        self.erasures.clear(self.log, customer_id, position, erasure)
        return True
