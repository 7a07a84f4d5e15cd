"""How a model does among parts of the customers, and how far apart it treats them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from training.calibration import calibration_error
from training.dataset import Floats
from training.evaluation.held_out import HeldOut
from training.evaluation.measures import Estimate, auc_of

TARGETED_SHARE: Final = 0.2
"""The fifth with the highest scores counts as selected: about what a campaign would reach."""
FEWEST_ROWS: Final = 50
FEWEST_OF_A_LABEL: Final = 10
"""Smaller parts are shown, but no gap is taken from them: it would be noise."""
_DRAWS: Final = 400


@dataclass(frozen=True, slots=True)
class Group:
    """Held-out rows with one value of an attribute.

    `selected`: share among the fifth of all rows with the highest scores. `found`: share of its positives
    that are selected (true positive rate); None without positives. `auc` is None where labels are alike.
    """

    attribute: str
    value: str
    rows: int
    rate: float
    mean_probability: float
    ece: float
    auc: Estimate | None
    selected: float
    found: float | None
    judged: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """The largest difference between judged groups of an attribute, with the groups it lies between."""

    attribute: str
    measure: str
    size: Estimate
    lowest: str
    highest: str


def groups_of(held: HeldOut) -> tuple[Group, ...]:
    """Every part of the rows, attribute by attribute."""
    selected = _selected(held.probabilities)
    return tuple(
        _group(held, attribute, str(value), words == value, selected)
        for attribute, words in held.groups.items()
        for value in np.unique(words)
    )


def gaps_of(held: HeldOut, *, seed: int) -> tuple[Gap, ...]:
    """Gaps of AUC, true positive rate, selection and promise minus rate; attributes of one group have none.

    Intervals are of the difference between the two groups that are furthest apart, by bootstrap within them.
    The choice of those two makes small gaps look larger than they are, most of all between many groups.
    """
    judged = [group for group in groups_of(held) if group.judged]
    selected = _selected(held.probabilities)
    found = []
    for attribute, words in held.groups.items():
        values = [group.value for group in judged if group.attribute == attribute]
        if len(values) < 2:
            continue
        members = {value: np.flatnonzero(words == value) for value in values}
        for number, (measure, of) in enumerate(_MEASURES.items()):
            figures = {value: of(held, selected, rows) for value, rows in members.items()}
            low, high = min(values, key=figures.__getitem__), max(values, key=figures.__getitem__)
            rng = np.random.default_rng((seed, number))
            draws = [_resampled(held, selected, members, (low, high), of, rng) for _ in range(_DRAWS)]
            size = figures[high] - figures[low]
            ends = np.quantile(draws, (0.025, 0.975))
            found.append(Gap(attribute, measure, Estimate(size, float(ends[0]), float(ends[1])), low, high))
    return tuple(found)


_Places = npt.NDArray[np.intp]
_Flags = npt.NDArray[np.bool_]
_Measure = Callable[[HeldOut, _Flags, _Places], float]


def _resampled(
    held: HeldOut,
    selected: _Flags,
    members: dict[str, _Places],
    ends: tuple[str, str],
    of: _Measure,
    rng: np.random.Generator,
) -> float:
    """The difference once more, on rows drawn with replacement; each label keeps its number."""
    low, high = (of(held, selected, _drawn(held.labels, members[end], rng)) for end in ends)
    return high - low


def _drawn(labels: Floats, rows: _Places, rng: np.random.Generator) -> _Places:
    parts = [rows[labels[rows] > 0.5], rows[labels[rows] <= 0.5]]
    return np.concatenate([rng.choice(part, len(part)) for part in parts])


def _auc(held: HeldOut, _: _Flags, rows: _Places) -> float:
    return auc_of(held.labels[rows], held.probabilities[rows]).value


def _true_positive_rate(held: HeldOut, selected: _Flags, rows: _Places) -> float:
    positives = rows[held.labels[rows] > 0.5]
    return float(selected[positives].mean())


def _selection(_: HeldOut, selected: _Flags, rows: _Places) -> float:
    return float(selected[rows].mean())


def _promise(held: HeldOut, _: _Flags, rows: _Places) -> float:
    return float(held.probabilities[rows].mean() - held.labels[rows].mean())


_MEASURES: Final[dict[str, _Measure]] = {
    "auc": _auc,
    "tpr": _true_positive_rate,
    "selection": _selection,
    "promise": _promise,
}


def _selected(probabilities: Floats) -> _Flags:
    """The rows with the highest scores, `TARGETED_SHARE` of all; rows of the same score go together."""
    return probabilities >= np.quantile(probabilities, 1.0 - TARGETED_SHARE)


def _group(held: HeldOut, attribute: str, value: str, members: _Flags, selected: _Flags) -> Group:
    labels, probabilities = held.labels[members], held.probabilities[members]
    positives = int(labels.sum())
    both = min(positives, len(labels) - positives)
    return Group(
        attribute=attribute,
        value=value,
        rows=len(labels),
        rate=float(labels.mean()),
        mean_probability=float(probabilities.mean()),
        ece=calibration_error(probabilities=probabilities, labels=labels),
        auc=auc_of(labels, probabilities) if both else None,
        selected=float(selected[members].mean()),
        found=float(selected[members & (held.labels > 0.5)].mean()) if positives else None,
        judged=len(labels) >= FEWEST_ROWS and both >= FEWEST_OF_A_LABEL,
    )
