"""From decisions and outcomes to rows: labels at their boundaries, and who is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import retrained_company as retrained
from retrained_company import DAY_MS, Place, granted, outcome

from engine.core.inputs import current_vector
from engine.decisionlog.ledger import OutcomeEntry
from engine.decisionlog.record import DecisionRecord
from engine.retraining.company import open_company
from engine.retraining.errors import PlanUnusable
from engine.retraining.leavers import read_leavers
from engine.retraining.observing import (
    Admission,
    Period,
    Row,
    answers_of,
    churn_rows,
    propensity_rows,
)
from engine.retraining.plan import Left, RetrainingPlan
from engine.retraining.tables import table_bytes
from engine.stores import open_store
from feature_store.schema import FeatureSchema, load_schema
from feature_store.state import ConsentState, OutcomeType
from feature_store.versions import SchemaVersions

HORIZON_MS = 7 * DAY_MS
PERIOD = Period(0, retrained.UNTIL_MS, HORIZON_MS)
ACCEPTED, DECLINED, SHOWN = OutcomeType.ACCEPTED, OutcomeType.DECLINED, OutcomeType.SHOWN


@pytest.fixture(scope="module")
def schema(history: Place) -> FeatureSchema:
    return load_schema(history.settings.feature_schema)


@pytest.fixture(scope="module")
def record(history: Place) -> DecisionRecord:
    """A decision that returned something."""
    return next(record for record in history.records if record.decision.actions)


@pytest.fixture
def admission(schema: FeatureSchema) -> Admission:
    """Everybody may be learnt from."""
    return Admission(
        schema=schema,
        versions=SchemaVersions(dict),
        erased=lambda _customer: False,
        permitted=lambda _customer, _channel: True,
    )


def first_row(
    record: DecisionRecord,
    outcomes: Sequence[OutcomeEntry],
    admission: Admission,
    *,
    contacted_only: bool = False,
) -> Row | None:
    """The row of the first returned action, as if it had a target of its own."""
    rows = propensity_rows(
        [record],
        answers_of(outcomes, until_ms=PERIOD.until_ms),
        period=PERIOD,
        admission=admission,
        targets=targets(record),
        contacted_only=contacted_only,
    )
    return next((row for row in rows if row.action == "t1"), None)


def targets(record: DecisionRecord) -> Mapping[str, str]:
    """A target for each returned action: t1, t2, ..."""
    return {action.action_id: f"t{n}" for n, action in enumerate(record.decision.actions, 1)}


@pytest.mark.parametrize(
    ("after_ms", "label"),
    [(0, True), (HORIZON_MS - 1, True), (HORIZON_MS, False), (HORIZON_MS + 1, False)],
    ids=["at once", "just inside", "at the end", "just outside"],
)
def test_an_acceptance_counts_until_the_horizon_ends(
    record: DecisionRecord, admission: Admission, after_ms: int, label: bool
) -> None:
    """Half-open: what happens at its very end is outside."""
    row = first_row(record, [outcome(record, 0, ACCEPTED, after_ms=after_ms)], admission)

    assert row is not None
    assert row.label is label


def test_who_accepts_after_declining_has_accepted(record: DecisionRecord, admission: Admission) -> None:
    """In whatever order it was told."""
    both = [outcome(record, 0, ACCEPTED, after_ms=9_000), outcome(record, 0, DECLINED, after_ms=10)]

    rows = [first_row(record, told, admission) for told in (both, both[::-1])]

    assert all(row is not None and row.label and row.answered for row in rows)


def test_an_acceptance_after_the_horizon_leaves_the_refusal_within_it(
    record: DecisionRecord, admission: Admission
) -> None:
    """It was answered, and not accepted in time."""
    told = [outcome(record, 0, DECLINED), outcome(record, 0, ACCEPTED, after_ms=HORIZON_MS)]

    row = first_row(record, told, admission)

    assert row is not None
    assert (row.label, row.answered) == (False, True)


def test_what_was_reported_after_the_end_of_the_run_is_not_known(
    record: DecisionRecord, admission: Admission
) -> None:
    """So the same part of the logs gives the same rows, whenever it is read."""
    late_ms = PERIOD.until_ms - record.now_ms - 60_000
    at_the_end = outcome(record, 0, ACCEPTED, late_ms=late_ms)
    before = outcome(record, 0, ACCEPTED, late_ms=late_ms - 1)

    rows = [first_row(record, [told], admission) for told in (at_the_end, before)]

    assert [row is not None and row.label for row in rows] == [False, True]


def test_silence_is_a_no_unless_only_contacts_are_asked_for(
    record: DecisionRecord, admission: Admission
) -> None:
    """An action that was returned and never shown has no row then."""
    silent = first_row(record, [], admission)
    unseen = first_row(record, [], admission, contacted_only=True)
    shown = first_row(record, [outcome(record, 0, SHOWN)], admission, contacted_only=True)

    assert silent is not None
    assert (silent.label, silent.answered) == (False, False)
    assert unseen is None
    assert shown is not None
    assert admission.left_out["actions that nobody was shown"] == len(record.decision.actions) * 2 - 1


def test_features_are_those_of_the_decision(
    record: DecisionRecord, admission: Admission, schema: FeatureSchema
) -> None:
    """What the models read then, to the bit."""
    row = first_row(record, [], admission)

    assert row is not None
    expected = current_vector(schema, record.request, record.state, now_ms=record.now_ms)
    np.testing.assert_array_equal(row.vector, expected)


def test_without_consent_to_profiling_nothing_is_learnt(record: DecisionRecord, admission: Admission) -> None:
    """Whatever the record still holds."""
    unprofiled = replace(record, decision=replace(record.decision, profiled=False))

    row = first_row(unprofiled, [outcome(record, 0, ACCEPTED)], admission)

    assert row is None
    assert admission.left_out["made without consent to profiling"] == 1


def test_who_objected_since_is_not_learnt_from(place: Place, record: DecisionRecord) -> None:
    """Consent is asked as of today, from the store."""
    customer = record.request.customer_id
    store = open_store(place.settings)
    store.put_consents([(customer, replace(granted("profiling", ConsentState.WITHDRAWN),
                                           recorded_at_ms=retrained.UNTIL_MS))])  # fmt: skip
    store.close()

    with open_company(place.settings) as company:
        admission = company.admission(channels=(), now_ms=retrained.UNTIL_MS + 1)
        row = first_row(record, [], admission)

    assert row is None
    assert admission.left_out["of customers who have objected to profiling since"] == 1


def test_a_schema_that_nobody_kept_is_left_out(record: DecisionRecord, admission: Admission) -> None:
    """Places of features cannot be told without it."""
    assert record.state.features is not None
    features = replace(record.state.features, schema_version="sha256:other")

    row = first_row(replace(record, state=replace(record.state, features=features)), [], admission)

    assert row is None
    assert admission.left_out["of a feature schema that is no longer kept"] == 1


def test_other_channels_are_left_out(record: DecisionRecord, admission: Admission) -> None:
    """Where the plan names some."""
    elsewhere = replace(admission, channels=frozenset({"letter"}))

    assert first_row(record, [], elsewhere) is None


def test_two_decisions_of_one_instant_are_one_row(record: DecisionRecord, admission: Admission) -> None:
    """Accepted where either was."""
    other = replace(record, decision_id="0" * 26)
    answers = answers_of([outcome(other, 0, ACCEPTED)], until_ms=PERIOD.until_ms)

    rows = propensity_rows(
        [record, other], answers, period=PERIOD, admission=admission, targets=targets(record),
        contacted_only=False,
    )  # fmt: skip

    assert len(rows) == len(record.decision.actions)
    assert [row.label for row in rows if row.action == "t1"] == [True]


@pytest.mark.parametrize(
    ("left_after_ms", "label"),
    [(-1, None), (0, True), (HORIZON_MS - 1, True), (HORIZON_MS, False), (None, False)],
    ids=["gone before", "at once", "just inside", "at the end", "stays"],
)
def test_leaving_counts_until_the_horizon_ends(
    record: DecisionRecord, admission: Admission, left_after_ms: int | None, label: bool | None
) -> None:
    """Who had left already has no row."""
    customer = record.request.customer_id
    left_ms = {} if left_after_ms is None else {customer: record.now_ms + left_after_ms}

    rows = churn_rows([record], left_ms, period=PERIOD, admission=admission, every_ms=30 * DAY_MS)

    assert [row.label for row in rows] == ([] if label is None else [label])


def test_a_customer_is_one_row_in_a_period(record: DecisionRecord, admission: Admission) -> None:
    """The first decision of it; the next period has a row again."""
    every_ms = 30 * DAY_MS
    begins_ms = record.now_ms // every_ms * every_ms
    times = (begins_ms, begins_ms + every_ms - 1, begins_ms + every_ms)
    asked = [replace(record, now_ms=at_ms) for at_ms in times]

    rows = churn_rows(asked, {}, period=PERIOD, admission=admission, every_ms=every_ms)

    assert [row.at_ms for row in rows] == [times[0], times[2]]


def test_a_table_has_the_same_bytes_in_whatever_order(
    history: Place, admission: Admission, schema: FeatureSchema
) -> None:
    """And no customer's id is in them."""
    rows = [
        row
        for each in history.records[:30]
        if each.decision.actions and (row := first_row(each, [], admission)) is not None
    ]

    content = table_bytes(rows, schema)

    assert table_bytes(rows[::-1], schema) == content
    assert not any(row.customer_id.encode() in content for row in rows)


def test_who_left_is_read_from_a_file(tmp_path: Path) -> None:
    """The first time counts, and every mistake has its line."""
    (tmp_path / "left.csv").write_text(
        "customer_id,churned_at\nC1,2026-02-01\nC1,2026-01-01\nC2,2026-03-01\n"
    )
    (tmp_path / "wrong.csv").write_text("customer_id,churned_at\nC1,soon\n")

    found = read_leavers(Left(path="left.csv"), folder=tmp_path)

    assert found.left_ms["C1"] == 1_767_225_600_000
    with pytest.raises(PlanUnusable, match="line 2: column churned_at"):
        read_leavers(Left(path="wrong.csv"), folder=tmp_path)
    with pytest.raises(PlanUnusable, match="has no column gone"):
        read_leavers(Left(path="left.csv", at="gone"), folder=tmp_path)
    with pytest.raises(PlanUnusable, match="cannot be read"):
        read_leavers(Left(path="absent.csv"), folder=tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"task": {"kind": "churn", "horizon_days": 30}}, "churn needs `left`"),
        ({"task": {"kind": "propensity", "horizon_days": 7, "every_days": 3}}, "knows no `left`"),
        ({"split": {"by": "group", "group": "x"}}, "kept together"),
        ({"languages": ["de"]}, "no drafts are written in de"),
    ],
)
def test_a_plan_says_what_is_wrong_with_it(changed: dict[str, object], words: str) -> None:
    """Fields of another kind, and what retraining does by itself."""
    with pytest.raises(ValueError, match=words):
        RetrainingPlan.model_validate(retrained.plan_document(**changed))


def test_who_approves_does_not_change_what_is_learnt() -> None:
    """So a plan that is made automatic repeats no run."""
    assert retrained.plan(approve="automatic").digest == retrained.plan().digest
    assert retrained.plan(seed=2).digest != retrained.plan().digest
