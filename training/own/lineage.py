"""Where a model comes from: enough to make the same one again, and nothing of the machine it was made on."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from typing import Final

from training.instants import written_instant
from training.own.labels import Instants
from training.own.parts import Parts
from training.own.plan import TrainingPlan
from training.own.table import SourceTable

_DECIDING: Final = ("lightgbm", "numpy", "onnx", "onnxmltools", "scikit-learn")
"""Libraries whose version may change a model's bytes."""


def training_data(plan: TrainingPlan, table: SourceTable, parts: Parts) -> dict[str, str]:
    """What a manifest says of its training data to people."""
    told = {
        "source": table.path.name,
        "rows": str(table.rows),
        "fingerprint": table.digest,
        "split": parts.words,
        "seed": str(plan.seed),
        "libraries": ", ".join(f"{name} {version(name)}" for name in _DECIDING) + f" on {platform.machine()}",
    }
    if plan.data.known_after:
        told["known_after"] = ", ".join(plan.data.known_after)
    if plan.data.accept_leak:
        told["accepted_leaks"] = ", ".join(plan.data.accept_leak)
    return told


def environment() -> dict[str, str]:
    """Versions that decide the bytes."""
    return {"python": platform.python_version()} | {name: version(name) for name in _DECIDING}


def config_digest(plan: TrainingPlan) -> str:
    """Content address of everything in the plan that decides the model; layout and registry do not."""
    canonical = json.dumps(plan.canonical(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def lineage_of(
    plan: TrainingPlan, table: SourceTable, *, from_ms: Instants | None, code: str, champion: int | None
) -> dict[str, object]:
    """The manifest's lineage."""
    config, environs = config_digest(plan), environment()
    run = hashlib.sha256(json.dumps([config, table.digest, code, environs]).encode()).hexdigest()[:16]
    return {
        "config": config,
        "code": code,
        "seeds": {"split": plan.seed, "hidden": plan.seed, "boosting": plan.seed, "search": plan.seed},
        "environment": environs,
        "data": {
            "source": table.path.name,
            "rows": table.rows,
            "fingerprint": table.digest,
            "from": None if from_ms is None else written_instant(int(from_ms.min())),
            "until": None if from_ms is None else written_instant(int(from_ms.max())),
        },
        "champion": champion,
        "run": run,
    }
