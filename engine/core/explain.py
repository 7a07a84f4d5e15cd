"""Why: reasons for what is returned, bands for churn risk, and reasons for doing nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from engine.core import reasons
from engine.core.scoring import Contribution
from engine.domain import Action, Priority, PropensitySource, Reason, ReasonSource, SuppressedAction

_NO_ACTION_REASONS = 5


def model_reasons(contributions: Iterable[Contribution], *, model: str) -> tuple[Reason, ...]:
    """A model's contributions as reasons; `model` is "name/version"."""
    return tuple(
        Reason(
            code=each.reason,
            source=ReasonSource.MODEL,
            model=model,
            contribution=each.share,
            values={
                "value": each.value,
                "typical": each.typical,
                "feature": each.feature,
                "baseline": each.baseline,
            },
        )
        for each in contributions
    )


def for_returned(
    action: Action, priority: Priority, *, by_rules: Sequence[Reason], by_model: Sequence[Reason]
) -> tuple[Reason, ...]:
    """Reasons of a returned action: what the rules say, then the model, never nothing."""
    found = [*by_rules, *by_model]
    if not found:
        found.append(Reason(reasons.BEST_VALUE, ReasonSource.ENGINE))
    if action.target and priority.propensity_source is PropensitySource.PRIOR:
        found.append(Reason(reasons.PRIOR_ONLY, ReasonSource.ENGINE))
    return tuple(found)


def for_nothing(suppressed: Iterable[SuppressedAction]) -> tuple[Reason, ...]:
    """Why no action qualifies: the most frequent reasons of removal, at most five."""
    first: dict[str, Reason] = {}
    counts: Counter[str] = Counter()
    for fate in suppressed:
        for reason in fate.reasons:
            first.setdefault(reason.code, reason)
            counts[reason.code] += 1
    return tuple(first[code] for code, _ in counts.most_common(_NO_ACTION_REASONS))


def band(probability: float, bands: Sequence[tuple[str, float]]) -> str:
    """The band a probability falls in; bands ascend and start at 0."""
    return next(name for name, start in reversed(bands) if probability >= start)
