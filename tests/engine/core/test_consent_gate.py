"""The consent gate beyond recorded wills: records nobody can read, and what browsers say for people."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from company import CONSENT, NOW_MS, Rule, customer, granted, request, snapshot

from engine.core.consent import GPC, judge_request
from engine.core.pipeline import decide
from engine.core.reasons import STAND_INS, stand_ins
from engine.core.rulebook import ConsentPolicy, PurposeRule
from engine.core.words import placeholders, tell
from engine.domain import Effect, LegalBasis, MissingCause, MissingInput, Reason, ReasonSource, Stage
from feature_store.state import ConsentRecord, ConsentState

POLICY = ConsentPolicy(
    purposes={
        "marketing": PurposeRule("marketing", LegalBasis.CONSENT),
        "care": PurposeRule("care", LegalBasis.LEGITIMATE_INTEREST),
        "service": PurposeRule("service", LegalBasis.CONTRACT),
        "profiling": PurposeRule("profiling", LegalBasis.CONSENT),
    },
    profiling_purpose="profiling",
    gpc_purposes=frozenset({"marketing", "profiling"}),
)
EVERYTHING = [granted(purpose) for purpose in POLICY.purposes]


def judged(records=(), *, policy=POLICY, readable=True, **fields):
    state = replace(customer(list(records)), consents_readable=readable)
    return judge_request(policy, request(**fields), state, now_ms=NOW_MS)


def test_consents_that_cannot_be_read_leave_only_the_contract():
    """An objection may be among them, so neither consent nor legitimate interest is assumed."""
    found = judged(EVERYTHING, readable=False)

    assert {purpose: used.permitted for purpose, used in found.items()} == {
        "marketing": False,
        "care": False,
        "service": True,
        "profiling": False,
    }
    assert {used.state for used in found.values()} == {ConsentState.UNREADABLE}


def test_unreadable_is_told_from_unknown():
    """The reply says that nobody could look, not that nothing is on record; and that it is degraded."""
    unreadable = replace(customer(EVERYTHING), consents_readable=False)

    decision = decide(snapshot(), request(), unreadable, now_ms=NOW_MS)
    silent = decide(snapshot(), request(), customer([]), now_ms=NOW_MS)

    def codes(given):
        return {r.code for s in given.suppressed if s.stage is Stage.CONSENT for r in s.reasons}

    assert [a.action_id for a in decision.actions] == ["help"]
    assert codes(decision) == {"CONSENT_UNREADABLE"}
    assert codes(silent) == {"CONSENT_UNKNOWN"}
    assert "consents" in decision.degraded_by
    assert "consents" not in silent.degraded_by
    assert not decision.profiled


def test_unreadable_is_no_refusal_to_rules():
    """`consents.x` is missing where nobody can see what was said, and known where the request says it."""
    state = replace(customer(EVERYTHING), consents_readable=False)
    lever = partial(Rule, effect=Effect.LEVER, policy_class=None, amount=0.5)
    rules = [
        lever("refused", lambda v, _: not v["consents.marketing"], reads=("consents.marketing",)),
        lever("known", lambda v, _: v["consents.service"], reads=("consents.service",)),
    ]

    away = decide(snapshot(rules), request(), state, now_ms=NOW_MS)

    assert [lever.rule_id for lever in away.actions[0].priority.levers] == ["known"]
    assert MissingInput("consents.marketing", MissingCause.ABSENT) in away.missing_inputs


def test_behaviour_is_missing_and_not_withheld_where_nobody_can_read_consents():
    """The reason says that data is missing: that the customer refused profiling is not known."""
    behaves = Rule("b", lambda v, _: v["features.calls"] < 3, effect=Effect.ALLOW, reads=("features.calls",))
    state = replace(customer([]), consents_readable=False)

    away, refused = (
        decide(snapshot([behaves]), request(), given, now_ms=NOW_MS) for given in (state, customer([]))
    )

    def codes(decision):
        return {r.code for s in decision.suppressed if s.stage is Stage.ELIGIBILITY for r in s.reasons}

    assert codes(away) == {"INPUT_MISSING"}
    assert codes(refused) == {"INPUT_WITHHELD"}


def test_global_privacy_control_objects_for_the_request():
    """With the signal the listed purposes are objected to; without it the same customer's grants hold."""
    with_signal, without = judged(EVERYTHING, global_privacy_control=True), judged(EVERYTHING)

    assert {p for p, used in with_signal.items() if not used.permitted} == {"marketing", "profiling"}
    assert all(used.permitted for used in without.values())
    assert with_signal["marketing"].state is ConsentState.OBJECTED
    assert with_signal["marketing"].signal == GPC
    assert with_signal["marketing"].since_ms is None


def test_global_privacy_control_has_a_reason_of_its_own():
    """The agent learns that the browser said it, not the customer on record; no model runs."""
    rules = snapshot()
    policy = replace(rules.rulebook.consent, gpc_purposes=frozenset({"marketing", "profiling"}))
    rules = replace(rules, rulebook=replace(rules.rulebook, consent=policy))

    decision = decide(rules, request(global_privacy_control=True), customer(), now_ms=NOW_MS)

    reasons = {r.code for s in decision.suppressed if s.stage is Stage.CONSENT for r in s.reasons}
    assert [a.action_id for a in decision.actions] == ["help"]
    assert reasons == {"CONSENT_SIGNALLED"}
    assert not decision.profiled


def test_a_recorded_objection_is_told_rather_than_the_signal():
    """What the customer said themselves is the stronger evidence."""
    objection = ConsentRecord("marketing", "any", ConsentState.OBJECTED, NOW_MS - 5, position=7)

    found = judged([objection], global_privacy_control=True)

    assert found["marketing"].signal == ""
    assert (found["marketing"].since_ms, found["marketing"].position) == (NOW_MS - 5, 7)


def test_a_signal_means_nothing_where_the_rules_say_so():
    """A policy that lists no purposes obeys no signal."""
    found = judged(EVERYTHING, policy=replace(POLICY, gpc_purposes=frozenset()), global_privacy_control=True)

    assert all(used.permitted for used in found.values())


def test_the_record_relied_on_is_named_by_its_place_in_the_ledger():
    """Whether the channel's own record or the one for all channels decides."""
    general = replace(granted("marketing"), position=11)
    own = replace(granted("marketing", channel="web", at_ms=NOW_MS), position=12)

    assert judged([general])["marketing"].position == 11
    assert judged([general, own])["marketing"].position == 12
    assert judged([])["marketing"].position == 0


@pytest.mark.parametrize("code", STAND_INS)
def test_codes_younger_than_a_rule_set_have_words(code):
    """A past version of the rules that lacks them still says something, in each of its languages."""
    words = stand_ins(("en", "fr"))[code]
    reason = Reason(code, ReasonSource.CONSENT, values={"purpose": "marketing", "channel": "web"})

    agent, told = tell(reason, words, {}, "fr")

    assert "marketing" in agent
    assert told
    assert placeholders(words) <= {"purpose", "channel"}


def test_no_signal_is_known_where_nothing_could_be_read():
    """Even where a contract permits profiling: whether a signal stands is missing, not false."""
    contract = replace(
        CONSENT,
        purposes={**CONSENT.purposes, "profiling": PurposeRule("profiling", LegalBasis.CONTRACT)},
    )
    small = snapshot([Rule("r", lambda v, a: 0)], consent=contract)

    for readable in (True, False):
        decide(small, request(), replace(customer([]), consents_readable=readable), now_ms=NOW_MS)

    assert [values["signals.trouble"] for values in small.rulebook.before_scores.seen] == [False, None]
