"""What if: the smallest change of one input that puts an action first, on the small company."""

from __future__ import annotations

import dataclasses

import pytest
from company import (
    ACTIONS,
    HERE,
    HOUR_MS,
    NOW_MS,
    SCHEMA,
    WILLING,
    Rule,
    action,
    customer,
    granted,
    request,
    snapshot,
)
from hypothesis import given
from hypothesis import strategies as st

from engine.core import counterfactual
from engine.core.change import Case, Grounds, NumberRange
from engine.core.counterfactual import Counterfactual, Outcome, WhatIf, what_if
from engine.core.pipeline import decide
from engine.core.rulebook import ContactKind, ContactPolicy, CountedPer
from engine.core.snapshot import Snapshot
from engine.domain import ActionFilter, Effect, Stage
from feature_store.schema import DataClass, FeatureSchema
from feature_store.state import (
    ConsentRecord,
    ConsentState,
    ContactEvent,
    CustomerState,
    OutcomeType,
    Signal,
)

OFFER, ADDON, _, HELP, LETTER = ACTIONS
READ = frozenset({"features.tenure", "features.contract", "features.calls", "context.call_reason"})
MONTHLY_ONLY = Rule("not-monthly", lambda v, _: v["features.contract"] == "monthly", groups=("retention",))


def asked(
    company: Snapshot,
    state: CustomerState,
    about=OFFER,
    *,
    grounds: Grounds = Grounds(READ),  # noqa: B008  # frozen
    **fields: object,
) -> WhatIf:
    """What if, for a decision just made."""
    case = Case(request(**fields), state)
    decision = decide(company, case.request, state, now_ms=NOW_MS)
    return what_if(company, case, action=about, decision=decision, grounds=grounds, now_ms=NOW_MS)


def told(found: Counterfactual) -> tuple[str, object, object]:
    assert found.change is not None
    return found.change.input, found.change.before, found.change.after


def test_a_category_that_a_rule_wants_is_the_change():
    """A rule removes the offer from monthly contracts, so a yearly one would bring it to the top."""
    found = asked(snapshot([MONTHLY_ONLY]), customer()).to_first

    assert found.outcome is Outcome.FOUND
    assert told(found) == ("features.contract", "monthly", "yearly")
    assert found.rank == 1


def test_a_number_is_moved_just_across_the_literal():
    """The rule says tenure < 24, so 24 is the smallest tenure that helps."""
    rule = Rule("long-enough", lambda v, _: v["features.tenure"] < 24, groups=("retention",))  # type: ignore[operator]  # an int

    found = asked(
        snapshot([rule]), customer(tenure=12), grounds=Grounds(READ, {"features.tenure": (24,)})
    ).to_first

    assert told(found) == ("features.tenure", 12, 24)


def test_a_number_between_known_edges_is_narrowed():
    """Where a rule computes with the input, its literal is no threshold; halving finds the place."""
    rule = Rule("odd", lambda v, _: v["features.tenure"] * 3 < 70, groups=("retention",))  # type: ignore[operator]  # an int
    grounds = Grounds(READ, ranges={"features.tenure": NumberRange((6.0, 40.0, 60.0), 30.0)})

    found = asked(snapshot([rule]), customer(tenure=12), grounds=grounds).to_first

    assert told(found) == ("features.tenure", 12, 24)
    assert found.change is not None
    assert found.change.steps == pytest.approx(12 / 30)


def test_the_smaller_of_two_changes_is_told():
    """Half a step of tenure is less than a step of contract; two steps are more."""
    rule = Rule(
        "either",
        lambda v, _: v["features.contract"] == "monthly" and v["features.tenure"] < 24,  # type: ignore[operator]  # an int
        groups=("retention",),
    )
    literals = {"features.tenure": (24,)}
    wide, narrow = NumberRange((1.0, 60.0), 24.0), NumberRange((1.0, 60.0), 6.0)

    near = asked(snapshot([rule]), customer(), grounds=Grounds(READ, literals, {"features.tenure": wide}))
    far = asked(snapshot([rule]), customer(), grounds=Grounds(READ, literals, {"features.tenure": narrow}))

    assert told(near.to_first) == ("features.tenure", 12, 24)
    assert told(far.to_first) == ("features.contract", "monthly", "yearly")


def test_a_missing_value_is_supplied():
    """A rule that cannot be decided removes; the value it lacks is the change."""
    rule = Rule(
        "tenure",
        lambda v, _: v["features.tenure"] < 6,  # type: ignore[operator]  # an int
        groups=("retention",),
        reads=("features.tenure",),
    )

    found = asked(
        snapshot([rule]), customer(tenure=None), grounds=Grounds(READ, {"features.tenure": (6,)})
    ).to_first

    assert told(found) == ("features.tenure", None, 6)


def test_a_fact_of_the_moment_is_a_change():
    """Declared context values are tried where rules read them."""
    rule = Rule("cancel", lambda v, _: v["context.call_reason"] != "cancel", groups=("retention",))

    found = asked(snapshot([rule]), customer()).to_first

    assert told(found) == ("context.call_reason", None, "cancel")


def test_a_signal_is_a_change_where_profiling_is_permitted():
    """Without consent to profiling the same signal is never spoken of."""
    rule = Rule("trouble", lambda v, _: v["signals.trouble"] is not False, groups=("retention",))
    state = customer(signals=(Signal("trouble", True, 0, NOW_MS + HOUR_MS),))
    grounds = Grounds(READ | {"signals.trouble"})

    profiled = asked(snapshot([rule]), state, grounds=grounds).to_first
    unprofiled = asked(
        snapshot([rule]), dataclasses.replace(state, consents=(granted("marketing"),)), grounds=grounds
    ).to_first

    assert told(profiled) == ("signals.trouble", True, False)
    assert unprofiled.change is None


def test_no_behavioural_value_is_varied_without_profiling():
    """Calls decide, and are withheld: no change of one input helps."""
    rule = Rule("calls", lambda v, _: v["features.calls"] != 0, groups=("retention",))
    state = customer([granted("marketing")], calls=0)

    found = asked(snapshot([rule]), state, grounds=Grounds(READ, {"features.calls": (0,)})).to_first

    assert found.outcome is Outcome.NONE


@pytest.mark.parametrize("state", [ConsentState.OBJECTED, ConsentState.DENIED, ConsentState.WITHDRAWN])
def test_a_refusal_is_never_suggested_to_be_overturned(state: ConsentState):
    """The customer's no ends the search before it begins."""
    refused = ConsentRecord("marketing", "any", state, NOW_MS - HOUR_MS)

    found = asked(snapshot(), customer([refused, granted("profiling")])).to_first

    assert found == Counterfactual(Outcome.REFUSED)


def test_a_consent_never_asked_for_is_said_to_be_missing():
    """Nothing is recorded for marketing: a yes would bring the offer to the top."""
    found = asked(snapshot(), customer([granted("profiling")])).to_first

    assert found.outcome is Outcome.FOUND
    assert told(found) == ("consents.marketing", "unknown", "granted")


def test_a_protected_characteristic_is_named_but_never_changed():
    """Where only another age would do, the answer says that it depends on it."""
    company, state = _with_protected_contract(snapshot([MONTHLY_ONLY]), customer())

    found = asked(company, state).to_first

    assert found.outcome is Outcome.PROTECTED
    assert found.change is None
    assert found.protected == ("features.contract",)


def test_an_action_that_cannot_be_first_is_brought_as_near_as_one_change_goes():
    """Help is worth little: without the rule it is returned, as the last of four."""
    rule = Rule("not-monthly", lambda v, _: v["features.contract"] == "monthly", groups=("care",))

    found = asked(snapshot([rule]), customer(), HELP).to_first

    assert found.outcome is Outcome.CLOSEST
    assert told(found) == ("features.contract", "monthly", "yearly")
    assert found.rank == 4


def test_it_is_said_where_no_single_change_helps():
    """A rule that removes the offer from everybody leaves nothing to say."""
    found = asked(snapshot([Rule("never", lambda *_: 1, groups=("retention",))]), customer()).to_first

    assert found.outcome is Outcome.NONE
    assert found.change is None
    assert found.decisions > 0


def test_the_first_action_has_nothing_to_gain_and_something_to_lose():
    """It is first already; the smallest change that takes it out is told with the step that does."""
    rule = Rule("yearly", lambda v, _: v["features.contract"] == "yearly", groups=("retention",))

    found = asked(snapshot([rule]), customer())

    assert found.to_first.outcome is Outcome.FIRST
    assert found.to_removal is not None
    assert found.to_removal.outcome is Outcome.REMOVED
    assert told(found.to_removal) == ("features.contract", "monthly", "yearly")
    assert found.to_removal.stage is Stage.ELIGIBILITY


def test_another_channel_brings_what_this_one_cannot_show():
    """Letters are for calls only; on a call it would be returned."""
    found = asked(snapshot(), customer(), LETTER).to_first

    assert found.outcome is Outcome.CLOSEST
    assert told(found) == ("request.channel", "web", "call")


def test_a_filter_of_the_request_is_a_change():
    """What the request left out would come first without its filter."""
    narrowed = ActionFilter(groups=("upsell",))

    found = asked(snapshot(), customer(), filter=narrowed).to_first

    assert told(found) == ("request.filter", True, False)


def test_a_rest_from_contacts_frees_the_action():
    """A cap of two in a day is full: with one contact less the offer is back on top."""
    policy = ContactPolicy(
        id="cap",
        kind=ContactKind.CAP,
        per=CountedPer.ACTION,
        counts=frozenset({OutcomeType.SHOWN}),
        limit=2,
        window_ms=24 * HOUR_MS,
        reason="RULE_REASON",
        scope=_everything(),
        position=HERE,
    )
    shown = [
        ContactEvent(NOW_MS - h * HOUR_MS, "offer", "retention", "web", "marketing", OutcomeType.SHOWN)
        for h in (1, 2, 3)
    ]

    found = asked(snapshot(contact=[policy]), customer(contacts=tuple(shown))).to_first

    assert told(found) == ("contact.cap/offer", 3, 1)
    assert found.outcome is Outcome.FOUND


def test_a_search_ends_at_its_bound_and_says_so(monkeypatch: pytest.MonkeyPatch):
    """However much there is to try, a search makes a bounded number of decisions."""
    monkeypatch.setattr(counterfactual, "MAX_DECISIONS", 3)

    found = asked(snapshot([Rule("never", lambda *_: 1, groups=("retention",))]), customer()).to_first

    assert found.decisions == 3
    assert found.exhausted


@given(
    tenure=st.integers(0, 70),
    threshold=st.integers(0, 70),
    above=st.booleans(),
    contract=st.sampled_from(["monthly", "yearly"]),
)
def test_the_told_change_works_and_no_smaller_one_of_that_number_does(
    tenure: int, threshold: int, above: bool, contract: str
):
    """Held to the obvious way: decide with every tenure, and take the nearest that puts the offer first."""
    holds = (lambda t: t >= threshold) if above else (lambda t: t < threshold)
    company = snapshot([Rule("r", lambda v, _: holds(v["features.tenure"]), groups=("retention",))])
    state = customer(WILLING, tenure=tenure, contract=contract)
    grounds = Grounds(frozenset(), {"features.tenure": (threshold,)})
    works = [t for t in range(72) if not holds(t)]

    found = asked(company, state, grounds=grounds).to_first

    if tenure in works:
        assert found.outcome is Outcome.FIRST
    elif works:
        assert told(found) == ("features.tenure", tenure, min(works, key=lambda t: abs(t - tenure)))
    else:
        assert found.change is None


def test_the_same_record_gives_the_same_answer():
    """Nothing of clock or chance is in a search."""
    company = snapshot([MONTHLY_ONLY, Rule("lever", lambda *_: 1, Effect.LEVER, None, amount=0.1)])

    assert asked(company, customer()) == asked(company, customer())


def _everything():
    return snapshot([Rule("all", lambda *_: 0)]).rulebook.before_scores.scope[0]


def _with_protected_contract(company: Snapshot, state: CustomerState) -> tuple[Snapshot, CustomerState]:
    """The small company, where the contract counts as a personal characteristic."""
    features = tuple(
        f.model_copy(update={"data_class": DataClass.DEMOGRAPHIC}) if f.name == "contract" else f
        for f in SCHEMA.feature
    )
    schema = FeatureSchema(name="small", version=1, view=SCHEMA.view, feature=features)
    assert state.features is not None
    packed = dataclasses.replace(state.features, schema_version=schema.digest)
    return dataclasses.replace(company, schema=schema), dataclasses.replace(state, features=packed)


def test_no_change_takes_out_what_nothing_speaks_against():
    """An action that no single input touches stays, and the answer says so."""
    lone = action("lone", value=100.0)

    found = asked(snapshot(actions=(lone,)), customer(), lone)

    assert found.to_removal is not None
    assert found.to_removal.outcome is Outcome.NONE
