"""From a trained model to a version in the registry: whole or not at all, and once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from model_registry import Root, open_version, promote, publish, storage_of
from model_registry.aliases import CHAMPION, read_aliases
from model_registry.errors import ModelNotFound
from model_registry.manifest import Manifest
from model_registry.publishing import sha256_of
from training.evaluation.groups import gaps_of, groups_of
from training.evaluation.held_out import HeldOut
from training.own.card import model_card
from training.own.lineage import lineage_of
from training.own.run import TrainedModel, check_gates
from training.own.schemafile import schema_toml
from training.own.seam import groups_of_test, held_out
from training.own.words import reasons_yaml
from training.publication import manifest_of
from training.trees import npz_bytes

MAX_HELD_OUT: Final = 20_000
"""Rows that gates compare models on: more take room and change no verdict."""
BASELINE: Final = {"name": "training-expectation", "version": 1}
"""What explanations compare with: the expected margin over the training rows, by the covers of the trees."""
_OF_THE_DAY: Final = frozenset({"format", "version", "created", "files", "lineage"})
_PAGES: Final = frozenset({"report.html"})


@dataclass(frozen=True, slots=True)
class Registered:
    """Where a model stands. `changed` is false where the same version was there already."""

    name: str
    version: int
    alias: str | None
    changed: bool


def files_of(trained: TrainedModel) -> dict[str, bytes]:
    """Every file of the version but its report."""
    plan, task = trained.prepared.plan, trained.task
    heading = f"Feature schema of model {plan.metadata.name}: what it reads, as it was trained on it."
    reasons = reasons_yaml(plan, task.concepts, trained.prepared.kind.outcome)
    return {
        **trained.artefacts.files,
        "holdout.npz": _holdout(trained),
        "schema.toml": schema_toml(task.schema, heading=heading).encode(),
        "reasons.yaml": reasons.encode(),
        "card.md": model_card(trained).encode(),
    }


def manifest_fields(
    trained: TrainedModel, *, created: str, code: str, champion: int | None
) -> dict[str, object]:
    """Every manifest field but `version` and `files`."""
    prepared = trained.prepared
    segments, fairness = _by_group(trained)
    return {
        **manifest_of(trained.candidate, created=created),
        "format": 2,
        "lineage": lineage_of(
            prepared.plan, prepared.table, from_ms=prepared.examples.from_ms, code=code, champion=champion
        ),
        "segments": segments,
        "fairness": fairness,
        "baseline": BASELINE,
        **({"actions": trained.task.actions} if trained.task.actions else {}),
    }


def register(
    trained: TrainedModel,
    *,
    registry: Root,
    alias: str | None,
    created: str,
    code: str,
    pages: Mapping[str, bytes],
) -> Registered:
    """Publishes the version and points the alias at it; nothing where a version says and is the same.

    `pages` are reports to keep with it. Raises GateFailed, and RegistryError.
    """
    check_gates(trained)
    name = trained.task.name
    champion = _aliases(registry, name).get(CHAMPION)
    manifest = manifest_fields(trained, created=created, code=code, champion=champion)
    files = files_of(trained)
    version = _same_version(registry, name, manifest, files)
    changed = version is None
    if version is None:
        version = int(publish(registry, manifest, {**files, **pages}).name)
    if alias is not None and _aliases(registry, name).get(alias) != version:
        promote(registry, name, version, alias=alias, reason="trained by `arbiter train`, passed its gates")
        changed = True
    return Registered(name=name, version=version, alias=alias, changed=changed)


def _by_group(trained: TrainedModel) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Figures by segment, and gaps between the groups of the attributes that are to be treated alike."""
    if trained.evidence is None:
        held = held_out(trained)
        return _segments(held), _fairness(trained, held)
    groups = groups_of_test(trained)
    wanted = trained.prepared.plan.fairness.attributes
    compared = {attribute: words for attribute, words in groups.items() if attribute in wanted}
    return trained.evidence.segments(groups), trained.evidence.gaps(compared)


def _holdout(trained: TrainedModel) -> bytes:
    test = trained.task.test
    told = {"labels": test.labels} if trained.evidence is None else trained.evidence.held_out
    rows = np.arange(len(test.labels))
    if len(rows) > MAX_HELD_OUT:
        rng = np.random.default_rng(trained.candidate.seed)
        rows = np.sort(rng.choice(len(rows), MAX_HELD_OUT, replace=False))
    held: dict[str, npt.NDArray[Any]] = {"rows": test.rows[rows]}
    held |= {name: values[rows] for name, values in told.items()}
    owners = test.customers[rows]
    if len(np.unique(owners)) < len(rows):  # rows of a customer depend on each other
        held["groups"] = owners.astype(np.float64)
    return npz_bytes(held)


def _segments(held: HeldOut) -> dict[str, dict[str, int | float | None]]:
    return {
        f"{group.attribute}={group.value}": {
            "rows": group.rows,
            "rate": round(group.rate, 6),
            "auc": None if group.auc is None else round(group.auc.value, 6),
            "ece": round(group.ece, 6),
        }
        for group in groups_of(held)
    }


def _fairness(trained: TrainedModel, held: HeldOut) -> dict[str, dict[str, float]]:
    wanted = trained.prepared.plan.fairness.attributes
    found: dict[str, dict[str, float]] = {}
    for gap in gaps_of(held, seed=trained.candidate.seed):
        if gap.attribute in wanted:
            found.setdefault(gap.attribute, {})[f"gap_{gap.measure}"] = round(gap.size.value, 6)
    return found


def _aliases(registry: Root, name: str) -> Mapping[str, int]:
    try:
        return read_aliases(registry, name).aliases
    except ModelNotFound:
        return {}


def _same_version(
    registry: Root, name: str, manifest: Mapping[str, object], files: Mapping[str, bytes]
) -> int | None:
    """The latest version that says and is the same, but for the day, the code and the champion of then."""
    digests = {file: sha256_of(content) for file, content in files.items()}
    offered = Manifest.model_validate({**manifest, "version": 1, "files": digests})
    wanted = offered.model_dump(mode="json", exclude=set(_OF_THE_DAY))
    for version in reversed(storage_of(registry).versions(name)):
        held = open_version(registry, name, version).manifest
        kept = {file: digest for file, digest in held.files.items() if file not in _PAGES}
        if kept == digests and held.model_dump(mode="json", exclude=set(_OF_THE_DAY)) == wanted:
            return version
    return None
