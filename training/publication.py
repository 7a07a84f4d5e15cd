"""From a candidate that passed the gates to a version in the registry, and its promotion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_registry import PublishedModel, open_alias, promote, publish
from model_registry.aliases import CHAMPION
from model_registry.errors import AliasUnknown, ModelNotFound
from model_registry.publishing import sha256_of
from training.calibration import Isotonic, Platt
from training.candidate import Candidate, typical_values
from training.export import to_onnx
from training.links import Link
from training.parity import Parity, check_parity
from training.reference import golden_npz, histograms_json


@dataclass(frozen=True, slots=True)
class Publication:
    """Where a model is published. `changed` is false where the champion already is this model."""

    version: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Artefacts:
    """The files of a version, and what the parity gate compared."""

    files: Mapping[str, bytes]
    parity: Parity


def build_artefacts(candidate: Candidate) -> Artefacts:
    """Exports a candidate through the parity gate. Raises ExportRefused or GateFailed."""
    model = to_onnx(
        candidate.booster, trees=candidate.trees, calibration=candidate.calibration, name=candidate.task.name
    )
    parity = check_parity(candidate, model)
    files = {
        "model.onnx": model,
        "trees.npz": candidate.trees.to_npz(),
        "golden.npz": golden_npz(candidate),
        "histograms.json": histograms_json(candidate),
    }
    return Artefacts(files=files, parity=parity)


def champion_of(registry: Path, name: str) -> PublishedModel | None:
    """The serving version of a model; None before the first."""
    try:
        return open_alias(registry, name)
    except (ModelNotFound, AliasUnknown):
        return None


def publish_candidate(
    candidate: Candidate, artefacts: Artefacts, *, registry: Path, created: str, reason: str
) -> Publication:
    """Publishes a new version and makes it champion, unless the champion is the same model already.

    The same: every file and every statement of the manifest but version and date.
    """
    manifest = manifest_of(candidate, created=created)
    champion = champion_of(registry, candidate.task.name)
    if champion is not None and _same(champion, manifest, artefacts.files):
        return Publication(version=champion.manifest.version, changed=False)
    folder = publish(registry, manifest, artefacts.files)
    version = int(folder.name)
    promote(registry, candidate.task.name, version, alias=CHAMPION, reason=reason)
    return Publication(version=version, changed=True)


def manifest_of(candidate: Candidate, *, created: str) -> dict[str, object]:
    """Every manifest field but `version` and `files`, which the registry fills in."""
    task = candidate.task
    return {
        "name": task.name,
        "kind": task.kind,
        "created": created,
        "intended_use": task.intended_use,
        "feature_schema": task.schema.name,
        "inputs": [model_input.model_dump() for model_input in task.inputs],
        "targets": list(task.targets),
        "hidden": {target: list(inputs) for target, inputs in task.hidden.items()},
        "typical": typical_values(task),
        "concepts": [concept.model_dump(mode="json") for concept in task.concepts],
        **_calibration(candidate.calibration),
        "metrics": dict(candidate.metrics),
        "training_data": dict(candidate.training_data),
    }


def _calibration(calibration: Link) -> dict[str, object]:
    """The manifest's field for how margins become probabilities; none of other kinds of scores."""
    if isinstance(calibration, Platt):
        return {"calibration": {"slope": calibration.slope, "intercept": calibration.intercept}}
    if not isinstance(calibration, Isotonic):
        return {}
    return {
        "isotonic": {
            "margins": list(calibration.margins),
            "probabilities": list(calibration.probabilities),
        }
    }


def _same(champion: PublishedModel, manifest: Mapping[str, object], files: Mapping[str, bytes]) -> bool:
    held = champion.manifest.model_dump(mode="json", exclude={"format", "version", "created", "files"})
    offered = {key: value for key, value in manifest.items() if key != "created"}
    digests = {name: sha256_of(content) for name, content in files.items()}
    return held == offered and dict(champion.manifest.files) == digests
