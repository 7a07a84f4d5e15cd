"""Customers whose features another version of the schema wrote: events go on with them, decisions read."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from eventful_company import CUSTOMERS

from engine.bootstrap import Application, wall_clock_ms
from engine.events.raw import RawEvent
from engine.service.requests import DecisionQuery
from engine.settings import Settings
from feature_store.schema import FeatureSchema, parse_schema
from feature_store.state import FeatureVector
from feature_store.versions import SchemaVersions, write_one

_numbers = itertools.count(1)
TEXT = Settings().feature_schema.read_text(encoding="utf-8")
ADDED = """
[[feature]]
name = "loyalty_points"
view = "contract"
type = "int"
data_class = "contractual"
description = "Points collected"

[[feature]]
name = "senior_citizen"
"""
EARLIER, LATER = 1, 9
MORE = TEXT.replace('\n[[feature]]\nname = "senior_citizen"\n', ADDED, 1)


def versioned(version: int) -> str:
    told = f'description = "Points collected"\nunit = "points, version {version}"'  # another digest for each
    text = MORE.replace('description = "Points collected"', told, 1)
    own = f"\nversion = {parse_schema(TEXT, source='test').version}\n"
    assert own in text
    return text.replace(own, f"\nversion = {version}\n", 1)


@pytest.fixture(autouse=True)
def _kept(company: Application) -> None:
    """Both versions are kept from the start, as those who write them keep them first."""
    for version in (EARLIER, LATER):
        text = versioned(version)
        company.store.put_schema(parse_schema(text, source="test").digest, text)


def customer_of(company: Application, schema: FeatureSchema, points: int = 7) -> str:
    """A new customer whose features are of a schema."""
    state, now_ms = company.store.read(CUSTOMERS[0]), wall_clock_ms()
    assert state is not None
    assert state.features is not None
    own = company.live.current.schema
    fresh = replace(state.features, view_times_ms=(now_ms,) * len(own.view))
    vector = SchemaVersions(lambda: {own.digest: TEXT}).read(fresh, schema, now_ms=now_ms)
    values = vector.values.copy()
    values[schema.index["loyalty_points"]] = points
    values[schema.index["tenure_months"]] = 24
    values[schema.index["contract"]] = 0
    name = f"V{next(_numbers):03}"
    company.store.put_customers([(name, FeatureVector(schema.digest, vector.view_times_ms, values))])
    return name


def failed_payment(customer: str) -> RawEvent:
    now_ms = wall_clock_ms()
    return RawEvent(
        f"schemas-{next(_numbers)}", "payment_failed", customer, None, now_ms, {"amount": 50.0}, now_ms
    )


def features(company: Application, customer: str) -> FeatureVector:
    state = company.store.read(customer)
    assert state is not None
    assert state.features is not None
    return state.features


def test_server_keeps_its_schema(company: Application) -> None:
    """Whoever has another version finds there how to read what this one writes."""
    kept = company.store.schemas()[company.live.current.schema.digest]

    assert parse_schema(kept, source="kept").digest == company.live.current.schema.digest


def test_events_take_over_features_of_an_earlier_schema(company: Application) -> None:
    """What events compute is written in the schema of who applies them, the rest is kept by its name."""
    other = parse_schema(versioned(EARLIER), source="test")
    company.store.put_schema(other.digest, versioned(EARLIER))
    own, customer = company.live.current.schema, customer_of(company, other)

    for _ in range(2):
        company.events.ingest([failed_payment(customer)])

    vector = features(company, customer)
    assert vector.schema_version == own.digest
    assert vector.values[own.index["failed_payments_90d"]] == 2
    assert vector.values[own.index["tenure_months"]] == 24


def test_events_leave_features_of_a_later_schema(company: Application) -> None:
    """Who does not know a feature does not destroy it; the event is remembered for who does."""
    later = parse_schema(versioned(LATER), source="test")
    company.store.put_schema(later.digest, versioned(LATER))
    customer = customer_of(company, later)
    before = features(company, customer)

    company.events.ingest([failed_payment(customer)])

    after = features(company, customer)
    assert after.schema_version == later.digest
    assert after.values.tobytes() == before.values.tobytes()


@pytest.mark.parametrize("version", [EARLIER, LATER])
def test_decisions_read_features_of_another_schema(company: Application, version: int) -> None:
    """A decision for a customer of another version is that for one of this, and is logged in this one's."""
    text = versioned(version)
    other, own = parse_schema(text, source="test"), company.live.current.schema
    company.store.put_schema(other.digest, text)
    customer, twin = (customer_of(company, other) for _ in range(2))
    foreign = features(company, twin)
    offered = SchemaVersions(lambda: {other.digest: text}).read(foreign, own, now_ms=0)
    company.store.put_customers([(twin, write_one(None, None, offered, own, range(len(own.view))))])

    records = [
        company.decisions.decide(DecisionQuery(customer_id=name, channel="web")).record
        for name in (customer, twin)
    ]

    read, expected = (record.decision for record in records)
    assert records[0].state.features is not None
    assert records[0].state.features.schema_version == own.digest
    assert [a.action_id for a in read.actions] == [a.action_id for a in expected.actions]
    assert read.missing_inputs == expected.missing_inputs
    assert read.degraded_by == expected.degraded_by
    assert "features:schema" not in read.degraded_by
