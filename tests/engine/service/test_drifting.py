"""What is counted of decisions: what models read, of those who consent, by the version that scored."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.bench.drift_replay import Company, company, decided, drawn
from engine.bootstrap import wall_clock_ms
from engine.core.inputs import current_vector
from engine.decisionlog.record import DecisionRecord
from engine.domain import Versions
from engine.monitor.drift.counts import WindowCounts, added_up
from engine.monitor.drift.examining import examine_window
from engine.monitor.drift.windows import WindowFolder
from engine.service import drifting
from engine.service.drifting import (
    BATCH,
    WAITING,
    DriftCounting,
    DriftCounts,
    drift_references,
    seen,
    vectors_read,
)
from engine.service.live import LiveSnapshot
from engine.settings import Settings
from feature_store.state import CustomerState

HOUR_MS = 3_600_000
NOW_MS = wall_clock_ms() // HOUR_MS * HOUR_MS + 60_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """The demo company, all of whose customers consent."""
    return company(Settings(data_dir=tmp_path_factory.mktemp("drift")), now_ms=NOW_MS)


@pytest.fixture(scope="module")
def records(place: Company) -> tuple[DecisionRecord, ...]:
    """Decisions for some of them."""
    return tuple(decided(place, drawn(60, of=len(place.customers), seed=3), now_ms=NOW_MS))


@pytest.fixture
def counts(place: Company) -> DriftCounts:
    """Counts by the hour."""
    return DriftCounts(
        live=LiveSnapshot(lambda: place.snapshot), reference_of=place.reference_of, window_ms=HOUR_MS
    )


def total(counts: DriftCounts) -> WindowCounts:
    """All windows added up."""
    found = added_up(counts.windows.values())
    assert found is not None
    return found


def unprofiled(record: DecisionRecord) -> DecisionRecord:
    """The same decision for a customer who did not consent to profiling."""
    decision = replace(record.decision, profiled=False, churn=None)
    return replace(record, decision=decision)


def test_vectors_are_what_the_pipeline_gives_models(
    place: Company, records: Sequence[DecisionRecord]
) -> None:
    """With defaults, stale views, and what another schema could not tell or did not fit."""
    schema = place.snapshot.schema
    first, second, third, fourth, *rest = records
    stale = replace(_features(second), view_times_ms=(0,) * len(schema.view))
    unread = replace(_features(third), unread=(0, 3))
    other = replace(_features(fourth), schema_version="sha256:other")
    changed = [
        replace(first, state=replace(first.state, features=None)),
        *(
            replace(r, state=replace(r.state, features=f))
            for r, f in ((second, stale), (third, unread), (fourth, other))
        ),
        *rest,
    ]
    kept = [record for record in changed if record.state.features is not None]

    found, lost = vectors_read(schema, [seen(record) for record in kept])

    expected = np.stack([current_vector(schema, r.request, r.state, now_ms=r.now_ms) for r in kept])
    np.testing.assert_array_equal(found, expected)
    assert lost is not None
    assert np.argwhere(lost).tolist() == [[1, 0], [1, 3]]


def _features(record: DecisionRecord):
    assert record.state.features is not None
    return record.state.features


def test_each_model_counts_the_decisions_it_scored(
    place: Company, counts: DriftCounts, records: Sequence[DecisionRecord]
) -> None:
    """Inputs of each, and each score."""
    counts.count([seen(record) for record in records])

    models = total(counts).models
    scored = [r for r in records if r.decision.churn is not None]
    assert set(models) == {"churn/1", "propensity/1"}
    assert models["churn/1"].decisions == len(scored)
    assert {tally.asked for tally in models["churn/1"].inputs.values()} == {len(scored)}
    assert models["churn/1"].scores["churn"].total == pytest.approx(
        sum(r.decision.churn.probability for r in scored if r.decision.churn)
    )
    returned = sum(a.priority.propensity_source == "model" for r in records for a in r.decision.actions)
    assert sum(int(tally.bins.sum()) for tally in models["propensity/1"].scores.values()) == returned
    assert set(models["churn/1"].inputs) == set(place.reference_of("churn", 1).inputs)  # type: ignore[union-attr]


def test_customers_who_did_not_consent_are_in_no_models_counts(
    counts: DriftCounts, records: Sequence[DecisionRecord]
) -> None:
    """The action they were answered is counted, by channel; nothing that is known of them."""
    counts.count([seen(unprofiled(record)) for record in records])

    found = total(counts)
    assert found.models == {}
    assert sum(mix.decisions for mix in found.channels.values()) == len(records)
    assert set(found.channels) == {"web", "app", "call_center"}


def test_both_kinds_in_one_batch_are_told_apart(
    counts: DriftCounts, records: Sequence[DecisionRecord]
) -> None:
    """Each row is counted where it belongs."""
    half = [unprofiled(r) if i % 2 else r for i, r in enumerate(records)]
    counts.count([seen(record) for record in half])
    scored = sum(r.decision.churn is not None for r in half)

    assert total(counts).models["churn/1"].decisions == scored
    assert int(total(counts).models["churn/1"].customers.sum()) == scored


def test_a_challenger_is_counted_apart(counts: DriftCounts, records: Sequence[DecisionRecord]) -> None:
    """By the version that the decision names; one without a reference has scores only."""
    versions = records[0].decision.versions

    def with_version(record: DecisionRecord, version: int) -> DecisionRecord:
        models = {**versions.models, "churn": version}
        return replace(record, decision=replace(record.decision, versions=replace(versions, models=models)))

    tried = [with_version(r, 1 + i % 2) for i, r in enumerate(records)]
    counts.count([seen(record) for record in tried])

    models = total(counts).models
    assert models["churn/1"].decisions + models["churn/2"].decisions == sum(
        r.decision.churn is not None for r in records
    )
    assert models["churn/1"].inputs
    assert models["churn/2"].inputs == {}
    assert models["churn/2"].scores["churn"].bins.sum() == models["churn/2"].decisions


def test_decisions_go_to_the_window_they_were_made_in(
    counts: DriftCounts, records: Sequence[DecisionRecord]
) -> None:
    """Also where a batch has some of two, and a window is dropped once it is kept."""
    later = [replace(r, now_ms=r.now_ms + HOUR_MS) for r in records[:10]]
    counts.count([seen(record) for record in (*records, *later)])
    both = [sum(c.decisions for c in w.channels.values()) for _, w in sorted(counts.windows.items())]
    changed = [w.from_ms for w in counts.take_changed()]
    dropped = counts.forget_before(NOW_MS + HOUR_MS)
    counts.count([seen(record) for record in records[:3]])

    assert both == [len(records), 10]
    assert changed == [NOW_MS - 60_000, NOW_MS - 60_000 + HOUR_MS]
    assert dropped
    assert [w.uncounted for w in counts.windows.values()] == [3]


def test_decisions_of_versions_that_were_never_seen_are_told_of(
    counts: DriftCounts, records: Sequence[DecisionRecord]
) -> None:
    """Of another catalogue than the one that serves: not counted, and not silently."""
    versions = replace(records[0].decision.versions, catalogue="sha256:gone")
    gone = [replace(r, decision=replace(r.decision, versions=versions)) for r in records]

    counts.count([seen(record) for record in gone])

    assert total(counts).models == {}
    assert total(counts).uncounted == len(records)


def test_a_replay_of_the_company_without_drift_has_no_alarm(place: Company, counts: DriftCounts) -> None:
    """Through the whole pipeline: its rules choose actions, and no customers for a model."""
    replay = decided(place, drawn(1_200, of=len(place.customers), seed=7), now_ms=NOW_MS)
    counts.count([seen(record) for record in replay])
    references = drift_references(place.settings.registry, place.snapshot.schema, place.settings.data_dir)

    sections = examine_window(total(counts), references, before=[], windows_a_day=24)

    models = [section for section in sections if "/" in section.subject]
    assert [(section.subject, section.alarms) for section in models] == [
        ("churn/1", ()),
        ("propensity/1", ()),
    ]
    assert all(len(verdict.measures) >= 2 for section in models for verdict in section.verdicts)
    labels = {v.variable.name: v.variable.labels for v in models[0].verdicts}
    assert labels["contract"] == ("month-to-month", "one-year", "two-year")
    assert labels["paperless_billing"] == ("no", "yes")
    assert labels["tenure_months"] == ()


def counting(counts: DriftCounts, folder: Path) -> DriftCounting:
    """Counting as a server has it."""
    return DriftCounting(counts=counts, folder=WindowFolder(folder), clock=lambda: NOW_MS, keep_days=30)


def test_what_was_offered_is_on_disk_when_the_block_ends(
    counts: DriftCounts, records: Sequence[DecisionRecord], tmp_path: Path
) -> None:
    """From several threads; what is offered outside the block is not counted."""
    with counting(counts, tmp_path) as offered:
        threads = [threading.Thread(target=lambda: [offered.offer(r) for r in records]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    offered.offer(records[0])

    (window,) = WindowFolder(tmp_path).windows()
    assert sum(mix.decisions for mix in window.channels.values()) == 4 * len(records)
    assert window.uncounted == 0


def test_a_restarted_process_adds_to_what_there_was(
    place: Company, records: Sequence[DecisionRecord], tmp_path: Path
) -> None:
    """It has files of its own, in the same window."""
    for _ in range(2):
        live = LiveSnapshot(lambda: place.snapshot)
        again = DriftCounts(live=live, reference_of=place.reference_of, window_ms=HOUR_MS)
        with counting(again, tmp_path) as offered:
            for record in records:
                offered.offer(record)

    (window,) = WindowFolder(tmp_path).windows()
    assert sum(mix.decisions for mix in window.channels.values()) == 2 * len(records)


def test_more_than_can_wait_is_left_out_and_told_of(
    counts: DriftCounts, records: Sequence[DecisionRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded, and replies do not wait."""
    monkeypatch.setattr(drifting, "WAITING", 5)
    busy, going_on = threading.Event(), threading.Event()
    count = counts.count

    def slowly(batch, *, left_out=0):
        busy.set()
        going_on.wait(10)
        count(batch, left_out=left_out)

    monkeypatch.setattr(counts, "count", slowly)
    with counting(counts, tmp_path) as offered:
        offered.offer(records[0])
        busy.wait(10)
        for record in records[:8]:
            offered.offer(record)
        going_on.set()

    (window,) = WindowFolder(tmp_path).windows()
    assert sum(mix.decisions for mix in window.channels.values()) == 1 + 5
    assert window.uncounted == 3


def test_a_failure_of_counting_does_not_reach_decisions(
    counts: DriftCounts, records: Sequence[DecisionRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and counting goes on."""
    failed = threading.Event()
    count = counts.count

    def failing_once(batch, *, left_out=0):
        if not failed.is_set():
            failed.set()
            raise ValueError("unforeseen")
        count(batch, left_out=left_out)

    monkeypatch.setattr(counts, "count", failing_once)
    with counting(counts, tmp_path) as offered:
        offered.offer(records[0])
        failed.wait(10)
        offered.offer(records[1])

    (window,) = WindowFolder(tmp_path).windows()
    assert sum(mix.decisions for mix in window.channels.values()) == 1


def test_what_waits_is_bounded_and_counted_many_at_once() -> None:
    """Some megabytes at most."""
    assert BATCH < WAITING <= 100_000


def test_versions_without_models_count_actions_alone(
    counts: DriftCounts, records: Sequence[DecisionRecord]
) -> None:
    """As a server whose models are not published yet."""
    old = records[0].decision.versions
    bare = Versions(old.rules, old.catalogue, old.feature_schema, {}, old.engine)
    nobody = CustomerState("C1", features=None)
    plain = [replace(r, decision=replace(r.decision, versions=bare), state=nobody) for r in records]

    counts.count([seen(record) for record in plain])

    assert total(counts).models == {}
    assert total(counts).uncounted == 0
