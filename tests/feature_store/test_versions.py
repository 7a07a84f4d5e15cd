"""Old and new feature schemas meet in one store, and nobody reads a wrong value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store.schema import Feature, FeatureSchema, FeatureValue, View, parse_schema
from feature_store.state import FeatureVector
from feature_store.versions import SchemaVersions, conversion, read_kept, write_one

NOW_MS = 1_000_000
HOUR_MS = 3_600_000
Facts = Mapping[str, FeatureValue | None]

BASE = """
name = "shop"
version = 1
view = [
  {name = "profile", kind = "batch", owner = "crm", freshness_hours = 24, description = ""},
  {name = "usage", kind = "streaming", owner = "web", freshness_hours = 1, description = ""},
]
feature = [
 {name = "age", view = "profile", type = "int", data_class = "demographic", unit = "years", description = ""},
 {name = "tier", view = "profile", type = "category", data_class = "contractual", categories = [
    "silver", "gold"], description = ""},
 {name = "visits", view = "usage", type = "int", data_class = "behavioural", default = 0, description = ""},
]
"""
CARTS = """
 {name = "carts", view = "usage", type = "int", data_class = "behavioural", default = 0, description = ""},
 {name = "visits","""
RISK = """
view = [
  {name = "risk", kind = "batch", owner = "bank", freshness_hours = 1, description = ""},"""
SCORE = """
feature = [
 {name = "score", view = "risk", type = "double", data_class = "billing", default = 0.5, description = ""},"""
NEXT = BASE.replace("version = 1", "version = 2").replace('\n {name = "visits",', CARTS)


def schema(text: str) -> FeatureSchema:
    return parse_schema(text, source="test")


def vector(of: FeatureSchema, facts: Facts, *times_ms: int) -> FeatureVector:
    return FeatureVector(of.digest, times_ms or (NOW_MS,) * len(of.view), of.pack(facts))


def facts_of(of: FeatureSchema, read: FeatureVector) -> dict[str, FeatureValue | None]:
    assert read.schema_version == of.digest
    return dict(zip(of.index, of.decode_all(read.values), strict=True))


def versions(*texts: str) -> SchemaVersions:
    return SchemaVersions(lambda: {schema(text).digest: text for text in texts})


FACTS: Facts = {"age": 40, "tier": "gold", "visits": 7}


def test_own_vectors_are_read_as_they_are() -> None:
    """Where digests are equal nothing is looked up or copied."""

    def never() -> Mapping[str, str]:
        raise AssertionError("looked up")

    stored = vector(schema(BASE), FACTS)

    assert SchemaVersions(never).read(stored, schema(BASE), now_ms=NOW_MS) is stored


def test_new_reader_reads_an_old_vector() -> None:
    """A reader of a later schema finds every value under its name; what is new is missing, default or not."""
    stored = vector(schema(BASE), FACTS, 5, 6)

    read = versions(BASE, NEXT).read(stored, schema(NEXT), now_ms=NOW_MS)

    assert facts_of(schema(NEXT), read) == {**FACTS, "carts": None}
    assert read.unread == (schema(NEXT).index["carts"],)
    assert read.view_times_ms == (5, 6)


def test_old_reader_reads_a_new_vector() -> None:
    """A reader of an earlier schema finds what it knows in its own order."""
    stored = vector(schema(NEXT), {**FACTS, "carts": 3})

    read = versions(BASE, NEXT).read(stored, schema(BASE), now_ms=NOW_MS)

    assert facts_of(schema(BASE), read) == FACTS
    assert read.unread == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('unit = "years"', 'unit = "months"'),
        ('type = "int", data_class = "demographic"', 'type = "double", data_class = "demographic"'),
        ('data_class = "demographic"', 'data_class = "behavioural"'),
        ('name = "age"', 'name = "age_years"'),
    ],
    ids=["unit", "type", "class", "name"],
)
def test_value_of_another_meaning_is_missing(before: str, after: str) -> None:
    """A feature that now means something else is missing in both directions; its neighbours are read."""
    changed = BASE.replace(before, after)
    name = "age_years" if "age_years" in after else "age"

    forth = versions(BASE, changed).read(vector(schema(BASE), FACTS), schema(changed), now_ms=NOW_MS)
    back = versions(BASE, changed).read(
        vector(schema(changed), {"tier": "gold", "visits": 7, name: 480}), schema(BASE), now_ms=NOW_MS
    )

    assert facts_of(schema(changed), forth) == {name: None, "tier": "gold", "visits": 7}
    assert facts_of(schema(BASE), back) == {"age": None, "tier": "gold", "visits": 7}
    assert (forth.unread, back.unread) == ((0,), (0,))


def test_aggregate_of_another_window_is_another_meaning() -> None:
    """A count over thirty days is not one over seven."""
    count = 'aggregate = {function = "count", events = ["visit"], window = "7d"}'
    week = BASE.replace("default = 0", count)
    month = week.replace("7d", "30d")

    read = versions(week, month).read(vector(schema(week), FACTS), schema(month), now_ms=NOW_MS)

    assert facts_of(schema(month), read)["visits"] is None


def test_categories_cross_by_name() -> None:
    """A category keeps its name where the list changed; one that is no longer listed is missing."""
    changed = BASE.replace('"silver", "gold"', '"platinum", "gold", "bronze"')
    reader = versions(BASE, changed)

    read = [
        reader.read(vector(schema(BASE), {"tier": tier}), schema(changed), now_ms=NOW_MS)
        for tier in ("gold", "silver", None)
    ]

    assert [facts_of(schema(changed), r)["tier"] for r in read] == ["gold", None, None]
    assert [r.unread for r in read] == [(), (1,), ()]


def test_moved_feature_is_as_old_as_where_it_comes_from() -> None:
    """A feature that moved to another view makes that as old as the view it was written with."""
    moved = BASE.replace('{name = "age", view = "profile"', '{name = "age", view = "usage"')
    stored = vector(schema(BASE), FACTS, 100, 900)

    read = versions(BASE, moved).read(stored, schema(moved), now_ms=NOW_MS)

    assert read.view_times_ms == (100, 100)


def test_view_that_was_not_stored_is_stale() -> None:
    """A view nothing of which crosses has time 0."""
    more = BASE.replace("\nview = [", RISK).replace("\nfeature = [", SCORE)

    read = versions(BASE, more).read(vector(schema(BASE), FACTS), schema(more), now_ms=NOW_MS)

    assert read.view_times_ms == (0, NOW_MS, NOW_MS)


def test_vector_of_an_unknown_schema_is_left_alone() -> None:
    """Where nobody kept the schema, or it does not fit the vector, nothing is made of it."""
    stored = vector(schema(NEXT), {})
    short = FeatureVector(schema(NEXT).digest, (1, 2), stored.values[:2])

    unknown = versions(BASE).read(stored, schema(BASE), now_ms=NOW_MS)
    misfit = versions(NEXT).read(short, schema(BASE), now_ms=NOW_MS)

    assert unknown is stored
    assert misfit is short


def test_unknown_schema_is_looked_up_again_after_a_while() -> None:
    """A writer that came later kept its schema later; a store is not asked on every read."""
    kept: dict[str, str] = {}
    asked: list[int] = []

    def texts() -> Mapping[str, str]:
        asked.append(1)
        return dict(kept)

    reader, stored = SchemaVersions(texts), vector(schema(NEXT), FACTS)
    early = [reader.read(stored, schema(BASE), now_ms=NOW_MS + i) for i in range(100)]
    kept[stored.schema_version] = NEXT

    late = reader.read(stored, schema(BASE), now_ms=NOW_MS + 5_000)

    assert all(read is stored for read in early)
    assert facts_of(schema(BASE), late) == FACTS
    assert len(asked) == 2


def test_schema_met_for_the_first_time_is_looked_up_at_once() -> None:
    """Having looked in vain for another one does not keep a new version from being read."""
    kept: dict[str, str] = {}
    reader = SchemaVersions(lambda: dict(kept))
    other = vector(schema(BASE.replace("hours = 24", "hours = 48")), FACTS)
    unknown = reader.read(other, schema(BASE), now_ms=NOW_MS)
    stored = vector(schema(NEXT), FACTS)
    kept[stored.schema_version] = NEXT

    read = reader.read(stored, schema(BASE), now_ms=NOW_MS + 1)

    assert unknown is other
    assert facts_of(schema(BASE), read) == FACTS


def test_text_that_is_read_otherwise_is_not_used() -> None:
    """A kept text whose schema has another digest, or that this version cannot read, is unknown."""
    digest = schema(BASE).digest

    read = [read_kept(digest, text) for text in (BASE, NEXT, "name = 1", BASE + "\nfuture = 1")]

    assert [found is not None for found in read] == [True, False, False, False]


def test_plans_are_made_once() -> None:
    """Two schemas have one plan, also where they were parsed again."""
    first = conversion(schema(BASE), schema(NEXT))

    assert conversion(schema(BASE), schema(NEXT)) is first


def test_writer_of_an_older_schema_keeps_what_it_does_not_know() -> None:
    """It replaces what it knows; the later feature stays, and so does the later schema."""
    old, new = schema(BASE), schema(NEXT)
    stored = vector(new, {**FACTS, "carts": 3}, 100, 100)

    kept = write_one(
        stored, new, vector(old, {"age": 41, "tier": "silver", "visits": 8}, 900, 900), old, [0, 1]
    )

    assert facts_of(new, kept) == {"age": 41, "tier": "silver", "visits": 8, "carts": 3}
    assert kept.view_times_ms == (900, 100)


def test_writer_of_a_newer_schema_takes_over() -> None:
    """It keeps what it does not write under the names it knows, in its own schema."""
    old, new = schema(BASE), schema(NEXT)
    offered = vector(new, {"age": 41, "tier": None}, 900, 900)

    kept = write_one(vector(old, FACTS, 100, 100), old, offered, new, [0])

    assert facts_of(new, kept) == {"age": 41, "tier": None, "visits": 7, "carts": None}
    assert kept.view_times_ms == (900, 0)


def test_view_with_a_lost_category_is_stale_where_a_default_would_stand_for_it() -> None:
    """What an older writer says and the later schema cannot hold is missing, not the later default."""
    later = BASE.replace("version = 1", "version = 2").replace(
        '"silver", "gold"], ', '"gold", "none"], default = "none", '
    )
    old, new = schema(BASE), schema(later)
    stored = vector(new, FACTS, 100, 100)

    kept = [
        write_one(stored, new, vector(old, {"age": 41, "tier": tier}, 900, 900), old, [0])
        for tier in ("silver", "gold")
    ]

    assert [facts_of(new, k)["tier"] for k in kept] == [None, "gold"]
    assert [k.view_times_ms for k in kept] == [(0, 100), (900, 100)]


@pytest.mark.parametrize("by", ["older writer", "newer writer"])
def test_view_with_a_lost_category_is_stale_for_readers_with_a_default(by: str) -> None:
    """What one schema cannot hold must not come back as the default of another, which was never said."""
    earlier = BASE.replace('"silver", "gold"], ', '"silver", "bronze"], default = "bronze", ')
    later = BASE.replace("version = 1", "version = 2").replace('"silver", "gold"], ', '"gold"], ')
    old, new = schema(earlier), schema(later)
    said = vector(old, {"age": 41, "tier": "silver"}, 900, 900)
    if by == "older writer":
        kept = write_one(vector(new, {"age": 40}, 100, 100), new, said, old, [0])
    else:
        kept = write_one(said, old, vector(new, {"visits": 1}, 900, 900), new, [1])

    read = versions(earlier, later).read(kept, old, now_ms=NOW_MS)

    assert facts_of(old, read)["tier"] is None
    assert read.view_times_ms == (0, 100 if by == "older writer" else 900)


def test_what_a_log_could_not_read_stays_unread() -> None:
    """A logged vector remembers what its reader could not be told; no default stands for it later."""
    said = FeatureVector(schema(BASE).digest, (5, 5), schema(BASE).pack({"age": 40}), (2,))

    read = versions(BASE, NEXT).read(said, schema(NEXT), now_ms=NOW_MS)

    assert read.unread == (schema(NEXT).index["carts"], schema(NEXT).index["visits"])


def test_view_that_is_not_written_stays() -> None:
    """Within one schema a view is replaced as a whole or not at all."""
    own = schema(BASE)
    offered = vector(own, {"visits": 9}, 900, 900)

    kept = write_one(vector(own, FACTS, 100, 100), own, offered, own, [1])

    assert facts_of(own, kept) == {**FACTS, "visits": 9}
    assert kept.view_times_ms == (100, 900)


def test_first_write_leaves_other_views_absent() -> None:
    """A customer that had nothing has what was written; the rest is absent and stale."""
    own = schema(BASE)

    kept = write_one(None, None, vector(own, FACTS, 900, 900), own, [0])

    assert facts_of(own, kept) == {"age": 40, "tier": "gold", "visits": None}
    assert kept.view_times_ms == (900, 0)


NAMES = tuple(f"f{i}" for i in range(5))
VIEWS = ("alpha", "beta")
CATEGORIES = ("a", "b", "c")


@st.composite
def definitions(draw: st.DrawFn, name: str) -> Feature:
    kind = draw(st.sampled_from(["int", "bool", "category"]))
    categories = tuple(draw(st.permutations(CATEGORIES)))[: draw(st.integers(1, 3))]
    value = {"int": 0, "bool": False, "category": categories[0]}[kind]
    return Feature(
        name=name,
        view=draw(st.sampled_from(VIEWS)),
        type=kind,  # type: ignore[arg-type]
        data_class="contractual",  # type: ignore[arg-type]
        description="d",
        unit=draw(st.sampled_from(["", "x"])),
        categories=categories if kind == "category" else (),
        default=draw(st.sampled_from([None, value])),
    )


@st.composite
def schemas(draw: st.DrawFn) -> FeatureSchema:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    views = draw(st.permutations(VIEWS))
    return FeatureSchema(
        name="s",
        version=draw(st.integers(1, 3)),
        view=tuple(View(name=v, kind="batch", owner="o", freshness_hours=1, description="d") for v in views),
        feature=tuple(draw(definitions(name)) for name in names),
    )


@st.composite
def known_facts(draw: st.DrawFn, of: FeatureSchema) -> dict[str, FeatureValue | None]:
    values = {
        "int": st.integers(1, 99),
        "bool": st.just(True),
        "category": st.none(),
    }
    return {
        f.name: draw(st.none() | (st.sampled_from(f.categories) if f.type == "category" else values[f.type]))
        for f in of.feature
    }


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer once said of a feature, and when."""

    meaning: tuple[str, str]
    value: FeatureValue | None
    at_ms: int


def meaning(feature: Feature) -> tuple[str, str]:
    return feature.type, feature.unit


@settings(max_examples=300)
@given(st.data())
def test_nobody_ever_reads_a_wrong_value(data: st.DataObject) -> None:
    """Writers of any schemas write any views, one after the other; whoever reads finds, of each feature, the
    value last written under its meaning, or none; never one older than its view says, never a default that
    stands for a value.
    """
    pool = data.draw(st.lists(schemas(), min_size=2, max_size=3))
    stored: FeatureVector | None = None
    old: FeatureSchema | None = None
    said: dict[str, list[Written]] = {name: [] for name in NAMES}
    by_digest = {of.digest: of for of in pool}

    for step in range(data.draw(st.integers(1, 5))):
        writer = data.draw(st.sampled_from(pool))
        facts, at_ms = data.draw(known_facts(writer)), 100 + step
        views = data.draw(st.sets(st.sampled_from(range(2)), min_size=1))
        stored = write_one(stored, old, vector(writer, facts, at_ms, at_ms), writer, views)
        old = by_digest[stored.schema_version]
        for f in writer.feature:
            if [v.name for v in writer.view].index(f.view) in views:
                said[f.name].append(Written(meaning(f), facts[f.name], at_ms))

    assert stored is not None
    assert old is not None
    for reader in pool:
        _assert_read_is_right(stored, old, reader, said)


def _assert_read_is_right(
    stored: FeatureVector, old: FeatureSchema, reader: FeatureSchema, said: Mapping[str, list[Written]]
) -> None:
    texts = SchemaVersions(dict)
    texts._known[old.digest] = old
    read = texts.read(stored, reader, now_ms=0)
    values = facts_of(reader, read)
    for place, feature in enumerate(reader.feature):
        alike = [w for w in said[feature.name] if w.meaning == meaning(feature)]
        view_ms = read.view_times_ms[int(reader.view_index[place])]
        value = values[feature.name]
        if value is not None:
            # The value is one that was said; if not the last, its view is no fresher than the saying of it.
            assert any(w.value == value and view_ms <= w.at_ms for w in alike)
        elif feature.default is not None and place not in read.unread and view_ms:
            # A default may stand only for what a writer said is absent, no later than the view says.
            assert any(w.value is None and view_ms <= w.at_ms for w in alike)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine takes long to draw schemas
@given(st.data())
def test_older_writer_destroys_nothing(data: st.DataObject) -> None:
    """After a writer of an earlier version, all that only the later one knows reads as before."""
    pool = data.draw(st.tuples(schemas(), schemas()).filter(lambda p: p[0].version != p[1].version))
    older, newer = sorted(pool, key=lambda schema: schema.version)
    before = vector(newer, data.draw(known_facts(newer)), 100, 100)
    offered = vector(older, data.draw(known_facts(older)), 200, 200)

    after = write_one(before, newer, offered, older, data.draw(st.sets(st.sampled_from(range(2)))))

    assert after.schema_version == newer.digest
    for place, feature in enumerate(newer.feature):
        twin = older.feature[older.index[feature.name]] if feature.name in older.index else None
        if twin is None or meaning(twin) != meaning(feature):
            assert np.array_equal(after.values[place], before.values[place], equal_nan=True)
