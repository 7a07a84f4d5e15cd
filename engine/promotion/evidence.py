"""What gates judge by: the held-out rows that travel with a version, and a model's answers on them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.models.arrays import array_names, read_arrays
from engine.models.errors import ModelRefused
from engine.models.loading import ServingModel
from engine.models.session import OnnxModel
from engine.models.trees import Flags, Floats, Places, Rows
from engine.promotion.errors import EvidenceInvalid
from model_registry import PublishedModel
from model_registry.errors import RegistryError
from model_registry.manifest import Manifest

HOLDOUT: Final = "holdout.npz"
MAX_HOLDOUT_ROWS: Final = 20_000
MIN_HOLDOUT_ROWS: Final = 100
"""Fewer rows say too little of any figure to promote by it."""
_ROWS_A_RUN: Final = 4_096
_BLOCKS, _RUNS_A_BLOCK = 21, 40


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """Rows no part of training saw: (n, inputs), labels of 0 and 1 (n,). Rows of a group belong together."""

    rows: Rows
    labels: Floats
    groups: Places | None

    def where(self, kept: Flags) -> Holdout:
        """Some of the rows."""
        groups = None if self.groups is None else self.groups[kept]
        return Holdout(self.rows[kept], self.labels[kept], groups)


class Incomparable(Exception):
    """Two models cannot be compared on the rows at hand; the text says why."""


def read_holdout(published: PublishedModel) -> Holdout | None:
    """The held-out rows of a version; None where it has none. Raises EvidenceInvalid."""
    manifest = published.manifest
    if HOLDOUT not in manifest.files:
        return None
    name = f"{manifest.name}/{manifest.version}"
    try:
        content = published.read(HOLDOUT)
        names = [n for n in ("rows", "labels", "groups") if n != "groups" or n in array_names(content)]
        arrays = read_arrays(content, names=names, model=name, filename=HOLDOUT)
    except (ModelRefused, RegistryError) as error:
        raise EvidenceInvalid(str(error)) from error
    holdout = Holdout(
        rows=arrays["rows"].astype(np.float32),
        labels=arrays["labels"].astype(np.float64),
        groups=arrays["groups"].astype(np.intp) if "groups" in arrays else None,
    )
    flaw = _flaw(holdout, input_count=len(manifest.inputs))
    if flaw:
        raise EvidenceInvalid(
            f"{published.folder / HOLDOUT}: {flaw}; publish a version with sound held-out rows"
        )
    return holdout


def _flaw(holdout: Holdout, *, input_count: int) -> str | None:
    n = len(holdout.labels) if holdout.labels.ndim == 1 else -1
    if holdout.rows.shape != (n, input_count):
        return f"rows {holdout.rows.shape} and labels {holdout.labels.shape} do not fit {input_count} inputs"
    if not MIN_HOLDOUT_ROWS <= n <= MAX_HOLDOUT_ROWS:
        return f"{n} rows; {MIN_HOLDOUT_ROWS} to {MAX_HOLDOUT_ROWS} are judged by"
    if holdout.groups is not None and holdout.groups.shape != (n,):
        return f"groups {holdout.groups.shape} do not fit {n} rows"
    if set(np.unique(holdout.labels).tolist()) != {0.0, 1.0}:
        return "labels are not both 0 and 1"
    return None


def rows_for(champion: Manifest, candidate: Manifest, holdout: Holdout) -> tuple[Holdout, Rows]:
    """The held-out rows both models can score, and the champion's rows of them (n, its inputs).

    Inputs are found by name. Rows of a target the champion does not know are left out. Raises Incomparable.
    """
    if champion.feature_schema != candidate.feature_schema:
        raise Incomparable(f"the champion reads feature schema {champion.feature_schema!r}")
    places = {(i.source, i.name): place for place, i in enumerate(candidate.inputs)}
    wanted = [(i.source, i.name) for i in champion.inputs]
    lacking = sorted(name for source, name in wanted if source != "target" and (source, name) not in places)
    if lacking:
        raise Incomparable(f"the champion reads {', '.join(lacking)}, which the held-out rows lack")
    new_targets = [places[key] for key in places if key[0] == "target" and key not in wanted]
    asked_anew: Flags = np.any(holdout.rows[:, new_targets] > 0, axis=1)
    shared = holdout.where(~asked_anew)
    if not len(shared.labels):
        raise Incomparable("the champion knows none of the targets of the held-out rows")
    columns = [shared.rows[:, places[key]] if key in places else np.zeros(len(shared.rows)) for key in wanted]
    return shared, np.ascontiguousarray(np.column_stack(columns), dtype=np.float32)


def probabilities(model: ServingModel, rows: Rows) -> Floats:
    """Probabilities of many rows, shape (n,). Raises ScoringError."""
    runs = [rows[i : i + _ROWS_A_RUN] for i in range(0, len(rows), _ROWS_A_RUN)]
    return np.concatenate([model.session.probability(run) for run in runs])


def latency_ratio(candidate: tuple[OnnxModel, Rows], champion: tuple[OnnxModel, Rows]) -> float:
    """Time of the candidate for one row as a multiple of the champion's, the median of interleaved blocks.

    Both are measured block by block in one run, as a machine's speed changes from minute to minute.
    """
    ratios = [_block_ns(*candidate) / _block_ns(*champion) for _ in range(_BLOCKS)]
    return float(np.median(ratios))


def _block_ns(model: OnnxModel, row: npt.NDArray[np.float32]) -> int:
    started = time.perf_counter_ns()
    for _ in range(_RUNS_A_BLOCK):
        model.probability(row)
    return time.perf_counter_ns() - started
