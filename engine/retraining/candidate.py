"""From the table of a run to a candidate: a version in a registry of the run's own, which gates can open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.release import engine_version
from engine.retraining.errors import ModelRefused
from engine.retraining.plan import RetrainingPlan
from engine.retraining.tables import (
    ACTION,
    ACTIONS,
    AT,
    CHANNEL,
    CUSTOMER,
    LABEL,
    RANK,
    SCHEMA,
    TABLE,
)
from model_registry import PublishedModel, publish
from model_registry.manifest import Concept, Manifest
from training.errors import GateFailed, LeakSuspected
from training.own.plan import TrainingPlan
from training.own.signs import ROWS

REPORT = "report.html"


def training_plan(plan: RetrainingPlan) -> TrainingPlan:
    """The plan of training on the table of a run. Rows of one customer are observations of their own."""
    told = plan.model_dump(
        mode="json",
        by_alias=True,
        include={"metadata", "split", "model", "calibration", "evaluation", "languages", "segments",
                 "fairness", "gates", "seed"},
    )  # fmt: skip
    task: dict[str, Any] = {"kind": plan.task.kind, "horizon_days": plan.task.horizon_days}
    churn = plan.task.kind == "churn"
    if not churn:
        task["action"] = ACTION
    if plan.task.action_features:
        task["actions"] = {"path": ACTIONS, "id": "action", "features": plan.task.action_features}
    return TrainingPlan.model_validate(
        {
            "apiVersion": "arbiter/v1",
            "kind": "TrainingPlan",
            **told,
            "concepts": plan.concepts,
            "data": {
                "path": TABLE,
                "id": CUSTOMER,
                "label": LABEL,
                "positive": 1,
                "time": AT,
                "exclude": [CHANNEL] if churn else [CHANNEL, RANK],
                "accept_leak": [ROWS, *plan.accept_leak],
            },
            "task": task,
            "features": {"schema": SCHEMA},
        }
    )


def train_candidate(
    plan: RetrainingPlan,
    *,
    table: Path,
    registry: Path,
    champion: Manifest | None,
    created: str,
    lineage: Mapping[str, object],
) -> Mapping[str, float]:
    """Trains on the table and publishes version 1 of a registry of the run; what the model measures.

    `lineage` is what the manifest says of its rows: `run`, `source`, `from` and `until`. Raises ModelRefused
    where it leaks or does not pass its plan's gates, and TrainingError.
    """
    from training.own.registering import files_of, manifest_fields
    from training.own.run import check_gates, prepare, train
    from training.own.seam import report_html
    from training.own.words import reasons_yaml

    try:
        trained = train(prepare(training_plan(plan), folder=table))
        check_gates(trained)
    except (GateFailed, LeakSuspected) as error:
        raise ModelRefused(str(error)) from error
    before = None if champion is None else champion.version
    fields = manifest_fields(trained, created=created, code=engine_version(), champion=before)
    concepts = trained.task.concepts
    if champion is not None and not plan.concepts:
        concepts = _as_told_before(concepts, champion.concepts)
    training = trained.prepared
    files = {
        **files_of(trained),
        "reasons.yaml": reasons_yaml(training.plan, concepts, training.kind.outcome).encode(),
        REPORT: report_html(trained, version="", made=created),
    }
    publish(registry, _with_lineage(fields, concepts, lineage), files)
    return trained.candidate.metrics


def offered(published: PublishedModel) -> tuple[dict[str, object], dict[str, bytes]]:
    """Manifest fields and files of a candidate, as another registry takes them."""
    fields = published.manifest.model_dump(mode="json", by_alias=True, exclude={"version", "files"})
    return fields, {name: published.read(name) for name in published.manifest.files}


def _as_told_before(own: tuple[Concept, ...], before: tuple[Concept, ...]) -> tuple[Concept, ...]:
    """Concepts as the champion tells them, whose reasons have words; inputs it did not have as they are."""
    inputs = {name for concept in own for name in concept.inputs}
    known = {name for concept in before for name in concept.inputs}
    kept = [
        concept.model_copy(update={"inputs": tuple(name for name in concept.inputs if name in inputs)})
        for concept in before
    ]
    added = [
        concept.model_copy(update={"inputs": tuple(name for name in concept.inputs if name not in known)})
        for concept in own
    ]
    return _merged([concept for concept in (*kept, *added) if concept.inputs])


def _merged(concepts: list[Concept]) -> tuple[Concept, ...]:
    """Concepts of one name as one: new targets join the concept that asks about targets."""
    by_name: dict[str, Concept] = {}
    for concept in concepts:
        held = by_name.get(concept.name)
        by_name[concept.name] = (
            concept if held is None else held.model_copy(update={"inputs": (*held.inputs, *concept.inputs)})
        )
    return tuple(by_name.values())


def _with_lineage(
    fields: Mapping[str, Any], concepts: tuple[Concept, ...], lineage: Mapping[str, object]
) -> dict[str, object]:
    made = dict(fields["lineage"])
    data = made["data"] | {name: lineage[name] for name in ("source", "from", "until")}
    told = fields["training_data"] | {"source": str(lineage["source"])}
    return {
        **fields,
        "concepts": [concept.model_dump(mode="json") for concept in concepts],
        "lineage": made | {"run": lineage["run"], "data": data},
        "training_data": told,
    }
