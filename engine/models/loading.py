"""From a published version to a model that may serve: its golden rows must reproduce here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.core.scoring import ScoringError
from engine.models.arrays import read_arrays
from engine.models.errors import ModelRefused
from engine.models.session import OnnxModel
from engine.models.shapley import TreeShapley
from engine.models.trees import Floats, Rows, TreesInvalid, read_trees
from model_registry import PublishedModel
from model_registry.errors import RegistryError
from model_registry.manifest import Manifest

TOLERANCE = 1e-6
"""Largest difference to a golden probability or contribution."""
CALIBRATION_TOLERANCE = 1e-5
"""Largest difference to the manifest's calibration of the golden margin, which is a rounded float32."""

TREE_ARRAYS = ("feature", "threshold", "left", "right", "missing_left", "cover", "value", "roots", "base")
GOLDEN_ARRAYS = ("rows", "margin", "probability", "contributions")


@dataclass(frozen=True, slots=True, eq=False)
class ServingModel:
    """A model that proved itself: its session and its explanation agree with its golden rows."""

    manifest: Manifest
    session: OnnxModel
    shapley: TreeShapley


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """What the model said when it was trained: rows (n, inputs), margin and probability (n,), contributions
    (n, inputs + 1) with the base last.
    """

    rows: Rows
    margin: Floats
    probability: Floats
    contributions: Floats


def load_model(published: PublishedModel) -> ServingModel:
    """Loads and proves a published version. Raises ModelRefused with the cause."""
    manifest = published.manifest
    name = f"{manifest.name}/{manifest.version}"
    if not {"slope", "intercept"} <= manifest.calibration.keys():
        raise ModelRefused(name, cause="manifest.json: `calibration` lacks slope or intercept")
    try:
        onnx, trees, golden = (published.read(f) for f in ("model.onnx", "trees.npz", "golden.npz"))
    except RegistryError as error:
        raise ModelRefused(name, cause=str(error)) from error
    count = len(manifest.inputs)
    model = ServingModel(
        manifest=manifest,
        session=OnnxModel(onnx, name=manifest.name, input_count=count),
        shapley=_shapley(trees, name=name, input_count=count),
    )
    _prove(model, _golden(golden, name=name, input_count=count), name=name)
    return model


def _shapley(content: bytes, *, name: str, input_count: int) -> TreeShapley:
    arrays = read_arrays(content, names=TREE_ARRAYS, model=name, filename="trees.npz")
    try:
        return TreeShapley(read_trees(arrays, input_count=input_count), input_count=input_count)
    except (TreesInvalid, TypeError, ValueError) as error:
        raise ModelRefused(name, cause=f"trees.npz: {error}") from error


def _golden(content: bytes, *, name: str, input_count: int) -> Golden:
    arrays = read_arrays(content, names=GOLDEN_ARRAYS, model=name, filename="golden.npz")
    golden = Golden(
        rows=arrays["rows"].astype(np.float32),
        margin=arrays["margin"].astype(np.float64).reshape(-1),
        probability=arrays["probability"].astype(np.float64).reshape(-1),
        contributions=arrays["contributions"].astype(np.float64),
    )
    n = len(golden.probability)
    fits = golden.rows.shape == (n, input_count) and golden.contributions.shape == (n, input_count + 1)
    if not fits or golden.margin.shape != (n,) or n == 0:
        raise ModelRefused(name, cause="golden.npz: its arrays do not fit each other and the inputs")
    return golden


def _prove(model: ServingModel, golden: Golden, *, name: str) -> None:
    """Raises ModelRefused where anything the model would say differs from what it said in training."""
    try:
        margin, probability = model.session.margin_and_probability(golden.rows)
    except ScoringError as error:
        raise ModelRefused(name, cause=f"golden rows: {error}") from error
    contributions = np.array([model.shapley.contributions(row) for row in golden.rows])
    calibration = model.manifest.calibration
    calibrated = 1.0 / (1.0 + np.exp(-(calibration["slope"] * margin + calibration["intercept"])))
    margin_scale = np.maximum(1.0, np.abs(golden.margin))
    for what, gap, limit in (
        ("probability", np.abs(probability - golden.probability), TOLERANCE),
        ("margin", np.abs(margin - golden.margin) / margin_scale, CALIBRATION_TOLERANCE),
        ("contributions", np.abs(contributions - golden.contributions).max(axis=1), TOLERANCE),
        ("the manifest's calibration", np.abs(calibrated - probability), CALIBRATION_TOLERANCE),
    ):
        if not (gap <= limit).all():
            row = int(np.argmax(np.where(np.isnan(gap), np.inf, gap)))
            cause = f"golden row {row} does not reproduce: {what} is off by {gap[row]:.3g}, at most {limit:g}"
            raise ModelRefused(name, cause=cause)
