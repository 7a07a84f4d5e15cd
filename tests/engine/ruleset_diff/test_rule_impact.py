"""Whom a change of rules reaches: the quick way of deciding twice counts what the slow one would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.bootstrap import compile_snapshot
from engine.core.inputs import current_vector
from engine.core.pipeline import decide
from engine.core.snapshot import Snapshot
from engine.domain import Decision
from engine.models.batch import RememberedScores, score_many
from engine.models.scorer import OnnxScorer
from engine.publishing import named_set
from engine.service.impact import MOVERS, RETURNED, Case, compare
from engine.settings import Settings


def decided(snapshot: Snapshot, case: Case) -> Decision:
    """The decision as a server makes it."""
    return decide(snapshot, case.request, case.state, now_ms=case.now_ms)


def listed(decision: Decision) -> list[str]:
    """What a decision returns."""
    return [action.action_id for action in decision.actions]


def fates(decision: Decision) -> dict[str, tuple[object, object]]:
    """The stage and priority of every action."""
    out = {fate.action_id: (fate.stage, fate.priority) for fate in decision.suppressed}
    return out | {action.action_id: (RETURNED, action.priority) for action in decision.actions}


@pytest.fixture
def stricter(diff_settings: Settings, rules_edited: Callable[[str, str, str], Path]) -> Snapshot:
    """The demo's rules with a purpose that now needs consent and another share of a lever."""
    rules_edited("consent/purposes.yaml", "      web: legitimate_interest\n", "")
    folder = rules_edited("business/care.yaml", "share: 0.5", "share: -0.9")
    return compile_snapshot(named_set(diff_settings, str(folder)).archived, diff_settings.registry)


def test_decisions_without_reasons_have_the_same_ranks_priorities_and_fates(
    demo_snapshot: Snapshot, demo_cast: list[Case]
) -> None:
    """Leaving reasons out changes nothing else."""
    for case in demo_cast[:200]:
        lean = decide(
            demo_snapshot,
            case.request,
            case.state,
            now_ms=case.now_ms,
            with_model_reasons=False,
            with_rule_reasons=False,
        )
        whole = decided(demo_snapshot, case)

        assert listed(whole) == listed(lean)
        assert fates(whole) == fates(lean)
        assert not any(reason.rule_id for action in lean.actions for reason in action.reasons)


def test_scores_of_many_are_the_scores_of_each_to_the_bit(
    demo_snapshot: Snapshot, demo_cast: list[Case]
) -> None:
    """A row's score does not depend on the rows beside it."""
    scorer = demo_snapshot.scorer
    assert isinstance(scorer, OnnxScorer)
    vectors = [current_vector(demo_snapshot.schema, c.state, now_ms=c.now_ms) for c in demo_cast]
    table = score_many(scorer, np.stack(vectors))
    assert table is not None
    remembered = RememberedScores(scorer, table)
    actions = np.arange(len(demo_snapshot.catalogue.actions))

    for vector in vectors:
        assert scorer.churn(vector) == remembered.churn(vector)
        alone, together = (s.propensity(vector, actions) for s in (scorer, remembered))
        np.testing.assert_array_equal(alone, together)


def test_a_vector_that_was_not_scored_before_is_scored_by_the_models(
    demo_snapshot: Snapshot, demo_cast: list[Case]
) -> None:
    """The table only saves time."""
    scorer = demo_snapshot.scorer
    assert isinstance(scorer, OnnxScorer)
    known, other = (current_vector(demo_snapshot.schema, c.state, now_ms=c.now_ms) for c in demo_cast[:2])
    table = score_many(scorer, known[None, :])
    assert table is not None
    remembered = RememberedScores(scorer, table)

    assert scorer.churn(other) == remembered.churn(other)
    np.testing.assert_array_equal(
        scorer.propensity(other, np.arange(3)), remembered.propensity(other, np.arange(3))
    )
    assert scorer.explain_churn(known) == remembered.explain_churn(known)
    assert scorer.explain_propensity(known, 0) == remembered.explain_propensity(known, 0)


def test_scores_of_other_models_are_refused(demo_snapshot: Snapshot, demo_cast: list[Case]) -> None:
    """A comparison never mixes model versions."""
    scorer = demo_snapshot.scorer
    assert isinstance(scorer, OnnxScorer)
    vector = current_vector(demo_snapshot.schema, demo_cast[0].state, now_ms=demo_cast[0].now_ms)
    table = score_many(scorer, vector[None, :])
    assert table is not None

    with pytest.raises(ValueError, match="scores are of"):
        RememberedScores(scorer, replace(table, versions={"churn": 99}))


def test_a_rule_set_compared_with_itself_changes_nothing(
    demo_snapshot: Snapshot, demo_cast: list[Case]
) -> None:
    """Nobody gains, loses or moves."""
    impact = compare(demo_snapshot, demo_snapshot, demo_cast, by=["contract"])

    assert (len(demo_cast), 0, 0) == (impact.cases, impact.changed, impact.first_changed)
    assert (impact.actions, impact.stages, impact.consents, impact.movers) == ({}, {}, {}, [])
    assert impact.value_before == impact.value_after


def test_the_counts_are_those_of_whole_decisions(
    demo_snapshot: Snapshot, stricter: Snapshot, demo_cast: list[Case]
) -> None:
    """Gains, losses, first actions, consents and stages agree with a recount from full answers."""
    impact = compare(demo_snapshot, stricter, demo_cast, by=["contract"])

    gained: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    first_changed = arrived_at_consent = fewer = 0
    for case in demo_cast:
        old, new = decided(demo_snapshot, case), decided(stricter, case)
        gained.update(set(listed(new)) - set(listed(old)))
        lost.update(set(listed(old)) - set(listed(new)))
        first_changed += listed(old)[:1] != listed(new)[:1]
        at_consent = [{n for n, f in fates(d).items() if f[0] == "consent"} for d in (old, new)]
        arrived_at_consent += len(at_consent[1] - at_consent[0])
        permitted = [{c.purpose for c in d.consents if c.permitted} for d in (old, new)]
        fewer += "personalization" in permitted[0] - permitted[1]
    assert gained == Counter({name: s.gained for name, s in impact.actions.items() if s.gained})
    assert lost == Counter({name: s.lost for name, s in impact.actions.items() if s.lost})
    assert first_changed == impact.first_changed > 0
    assert arrived_at_consent == impact.stages["consent"].arrived > 0
    assert (0, fewer) == (impact.consents["personalization"].arrived, impact.consents["personalization"].left)


def test_every_segment_adds_up_to_all_customers(
    demo_snapshot: Snapshot, stricter: Snapshot, demo_cast: list[Case]
) -> None:
    """By contract, channel, churn band and consent."""
    impact = compare(demo_snapshot, stricter, demo_cast, by=["contract", "no_such_feature"])

    expected = {"contract", "channel", "churn band", "consent to marketing", "consent to profiling"}
    assert expected <= impact.segments.keys()
    for values in impact.segments.values():
        assert impact.cases == sum(shift.cases for shift in values.values())
        assert impact.changed == sum(shift.changed for shift in values.values())


def test_the_largest_movers_come_first(
    demo_snapshot: Snapshot, stricter: Snapshot, demo_cast: list[Case]
) -> None:
    """Sorted by how far they move, with what became of them."""
    movers = compare(demo_snapshot, stricter, demo_cast, by=[]).movers

    distances = [mover.distance for mover in movers]
    assert sorted(distances, reverse=True) == distances
    assert 0 < len(movers) <= MOVERS
    assert all(abs((m.after or 0.0) - (m.before or 0.0)) == m.distance for m in movers)


def test_a_case_on_a_channel_that_one_set_lacks_is_left_out(
    demo_snapshot: Snapshot, demo_cast: list[Case]
) -> None:
    """And counted as such."""
    elsewhere = replace(demo_cast[0], request=replace(demo_cast[0].request, channel="fax"))

    impact = compare(demo_snapshot, demo_snapshot, [elsewhere, demo_cast[1]], by=[])

    assert (impact.cases, impact.skipped) == (1, 1)
