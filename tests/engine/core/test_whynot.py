"""Why not: what each stage found for one action, on the small company."""

from __future__ import annotations

import numpy as np
from company import ACTIONS, HERE, HOUR_MS, NOW_MS, Rule, customer, granted, request, snapshot
from hypothesis import given
from hypothesis import strategies as st

from engine.core import contact
from engine.core.account import Account
from engine.core.change import Case
from engine.core.pipeline import decide, examine
from engine.core.rulebook import UNKNOWN, ContactKind, ContactPolicy, CountedPer
from engine.core.snapshot import Snapshot
from engine.core.whynot import ActionFindings, findings
from engine.domain import Effect, Stage
from feature_store.state import ConsentRecord, ConsentState, ContactEvent, CustomerState, OutcomeType

OFFER, ADDON, GADGET, HELP, _ = ACTIONS
SHOWN = frozenset({OutcomeType.SHOWN})


def found_for(company: Snapshot, state: CustomerState, about=OFFER, **fields: object) -> ActionFindings:
    """The findings of a decision just made."""
    case = Case(request(**fields), state)
    decision = decide(company, case.request, state, now_ms=NOW_MS)
    examined = examine(company, case.request, state, now_ms=NOW_MS)
    return findings(company, case, examined, action=about, decision=decision, now_ms=NOW_MS)


def policy(kind: ContactKind, per: CountedPer, limit: int, scope: tuple[int, ...]) -> ContactPolicy:
    """A contact policy over one day; `scope` are places of actions."""
    mask = np.isin(np.arange(len(ACTIONS)), scope)
    return ContactPolicy("p", kind, per, SHOWN, limit, 24 * HOUR_MS, "RULE_REASON", mask, HERE)


def shown(hours_ago: float, of=OFFER, channel: str = "web") -> ContactEvent:
    """One contact some hours ago."""
    at_ms = NOW_MS - int(hours_ago * HOUR_MS)
    return ContactEvent(at_ms, of.id, of.group, channel, of.purpose, OutcomeType.SHOWN)


def test_the_rules_that_removed_come_first_then_those_that_moved():
    """Every rule in scope is there with its truth; only enforced ones remove."""
    rules = [
        Rule("passes", lambda *_: 0),
        Rule("lifts", lambda *_: 1, Effect.LEVER, None, amount=0.2),
        Rule("shadows", lambda *_: 1, shadow=True),
        Rule("removes", lambda *_: 1, groups=("retention",)),
        Rule("elsewhere", lambda *_: 1, groups=("care",)),
    ]

    found = found_for(snapshot(rules), customer())

    assert found.stage is Stage.ELIGIBILITY
    assert [f.rule.id for f in found.rules] == ["removes", "lifts", "passes", "shadows"]
    assert [f.removes for f in found.rules] == [True, False, False, False]
    assert [f.pulls for f in found.rules] == [False, True, False, False]


def test_a_rule_that_lacks_an_input_is_unknown():
    """Unknown is a truth of its own: a deny that cannot be decided removes."""
    rule = Rule("lacks", lambda *_: 0, reads=("features.tenure",))

    found = found_for(snapshot([rule]), customer(tenure=None))

    assert found.rules[0].truth == UNKNOWN
    assert found.rules[0].removes


def test_rules_after_the_step_that_removed_an_action_did_not_judge_it():
    """What consent or an earlier rule took out was never asked about scores."""
    after = [Rule("scores", lambda *_: 0, reads=("scores.churn",))]
    removed = snapshot([Rule("first", lambda *_: 1, groups=("retention",))], after)

    by_rule = found_for(removed, customer())
    by_consent = found_for(removed, customer([granted("profiling")]))

    assert [f.rule.id for f in by_rule.rules] == ["first"]
    assert by_consent.stage is Stage.CONSENT
    assert by_consent.rules == ()


def test_the_consent_that_decided_is_shown_with_its_record():
    """Purpose, state, basis and the record with its source, for the purpose and for profiling."""
    objection = ConsentRecord(
        "marketing", "any", ConsentState.OBJECTED, NOW_MS - HOUR_MS, source="web:preferences"
    )

    found = found_for(snapshot(), customer([objection]))

    marketing, profiling = found.consents
    assert marketing.used.state is ConsentState.OBJECTED
    assert not marketing.used.permitted
    assert marketing.record == objection
    assert profiling.used.purpose == "profiling"
    assert profiling.record is None


def test_a_cap_shows_what_it_counted_and_when_it_frees_up():
    """Three in a window that takes two: free when the second oldest leaves it."""
    cap = policy(ContactKind.CAP, CountedPer.ACTION, 2, (0, 1))
    state = customer(contacts=(shown(1), shown(5), shown(3), shown(2, ADDON), shown(30)))

    found = found_for(snapshot(contact=[cap]), state)

    assert found.stage is Stage.CONTACT
    (counted,) = found.contacts
    assert [NOW_MS - e.at_ms for e in counted.counted] == [5 * HOUR_MS, 3 * HOUR_MS, HOUR_MS]
    assert counted.frees_at_ms == NOW_MS + 21 * HOUR_MS


def test_a_policy_that_leaves_an_action_alone_has_no_date():
    """One of two is room for another."""
    cap = policy(ContactKind.CAP, CountedPer.ACTION, 2, (0, 1))

    found = found_for(snapshot(contact=[cap]), customer(contacts=(shown(1),)))

    assert found.stage is None
    assert found.contacts[0].frees_at_ms is None
    assert len(found.contacts[0].counted) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from(ACTIONS), st.sampled_from(["web", "call"])), max_size=8
    ),
    st.sampled_from([ContactKind.CAP, ContactKind.COOLDOWN, ContactKind.EXCLUSION]),
    st.sampled_from(list(CountedPer)),
    st.integers(1, 3),
)
def test_what_is_counted_reaches_the_limit_exactly_where_the_policy_forbids(
    events: list[tuple[int, object, str]], kind: ContactKind, per: CountedPer, limit: int
):
    """An explanation of a contact policy can never disagree with the policy, now or when it frees up."""
    rule = policy(kind, per, 1 if kind is ContactKind.EXCLUSION else limit, (0, 1, 2))
    contacts = [shown(h, of, channel) for h, of, channel in events]  # type: ignore[arg-type]  # an action

    for index in (0, 1, 2):
        moment = contact.Moment(contacts, "web", NOW_MS)
        told = contact.counted(rule, ACTIONS[index], actions=ACTIONS, moment=moment)
        assert (len(told) >= rule.limit) == _forbidden(rule, contacts, index, NOW_MS)
        if len(told) >= rule.limit:
            frees = told[len(told) - rule.limit].at_ms + rule.window_ms
            assert _forbidden(rule, contacts, index, frees - 1)
            assert not _forbidden(rule, contacts, index, frees)


def _forbidden(rule: ContactPolicy, events: list[ContactEvent], index: int, now_ms: int) -> bool:
    account = Account(ACTIONS, np.ones(len(ACTIONS), dtype=np.bool_), [None] * len(ACTIONS))
    company = snapshot(contact=[rule])
    contact.limit(account, limits=company.limits, moment=contact.Moment(events, "web", now_ms))
    return not account.alive[index]


def test_the_lever_that_made_the_difference_is_named():
    """Gadget leads the offer, 25 to 20, by its lever alone: without it it would have 10."""
    lift = Rule("gadget-first", lambda _, a: a.id == "gadget", Effect.LEVER, None, amount=1.5)

    found = found_for(snapshot([lift]), customer(), OFFER)

    assert found.rank == 2
    assert [(r.action_id, r.rules) for r in found.rivals] == [("gadget", ("gadget-first",))]
    assert "levers" in found.rivals[0].factors


def test_a_factor_that_would_close_the_gap_is_named():
    """Help is worth 4 where the offer is worth 50: with its value help would lead."""
    found = found_for(snapshot(), customer(), HELP, limit=2)

    assert found.stage is Stage.ARBITRATION
    first = found.rivals[0]
    assert first.action_id == "offer"
    assert first.factors == ("value",)
    assert first.rules == ()


def test_a_weight_against_an_action_is_named():
    """The offer would lead but for a weight of a tenth on it."""
    tenth = Rule("hold-back", lambda *_: 1, Effect.WEIGHT, None, groups=("retention",), amount=0.1)

    found = found_for(snapshot([tenth]), customer())

    assert found.rank > 1
    assert found.rivals[0].rules == ("hold-back",)
    assert "weight" in found.rivals[0].factors


def test_a_lever_that_lifts_both_alike_made_no_difference():
    """Without it both would have less, and the order would be the same."""
    lift = Rule("for-all", lambda *_: 1, Effect.LEVER, None, amount=0.5)

    found = found_for(snapshot([lift]), customer(), HELP)

    assert found.rivals[0].action_id == "offer"
    assert found.rivals[0].rules == ()
