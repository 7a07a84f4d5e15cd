"""The audit log: who changed what of a running company, when and why, kept for good.

A change is two entries under one number. The first is on the platter before anything changes, so that where
nobody can be held to account nothing is done; the second says what came of it before anybody is told. A
change without its second entry is one whose process died: what became of it, nobody can say from here.
No entry names a customer: the log outlives them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.journal import MAX_SEGMENT_BYTES
from engine.decisionlog.ledger import Ledger, journal_of

_NUMBER_BYTES: Final = 8
CONSOLE: Final = "console"
COMMAND: Final = "command"
"""The ways a change may be asked for."""


class Act(StrEnum):
    """What somebody may change, or take out of the house."""

    RULES_PUBLISH = "rules.publish"
    RULES_ACTIVATE = "rules.activate"
    RULES_ROLLBACK = "rules.rollback"
    RULES_SHADOW = "rules.shadow"
    MODELS_PROMOTE = "models.promote"
    MODELS_ROLLBACK = "models.rollback"
    CUSTOMER_EXPORT = "customer.export"
    CUSTOMER_ERASE = "customer.erase"


class Fate(StrEnum):
    """What became of a change."""

    BEGUN = "begun"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One line of the log. `before` and `after` are what it was about, by name; `cause` is of a refusal."""

    number: str
    fate: Fate
    act: Act
    who: str
    by: str
    reason: str
    received_at_ms: int
    before: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A change as people read it: what was asked, and what came of it where that is known."""

    asked: AuditEntry
    ended: AuditEntry | None = None

    @property
    def fate(self) -> Fate:
        """How it ended; BEGUN where nobody can say."""
        return Fate.BEGUN if self.ended is None else self.ended.fate

    @property
    def before(self) -> Mapping[str, str]:
        """How it was."""
        return self.asked.before if self.ended is None else {**self.asked.before, **self.ended.before}

    @property
    def after(self) -> Mapping[str, str]:
        """How it is since."""
        return {} if self.ended is None else self.ended.after


@dataclass(slots=True)
class Witnessed:
    """What a change says of itself while it is made."""

    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)


class AuditLog:
    """The audit log of a data directory; any number of processes may share it. Safe for threads.

    Each change has a file of its own: there are few, and nothing stays open between them.
    """

    def __init__(self, directory: Path, checkpoints: Checkpoints | None = None) -> None:
        self._directory = directory
        self._checkpoints = checkpoints

    @contextmanager
    def change(
        self, act: Act, *, who: str, by: str, reason: str, before: Mapping[str, str] | None = None
    ) -> Iterator[Witnessed]:
        """Notes a change before the block makes it, and afterwards what came of it.

        `by` is the way it was asked for: console or command. A block that raises is a change that was
        refused, with the cause. Raises LogUnavailable: before the block, and nothing was changed; after it,
        and it was, though its end is not on record.
        """
        number = secrets.token_hex(_NUMBER_BYTES)
        told = Witnessed(dict(before or {}))

        def entry(fate: Fate, cause: str = "") -> AuditEntry:
            return AuditEntry(
                number=number,
                fate=fate,
                act=act,
                who=who,
                by=by,
                reason=reason,
                received_at_ms=time.time_ns() // 1_000_000,
                before=dict(told.before),
                after=dict(told.after),
                cause=cause,
            )

        with self._ledger() as ledger:
            ledger.append(entry(Fate.BEGUN))
            try:
                yield told
            except Exception as error:
                ledger.append(entry(Fate.REFUSED, str(error)))
                raise
            ledger.append(entry(Fate.DONE))

    def changes(self) -> tuple[Change, ...]:
        """Every change, the latest first. Raises LogError."""
        if not self._directory.is_dir():
            return ()
        return tuple(reversed(list(_paired(self._ledger().replay()))))

    def _ledger(self) -> Ledger[AuditEntry]:
        return Ledger(journal_of(self._directory, 0, MAX_SEGMENT_BYTES, self._checkpoints), AuditEntry)


def _paired(entries: Iterable[AuditEntry]) -> Iterator[Change]:
    """Each change once, in the order they were asked for."""
    changes: dict[str, Change] = {}
    for entry in entries:
        asked = changes.get(entry.number)
        if entry.fate is Fate.BEGUN:
            changes[entry.number] = Change(entry)
        elif asked is not None:
            changes[entry.number] = Change(asked.asked, entry)
    yield from changes.values()
