"""From a published version to a model that may serve: its golden rows must reproduce here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import structlog

from engine.core.scoring import ScoringError
from engine.models.arrays import read_arrays
from engine.models.errors import ModelRefused
from engine.models.links import OUTPUTS, lacks_link, relative, score_of_margin
from engine.models.onnx_parts import Ensemble, PartsUnclear, take_apart
from engine.models.session import MARGIN, OnnxLink, OnnxModel
from engine.models.shapley import BASELINE, TreeShapley
from engine.models.trees import Floats, Rows, Trees, TreesInvalid, read_trees
from engine.models.walking import walk_of
from model_registry import PublishedModel
from model_registry.errors import RegistryError
from model_registry.manifest import Manifest

_log = structlog.get_logger("engine.models.loading")

TOLERANCE = 1e-6
"""Largest difference to a golden score or contribution; of values beyond 1 relative to them."""
CALIBRATION_TOLERANCE = 1e-5
"""Largest difference to the manifest's calibration of the golden margin, which is a rounded float32."""

MAX_GOLDEN_ROWS = 10_000
"""More would make a server start slowly; 64 prove a model."""
WALKED_ROWS = 256
"""Golden rows that walks are held to; training has held the trees to the model on every boundary."""
TREE_ARRAYS = ("feature", "threshold", "left", "right", "missing_left", "cover", "value", "roots", "base")
PLACE_ARRAYS = ("feature", "left", "right", "roots")
GOLDEN_ARRAYS = ("rows", "margin", "contributions")
"""Beside the scores, which are named as the output of the graph is."""


@dataclass(frozen=True, slots=True, eq=False)
class WalkedModel:
    """A model's trees, and the way from their sum to the score: together its session, to the bit."""

    ensemble: Ensemble
    link: OnnxLink


@dataclass(frozen=True, slots=True, eq=False)
class ServingModel:
    """A model that proved itself: its session and its explanation agree with its golden rows.

    `walked` is None where only the session may score.
    """

    manifest: Manifest
    session: OnnxModel
    shapley: TreeShapley
    walked: WalkedModel | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """What the model said when it was trained: rows (n, inputs), margin and score (n,), contributions
    (n, inputs + 1) with the base last. The score of a classifier is its probability.
    """

    rows: Rows
    margin: Floats
    score: Floats
    contributions: Floats


def load_model(published: PublishedModel) -> ServingModel:
    """Loads and proves a published version. Raises ModelRefused with the cause."""
    with np.errstate(all="ignore"):  # what overflows shows in the comparisons
        return _load(published)


def _load(published: PublishedModel) -> ServingModel:
    manifest = published.manifest
    name = f"{manifest.name}/{manifest.version}"
    if flaw := lacks_link(manifest):
        raise ModelRefused(name, cause=f"manifest.json: {flaw}")
    if manifest.baseline not in (None, BASELINE):
        theirs, ours = (f"{b.name}/{b.version}" for b in (manifest.baseline, BASELINE))
        cause = f"manifest.json: its reasons compare with baseline {theirs}, this server's with {ours}"
        raise ModelRefused(name, cause=cause)
    count, content = len(manifest.inputs), _content(published, "model.onnx")
    model = ServingModel(
        manifest=manifest,
        session=OnnxModel(
            content, name=manifest.name, input_count=count, score_output=OUTPUTS[manifest.kind]
        ),
        shapley=_shapley(read_version_trees(published), name=name, input_count=count),
    )
    golden = read_golden(published)
    _prove(model, golden, name=name)
    return replace(model, walked=_walked(model, content, golden.rows[:WALKED_ROWS]))


def _walked(model: ServingModel, content: bytes, rows: Rows) -> WalkedModel | None:
    """What walks may score, as some rows show; None, with the cause logged, where the session must."""
    manifest = model.manifest
    try:
        parts = take_apart(content, margin=MARGIN)
        link = OnnxLink(parts.rest, name=manifest.name, score_output=OUTPUTS[manifest.kind])
        own = np.arange(len(manifest.inputs))
        walk = walk_of(parts.ensemble, np.zeros((1, len(own)), dtype=np.float32), own_columns=own)
        if walk is None:
            return None
        margins = np.concatenate([walk.margins(row) for row in rows])
        same = np.array_equal(margins, model.session.margin_and_score(rows)[0])
        if same and np.array_equal(link.scores(margins), model.session.probability(rows)):
            return WalkedModel(parts.ensemble, link)
        cause = "a walk scores its golden rows in another way than onnxruntime"
    except (PartsUnclear, ModelRefused, ScoringError) as error:
        cause = str(error)
    _log.warning("models.not_walked", model=manifest.name, version=manifest.version, cause=cause)
    return None


def read_version_trees(published: PublishedModel) -> Trees:
    """The flat trees of a version. Raises ModelRefused."""
    manifest = published.manifest
    name = f"{manifest.name}/{manifest.version}"
    content = _content(published, "trees.npz")
    arrays = read_arrays(content, names=TREE_ARRAYS, model=name, filename="trees.npz")
    odd = [array for array in PLACE_ARRAYS if arrays[array].dtype.kind not in "iu"]
    if odd:
        raise ModelRefused(name, cause=f"trees.npz: {', '.join(odd)} holds no whole numbers")
    try:
        return read_trees(arrays, input_count=len(manifest.inputs))
    except (TreesInvalid, TypeError, ValueError, OverflowError) as error:
        raise ModelRefused(name, cause=f"trees.npz: {error}") from error


def _content(published: PublishedModel, filename: str) -> bytes:
    manifest = published.manifest
    try:
        return published.read(filename)
    except RegistryError as error:
        raise ModelRefused(f"{manifest.name}/{manifest.version}", cause=str(error)) from error


def _shapley(trees: Trees, *, name: str, input_count: int) -> TreeShapley:
    try:
        return TreeShapley(trees, input_count=input_count)
    except (TreesInvalid, TypeError, ValueError) as error:
        raise ModelRefused(name, cause=f"trees.npz: {error}") from error


def read_golden(published: PublishedModel) -> Golden:
    """The golden rows of a version. Raises ModelRefused where they do not fit each other and the inputs."""
    manifest = published.manifest
    name, input_count = f"{manifest.name}/{manifest.version}", len(manifest.inputs)
    content = _content(published, "golden.npz")
    scores = OUTPUTS[manifest.kind]
    arrays = read_arrays(content, names=(*GOLDEN_ARRAYS, scores), model=name, filename="golden.npz")
    golden = Golden(
        rows=arrays["rows"].astype(np.float32),
        margin=arrays["margin"].astype(np.float64).reshape(-1),
        score=arrays[scores].astype(np.float64).reshape(-1),
        contributions=arrays["contributions"].astype(np.float64),
    )
    n = len(golden.score)
    if n > MAX_GOLDEN_ROWS:
        raise ModelRefused(name, cause=f"golden.npz: {n} rows; at most {MAX_GOLDEN_ROWS} are checked")
    fits = golden.rows.shape == (n, input_count) and golden.contributions.shape == (n, input_count + 1)
    if not fits or golden.margin.shape != (n,) or n == 0:
        raise ModelRefused(name, cause="golden.npz: its arrays do not fit each other and the inputs")
    return golden


def _prove(model: ServingModel, golden: Golden, *, name: str) -> None:
    """Raises ModelRefused where anything the model would say differs from what it said in training."""
    try:
        margin, score = model.session.margin_and_score(golden.rows)
    except ScoringError as error:
        raise ModelRefused(name, cause=f"golden rows: {error}") from error
    if len(golden.rows) > 1 and np.ptp(score) == 0.0:
        cause = f"it says {score[0]:.6g} of every golden row, so it tells no customers apart"
        raise ModelRefused(name, cause=cause)
    contributions = model.shapley.contributions_of_many(golden.rows)
    linked = score_of_margin(model.manifest, margin)
    for what, gap, limit in (
        (OUTPUTS[model.manifest.kind], relative(np.abs(score - golden.score), golden.score), TOLERANCE),
        ("margin", relative(np.abs(margin - golden.margin), golden.margin), CALIBRATION_TOLERANCE),
        ("contributions", np.abs(contributions - golden.contributions).max(axis=1), TOLERANCE),
        ("the manifest's calibration", relative(np.abs(linked - score), score), CALIBRATION_TOLERANCE),
    ):
        if not (gap <= limit).all():
            row = int(np.argmax(np.where(np.isnan(gap), np.inf, gap)))
            cause = f"golden row {row} does not reproduce: {what} is off by {gap[row]:.3g}, at most {limit:g}"
            raise ModelRefused(name, cause=cause)
