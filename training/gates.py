"""Whether a trained model is good enough, and not too good to be true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from model_registry.manifest import Manifest
from training.candidate import Candidate
from training.errors import GateFailed


@dataclass(frozen=True, slots=True)
class Bounds:
    """A metric must lie in [low, high]. `meaning` says what it is a sign of where it does not."""

    low: float
    high: float
    meaning: str


CHURN_BOUNDS: Final[Mapping[str, Bounds]] = {
    "auc_test": Bounds(0.83, 0.86, "below: not learnt; above: the label leaks"),
    "cv_auc": Bounds(0.835, 0.86, "below: not learnt; above: the label leaks"),
    "ece_test": Bounds(0.0, 0.045, "probabilities are not the rates they promise"),
}
"""Honest AUC on this data is 0.843 to 0.847; a fifth of the customers scatters by 0.007. An ECE of 0.02 to
0.03 is noise alone on 1,400 rows in ten bins."""

PROPENSITY_BOUNDS: Final[Mapping[str, Bounds]] = {
    "auc_test": Bounds(0.80, 0.88, "below: not learnt; above: ownership leaks"),
    "ece_test": Bounds(0.0, 0.02, "probabilities are not the rates they promise"),
}
TARGET_AUC: Final = Bounds(0.70, 0.96, "below: not learnt; above: ownership leaks")
WORSE_THAN_CHAMPION: Final = 0.005
"""How much AUC a candidate may lose against the champion on the same customers."""
WORSE_THAN_BASELINE: Final = 0.01
"""How much AUC boosting may lose against a logistic regression before it is not worth serving."""


def check_metrics(candidate: Candidate, *, champion: Manifest | None) -> None:
    """Raises GateFailed naming every bound a candidate breaks, and every metric worse than the champion's.

    The champion is compared only where both were tested on the same customers.
    """
    failures = [
        f"{name} is {candidate.metrics[name]:.4f}, outside {b.low} to {b.high} ({b.meaning})"
        for name, b in _bounds(candidate).items()
        if not b.low <= candidate.metrics[name] <= b.high
    ]
    failures += _behind(candidate, "the baseline", _baseline(candidate), WORSE_THAN_BASELINE)
    if champion is not None and _same_customers(champion.training_data, candidate.training_data):
        held = champion.metrics.get("auc_test", 0.0)
        failures += _behind(
            candidate, f"champion {champion.version}", ("auc_test", held), WORSE_THAN_CHAMPION
        )
    if failures:
        raise GateFailed(candidate.task.name, tuple(failures))


def _same_customers(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two models were trained and tested on the same customers, so that their AUC may be compared."""
    return all(one.get(key) == other.get(key) for key in ("fingerprint", "split", "seed"))


def _bounds(candidate: Candidate) -> Mapping[str, Bounds]:
    if candidate.task.kind == "churn":
        return CHURN_BOUNDS
    return {**PROPENSITY_BOUNDS, **{f"auc_test_{target}": TARGET_AUC for target in candidate.task.targets}}


def _baseline(candidate: Candidate) -> tuple[str, float]:
    """The figure that stands against the logistic regression, and the regression's."""
    name = "auc_test" if candidate.task.kind == "churn" else "auc_test_mean_of_targets"
    return name, candidate.metrics[f"baseline_{name}"]


def _behind(candidate: Candidate, rival: str, figure: tuple[str, float], allowed: float) -> list[str]:
    name, held = figure
    own = candidate.metrics[name]
    if own >= held - allowed:
        return []
    return [f"{name} is {own:.4f}, more than {allowed} below {rival} ({held:.4f})"]
