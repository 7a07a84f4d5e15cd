"""What a version in the shadow would have changed, added up over its log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean, quantiles
from typing import Final

from engine.decisionlog.ledger import ModelShadowEntry

CHURN: Final = "churn"
"""Under which the score of the customer is told, beside those of actions."""
_FEWEST_FOR_QUANTILES: Final = 2


@dataclass(frozen=True, slots=True)
class ScoreDifference:
    """Shadow less live over the decisions that have both scores; `largest` and `p95` are without sign."""

    count: int
    live: float
    shadow: float
    mean: float
    p95: float
    largest: float


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """One version beside those that scored. `scores` are by action, and `churn` of the customer.

    `first` counts decisions whose first action would be another, `order` those whose actions returned would
    differ in any way, and `became` from which first action to which; "" is none.
    """

    model: str
    shadow: int
    beside: tuple[int, ...]
    decisions: int
    first: int
    order: int
    from_ms: int
    until_ms: int
    scores: dict[str, ScoreDifference] = field(default_factory=dict)
    became: dict[tuple[str, str], int] = field(default_factory=dict)


def shadow_reports(entries: Iterable[ModelShadowEntry], *, model: str) -> tuple[ShadowReport, ...]:
    """One report for each version of a model that was in the shadow, by number."""
    by_version: dict[int, dict[str, ModelShadowEntry]] = {}
    for entry in entries:
        if entry.model == model:  # one that several processes logged counts once
            by_version.setdefault(entry.shadow, {})[entry.decision_id] = entry
    return tuple(
        _report(model, version, list(found.values())) for version, found in sorted(by_version.items())
    )


def _report(model: str, version: int, entries: list[ModelShadowEntry]) -> ShadowReport:
    pairs: dict[str, list[tuple[float, float]]] = {}
    became: dict[tuple[str, str], int] = {}
    for entry in entries:
        for action, scores in entry.scores.items():
            pairs.setdefault(action, []).append(scores)
        if entry.churn is not None:
            pairs.setdefault(CHURN, []).append(entry.churn)
        first = _first(entry.returned), _first(entry.shadow_returned)
        if first[0] != first[1]:
            became[first] = became.get(first, 0) + 1
    return ShadowReport(
        model=model,
        shadow=version,
        beside=tuple(sorted({entry.version for entry in entries})),
        decisions=len(entries),
        first=sum(became.values()),
        order=sum(entry.returned != entry.shadow_returned for entry in entries),
        from_ms=min(entry.received_at_ms for entry in entries),
        until_ms=max(entry.received_at_ms for entry in entries),
        scores={name: _difference(both) for name, both in sorted(pairs.items())},
        became=dict(sorted(became.items(), key=lambda item: (-item[1], item[0]))),
    )


def _first(actions: tuple[str, ...]) -> str:
    return actions[0] if actions else ""


def _difference(both: list[tuple[float, float]]) -> ScoreDifference:
    sizes = sorted(abs(shadow - live) for live, shadow in both)
    p95 = quantiles(sizes, n=20, method="inclusive")[-1] if len(sizes) >= _FEWEST_FOR_QUANTILES else sizes[0]
    live, shadow = fmean(x for x, _ in both), fmean(x for _, x in both)
    return ScoreDifference(len(both), live, shadow, shadow - live, p95, sizes[-1])
