"""Links identities to customers: first in the log of who was linked when and by whom, then in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from engine.decisionlog.journal import MAX_SEGMENT_BYTES
from engine.decisionlog.ledger import Ledger, journal_of
from engine.errors import RequestInvalid, Violation
from feature_store.identities import IdentityForms
from feature_store.state import Identity
from feature_store.store import OnlineStore

Transform = Callable[[Identity], Identity]


class IdentityChange(StrEnum):
    """What became of a link, or of two customers who are one person."""

    LINKED = "linked"
    UNLINKED = "unlinked"
    MERGED = "merged"
    UNMERGED = "unmerged"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityEntry:
    """One change of one link, or of whom the customer is merged `into`.

    The identity's value is as it is kept: sealed where there is a key; None where customers are merged.
    """

    customer_id: str
    change: IdentityChange
    identity: Identity | None = None
    into: str = ""
    actor: str
    reason: str
    received_at_ms: int


IdentityLog = Ledger[IdentityEntry]


def identity_log(directory: Path) -> IdentityLog:
    """The log of identities; an entry is on the platter before `append` returns."""
    return Ledger(journal_of(directory, 0, MAX_SEGMENT_BYTES, None), IdentityEntry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linking:
    """Changes links and keeps their history. `sealed` and `opened` are the ways into and out of the log."""

    store: OnlineStore
    log: IdentityLog
    forms: IdentityForms
    types: tuple[str, ...]
    sealed: Transform
    opened: Transform

    def change(
        self,
        customer_id: str,
        identity: Identity,
        change: IdentityChange,
        *,
        actor: str,
        reason: str,
        now_ms: int,
    ) -> tuple[str, ...]:
        """Links or unlinks; whom the identity names now. To do it again is harmless.

        Raises RequestInvalid where the identity can never be one, LogError, and StoreError.
        """
        if change is IdentityChange.LINKED:
            self._check(identity)
        normal = self.forms.normal(identity)
        entry = IdentityEntry(
            customer_id=customer_id,
            change=change,
            identity=self.sealed(normal),
            actor=actor,
            reason=reason,
            received_at_ms=now_ms,
        )
        self.log.append(entry)
        if change is IdentityChange.LINKED:
            self.store.link([(identity, customer_id)])
        else:
            self.store.unlink([(identity, customer_id)])
        return self.store.resolve(identity)

    def history(self, customer_id: str) -> list[tuple[Identity, IdentityEntry]]:
        """Every change of the customer's links in their order, each with its identity readable."""
        return [
            (self.opened(entry.identity), entry)
            for entry in self.log.replay()
            if entry.customer_id == customer_id and entry.identity is not None
        ]

    def _check(self, identity: Identity) -> None:
        if identity.type not in self.types:
            known = ", ".join(self.types)
            raise RequestInvalid([Violation("identity.type", f"is none of {known}")])
        fault = self.forms.fault(identity)
        if fault is not None:
            raise RequestInvalid([Violation("identity.value", fault)])
