"""What a model said of rows that it never saw: all that its evaluation is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from training.dataset import Floats, Rows

Words = npt.NDArray[np.str_]


class Explained(Protocol):
    """Rows of any model with the Shapley values of their scores; the fields are those of HeldOut."""

    @property
    def rows(self) -> Rows:
        """(n, inputs)."""
        ...

    @property
    def shares(self) -> Floats:
        """(n, inputs), in the unit of the margin."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Held-out rows with labels and answers, n of each.

    labels: 0 or 1. probabilities: calibrated. uncalibrated: the same before. baseline: probabilities of the
    logistic regression beside it, None where there is none. rows: (n, inputs) as the model read them, NaN
    where missing. shares: (n, inputs) Shapley values in log-odds. names: of the inputs. groups: the value of
    each attribute that the rows are looked at by, a feature of the model or not.
    """

    labels: Floats
    probabilities: Floats
    uncalibrated: Floats
    baseline: Floats | None
    rows: Rows
    shares: Floats
    names: tuple[str, ...]
    groups: Mapping[str, Words] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError where the arrays do not fit each other or hold one class only."""
        count = len(self.labels)
        columns = [self.probabilities, self.uncalibrated, *self.groups.values()]
        if self.baseline is not None:
            columns.append(self.baseline)
        fits = self.rows.shape == self.shares.shape == (count, len(self.names))
        if not fits or any(len(column) != count for column in columns):
            raise ValueError("held-out arrays do not fit each other")
        if not 0.0 < self.labels.mean() < 1.0:
            raise ValueError("held-out labels are all alike: nothing can be measured on them")
