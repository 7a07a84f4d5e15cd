"""Which features a decision reads: fresh ones, those of the request, and what another schema could tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from company import NOW_MS, SCHEMA

from engine.core.inputs import current_vector
from engine.domain import ContextValue, DecisionRequest
from feature_store.schema import Feature, FeatureSchema, SchemaError, View, parse_schema
from feature_store.state import CustomerState, FeatureVector

WITH_REQUEST = FeatureSchema(
    name="small",
    version=2,
    view=(*SCHEMA.view, View(name="moment", kind="request", owner="o", description="d")),
    feature=(
        *SCHEMA.feature,
        Feature(
            name="basket", view="moment", type="double", data_class="billing", description="d", default=1.5
        ),
        Feature(
            name="mood",
            view="moment",
            type="category",
            categories=("calm", "cross"),
            data_class="contractual",
            description="d",
        ),
        Feature(name="items", view="moment", type="int", data_class="billing", description="d"),
    ),
)
DEFAULTED = FeatureSchema(
    name="small",
    version=2,
    view=SCHEMA.view,
    feature=(SCHEMA.feature[0].model_copy(update={"default": 3}), *SCHEMA.feature[1:]),
)


def stored(schema: FeatureSchema, *times_ms: int, **values: object) -> CustomerState:
    packed = schema.pack(values)  # type: ignore[arg-type]
    times = times_ms or (NOW_MS,) * len(schema.view)
    return CustomerState("c1", FeatureVector(schema.digest, times, packed))


def read(schema: FeatureSchema, state: CustomerState, **context: ContextValue) -> dict[str, object]:
    vector = current_vector(schema, DecisionRequest("c1", "web", context=context), state, now_ms=NOW_MS)
    return dict(zip(schema.index, schema.decode_all(vector), strict=True))


@pytest.mark.parametrize(
    ("age_ms", "value"),
    [(-1, 5), (0, 5), (24 * 3_600_000 - 1, 5), (24 * 3_600_000, None), (24 * 3_600_000 + 1, None)],
)
def test_value_is_stale_from_its_freshness_on(age_ms: int, value: int | None) -> None:
    """A value as old as its view's freshness is missing; one a millisecond younger is used."""
    state = stored(SCHEMA, NOW_MS - age_ms, NOW_MS, tenure=5)

    assert read(SCHEMA, state)["tenure"] == value


def test_stale_value_has_no_default() -> None:
    """The default of a feature stands for a value that is absent, never for one that is too old."""
    absent, stale = stored(DEFAULTED), stored(DEFAULTED, 0, NOW_MS, tenure=5)

    assert read(DEFAULTED, absent)["tenure"] == 3
    assert read(DEFAULTED, stale)["tenure"] is None


def test_value_that_another_schema_could_not_tell_has_no_default() -> None:
    """What a conversion left unread is missing, not absent."""
    state = stored(DEFAULTED, contract="yearly")
    assert state.features is not None
    unread = replace(state, features=replace(state.features, unread=(0,)))

    assert read(DEFAULTED, state) == {"tenure": 3, "contract": "yearly", "calls": None}
    assert read(DEFAULTED, unread) == {"tenure": None, "contract": "yearly", "calls": None}


def test_features_of_the_request_are_read_from_its_context() -> None:
    """They have the request's values, the default where it brings none, and never a stored one."""
    state = stored(WITH_REQUEST, NOW_MS, NOW_MS, 0, tenure=5, basket=99.0, mood="cross", items=7)

    given = read(WITH_REQUEST, state, basket=20.25, mood="calm", items=2)
    none = read(WITH_REQUEST, state)

    assert given == {
        "tenure": 5,
        "contract": None,
        "calls": None,
        "basket": 20.25,
        "mood": "calm",
        "items": 2,
    }
    assert (none["basket"], none["mood"], none["items"]) == (1.5, None, None)


def test_features_of_the_request_need_nothing_stored() -> None:
    """A customer without features, or with those of another schema, still has the request's."""
    without = read(WITH_REQUEST, CustomerState("c1"), items=2)
    foreign = read(WITH_REQUEST, stored(SCHEMA, tenure=5), items=2)

    assert (without["items"], without["tenure"]) == (2, None)
    assert (foreign["items"], foreign["tenure"]) == (2, None)


def test_value_of_the_request_that_cannot_be_kept_exactly_is_missing() -> None:
    """A number that float32 would change is not used as another one."""
    assert read(WITH_REQUEST, CustomerState("c1"), items=(1 << 24) + 1)["items"] is None
    assert read(WITH_REQUEST, CustomerState("c1"), items=1 << 24)["items"] == 1 << 24


@pytest.mark.parametrize("kind", ["batch", "streaming"])
def test_only_views_of_requests_have_no_freshness(kind: str) -> None:
    """A stored view without a freshness, or a request's with one, is refused by name."""
    text = (
        'name = "s"\nversion = 1\n'
        'view = [{{name = "v", kind = "{kind}", owner = "o", description = ""{more}}}]\n'
        'feature = [{{name = "f", view = "v", type = "int", data_class = "billing", description = ""}}]\n'
    )

    with pytest.raises(SchemaError, match="freshness_hours"):
        parse_schema(text.format(kind=kind, more=""), source="test")
    with pytest.raises(SchemaError, match="freshness_hours"):
        parse_schema(text.format(kind="request", more=", freshness_hours = 1"), source="test")


def test_models_read_what_rules_read() -> None:
    """The vector for models holds the request's values as float32, in the schema's order."""
    request = DecisionRequest("c1", "web", context={"mood": "cross"})

    vector = current_vector(WITH_REQUEST, request, stored(WITH_REQUEST, tenure=5), now_ms=NOW_MS)

    assert vector.dtype == np.float32
    assert np.array_equal(vector, np.array([5, np.nan, np.nan, 1.5, 1, np.nan], np.float32), equal_nan=True)
