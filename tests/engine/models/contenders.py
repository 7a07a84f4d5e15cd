"""Champions and candidates over one set of held-out customers, whose labels one of them explains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
from ensembles import train
from model_files import INTERCEPT, SLOPE, manifest_of, npz, version_files

from model_registry import promote, publish

FAIR = {"age_band": {"gap_auc": 0.02, "gap_tpr": 0.05, "gap_selection": 0.04}}
UNFAIR = {"age_band": {"gap_auc": 0.02, "gap_tpr": 0.45, "gap_selection": 0.04}}
HELD_OUT = 1_000


@dataclass(frozen=True)
class Contenders:
    """A registry and the boosters of its contenders. Labels are drawn from what `good` promises."""

    root: Path
    good: lightgbm.Booster
    poor: lightgbm.Booster
    rows: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float64]

    def publish(
        self,
        booster: lightgbm.Booster,
        *,
        holdout: dict[str, npt.NDArray[Any]] | None = None,
        files: dict[str, bytes] | None = None,
        **changes: Any,
    ) -> int:
        """Publishes a version with held-out rows, fair unless said otherwise."""
        arrays = {"rows": self.rows, "labels": self.labels} if holdout is None else holdout
        held_out = {"holdout.npz": npz(arrays)} if arrays else {}
        content = {**version_files(booster, self.rows[:40]), **held_out, **(files or {})}
        manifest = {**manifest_of("churn"), "fairness": FAIR, **changes}
        return int(publish(self.root, manifest, content).name)

    def crown(self, booster: lightgbm.Booster, **changes: Any) -> int:
        """Publishes a version and makes it champion, gates or no gates."""
        version = self.publish(booster, **changes)
        promote(self.root, "churn", version, reason="test")
        return version


def held_out_rows() -> npt.NDArray[np.float32]:
    """Customers nobody trained on, over `model_files.FEATURES`."""
    rng = np.random.default_rng(11)
    n = HELD_OUT
    columns = [rng.integers(0, 3, n), rng.integers(0, 72, n), rng.uniform(20, 120, n).round(2)]
    columns += [rng.uniform(20, 8000, n).round(2), rng.integers(0, 2, n), rng.integers(0, 2, n)]
    rows: npt.NDArray[np.float32] = np.column_stack(columns).astype(np.float32)
    return rows


def labels_of(booster: lightgbm.Booster, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Labels drawn with the probabilities that the booster's version promises."""
    margin = np.asarray(booster.predict(rows.astype(np.float64), raw_score=True))
    promised = 1 / (1 + np.exp(-(SLOPE * margin + INTERCEPT)))
    return (np.random.default_rng(3).random(len(rows)) < promised).astype(np.float64)


def poor_booster(rows: npt.NDArray[np.float32]) -> lightgbm.Booster:
    """A model of little but noise."""
    labels = (np.random.default_rng(9).random(len(rows)) + rows[:, 2] / 400 > 0.7).astype(np.int64)
    return train(rows, labels, rounds=3, num_leaves=4)
