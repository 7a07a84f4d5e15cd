"""Two schemas under one version: what differs is told, and the second is refused."""

from __future__ import annotations

import pytest

from feature_store.differing import differences, refuse_taken_version, rivals, shared_versions
from feature_store.errors import SchemaVersionTaken
from feature_store.schema import FeatureSchema, parse_schema

KEPT = """
name = "shop"
version = 3
view = [
  {name = "profile", kind = "batch", owner = "crm", freshness_hours = 24, description = ""},
  {name = "usage", kind = "streaming", owner = "web", freshness_hours = 1, description = ""},
]
feature = [
 {name = "age", view = "profile", type = "int", data_class = "demographic", unit = "years", description = ""},
 {name = "tier", view = "profile", type = "category", data_class = "contractual", categories = [
    "silver", "gold"], description = ""},
 {name = "visits", view = "usage", type = "int", data_class = "behavioural", default = 0, description = "", \
aggregate = {function = "count", events = ["visit"], window = "7d"}},
]
"""
RENAMED = ('name = "age"', 'name = "age_years"')


def schema(text: str) -> FeatureSchema:
    return parse_schema(text, source="test")


def kept(*texts: str) -> dict[str, str]:
    return {schema(text).digest: text for text in texts}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('unit = "years"', 'unit = "months"', "feature age: unit months, in the store years"),
        ('"silver", "gold"', '"gold"', "feature tier: categories [gold], in the store [silver, gold]"),
        ("default = 0, ", "", "feature visits: default none, in the store 0"),
        ('type = "int", data_class = "dem', 'type = "double", data_class = "dem', "type double"),
        ('"demographic"', '"behavioural"', "data_class behavioural, in the store demographic"),
        ('view = "profile", type = "i', 'view = "usage", type = "i', "view usage, in the store profile"),
        ('window = "7d"', 'window = "8d"', "aggregate {"),
        ("hours = 24", "hours = 12", "view profile: freshness_hours 12, in the store 24"),
        (*RENAMED, "feature age_years: not in the store's; feature age: only in the store's"),
    ],
)
def test_difference_is_told_by_name_and_field(before: str, after: str, words: str) -> None:
    """Everything that makes two schemas two is said in words, with what the store has."""
    found = differences(schema(KEPT.replace(before, after, 1)), schema(KEPT))

    assert words in found


def test_order_alone_is_told_too() -> None:
    """Vectors of schemas that differ in nothing else still are two layouts."""
    lines = KEPT.splitlines()
    age = next(i for i, line in enumerate(lines) if '"age"' in line)
    moved = "\n".join([*lines[:age], *lines[age + 1 : age + 3], lines[age], *lines[age + 3 :]])

    assert differences(schema(moved), schema(KEPT)) == "differing: the order of views or features"


def test_many_differences_are_counted() -> None:
    """Eight are named."""
    more = "".join(
        f' {{name = "f{i}", view = "profile", type = "int", data_class = "contractual", description = ""}},\n'
        for i in range(12)
    )
    found = differences(schema(KEPT.replace("feature = [\n", "feature = [\n" + more)), schema(KEPT))

    assert found.count("not in the store's") == 8
    assert found.endswith("; and 4 more")


def test_another_schema_of_a_kept_version_is_refused() -> None:
    """With the file, what differs, and the first version that is free."""
    texts = kept(KEPT, KEPT.replace("version = 3", "version = 7").replace("hours = 24", "hours = 25"))
    mine = schema(KEPT.replace('unit = "years"', 'unit = "months"'))

    with pytest.raises(SchemaVersionTaken) as refused:
        refuse_taken_version(mine, texts, source="shop.toml")

    text = str(refused.value)
    assert text.startswith(
        "shop.toml: declares version 3, and the store keeps another schema of that version"
    )
    assert "feature age: unit months, in the store years" in text
    assert "raise `version` to 8 in this file" in text


@pytest.mark.parametrize(
    "mine",
    [
        KEPT,
        KEPT.replace('owner = "crm"', 'owner = "sales"'),  # no other content
        KEPT.replace("version = 3", "version = 4").replace('unit = "years"', 'unit = "months"'),
    ],
    ids=["the same", "reworded", "raised"],
)
def test_same_content_or_another_version_may_be_kept(mine: str) -> None:
    """Nothing is refused that could not be mixed up."""
    refuse_taken_version(schema(mine), kept(KEPT), source="shop.toml")

    assert rivals(schema(mine), kept(KEPT)) == []


def test_two_that_are_kept_already_go_on_and_are_warned_of() -> None:
    """A service that wrote both before this was looked at starts again; what differs is told."""
    other = KEPT.replace('unit = "years"', 'unit = "months"')

    refuse_taken_version(schema(other), kept(KEPT, other), source="shop.toml")
    later = KEPT.replace("version = 3", "version = 4").replace("hours = 24", "hours = 25")
    warnings = shared_versions(kept(KEPT, other, later))

    assert len(warnings) == 1
    assert "two feature schemas of version 3" in warnings[0]
    assert "feature age: unit" in warnings[0]


def test_text_that_cannot_be_read_takes_no_version() -> None:
    """A schema kept by a later Arbiter that this one cannot read is not compared with."""
    refuse_taken_version(schema(KEPT), {"sha256:00": KEPT + "\nfuture = 1"}, source="shop.toml")
