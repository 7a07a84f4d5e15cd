"""Who was merged into whom, and until when: read from the log of identities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from engine.service.identities import IdentityChange, IdentityEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A customer as part of another; who did it and why, and `undone` where they were parted again."""

    customer_id: str
    into: str
    at_ms: int
    actor: str
    reason: str
    undone: IdentityEntry | None = None


def merges_in(entries: Iterable[IdentityEntry]) -> list[Merge]:
    """Every merge in the order of the log."""
    found: list[Merge] = []
    places: dict[str, int] = {}
    for entry in entries:
        if entry.change is IdentityChange.MERGED:
            places[entry.customer_id] = len(found)
            found.append(_merge(entry))
        elif entry.change is IdentityChange.UNMERGED and entry.customer_id in places:
            place = places.pop(entry.customer_id)
            found[place] = replace(found[place], undone=entry)
    return found


def standing(merges: Iterable[Merge]) -> list[Merge]:
    """Those that were not undone, the first made first."""
    return sorted((merge for merge in merges if merge.undone is None), key=lambda merge: merge.at_ms)


def persons(merges: Sequence[Merge], customer_ids: Iterable[str]) -> set[str]:
    """The customers with all who are one person with any of them by standing merges."""
    found, before = set(customer_ids), 0
    while len(found) > before:
        before = len(found)
        for merge in merges:
            if merge.customer_id in found or merge.into in found:
                found |= {merge.customer_id, merge.into}
    return found


def _merge(entry: IdentityEntry) -> Merge:
    return Merge(
        customer_id=entry.customer_id,
        into=entry.into,
        at_ms=entry.received_at_ms,
        actor=entry.actor,
        reason=entry.reason,
    )
