"""The models of the benchmark's company, learnt and published by the code that trains every other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from engine.bench.parts import PartMissing
from engine.bench.whole_features import AREAS, BLOCK, Known, Rows, values_of
from feature_store.schema import FeatureSchema
from model_registry.manifest import Concept, ModelInput

if TYPE_CHECKING:
    from training.candidate import Candidate, Task
    from training.dataset import Table

LEAVES: Final = 31
_SEED: Final = 20_261_122
_CREATED: Final = "2026-11-22"
_PARTS: Final = {"train": 0.6, "validation": 0.8, "test": 1.0}
"""Where each part of the rows ends."""
Labels = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Learning:
    """What models are learnt for: the features they read, the targets of the propensity model, their size."""

    features: Sequence[Known]
    targets: Sequence[str]
    schema: FeatureSchema
    trees: int


def publish_models(learning: Learning, *, registry: Path, boosters: Path) -> None:
    """Learns both models, publishes them as champions, and keeps LightGBM's own files beside them.

    Raises PartMissing without LightGBM.
    """
    try:
        from training.publication import build_artefacts, publish_candidate
    except ImportError as error:
        raise PartMissing("LightGBM is not installed; install the `training` extra") from error
    boosters.mkdir(parents=True, exist_ok=True)
    for kind in ("churn", "propensity"):
        candidate = _candidate(_task(learning, kind), trees=learning.trees)
        artefacts = build_artefacts(candidate)
        publish_candidate(candidate, artefacts, registry=registry, created=_CREATED, reason="benchmark")
        candidate.booster.save_model(str(boosters / f"{kind}.txt"))


def _candidate(task: Task, *, trees: int) -> Candidate:
    from training.boosting import Recipe
    from training.candidate import assemble, learn

    parameters = {"num_leaves": LEAVES, "learning_rate": 0.05, "min_data_in_leaf": 20}
    learnt = learn(task, recipe=Recipe(max_trees=trees, patience=0, parameters=parameters), seed=_SEED)
    return assemble(task, learnt, metrics={}, training_data={"source": "made from a seed"}, seed=_SEED)


def _task(learning: Learning, kind: Literal["churn", "propensity"]) -> Task:
    from training.candidate import TARGET_PREFIX, Task

    targets = learning.targets if kind == "propensity" else ()
    inputs = (
        *(ModelInput(name=known.name, source="feature") for known in learning.features),
        *(ModelInput(name=TARGET_PREFIX + target, source="target") for target in targets),
    )
    table = _table(learning.features, len(targets))
    train, validation, test = (_part(table, name) for name in _PARTS)
    return Task(
        name=kind,
        kind=kind,
        intended_use="Benchmarks. Its customers are nobody.",
        schema=learning.schema,
        inputs=inputs,
        targets=tuple(targets),
        hidden={},
        concepts=_concepts(learning.features, tuple(i.name for i in inputs if i.source == "target"), kind),
        train=train,
        seen=train,
        validation=validation,
        test=test,
    )


def reason_codes(kind: str, area: str) -> tuple[str, str]:
    """The codes a model gives where a part of the business raises its score, and where it lowers it."""
    return f"{kind.upper()}_{area.upper()}_RAISES", f"{kind.upper()}_{area.upper()}_LOWERS"


def _concepts(features: Sequence[Known], asked: tuple[str, ...], kind: str) -> tuple[Concept, ...]:
    told = []
    for area in AREAS:
        inputs = tuple(known.name for known in features if known.area == area)
        raises, lowers = reason_codes(kind, area)
        if inputs:
            told.append(Concept(name=area, inputs=inputs, reason_raises=raises, reason_lowers=lowers))
    silent = Concept(name="target", inputs=asked, reason_raises="", reason_lowers="")
    return (*told, silent) if asked else tuple(told)


def _table(features: Sequence[Known], targets: int) -> Table:
    """A row for each customer of a block of their own; with targets, each is asked about one of them."""
    from training.dataset import Table

    rng = np.random.default_rng(_SEED)
    rows = values_of(0, features, seed=_SEED)
    everyone = np.arange(BLOCK, dtype=np.intp)
    asked = rng.integers(0, targets, BLOCK).astype(np.intp) if targets else np.full(BLOCK, -1, dtype=np.intp)
    labels = _labels(rows, asked, rng)
    if targets:
        rows = np.hstack([rows, np.eye(targets, dtype=np.float32)[asked]])
    return Table(rows, labels, everyone, asked)


def _labels(rows: Rows, asked: npt.NDArray[np.intp], rng: np.random.Generator) -> Labels:
    """Some inputs alone, some together, what is asked about, and noise."""
    known = np.nan_to_num(rows.astype(np.float64))
    x = (known - known.mean(axis=0)) / known.std(axis=0)
    score = x @ rng.normal(0.0, 0.3, x.shape[1]) + x[:, 0] * x[:, 1] + np.abs(x[:, 2]) * x[:, 3]
    score += np.sin(3.0 * x[:, 4]) * x[:, 5] + rng.normal(size=len(x)) + 0.5 * np.sin(asked)
    labels: Labels = (score > np.quantile(score, 0.6)).astype(np.float64)
    return labels


def _part(table: Table, name: str) -> Table:
    """The rows of one part of the customers."""
    ends = [0.0, *_PARTS.values()]
    place = list(_PARTS).index(name)
    start, end = (round(share * len(table.rows)) for share in ends[place : place + 2])
    kept = (table.customers >= start) & (table.customers < end)
    return table.where(kept)
