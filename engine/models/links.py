"""What the score of each kind of model is, and how a margin becomes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from engine.models.trees import Floats
from model_registry.manifest import Manifest, ModelKind

OUTPUTS: Final[Mapping[ModelKind, str]] = {
    "churn": "probability",
    "propensity": "probability",
    "uplift": "uplift",
    "value": "value",
}
"""The output of the ONNX graph beside `margin`, and the array of the golden rows, by kind."""
OF_CLASSIFIERS: Final = ("churn", "propensity")
"""Kinds whose scores are calibrated probabilities: those that the server scores."""
LARGEST_UPLIFT: Final = 1.0
"""An outcome is had at most once, so no treatment adds or takes more of it."""


def lacks_link(manifest: Manifest) -> str | None:
    """What a manifest must say for margins to become scores and does not; None where it says enough."""
    if manifest.kind not in OF_CLASSIFIERS:
        calibrated = manifest.isotonic is not None or manifest.calibration
        return f"a model of kind {manifest.kind} has no calibration" if calibrated else None
    if manifest.isotonic is None and not {"slope", "intercept"} <= manifest.calibration.keys():
        return "`calibration` lacks slope or intercept"
    return None


def score_of_margin(manifest: Manifest, margin: Floats) -> Floats:
    """Scores as the manifest says that margins become them.

    A classifier's margin is log-odds, and its score a probability. The margin of an uplift model is the
    uplift; that of a value model is the logarithm of the value.
    """
    if manifest.kind == "uplift":
        return np.clip(margin, -LARGEST_UPLIFT, LARGEST_UPLIFT)
    if manifest.kind == "value":
        return np.exp(margin)
    if manifest.isotonic is not None:
        steps = manifest.isotonic
        return np.asarray(np.interp(margin, steps.margins, steps.probabilities), dtype=np.float64)
    line = manifest.calibration
    calibrated: Floats = 1.0 / (1.0 + np.exp(-(line["slope"] * margin + line["intercept"])))
    return calibrated


def relative(difference: Floats, scores: Floats) -> Floats:
    """Differences of scores as tolerances are meant: of values, which float32 rounds, relative to them."""
    return difference / np.maximum(1.0, np.abs(scores))
