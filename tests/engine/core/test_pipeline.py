"""The way of a decision, stage by stage, on a company small enough to reason about."""

from __future__ import annotations

import dataclasses

import pytest
from company import (
    ACTIONS,
    HERE,
    HOUR_MS,
    NOW_MS,
    WILLING,
    Rule,
    TableScorer,
    action,
    customer,
    granted,
    request,
    snapshot,
)

from engine.core.pipeline import decide, inputs_seen
from engine.core.rulebook import Arbitration, ContactKind, ContactPolicy, CountedPer
from engine.domain import (
    ActionFilter,
    Decision,
    Effect,
    MissingCause,
    MissingInput,
    PolicyClass,
    PropensitySource,
    Stage,
    SuppressedAction,
)
from feature_store.state import ConsentRecord, ConsentState, ContactEvent, OutcomeType, Signal


def ids(decision: Decision) -> list[str]:
    return [a.action_id for a in decision.actions]


def fate(decision: Decision, action_id: str) -> SuppressedAction:
    return next(s for s in decision.suppressed if s.action_id == action_id)


def codes(decision: Decision, action_id: str) -> list[str]:
    return [r.code for r in fate(decision, action_id).reasons]


def test_actions_are_ranked_by_propensity_times_value():
    """Priority is P x C x V, best first, with P from the model where it knows the action."""
    decision = decide(snapshot(), request(), customer(), now_ms=NOW_MS)

    assert ids(decision) == ["offer", "gadget", "addon", "help"]
    assert [a.priority.priority for a in decision.actions] == pytest.approx([20.0, 10.0, 6.0, 2.0])
    assert [a.priority.propensity_source for a in decision.actions] == [
        PropensitySource.MODEL,
        PropensitySource.PRIOR,
        PropensitySource.MODEL,
        PropensitySource.PRIOR,
    ]


def test_an_action_without_a_form_on_the_channel_is_suppressed_with_a_reason():
    """A letter is only for calls; on the web it is accounted for."""
    decision = decide(snapshot(), request(), customer(), now_ms=NOW_MS)

    assert fate(decision, "letter").stage is Stage.AVAILABILITY
    assert codes(decision, "letter") == ["NOT_ON_CHANNEL"]


def test_an_action_outside_its_validity_is_suppressed():
    """Validity is half-open: the end itself is outside."""
    actions = (action("old", valid=(None, NOW_MS)), action("new", valid=(NOW_MS, None)))

    decision = decide(snapshot(actions=actions), request(), customer(), now_ms=NOW_MS)

    assert ids(decision) == ["new"]
    assert codes(decision, "old") == ["NOT_VALID_NOW"]


def test_a_filter_keeps_only_what_is_asked_for():
    """Groups narrow, exclusions remove, and the rest is accounted for as not requested."""
    wanted = ActionFilter(groups=("upsell",), exclude_action_ids=("gadget",))

    decision = decide(snapshot(), request(filter=wanted), customer(), now_ms=NOW_MS)

    assert ids(decision) == ["addon"]
    assert codes(decision, "gadget") == ["NOT_REQUESTED"]
    assert codes(decision, "offer") == ["NOT_REQUESTED"]


def test_without_marketing_consent_only_service_actions_remain():
    """Unknown denies where the legal basis is consent; service rests on the contract."""
    decision = decide(snapshot(), request(), customer([granted("profiling")]), now_ms=NOW_MS)

    assert ids(decision) == ["help"]
    assert fate(decision, "offer").stage is Stage.CONSENT
    assert codes(decision, "offer") == ["CONSENT_UNKNOWN"]


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (ConsentState.DENIED, "CONSENT_DENIED"),
        (ConsentState.WITHDRAWN, "CONSENT_WITHDRAWN"),
        (ConsentState.OBJECTED, "CONSENT_OBJECTED"),
    ],
)
def test_a_refusal_on_any_channel_removes_marketing_and_says_which(state, code):
    """The reason names what the customer said."""
    refusal = ConsentRecord("marketing", "any", state, NOW_MS - 1)

    decision = decide(snapshot(), request(), customer([*WILLING, refusal]), now_ms=NOW_MS)

    assert ids(decision) == ["help"]
    assert codes(decision, "offer") == [code]


def test_an_objection_to_service_beats_the_contract():
    """An objection beats every legal basis, so nothing is left and doing nothing is explained."""
    objection = ConsentRecord("service", "web", ConsentState.OBJECTED, NOW_MS - 1)

    decision = decide(snapshot(), request(), customer([objection]), now_ms=NOW_MS)

    assert ids(decision) == []
    assert decision.no_action is not None
    assert {r.code for r in decision.no_action} == {"CONSENT_UNKNOWN", "CONSENT_OBJECTED", "NOT_ON_CHANNEL"}


def test_a_consent_that_has_run_out_denies():
    """A grant with an end is expired at its end."""
    ended = dataclasses.replace(granted("marketing"), valid_until_ms=NOW_MS)

    decision = decide(snapshot(), request(), customer([ended]), now_ms=NOW_MS)

    assert codes(decision, "addon") == ["CONSENT_EXPIRED"]


def test_without_profiling_consent_no_model_runs():
    """Priors rank instead, the reply says so, and no model is called for scores or reasons."""
    scorer = TableScorer()

    decision = decide(snapshot(scorer=scorer), request(), customer([granted("marketing")]), now_ms=NOW_MS)

    assert scorer.calls == []
    assert decision.profiled is False
    assert decision.churn is None
    assert {a.priority.propensity_source for a in decision.actions} == {PropensitySource.PRIOR}
    assert "PRIOR_ONLY" in [r.code for r in decision.actions[0].reasons]


def test_without_profiling_consent_no_rule_reads_behaviour():
    """Behavioural features, signals and scores are absent from what rules are shown."""
    small = snapshot([Rule("r", lambda v, a: 0)], [Rule("s", lambda v, a: 0)])
    state = customer([granted("marketing")], signals=(Signal("trouble", True, 0, NOW_MS * 2),))

    decide(small, request(), state, now_ms=NOW_MS)

    shown = small.rulebook.before_scores.seen + small.rulebook.after_scores.seen
    assert len(shown) == 2
    for values in shown:
        assert values["features.calls"] is None
        assert values["signals.trouble"] is None
        assert values["scores.churn"] is None
        assert values["features.tenure"] == 12


def test_a_withheld_input_makes_a_deny_deny_and_names_it():
    """A condition that touches a withheld feature is neither true nor false."""
    deny = Rule("calm", lambda v, a: v["features.calls"] > 5, reads=("features.calls",))

    decision = decide(snapshot([deny]), request(), customer([granted("marketing")]), now_ms=NOW_MS)

    assert codes(decision, "offer") == ["INPUT_WITHHELD"]
    assert fate(decision, "offer").reasons[0].values == {"inputs": "features.calls", "rule": "calm"}
    assert decision.missing_inputs == (MissingInput("features.calls", MissingCause.WITHHELD),)


@pytest.mark.parametrize("effect", [Effect.ALLOW, Effect.DENY])
def test_a_missing_feature_neither_allows_nor_stays_silent(effect):
    """An allow does not allow, a deny denies, and the reason names the feature."""
    rule = Rule("tenure", lambda v, a: v["features.tenure"] > 1, effect, reads=("features.tenure",))

    decision = decide(snapshot([rule]), request(), customer(tenure=None), now_ms=NOW_MS)

    assert ids(decision) == []
    assert codes(decision, "help") == ["INPUT_MISSING"]
    assert decision.missing_inputs == (MissingInput("features.tenure", MissingCause.ABSENT),)


def test_a_missing_feature_pulls_no_lever():
    """A lever whose condition cannot be judged does not pull."""
    lever = Rule("l", lambda v, a: 1, Effect.LEVER, None, amount=1.0, reads=("features.tenure",))

    decision = decide(snapshot([lever]), request(), customer(tenure=None), now_ms=NOW_MS)

    assert [a.priority.levers for a in decision.actions] == [(), (), (), ()]


def test_a_stale_view_is_missing_and_degrades():
    """Values older than their view's freshness are not used, and the reply says which view."""
    rule = Rule("tenure", lambda v, a: 1, Effect.ALLOW, reads=("features.tenure",))

    decision = decide(snapshot([rule]), request(), customer(age_ms=24 * HOUR_MS), now_ms=NOW_MS)

    assert ids(decision) == []
    assert decision.missing_inputs == (MissingInput("features.tenure", MissingCause.STALE),)
    assert decision.degraded_by == ("features:contract:stale", "features:behaviour:stale")


def test_features_of_another_schema_are_absent():
    """A vector packed with another schema is not read as if it were this one."""
    state = customer()
    foreign = dataclasses.replace(state.features, schema_version="sha256:other")

    decision = decide(snapshot(), request(), dataclasses.replace(state, features=foreign), now_ms=NOW_MS)

    assert decision.degraded_by == ("features:schema",)


def test_the_earliest_class_names_the_stage_and_every_reason_is_told():
    """An action that fails several classes fails at the first, with all the reasons."""
    rules = [
        Rule("suit", lambda v, a: 1, policy_class=PolicyClass.SUITABILITY, groups=("retention",)),
        Rule("elig", lambda v, a: 0, Effect.ALLOW, groups=("retention",)),
    ]

    decision = decide(snapshot(rules), request(), customer(), now_ms=NOW_MS)

    assert fate(decision, "offer").stage is Stage.ELIGIBILITY
    assert [(r.rule_id, r.code) for r in fate(decision, "offer").reasons] == [
        ("elig", "RULE_OTHERWISE"),
        ("suit", "RULE_REASON"),
    ]


def test_a_rule_outside_its_validity_does_nothing():
    """A rule's validity is half-open, like an action's."""
    rules = [
        Rule("over", lambda v, a: 1, valid=(None, NOW_MS)),
        Rule("future", lambda v, a: 1, valid=(NOW_MS + 1, None)),
    ]

    decision = decide(snapshot(rules), request(), customer(), now_ms=NOW_MS)

    assert len(decision.actions) == 4


def test_a_shadow_rule_changes_nothing_and_is_noted():
    """A rule in shadow is evaluated; its would-be effect is in the record only."""
    with_shadow = decide(
        snapshot([Rule("dark", lambda v, a: 1, shadow=True)]), request(), customer(), now_ms=NOW_MS
    )
    without = decide(snapshot(), request(), customer(), now_ms=NOW_MS)

    assert with_shadow.actions == without.actions
    assert with_shadow.shadow_rules == ("dark",)


def test_rules_after_scoring_read_the_churn_score():
    """A retention offer for customers at risk only, in two customers."""
    at_risk = Rule(
        "risk",
        lambda v, a: v["scores.churn"] >= 0.55,
        Effect.ALLOW,
        groups=("retention",),
        reads=("scores.churn",),
    )

    risky = decide(snapshot(after=[at_risk]), request(), customer(), now_ms=NOW_MS)
    calm = decide(snapshot(after=[at_risk], scorer=TableScorer(0.1)), request(), customer(), now_ms=NOW_MS)

    assert "offer" in ids(risky)
    assert [r.code for r in risky.actions[0].reasons] == ["RULE_REASON", "FIT_LOYALTY_RAISES"]
    assert codes(calm, "offer") == ["RULE_OTHERWISE"]


def test_a_broken_churn_model_degrades_and_denies_what_needs_it():
    """The decision goes on, labelled, and an allow on the missing score does not allow."""
    at_risk = Rule("risk", lambda v, a: 1, Effect.ALLOW, groups=("retention",), reads=("scores.churn",))
    scorer = TableScorer(broken=frozenset({"churn"}))

    decision = decide(snapshot(after=[at_risk], scorer=scorer), request(), customer(), now_ms=NOW_MS)

    assert decision.degraded_by == ("model:churn",)
    assert codes(decision, "offer") == ["INPUT_MISSING"]
    assert ids(decision) == ["gadget", "addon", "help"]


def test_a_broken_propensity_model_falls_back_to_priors():
    """Ranking goes on by population rates, labelled."""
    scorer = TableScorer(broken=frozenset({"propensity"}))

    decision = decide(snapshot(scorer=scorer), request(), customer(), now_ms=NOW_MS)

    assert decision.degraded_by == ("model:propensity",)
    assert {a.priority.propensity_source for a in decision.actions} == {PropensitySource.PRIOR}


def test_levers_and_weights_move_the_priority():
    """+50 % and -10 % add up to +40 %; a weight of 2 doubles."""
    rules = [
        Rule("up", lambda v, a: 1, Effect.LEVER, None, groups=("care",), amount=0.5),
        Rule("down", lambda v, a: 1, Effect.LEVER, None, groups=("care",), amount=-0.1),
        Rule("heavy", lambda v, a: 1, Effect.WEIGHT, None, groups=("care",), amount=2.0),
    ]

    decision = decide(snapshot(rules), request(), customer(), now_ms=NOW_MS)

    (help_,) = [a for a in decision.actions if a.action_id == "help"]
    assert help_.priority.priority == pytest.approx(0.5 * 2.0 * 4.0 * 1.4)
    assert [(lever.rule_id, lever.share) for lever in help_.priority.levers] == [("up", 0.5), ("down", -0.1)]


def test_levers_never_turn_a_priority_negative():
    """-150 % is as good as nothing, not less."""
    lever = Rule("down", lambda v, a: 1, Effect.LEVER, None, amount=-1.5)

    decision = decide(snapshot([lever]), request(), customer(), now_ms=NOW_MS)

    assert {a.priority.priority for a in decision.actions} == {0.0}


def test_below_the_threshold_doing_nothing_is_the_answer():
    """No action is an answer with its own reasons, and the losers show their priority."""
    small = snapshot(arbitration=Arbitration(threshold=100.0, max_per_group=10))

    decision = decide(small, request(), customer(), now_ms=NOW_MS)

    assert decision.actions == ()
    assert decision.no_action[0].code == "BELOW_THRESHOLD"
    assert fate(decision, "offer").priority.priority == pytest.approx(20.0)


def test_a_full_group_and_the_limit_cut_in_order():
    """One per group, then two in all."""
    small = snapshot(arbitration=Arbitration(threshold=0.0, max_per_group=1))

    decision = decide(small, request(limit=2), customer(), now_ms=NOW_MS)

    assert ids(decision) == ["offer", "gadget"]
    assert codes(decision, "addon") == ["GROUP_FULL"]
    assert codes(decision, "help") == ["BEYOND_LIMIT"]


def test_equal_priorities_fall_to_value_then_id():
    """The order is total: equal priority, then the higher value, then the smaller id."""
    actions = (action("b"), action("a"), action("rich", value=100.0, prior=0.05))

    decision = decide(snapshot(actions=actions), request(), customer(), now_ms=NOW_MS)

    assert ids(decision) == ["rich", "a", "b"]


def cap(kind=ContactKind.CAP, per=CountedPer.GROUP, limit=1, counts=(OutcomeType.SHOWN,), groups=None):
    import numpy as np

    scope = np.array([groups is None or a.group in groups for a in ACTIONS])
    return ContactPolicy("cap", kind, per, frozenset(counts), limit, HOUR_MS, "CAPPED", scope, HERE)


def shown(action_id: str, group: str, at_ms: int, outcome=OutcomeType.SHOWN) -> ContactEvent:
    return ContactEvent(at_ms, action_id, group, "web", "marketing", outcome)


def test_a_cap_counts_events_inside_its_sliding_window():
    """An event leaves the window exactly one window after it happened."""
    small = snapshot(contact=[cap()])
    state = customer(contacts=(shown("addon", "upsell", NOW_MS - HOUR_MS + 1),))

    inside = decide(small, request(), state, now_ms=NOW_MS)
    outside = decide(small, request(), state, now_ms=NOW_MS + 1)

    assert codes(inside, "gadget") == ["CAPPED"]
    assert fate(inside, "gadget").stage is Stage.CONTACT
    assert "gadget" in ids(outside)


@pytest.mark.parametrize(
    ("per", "out"),
    [
        (CountedPer.ACTION, {"addon"}),
        (CountedPer.GROUP, {"addon", "gadget"}),
        (CountedPer.PURPOSE, {"offer", "addon", "gadget"}),
        (CountedPer.CHANNEL, {"offer", "addon", "gadget", "help"}),
        (CountedPer.OVERALL, {"offer", "addon", "gadget", "help"}),
    ],
)
def test_a_cap_counts_per_what_it_says(per, out):
    """One event of one action reaches as far as the cap's key."""
    state = customer(contacts=(shown("addon", "upsell", NOW_MS - 1),))

    decision = decide(snapshot(contact=[cap(per=per)]), request(), state, now_ms=NOW_MS)

    assert {s.action_id for s in decision.suppressed if s.stage is Stage.CONTACT} == out


def test_a_cap_counts_only_its_outcomes():
    """A click is not a show."""
    state = customer(contacts=(shown("addon", "upsell", NOW_MS - 1, OutcomeType.CLICKED),))

    decision = decide(snapshot(contact=[cap()]), request(), state, now_ms=NOW_MS)

    assert len(decision.actions) == 4


def test_an_exclusion_removes_the_others_but_not_the_one_that_was_taken():
    """After one of the set was taken, the others are out."""
    policy = cap(ContactKind.EXCLUSION, counts=(OutcomeType.ACCEPTED,), groups=("upsell", "retention"))
    state = customer(contacts=(shown("addon", "upsell", NOW_MS - 1, OutcomeType.ACCEPTED),))

    decision = decide(snapshot(contact=[policy]), request(), state, now_ms=NOW_MS)

    assert ids(decision) == ["addon", "help"]


def test_one_decision_returns_one_of_an_exclusive_set():
    """The better one wins, and the other says which."""
    policy = cap(ContactKind.EXCLUSION, counts=(OutcomeType.ACCEPTED,), groups=("upsell", "retention"))

    decision = decide(snapshot(contact=[policy]), request(), customer(), now_ms=NOW_MS)

    assert ids(decision) == ["offer", "help"]
    assert fate(decision, "addon").reasons[0].values == {"better": "offer"}


def test_a_signal_holds_from_its_start_to_its_end():
    """Signals are half-open in time; one that is not stored did not fire."""
    small = snapshot()
    state = customer(signals=(Signal("trouble", True, NOW_MS, NOW_MS + 10),))

    seen = [
        inputs_seen(small, request(), state, now_ms=NOW_MS + d)["signals.trouble"] for d in (-1, 0, 9, 10)
    ]

    assert seen == ["no", "yes", "yes", "no"]


AT_RISK = Rule(
    "risk",
    lambda v, a: v["scores.churn"] >= 0.55,
    Effect.ALLOW,
    groups=("retention",),
    reads=("scores.churn",),
)


def test_an_objection_to_marketing_covers_the_profiling_for_it():
    """With profiling granted and marketing objected to, churn, which only offers use, is not scored."""
    scorer = TableScorer()
    objection = ConsentRecord("marketing", "any", ConsentState.OBJECTED, NOW_MS - 1)

    decision = decide(
        snapshot(after=[AT_RISK], scorer=scorer),
        request(),
        customer([*WILLING, objection]),
        now_ms=NOW_MS,
    )

    assert decision.profiled is True
    assert decision.churn is None
    assert "churn" not in scorer.calls


def test_churn_is_not_scored_where_no_rule_reads_it():
    """A score nobody uses is not made."""
    scorer = TableScorer()

    decide(snapshot(scorer=scorer), request(), customer(), now_ms=NOW_MS)

    assert scorer.calls == ["propensity"]


def test_the_churn_risk_is_a_band_with_reasons():
    """A band starts at its own bound."""
    decisions = [
        decide(snapshot(after=[AT_RISK], scorer=TableScorer(p)), request(), customer(), now_ms=NOW_MS)
        for p in (0.29, 0.3, 0.55)
    ]

    assert [d.churn.band for d in decisions] == ["low", "medium", "high"]
    assert decisions[0].churn.reasons[0].model == "churn/1"


def test_a_returned_action_never_goes_without_a_reason():
    """What neither rule nor model speaks for is there for its value."""
    decision = decide(snapshot(), request(), customer(), now_ms=NOW_MS)

    assert [r.code for r in decision.actions[-1].reasons] == ["BEST_VALUE"]
