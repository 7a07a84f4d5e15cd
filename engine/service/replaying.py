"""Makes many logged decisions again, and names where one is not what was logged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from engine.core.snapshot import Snapshot
from engine.decisionlog.record import DecisionRecord
from engine.domain import Versions
from engine.errors import SetupInvalid
from engine.service.explanations import Replay, replay

_MOST: Final = 20
"""Differences told of one decision; the first ones say what happened."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that differs: its path, as logged and as made again; None where it is not there."""

    field: str
    logged: Any
    again: Any


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision made again. `cause` says why it could not be; then there are no differences."""

    decision_id: str
    differences: tuple[Difference, ...] = ()
    cause: str = ""

    @property
    def same(self) -> bool:
        """Whether it is the same to the byte."""
        return not self.cause and not self.differences


def replay_all(
    records: Iterable[DecisionRecord], snapshot_of: Callable[[Versions], Snapshot]
) -> Iterator[Replayed]:
    """Each decision again, with its own versions; a snapshot is built once for all that share it."""
    snapshots: dict[tuple[object, ...], Snapshot | str] = {}
    for record in records:
        versions = record.decision.versions
        key = (versions.rules, versions.feature_schema, *sorted(versions.models.items()))
        if key not in snapshots:
            snapshots[key] = _built(versions, snapshot_of)
        snapshot = snapshots[key]
        if isinstance(snapshot, str):
            yield Replayed(record.decision_id, cause=snapshot)
        else:
            yield Replayed(record.decision_id, differences(replay(record, snapshot)))


def _built(versions: Versions, snapshot_of: Callable[[Versions], Snapshot]) -> Snapshot | str:
    try:
        return snapshot_of(versions)
    except SetupInvalid as error:
        return str(error)


def differences(replayed: Replay) -> tuple[Difference, ...]:
    """Where the two decisions part, in the order of the record; none where they are the same to the byte."""
    if replayed.same:
        return ()
    logged, again = json.loads(replayed.logged), json.loads(replayed.replayed)
    found = tuple(Difference(*one) for one, _ in zip(_parted("", logged, again), range(_MOST), strict=False))
    return found or (Difference("byte order", None, None),)


def _parted(path: str, logged: object, again: object) -> Iterator[tuple[str, object, object]]:
    if isinstance(logged, dict) and isinstance(again, dict):
        for name in dict.fromkeys((*logged, *again)):
            yield from _parted(f"{path}.{name}" if path else name, logged.get(name), again.get(name))
    elif isinstance(logged, list) and isinstance(again, list):
        for place in range(max(len(logged), len(again))):
            yield from _parted(f"{path}[{place}]", _at(logged, place), _at(again, place))
    elif logged != again:
        yield path, logged, again


def _at(items: list[object], place: int) -> object:
    return items[place] if place < len(items) else None
