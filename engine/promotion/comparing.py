"""Two versions side by side: what they measured, on what they rest, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.core.scoring import ScoringError
from engine.models.errors import ModelRefused
from engine.models.loading import load_model
from engine.promotion.errors import EvidenceInvalid
from engine.promotion.evidence import HOLDOUT, Incomparable, read_holdout
from engine.promotion.figures import Compared
from engine.promotion.gates import JUDGED_KINDS, compare_models
from engine.promotion.limits import Limits
from model_registry import PublishedModel
from model_registry.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Pair:
    """What each version says of one thing; None where it says nothing."""

    first: object
    second: object


@dataclass(frozen=True, slots=True)
class Comparison:
    """`measured` is second minus first on the same held-out rows, or a text why there is none.

    `inputs_added` are the second's alone. `differences` are of calibration and lineage, equal ones left out.
    """

    first: str
    second: str
    metrics: Mapping[str, Pair]
    measured: Compared | str
    inputs_added: tuple[str, ...]
    inputs_removed: tuple[str, ...]
    sizes: Mapping[str, Pair]
    differences: Mapping[str, Pair]


def compare_versions(first: PublishedModel, second: PublishedModel, *, limits: Limits) -> Comparison:
    """Both versions side by side. Raises RegistryError where a file cannot be read."""
    one, other = first.manifest, second.manifest
    inputs = [{i.name for i in manifest.inputs} for manifest in (one, other)]
    return Comparison(
        first=_named(one),
        second=_named(other),
        metrics=_pairs(one.metrics, other.metrics, equal_too=True),
        measured=_measured(first, second, limits),
        inputs_added=tuple(sorted(inputs[1] - inputs[0])),
        inputs_removed=tuple(sorted(inputs[0] - inputs[1])),
        sizes=_pairs(_sizes(first), _sizes(second), equal_too=True),
        differences=_pairs(_origin(one), _origin(other), equal_too=False),
    )


def _measured(first: PublishedModel, second: PublishedModel, limits: Limits) -> Compared | str:
    """On the second's held-out rows, which the first did not choose."""
    if second.manifest.kind != first.manifest.kind or second.manifest.kind not in JUDGED_KINDS:
        return f"a {first.manifest.kind} and a {second.manifest.kind} model are not measured on the same rows"
    try:
        holdout = read_holdout(second)
        if holdout is None:
            return f"{_named(second.manifest)} has no {HOLDOUT}"
        return compare_models(load_model(second), load_model(first), holdout, limits=limits)
    except (EvidenceInvalid, Incomparable, ModelRefused, ScoringError) as error:
        return str(error)


def _sizes(published: PublishedModel) -> dict[str, object]:
    return {name: len(published.read(name)) for name in published.manifest.files}


def _origin(manifest: Manifest) -> dict[str, object]:
    """Calibration, schema, data and lineage, flat."""
    told: dict[str, object] = {
        "kind": manifest.kind,
        "created": manifest.created,
        "feature_schema": manifest.feature_schema,
        "calibration": "isotonic" if manifest.isotonic else "platt",
        **{f"calibration.{name}": value for name, value in manifest.calibration.items()},
        **{f"training_data.{name}": value for name, value in manifest.training_data.items()},
        "baseline": f"{manifest.baseline.name} {manifest.baseline.version}" if manifest.baseline else None,
    }
    if manifest.lineage is not None:
        told |= _flat(manifest.lineage.model_dump(mode="json"), "lineage")
    return told


def _flat(tree: Mapping[str, object], place: str) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{place}.{name}") if isinstance(value, dict) else {f"{place}.{name}": value}
    return flat


def _pairs(one: Mapping[str, object], other: Mapping[str, object], *, equal_too: bool) -> dict[str, Pair]:
    names = dict.fromkeys((*one, *other))
    pairs = {name: Pair(one.get(name), other.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if equal_too or pair.first != pair.second}


def _named(manifest: Manifest) -> str:
    return f"{manifest.name}/{manifest.version}"
