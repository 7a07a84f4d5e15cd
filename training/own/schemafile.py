"""A feature schema as the TOML file that declares it."""

from __future__ import annotations

import json

from feature_store.schema import Feature, FeatureSchema, View


def schema_toml(schema: FeatureSchema, *, heading: str = "") -> str:
    """The text of a schema file; reading it gives the same schema. `heading` is told as a comment."""
    blocks = [
        *(f"# {line}" for line in heading.splitlines()),
        f'name = "{schema.name}"',
        f"version = {schema.version}",
    ]
    return "\n".join([*blocks, *map(_view, schema.view), *map(_feature, schema.feature)]) + "\n"


def _view(view: View) -> str:
    lines = ["", "[[view]]", f'name = "{view.name}"', f'kind = "{view.kind}"', f"owner = {_text(view.owner)}"]
    if view.freshness_hours is not None:
        lines.append(f"freshness_hours = {view.freshness_hours!r}")
    return "\n".join([*lines, f"description = {_text(view.description)}"])


def _feature(feature: Feature) -> str:
    lines = [
        "",
        "[[feature]]",
        f'name = "{feature.name}"',
        f'view = "{feature.view}"',
        f'type = "{feature.type}"',
        f'data_class = "{feature.data_class.value}"',
        f"description = {_text(feature.description)}",
    ]
    if feature.unit:
        lines.append(f"unit = {_text(feature.unit)}")
    if feature.categories:
        lines.append(f"categories = [{', '.join(map(_text, feature.categories))}]")
    return "\n".join(lines)


def _text(text: str) -> str:
    """A TOML basic string; its escapes are those of JSON, DEL aside."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
