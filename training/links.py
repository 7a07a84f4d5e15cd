"""How the margin of a regression becomes its score, where that is no calibrated probability.

`engine.models.links` holds the same for the server, which imports nothing of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from training.calibration import Calibration
from training.dataset import Floats

LARGEST_UPLIFT: Final = 1.0
"""An outcome is had at most once, so no treatment adds or takes more of it."""


@dataclass(frozen=True, slots=True)
class Clipped:
    """uplift = margin, within -1 and 1."""

    output: ClassVar[str] = "uplift"

    def score(self, margins: Floats) -> Floats:
        """Uplifts in double."""
        return np.clip(margins, -LARGEST_UPLIFT, LARGEST_UPLIFT)


@dataclass(frozen=True, slots=True)
class Exponential:
    """value = exp(margin): never negative, and each input multiplies it."""

    output: ClassVar[str] = "value"

    def score(self, margins: Floats) -> Floats:
        """Values in double."""
        return np.exp(margins)


Link = Calibration | Clipped | Exponential
