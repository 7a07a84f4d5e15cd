"""Whom a change of rules reaches: the quick way of deciding twice counts what the slow one would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.core.inputs import current_vector
from engine.core.pipeline import decide
from engine.core.snapshot import Snapshot
from engine.domain import Decision
from engine.models.batch import RememberedScores, score_many
from engine.models.scorer import OnnxScorer
from engine.publishing import named_set
from engine.ruleset.segments import named_segments
from engine.ruleset.sources import RuleSources
from engine.service.impact import MOVERS, RETURNED, Case, compare
from engine.settings import Settings
from engine.snapshots import compile_snapshot

REPOSITORY = Path(__file__).resolve().parents[3]
COUNTING_ACCEPTED = "counts: [accepted]\n    window: 90d"
_PACK = """apiVersion: arbiter/v1
kind: SegmentPack
metadata: {name: customers, owner: loyalty-team, description: Names}
segments:"""


def _with_pack(pack: str) -> RuleSources:
    """The demo's rules with a pack of segments."""
    return RuleSources({**RuleSources.from_directory(REPOSITORY / "rules"), "segments.yaml": pack})


def decided(snapshot: Snapshot, case: Case) -> Decision:
    """The decision as a server makes it, without the reasons models give."""
    return decide(snapshot, case.request, case.state, now_ms=case.now_ms, with_model_reasons=False)


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
    vectors = [current_vector(demo_snapshot.schema, c.request, c.state, now_ms=c.now_ms) for c in demo_cast]
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
    schema = demo_snapshot.schema
    known, other = (current_vector(schema, c.request, c.state, now_ms=c.now_ms) for c in demo_cast[:2])
    table = score_many(scorer, known[None, :])
    assert table is not None
    remembered = RememberedScores(scorer, table)

    assert scorer.churn(other) == remembered.churn(other)
    np.testing.assert_array_equal(
        scorer.propensity(other, np.arange(3)), remembered.propensity(other, np.arange(3))
    )
    assert scorer.explain_churn(known) == remembered.explain_churn(known)
    assert scorer.explain_propensities(known, [0]) == remembered.explain_propensities(known, [0])


def test_scores_of_other_models_are_refused(demo_snapshot: Snapshot, demo_cast: list[Case]) -> None:
    """A comparison never mixes model versions."""
    scorer = demo_snapshot.scorer
    assert isinstance(scorer, OnnxScorer)
    case = demo_cast[0]
    vector = current_vector(demo_snapshot.schema, case.request, case.state, now_ms=case.now_ms)
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


def test_named_segments_are_counted_with_the_actions_they_gain_and_lose(
    demo_snapshot: Snapshot, stricter: Snapshot, demo_cast: list[Case]
) -> None:
    """As a recount from full answers has it; whose segment nobody can tell is counted as unknown."""
    pack = f"""{_PACK}
  - {{id: loyal, description: Long with us, when: features.tenure_months >= 48}}
  - {{id: restless, description: Looks at leaving, when: features.cancel_page_visits_7d >= 1}}
  - {{id: at_risk, description: May leave, when: scores.churn >= 0.5}}
"""
    named = named_segments(_with_pack(pack), demo_snapshot.schema)

    segments = compare(demo_snapshot, stricter, demo_cast, by=[], groups=named).segments

    gained: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    cases, changed, unknown, at_risk = 0, 0, 0, 0
    for case in demo_cast:
        old, new = decided(demo_snapshot, case), decided(stricter, case)
        unknown += not new.profiled
        vector = current_vector(demo_snapshot.schema, case.request, case.state, now_ms=case.now_ms)
        at_risk += new.profiled and (demo_snapshot.scorer.churn(vector) or 0.0) >= 0.5
        if demo_snapshot.schema.decode_all(vector)[demo_snapshot.schema.index["tenure_months"]] >= 48:
            cases += 1
            changed += listed(old) != listed(new)
            gained.update(set(listed(new)) - set(listed(old)))
            lost.update(set(listed(old)) - set(listed(new)))
    loyal = segments["segment loyal"]
    assert (cases, changed) == (loyal["yes"].cases, loyal["yes"].changed)
    assert len(demo_cast) - cases == loyal["no"].cases
    assert gained == Counter({n: s.gained for n, s in loyal["yes"].actions.items() if s.gained})
    assert lost == Counter({n: s.lost for n, s in loyal["yes"].actions.items() if s.lost})
    assert 0 < changed < cases
    assert unknown == segments["segment restless"]["(unknown)"].cases > 0
    assert at_risk == segments["segment at_risk"]["yes"].cases > 0


def test_rules_without_named_segments_have_none(demo_snapshot: Snapshot, demo_cast: list[Case]) -> None:
    """Nothing is asked of anybody then."""
    named = named_segments(RuleSources.from_directory(REPOSITORY / "rules"), demo_snapshot.schema)

    segments = compare(demo_snapshot, demo_snapshot, demo_cast[:20], by=[], groups=named).segments

    assert named.names == ()
    assert not any(name.startswith("segment ") for name in segments)


def test_contact_effects_are_counted_by_policy(
    demo_snapshot: Snapshot,
    diff_settings: Settings,
    demo_cast: list[Case],
    rules_edited: Callable[[str, str, str], Path],
) -> None:
    """Which policy newly removes how many actions, and which no longer does."""
    rules_edited("contact/limits.yaml", "limit: 6\n    window: 14d", "limit: 1\n    window: 52w")
    folder = rules_edited("contact/limits.yaml", "counts: [declined]\n    window: 90d", COUNTING_ACCEPTED)
    archived = named_set(diff_settings, str(folder)).archived
    after = compile_snapshot(archived, diff_settings.registry, beside=demo_snapshot)
    contacted = [case for case in demo_cast if case.state.contacts]

    impact = compare(demo_snapshot, after, demo_cast, by=[])

    limited = [
        {
            (case.request.customer_id, out.action_id, reason.rule_id)
            for case in contacted
            for out in decided(snapshot, case).suppressed
            for reason in out.reasons
            if out.stage == "contact"
        }
        for snapshot in (demo_snapshot, after)
    ]
    newly = Counter(policy for _, _, policy in limited[1] - limited[0])
    no_longer = Counter(policy for _, _, policy in limited[0] - limited[1])
    assert len(contacted) == impact.contacted > 0
    assert newly == Counter({name: c.arrived for name, c in impact.contacts.items() if c.arrived})
    assert no_longer == Counter({name: c.left for name, c in impact.contacts.items() if c.left})
    assert newly["contact.action-cap"] > 0
    actions = {action for _, action, _ in limited[1] - limited[0]}
    assert impact.stages["contact"].arrived >= len(actions) > 0


def test_proposals_are_counted_by_purpose(
    demo_snapshot: Snapshot, stricter: Snapshot, demo_cast: list[Case]
) -> None:
    """Returned actions with each rule set."""
    purposes = {action.id: action.purpose for action in demo_snapshot.rulebook.actions}

    proposals = compare(demo_snapshot, stricter, demo_cast, by=[]).proposals

    before, after = (
        Counter(purposes[name] for case in demo_cast for name in listed(decided(snapshot, case)))
        for snapshot in (demo_snapshot, stricter)
    )
    assert before == Counter({name: p.before for name, p in proposals.items()})
    assert after == Counter({name: p.after for name, p in proposals.items()})
    assert proposals["personalization"].after < proposals["personalization"].before


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
