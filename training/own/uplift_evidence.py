"""What was measured of an uplift model, and what it says of whom to treat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from training.dataset import Floats, Rows
from training.evaluation.uplift import Effect, Qini, Trial, curve_of, effect_of, promise_error
from training.own.evidence import Figures, Groups

if TYPE_CHECKING:
    from engine.pages.page import Page
    from training.evaluation.report import Facts

FEWEST_OF_A_GROUP: Final = 200
TARGETED_SHARE: Final = 0.2
"""The fifth with the highest scores counts as selected, as in the reports of classifiers."""


@dataclass(frozen=True, slots=True, eq=False)
class UpliftEvidence:
    """Test rows, n: the trial, the uplift promised (`scores`), and a response model's log-odds beside it.

    rows, shares: (n, inputs), the inputs and their Shapley values. tenths: from the highest scores down.
    """

    trial: Trial
    scores: Floats
    response: Floats
    rows: Rows
    shares: Floats
    names: tuple[str, ...]
    qini: Qini
    overall: Effect
    tenths: tuple[Effect, ...]
    treat_above: float

    @property
    def held_out(self) -> Mapping[str, Floats]:
        """Outcome, treatment and its chance."""
        return {
            "labels": self.trial.outcomes,
            "treated": self.trial.treated,
            "chances": self.trial.chances,
        }

    @property
    def worth_treating(self) -> npt.NDArray[np.bool_]:
        """Rows promised more than a treatment costs (n,)."""
        return self.scores > self.treat_above

    def metrics(self) -> dict[str, float]:
        """The figures for the manifest."""
        worth = self.worth_treating
        treated = effect_of(self.trial.where(worth), self.scores[worth])
        curve = curve_of(self.trial, self.scores)
        qini = self.qini
        found = {
            "qini_test": qini.model.value,
            "qini_test_low": qini.model.low,
            "qini_test_high": qini.model.high,
            "qini_response_test": qini.rival.value,
            "qini_over_response_low": qini.gain.low,
            "qini_over_response_high": qini.gain.high,
            "uplift_test": self.overall.uplift.value,
            "uplift_test_low": self.overall.uplift.low,
            "uplift_test_high": self.overall.uplift.high,
            "uplift_promised_test": self.overall.promised,
            "uplift_error_test": promise_error(self.tenths),
            "uplift_slope_test": qini.slope.value,
            "rate_treated_test": self.overall.treated.value,
            "rate_control_test": self.overall.control.value,
            "share_worth_treating": float(worth.mean()),
            "uplift_of_worth_treating": treated.uplift.value,
            "best_share_test": float(curve.shares[int(curve.gains.argmax())]),
        }
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def told(self) -> list[tuple[str, str, str]]:
        """The figures that people look for first."""
        model, rival = self.qini.model, self.qini.rival
        uplift = self.overall.uplift
        return [
            (
                "Qini coefficient",
                f"{model.value:.5f} ({model.low:.5f} to {model.high:.5f})",
                f"{rival.value:.5f}",
            ),
            ("uplift of all", f"{uplift.value:+.4f} ({uplift.low:+.4f} to {uplift.high:+.4f})", ""),
            ("share worth treating", f"{self.worth_treating.mean():.1%}", ""),
        ]

    def segments(self, groups: Groups) -> dict[str, Figures]:
        """Rows, both rates, uplift seen and promised, and the share worth treating."""
        return {
            f"{attribute}={value}": {
                "rows": effect.rows,
                "rate_treated": _figure(effect.treated.value),
                "rate_control": _figure(effect.control.value),
                "uplift": _figure(effect.uplift.value),
                "uplift_promised": _figure(effect.promised),
                "worth_treating": _figure(float(self.worth_treating[members].mean())),
            }
            for attribute, value, members, effect in self.effects(groups)
        }

    def gaps(self, groups: Groups) -> dict[str, Figures]:
        """Largest differences of the share selected and of promised minus seen, of groups large enough."""
        selected = self.scores >= np.quantile(self.scores, 1.0 - TARGETED_SHARE)
        found: dict[str, dict[str, list[float]]] = {}
        for attribute, _, members, effect in self.effects(groups):
            if effect.rows >= FEWEST_OF_A_GROUP and np.isfinite(effect.uplift.value):
                own = found.setdefault(attribute, {"gap_selection": [], "gap_promise": []})
                own["gap_selection"].append(float(selected[members].mean()))
                own["gap_promise"].append(effect.promised - effect.uplift.value)
        return {
            attribute: {name: _figure(max(values) - min(values)) for name, values in measures.items()}
            for attribute, measures in found.items()
            if len(measures["gap_promise"]) > 1
        }

    def effects(self, groups: Groups) -> Iterator[tuple[str, str, npt.NDArray[np.bool_], Effect]]:
        """Attribute, value, members and effect of each group."""
        for attribute, words in groups.items():
            for value in np.unique(words):
                members = words == value
                yield (
                    attribute,
                    str(value),
                    members,
                    effect_of(self.trial.where(members), self.scores[members]),
                )

    def page(self, facts: Facts, groups: Groups, *, seed: int) -> Page:
        """The report."""
        from training.own.uplift_report import uplift_page  # here, as what draws is slow to import

        return uplift_page(self, facts, tuple(self.effects(groups)), seed=seed)

    def limits(self) -> str:
        """For the model card."""
        return (
            "It says how much more likely the outcome is with the treatment than without it, for customers "
            "like those of the trial and the treatment as it was then. Of a single customer nobody ever sees "
            "both, so it is right on average of many at best. It promises no outcome: whoever is likely to "
            "buy anyway has an uplift near 0."
        )


def _figure(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
