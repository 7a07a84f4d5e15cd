"""Values that rules set: they take the place of the catalogue's, before cost."""

from __future__ import annotations

import pytest
from company import NOW_MS, Rule, customer, request, snapshot

from engine.core.arbitrate import prioritise
from engine.core.catalogue import lay_out
from engine.core.pipeline import decide
from engine.core.policy import Pulls
from engine.domain import Action, Effect


def _action(name: str) -> Action:
    return Action(
        id=name,
        group="g",
        purpose="p",
        name={},
        value=100.0,
        cost=20.0,
        prior=0.5,
        weight=1.0,
        target="",
        treatments=(),
    )


def test_a_value_from_a_rule_takes_the_place_of_the_catalogues() -> None:
    """Only the action whose rule held has another value; its cost stays."""
    catalogue = lay_out([_action("one"), _action("two")], {})
    pulls = Pulls({}, {}, {}, values={1: 60.0})

    found = prioritise([0, 1], catalogue=catalogue, scored=None, pulls=pulls)

    assert [(p.value, p.priority) for p in found.values()] == [(80.0, 40.0), (40.0, 20.0)]


def test_a_value_of_zero_is_a_value() -> None:
    """A rule that says nothing is to be gained is obeyed."""
    catalogue = lay_out([_action("one")], {})

    found = prioritise([0], catalogue=catalogue, scored=None, pulls=Pulls({}, {}, {}, values={0: 0.0}))

    assert found[0].value == -20.0


def test_values_of_rules_that_hold_add_up_and_give_their_reason() -> None:
    """A decision with two value rules ranks by their sum; one that does not hold adds nothing."""
    rules = [
        Rule("base", lambda v, a: 1, Effect.VALUE, None, groups=("care",), amount=30.0),
        Rule("more", lambda v, a: 1, Effect.VALUE, None, groups=("care",), amount=12.0),
        Rule("not", lambda v, a: 0, Effect.VALUE, None, groups=("care",), amount=500.0),
    ]

    decision = decide(snapshot(rules), request(), customer(), now_ms=NOW_MS)

    (help_,) = [a for a in decision.actions if a.action_id == "help"]
    assert help_.priority.value == 42.0
    assert help_.priority.priority == pytest.approx(0.5 * 42.0)
    assert [r.rule_id for r in help_.reasons if r.code == "RULE_REASON"] == ["base", "more"]
