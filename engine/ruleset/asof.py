"""A rule set as of an instant: which rules and actions are in force. Intervals are half-open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from engine.core.rulebook import PolicyRule, Rulebook
from engine.domain import Action


class Standing(StrEnum):
    """Where an instant lies to a validity."""

    NOT_YET = "not yet in force"
    IN_FORCE = "in force"
    ENDED = "ended"


class Dated(Protocol):
    """What has a validity in milliseconds; None is open."""

    @property
    def valid_from_ms(self) -> int | None:
        """The first instant."""
        ...

    @property
    def valid_to_ms(self) -> int | None:
        """The first instant after it."""
        ...


D = TypeVar("D", bound=Dated)


@dataclass(frozen=True, slots=True)
class AsOf:
    """What of a rule set is in force at an instant; the rest has its standing."""

    rules: tuple[PolicyRule, ...]
    other_rules: tuple[tuple[PolicyRule, Standing], ...]
    actions: tuple[Action, ...]
    other_actions: tuple[tuple[Action, Standing], ...]


def standing(from_ms: int | None, to_ms: int | None, at_ms: int) -> Standing:
    """Where an instant lies to [from, to)."""
    if from_ms is not None and at_ms < from_ms:
        return Standing.NOT_YET
    return Standing.ENDED if to_ms is not None and at_ms >= to_ms else Standing.IN_FORCE


def standing_of(dated: Dated, at_ms: int) -> Standing:
    """Where an instant lies to a validity."""
    return standing(dated.valid_from_ms, dated.valid_to_ms, at_ms)


def as_of(rulebook: Rulebook, *, at_ms: int) -> AsOf:
    """The rules and actions of a compiled set that are in force at an instant, and the others."""
    rules = _parted((*rulebook.before_scores.rules, *rulebook.after_scores.rules), at_ms)
    actions = _parted(rulebook.actions, at_ms)
    return AsOf(
        tuple(r for r, s in rules if s is Standing.IN_FORCE),
        tuple((r, s) for r, s in rules if s is not Standing.IN_FORCE),
        tuple(a for a, s in actions if s is Standing.IN_FORCE),
        tuple((a, s) for a, s in actions if s is not Standing.IN_FORCE),
    )


def _parted(dated: Iterable[D], at_ms: int) -> list[tuple[D, Standing]]:
    return [(one, standing_of(one, at_ms)) for one in dated]


def share_an_instant(*windows: tuple[int | None, int | None]) -> bool:
    """Whether half-open windows have an instant in common; None is open."""
    starts = [start for start, _ in windows if start is not None]
    ends = [end for _, end in windows if end is not None]
    return not starts or not ends or max(starts) < min(ends)
