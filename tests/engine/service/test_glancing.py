"""Decisions at a glance: pictures and searches over the latest of the log, with bounded work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, LOYAL, OBJECTOR, query

from engine.bootstrap import Application
from engine.decisionlog.latest import Latest
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import DecisionRecord
from engine.service.glancing import (
    Glance,
    GlancedOutcome,
    Wanted,
    action_mix,
    funnel,
    read_glance,
    reason_codes,
    rules_seen,
    search,
)
from feature_store.state import OutcomeType

NOW_MS = 1_795_000_000_000
Log = Callable[[str], DecisionRecord]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a log of the test's own lies."""
    return tmp_path / "decisions"


@pytest.fixture
def decided(application: Application, folder: Path):
    """Decides for a customer of the demo company and logs that in the test's own log, a second later each."""
    with DecisionLog(folder) as log:
        count = 0

        def decide(customer_id: str) -> DecisionRecord:
            nonlocal count
            count += 1
            at_ms = NOW_MS + 1000 * count
            made = application.decisions.decide(query(customer_id)).record
            with log.next(now_ms=at_ms) as slot:
                record = replace(made, decision_id=slot.decision_id, now_ms=at_ms)
                slot.write(record)
            return record

        yield decide


def latest(folder: Path, **bounds: int) -> Latest[Glance]:
    return Latest(folder, read_glance, **{"keep": 100, **bounds})


def test_each_look_adds_what_was_decided_since(decided: Log, folder: Path) -> None:
    """The last decision comes first, and nothing is there twice."""
    looking = latest(folder)
    first = decided(AT_RISK)
    assert [glance.decision_id for glance in looking.look()] == [first.decision_id]

    second = decided(LOYAL)

    assert [glance.decision_id for glance in looking.look()] == [second.decision_id, first.decision_id]
    assert looking.look()[0].first == second.decision.actions[0].action_id


def test_look_at_a_long_log_begins_within_it(decided: Log, folder: Path) -> None:
    """Of a log that is longer than the bytes that may be read, only its end is read, from a whole record."""
    made = [decided(AT_RISK) for _ in range(6)]
    size = sum(path.stat().st_size for path in folder.glob("*.seg"))

    seen = latest(folder, max_bytes=size // 2).look()

    assert 0 < len(seen) < 6
    assert [glance.decision_id for glance in seen] == [r.decision_id for r in reversed(made)][: len(seen)]


def test_only_so_many_are_kept(decided: Log, folder: Path) -> None:
    """The oldest go first."""
    made = [decided(AT_RISK).decision_id for _ in range(3)]

    assert [glance.decision_id for glance in latest(folder, keep=2).look()] == [made[2], made[1]]


def test_search_finds_a_customers_decisions(decided: Log, folder: Path) -> None:
    """The latest first; those of others and of other times are not meant."""
    before = decided(AT_RISK)
    decided(LOYAL)
    after = decided(AT_RISK)

    by_customer = search(folder, Wanted(customer_id=AT_RISK), limit=10)
    by_action = search(folder, Wanted(action_id=after.decision.actions[0].action_id), limit=10)
    until = search(folder, Wanted(AT_RISK, until_ms=before.now_ms), limit=10)

    assert [glance.decision_id for glance in by_customer.found] == [after.decision_id, before.decision_id]
    assert (by_customer.looked_at, by_customer.whole) == (3, True)
    assert {glance.first for glance in by_action.found} == {after.decision.actions[0].action_id}
    assert until.found == ()


def test_search_says_where_it_did_not_look(decided: Log, folder: Path) -> None:
    """What is beyond the bytes that may be read, or beyond the limit, is said to be left out."""
    for _ in range(4):
        decided(AT_RISK)
    size = sum(path.stat().st_size for path in folder.glob("*.seg"))

    short = search(folder, Wanted(customer_id=AT_RISK), limit=10, max_bytes=size // 2)
    few = search(folder, Wanted(customer_id=AT_RISK), limit=2)

    assert (short.whole, few.whole) == (False, False)
    assert len(few.found) == 2


def test_funnel_leads_from_all_candidates_to_what_was_accepted(decided: Log, folder: Path) -> None:
    """What is left of one step is what the next one begins with, and an acceptance counts once."""
    record = decided(OBJECTOR)
    looking = latest(folder)
    action = record.decision.actions[0].action_id
    accepted = GlancedOutcome(record.decision_id, action, OutcomeType.ACCEPTED, record.now_ms)
    elsewhere = GlancedOutcome("another", action, OutcomeType.ACCEPTED, record.now_ms)

    steps = funnel(looking.look(), [accepted, accepted, elsewhere])

    assert steps[0].left == len(record.decision.actions) + len(record.decision.suppressed)
    assert all(b.left == a.left - b.removed for a, b in pairwise(steps))
    assert (steps[-2].left, steps[-1].left) == (len(record.decision.actions), 1)


def test_reasons_and_rules_are_counted_where_they_were_given(decided: Log, folder: Path) -> None:
    """For what was offered and against what was not; a rule once for each decision."""
    record = decided(AT_RISK)
    seen = latest(folder).look()
    told = [reason for fate in record.decision.suppressed for reason in fate.reasons]

    codes = {code: (for_, against) for code, for_, against in reason_codes(seen, most=100)}

    assert codes[told[0].code][1] == sum(reason.code == told[0].code for reason in told)
    assert all(count == 1 for count in rules_seen(seen).values())


def test_mix_has_parts_of_equally_many_decisions(decided: Log, folder: Path) -> None:
    """Each decision counts once, in the order they were made, and rare actions together."""
    for who in (AT_RISK, LOYAL, OBJECTOR, AT_RISK):
        decided(who)

    mix = action_mix(latest(folder).look(), parts=2, most=1)

    assert [sum(values[part] for _, values in mix.actions) for part in range(2)] == [2, 2]
    assert [name for name, _ in mix.actions][1:] == ["others"]
    assert action_mix((), parts=2, most=1).actions == ()
