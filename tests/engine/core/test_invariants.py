"""What holds for every customer, rule set and moment."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from company import ACTIONS, NOW_MS, SCHEMA, VOCABULARY, Rule, TableScorer, customer, request, snapshot
from hypothesis import given
from hypothesis import strategies as st

import engine.core
from engine.core.inputs import without_behaviour
from engine.core.pipeline import decide
from engine.decisionlog.record import decision_bytes
from engine.domain import Effect, PolicyClass
from feature_store.state import ConsentRecord, ConsentState, ContactEvent, OutcomeType

RECORDED = [s for s in ConsentState if s not in (ConsentState.EXPIRED, ConsentState.UNKNOWN)]

consents = st.lists(
    st.builds(
        ConsentRecord,
        purpose=st.sampled_from(["marketing", "service", "profiling"]),
        channel=st.sampled_from(["any", "web", "call"]),
        state=st.sampled_from(RECORDED),
        recorded_at_ms=st.integers(NOW_MS - 100, NOW_MS + 10),
        valid_until_ms=st.none() | st.integers(NOW_MS - 10, NOW_MS + 10),
    ),
    max_size=8,
)
contacts = st.lists(
    st.builds(
        ContactEvent,
        at_ms=st.integers(NOW_MS - 100, NOW_MS),
        action_id=st.sampled_from([a.id for a in ACTIONS]),
        group=st.sampled_from(["retention", "upsell", "care"]),
        channel=st.sampled_from(["web", "call"]),
        purpose=st.sampled_from(["marketing", "service"]),
        outcome=st.sampled_from(list(OutcomeType)),
    ),
    max_size=6,
)
states = st.builds(
    customer,
    consents,
    tenure=st.none() | st.integers(0, 100),
    calls=st.none() | st.integers(0, 10),
    age_ms=st.sampled_from([0, 7_200_000, 10**9]),
    contacts=contacts.map(tuple),
)
rules = st.lists(
    st.builds(
        lambda truth, effect, policy_class, groups, reads, shadow: Rule(
            f"r{truth}",
            lambda v, a: truth,
            effect,
            policy_class,
            groups,
            amount=0.5,
            reads=reads,
            shadow=shadow,
        ),
        st.sampled_from([-1, 0, 1]),
        st.sampled_from(list(Effect)),
        st.sampled_from(list(PolicyClass)),
        st.sampled_from([(), ("upsell",), ("care",)]),
        st.sampled_from([(), ("features.tenure",), ("features.calls",), ("scores.churn",)]),
        st.booleans(),
    ),
    max_size=4,
)
requests = st.builds(
    lambda channel, limit: request(channel=channel, limit=limit),
    st.sampled_from(list(VOCABULARY.channels)),
    st.integers(1, 6),
)


@given(states, requests, rules, rules)
def test_every_action_is_returned_or_suppressed_exactly_once(state, asked, before, after):
    """No action is lost from the account or told twice, and each suppression has a reason."""
    decision = decide(snapshot(before, after), asked, state, now_ms=NOW_MS)

    told = [a.action_id for a in decision.actions] + [s.action_id for s in decision.suppressed]
    assert sorted(told) == sorted(a.id for a in ACTIONS)
    assert all(s.reasons for s in decision.suppressed)
    assert all(a.reasons for a in decision.actions)
    assert (decision.no_action is None) == bool(decision.actions)


@given(states, requests, rules, rules)
def test_no_action_is_returned_for_a_purpose_that_is_not_permitted(state, asked, before, after):
    """Whatever the rules say, the consent gate has the last word."""
    decision = decide(snapshot(before, after), asked, state, now_ms=NOW_MS)

    permitted = {used.purpose for used in decision.consents if used.permitted}
    purposes = {a.id: a.purpose for a in ACTIONS}
    assert {purposes[a.action_id] for a in decision.actions} <= permitted


@given(states, requests, rules, rules, st.sampled_from(["marketing", "service"]))
def test_a_new_objection_removes_every_action_of_its_purpose(state, asked, before, after, purpose):
    """An objection made now, on any channel, leaves nothing of its purpose."""
    import dataclasses

    objection = ConsentRecord(purpose, "any", ConsentState.OBJECTED, NOW_MS + 10)
    objected = dataclasses.replace(state, consents=(*state.consents, objection))

    decision = decide(snapshot(before, after), asked, objected, now_ms=NOW_MS)

    purposes = {a.id: a.purpose for a in ACTIONS}
    assert purpose not in {purposes[a.action_id] for a in decision.actions}


@given(states, requests, rules, rules)
def test_models_run_only_with_consent_to_profiling(state, asked, before, after):
    """Scoring without consent to profiling does not happen, not even for reasons."""
    scorer = TableScorer()

    decision = decide(snapshot(before, after, scorer=scorer), asked, state, now_ms=NOW_MS)

    assert decision.profiled or not scorer.calls
    assert decision.profiled or decision.churn is None


@given(states, requests, rules, rules)
def test_the_same_inputs_give_the_same_bytes(state, asked, before, after):
    """A decision is a function of request, state, versions and now."""
    first = decide(snapshot(before, after), asked, state, now_ms=NOW_MS)
    second = decide(snapshot(before, after), asked, state, now_ms=NOW_MS)

    assert decision_bytes(first) == decision_bytes(second)


@given(states, requests, rules, rules)
def test_what_may_be_logged_without_profiling_decides_the_same(state, asked, before, after):
    """A state without behaviour gives the same bytes where the customer did not consent to profiling."""
    decision = decide(snapshot(before, after), asked, state, now_ms=NOW_MS)
    bare = without_behaviour(state, SCHEMA)

    assert bare.signals == ()
    assert np.isnan(bare.features.values[SCHEMA.index["calls"]])
    again = decide(snapshot(before, after), asked, bare, now_ms=NOW_MS)
    assert decision.profiled or decision_bytes(again) == decision_bytes(decision)


@given(states, requests, rules, rules)
def test_ranks_follow_priority(state, asked, before, after):
    """Rank 1 is best and the limit holds."""
    decision = decide(snapshot(before, after), asked, state, now_ms=NOW_MS)

    priorities = [a.priority.priority for a in decision.actions]
    assert priorities == sorted(priorities, reverse=True)
    assert [a.rank for a in decision.actions] == list(range(1, len(priorities) + 1))
    assert len(priorities) <= asked.limit


FORBIDDEN = {"time", "datetime", "random", "secrets", "os", "sys", "io", "socket", "subprocess", "pathlib",
             "threading", "asyncio", "logging", "structlog", "uuid", "tempfile", "shutil"}  # fmt: skip


@pytest.mark.parametrize(
    "module", sorted(Path(engine.core.__file__).parent.glob("*.py")), ids=lambda p: p.stem
)
def test_the_core_is_pure(module):
    """No module of engine.core imports a clock, randomness, environment or I/O, or opens a file."""
    tree = ast.parse(module.read_text())

    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}

    assert imported & FORBIDDEN == set()
    assert called & {"open", "print", "input", "exec", "eval"} == set()
    assert "random" not in attributes
