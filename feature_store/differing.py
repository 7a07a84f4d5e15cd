"""Two feature schemas under one version: what differs, in words, and who may keep theirs in a store (pure).

Stored vectors name their schema by digest, so none is ever read as another. But which of two schemas a
customer's vector is kept in is decided by their versions: where those are the same, each writer would take
the other's vectors over, back and forth, and what only the other knows would be lost each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from feature_store.errors import SchemaVersionTaken
from feature_store.schema import Feature, FeatureSchema, View
from feature_store.versions import read_kept

MAX_NAMED = 8
"""Differences named in one error; the rest is counted."""
_PARTS = ("view", "type", "unit", "categories", "default", "data_class", "aggregate")


def refuse_taken_version(schema: FeatureSchema, kept: Mapping[str, str], *, source: str) -> None:
    """Raises SchemaVersionTaken where a schema is new to a store that keeps another of its version.

    `kept` are the texts by digest, `source` is where the new one comes from. One that is kept already may
    go on: it was there before this was checked, or came at the same moment.
    """
    others = rivals(schema, kept)
    if schema.digest in kept or not others:
        return
    free = 1 + max(other.version for other in _readable(kept))
    raise SchemaVersionTaken(
        f"{source}: declares version {schema.version}, and the store keeps another schema of that version; "
        f"{differences(schema, others[0])}. Nothing was written; raise `version` to {free} in this file, or "
        "use the schema that the store keeps"
    )


def rivals(schema: FeatureSchema, kept: Mapping[str, str]) -> list[FeatureSchema]:
    """Kept schemas of the same version and other content."""
    return [
        other
        for other in _readable(kept)
        if other.version == schema.version and other.digest != schema.digest
    ]


def shared_versions(kept: Mapping[str, str]) -> list[str]:
    """A warning for each two of some kept schemas that have one version, with what to do."""
    found = []
    schemas = sorted(_readable(kept), key=lambda schema: (schema.version, schema.digest))
    for first, second in pairwise(schemas):
        if first.version == second.version:
            found.append(
                f"customers are of two feature schemas of version {first.version}, and each writer takes the "
                f"other's over; {differences(second, first)}; raise `version` of the one that is to stay"
            )
    return found


def differences(schema: FeatureSchema, kept: FeatureSchema) -> str:
    """What a schema has otherwise than a kept one, in words: features and views by name, and their fields."""
    found = [*_of_views(schema, kept), *_of_features(schema, kept)] or ["the order of views or features"]
    more = [f"and {len(found) - MAX_NAMED} more"] if len(found) > MAX_NAMED else []
    return "; ".join(["differing: " + found[0], *found[1:MAX_NAMED], *more])


def _readable(kept: Mapping[str, str]) -> list[FeatureSchema]:
    return [schema for digest, text in kept.items() if (schema := read_kept(digest, text)) is not None]


def _of_views(schema: FeatureSchema, kept: FeatureSchema) -> Iterator[str]:
    views, before = ({view.name: view for view in of.view} for of in (schema, kept))
    yield from _missing("view", views, before)
    for name in sorted(views.keys() & before.keys()):
        if views[name].freshness_ms != before[name].freshness_ms:
            yield (f"view {name}: freshness_hours {_hours(views[name])}, in the store {_hours(before[name])}")


def _hours(view: View) -> str:
    return "none" if view.freshness_hours is None else f"{view.freshness_hours:g}"


def _of_features(schema: FeatureSchema, kept: FeatureSchema) -> Iterator[str]:
    features, before = ({feature.name: feature for feature in of.feature} for of in (schema, kept))
    yield from _missing("feature", features, before)
    for name in sorted(features.keys() & before.keys()):
        parts = [
            f"{part} {_told(features[name], part)}, in the store {_told(before[name], part)}"
            for part in _PARTS
            if _told(features[name], part) != _told(before[name], part)
        ]
        if parts:
            yield f"feature {name}: " + ", ".join(parts)


def _missing(what: str, here: Mapping[str, object], there: Mapping[str, object]) -> Iterator[str]:
    for name in sorted(here.keys() - there.keys()):
        yield f"{what} {name}: not in the store's"
    for name in sorted(there.keys() - here.keys()):
        yield f"{what} {name}: only in the store's"


def _told(feature: Feature, part: str) -> str:
    """One part of a feature as people read it."""
    if part == "aggregate":
        return "none" if feature.aggregate is None else str(feature.aggregate.canonical)
    value = getattr(feature, part)
    if isinstance(value, tuple):
        return "[" + ", ".join(value) + "]"
    return "none" if value is None or value == "" else f"{value}"
