"""What a run tells: one document, for programs and for the folder of the report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from training.own.registering import Registered, files_of
from training.own.run import Prepared, TrainedModel
from training.own.seam import search_words

Document = dict[str, object]
_SHOWN_FILES = ("card.md", "schema.toml", "reasons.yaml")


def found_document(prepared: Prepared) -> Document:
    """What is known before anything is learnt."""
    labels = prepared.examples.labels
    return {
        "model": prepared.plan.metadata.name,
        "kind": prepared.kind.name,
        "source": prepared.table.path.name,
        "rows": prepared.table.rows,
        "rows_learnt_from": len(labels),
        "rate": round(float(labels.mean()), 6),
        "columns": [asdict(column) for column in prepared.inferred.columns],
        "signs": [asdict(sign) for sign in prepared.signs],
        "split": prepared.parts.words,
        "notes": list(prepared.labelled.notes),
    }


def trained_document(trained: TrainedModel, registered: Registered | None) -> Document:
    """The whole run."""
    return {
        **found_document(trained.prepared),
        "calibration": type(trained.candidate.calibration).__name__.lower(),
        "metrics": dict(trained.candidate.metrics),
        "parameters": dict(trained.recipe.parameters),
        "search": None if trained.searched is None else search_words(trained.searched),
        "gates": [asdict(gate) for gate in trained.gates],
        "registered": None if registered is None else asdict(registered),
    }


def load_command(prepared: Prepared, schema: str) -> list[str]:
    """The words of the `arbiter store load` that feeds the model from the same file."""
    inferred, plan = prepared.inferred, prepared.plan
    words = ["arbiter", "store", "load", os.path.normpath(prepared.table.path), "--schema", schema]
    if plan.data.id != "customer_id":
        words += ["--id", plan.data.id]
    for feature, column in inferred.column_of.items():
        if feature != column:
            words += ["--map", f"{feature}={column}"]
    read = {*inferred.column_of.values(), plan.data.id}
    for column in prepared.table.names:
        if column not in read:
            words += ["--ignore", column]
    return words


def write_folder(
    trained: TrainedModel, registered: Registered | None, folder: Path, *, pages: Mapping[str, bytes]
) -> list[Path]:
    """Writes what people read and edit: the run, its pages, the schema, drafts of reasons. The files."""
    run = json.dumps(trained_document(trained, registered), indent=2, ensure_ascii=False) + "\n"
    files = files_of(trained)
    contents = {"run.json": run.encode(), **pages, **{name: files[name] for name in _SHOWN_FILES}}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]
