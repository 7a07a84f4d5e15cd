"""Proof of use: which consents each contact rested on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.decisionlog.errors import LogError
from engine.decisionlog.ledger import ConsentUse, OutcomeEntry, OutcomeLog
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import DecisionRecord
from engine.domain import Action


@dataclass(frozen=True, slots=True)
class RecordedUse:
    """A contact on disk, where in the outcome log, and what it rested on."""

    position: int
    outcome: OutcomeEntry
    use: ConsentUse


def consent_use(decided: DecisionRecord, action: Action | None, *, profiling_purpose: str) -> ConsentUse:
    """What a contact about a returned action rested on: its purpose and, if profiled, profiling.

    `action` is None where the catalogue no longer has it: then every permitted purpose is named.
    """
    purposes = None if action is None else {action.purpose}
    if purposes is not None and decided.decision.profiled:
        purposes.add(profiling_purpose)
    return ConsentUse(
        customer_id=decided.request.customer_id,
        channel=decided.request.channel,
        purpose="" if action is None else action.purpose,
        relied_on=tuple(
            used
            for used in decided.decision.consents
            if (used.permitted if purposes is None else used.purpose in purposes)
        ),
    )


def uses_of(outcomes: OutcomeLog, decisions: DecisionLog, customer_id: str) -> Iterator[RecordedUse]:
    """Every contact of a customer with the consents it rested on, oldest first; each outcome once.

    Entries of earlier engines name no customer; these are looked up in the decision log while it holds them.
    """
    seen: set[str] = set()
    for position, entry in outcomes.replay_places():
        use = entry.use or _looked_up(decisions, entry)
        if use is None or use.customer_id != customer_id or entry.outcome_id in seen:
            continue
        seen.add(entry.outcome_id)
        yield RecordedUse(position, entry, use)


def _looked_up(decisions: DecisionLog, entry: OutcomeEntry) -> ConsentUse | None:
    try:
        decided = decisions.read(entry.decision_id)
    except LogError:
        return None
    return None if decided is None else consent_use(decided, None, profiling_purpose="")
