"""What was measured of a model of customers' value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from training.dataset import Floats, Rows
from training.evaluation.measures import Estimate
from training.evaluation.value import Tenth, errors_of, rank_correlation
from training.own.evidence import Figures, Groups

if TYPE_CHECKING:
    from engine.pages.page import Page
    from training.evaluation.report import Facts

FEWEST_OF_A_GROUP: Final = 50
TARGETED_SHARE: Final = 0.2
"""The fifth with the highest predictions counts as selected, as in the reports of classifiers."""


@dataclass(frozen=True, slots=True)
class GroupWorth:
    """Mean amounts of a group of test rows, actual and predicted."""

    attribute: str
    value: str
    rows: int
    actual: float
    predicted: float
    rank_correlation: float
    selected: float

    @property
    def ratio(self) -> float:
        """Predicted over actual; NaN where nothing was actual."""
        return self.predicted / self.actual if self.actual > 0.0 else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class ValueEvidence:
    """Test rows, n: amounts as they were and as `counted` (capped where the plan says so), and predictions.

    rows, shares: (n, inputs), the inputs and their Shapley values. gini: of the model, and its gain over the
    baseline, a linear regression of logarithms.
    """

    amounts: Floats
    counted: Floats
    predicted: Floats
    baseline: Floats
    rows: Rows
    shares: Floats
    names: tuple[str, ...]
    currency: str
    cap: float | None
    gini: tuple[Estimate, Estimate]
    total: Estimate
    tenths: tuple[Tenth, ...]

    @property
    def held_out(self) -> Mapping[str, Floats]:
        """Amounts as they were."""
        return {"labels": self.amounts}

    def metrics(self) -> dict[str, float]:
        """The figures for the manifest."""
        own, beside = errors_of(self.counted, self.predicted), errors_of(self.counted, self.baseline)
        gini, gain = self.gini
        found = {
            "mae_test": own.mae,
            "baseline_mae_test": beside.mae,
            "rmse_test": own.rmse,
            "baseline_rmse_test": beside.rmse,
            "mape_positive_test": own.mape,
            "baseline_mape_positive_test": beside.mape,
            "spearman_test": rank_correlation(self.counted, self.predicted),
            "baseline_spearman_test": rank_correlation(self.counted, self.baseline),
            "gini_test": gini.value,
            "gini_test_low": gini.low,
            "gini_test_high": gini.high,
            "baseline_gini_test": gini.value - gain.value,
            "total_ratio_test": self.total.value,
            "total_ratio_test_uncapped": float(self.predicted.sum() / self.amounts.sum()),
            "captured_by_first_tenth": self.tenths[0].captured,
            "mean_test": float(self.counted.mean()),
            "positive_test": float((self.counted > 0.0).mean()),
        }
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def told(self) -> list[tuple[str, str, str]]:
        """The figures that people look for first, beside the linear regression's."""
        metrics = self.metrics()
        names = ("mae_test", "rmse_test", "spearman_test", "gini_test")
        figures = [(name, f"{metrics[name]:,.4f}", f"{metrics[f'baseline_{name}']:,.4f}") for name in names]
        return [*figures, ("predicted over actual total", str(self.total), "")]

    def worths(self, groups: Groups) -> Iterator[GroupWorth]:
        """Each group of each attribute."""
        selected = self.selected
        for attribute, words in groups.items():
            for value in np.unique(words):
                members = words == value
                yield GroupWorth(
                    attribute=attribute,
                    value=str(value),
                    rows=int(members.sum()),
                    actual=float(self.counted[members].mean()),
                    predicted=float(self.predicted[members].mean()),
                    rank_correlation=rank_correlation(self.counted[members], self.predicted[members]),
                    selected=float(selected[members].mean()),
                )

    @property
    def selected(self) -> npt.NDArray[np.bool_]:
        """The fifth with the highest predictions (n,)."""
        return np.asarray(self.predicted >= np.quantile(self.predicted, 1.0 - TARGETED_SHARE))

    def segments(self, groups: Groups) -> dict[str, Figures]:
        """Rows, mean amounts actual and predicted, and how well ranked within."""
        return {
            f"{group.attribute}={group.value}": {
                "rows": group.rows,
                "actual": round(group.actual, 6),
                "predicted": round(group.predicted, 6),
                "spearman": round(group.rank_correlation, 6),
                "selected": round(group.selected, 6),
            }
            for group in self.worths(groups)
        }

    def gaps(self, groups: Groups) -> dict[str, Figures]:
        """Largest differences of the share selected and of predicted over actual, of groups large enough."""
        found: dict[str, list[GroupWorth]] = {}
        for group in self.worths(groups):
            if group.rows >= FEWEST_OF_A_GROUP and group.actual > 0.0:
                found.setdefault(group.attribute, []).append(group)
        return {
            attribute: {
                "gap_selection": round(_gap([group.selected for group in judged]), 6),
                "gap_ratio": round(_gap([group.ratio for group in judged]), 6),
            }
            for attribute, judged in found.items()
            if len(judged) > 1
        }

    def page(self, facts: Facts, groups: Groups, *, seed: int) -> Page:
        """The report."""
        from training.own.value_report import value_page  # here, as what draws is slow to import

        return value_page(self, facts, tuple(self.worths(groups)), seed=seed)

    def limits(self) -> str:
        """For the model card."""
        capped = (
            f" Amounts count as {self.cap:,.2f} {self.currency} at most: the largest customers are worth "
            "more than it says."
            if self.cap is not None
            else ""
        )
        return (
            f"It says what customers will be worth on average, in {self.currency}, if they are treated as "
            f"they were then; amounts of single customers scatter widely around it.{capped}"
        )


def _gap(values: list[float]) -> float:
    return max(values) - min(values)
