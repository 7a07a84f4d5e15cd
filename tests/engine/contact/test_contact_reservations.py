"""What a decision counts on is held before it is answered: on both stores, for one customer and for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from contact_company import (
    DAY_MS,
    GIFT,
    HELP,
    HOUR_MS,
    MINUTE_MS,
    NEWS,
    NOW_MS,
    REBATE,
    Service,
    company,
    reasons,
    returned,
    service,
    vector,
)

from engine.decisionlog.record import decision_bytes, encode_record
from engine.domain import ActionFilter
from engine.errors import CustomerUnknown, RequestInvalid
from engine.service.explanations import replay
from engine.service.holding import CONTENDED, UNREADABLE, UNRESERVABLE
from feature_store.errors import StoreUnavailable
from feature_store.state import ContactEvent, CustomerState, OutcomeType
from feature_store.store import OnlineStore

SHOWN, CLICKED, ACCEPTED, DECLINED = (
    OutcomeType.SHOWN, OutcomeType.CLICKED, OutcomeType.ACCEPTED, OutcomeType.DECLINED,
)  # fmt: skip
RETENTION_ONCE = """
reserve_for: 30m
policies:
  - {id: cap.retention, kind: cap, applies_to: {groups: [retention]}, per: group, counts: [reserved, shown],
     limit: 1, window: 7d, reason: TOO_OFTEN}
"""
GIFTS = """
policies:
  - {id: budget.gift, kind: budget, applies_to: {actions: [gift]}, per: overall, counts: [reserved, accepted],
     limit: 2, window: 7d, reserve_for: 1h, reason: SPENT}
  - {id: budget.retention, kind: budget, applies_to: {groups: [retention]}, per: group,
     counts: [reserved, shown], limit: 3, window: 1d, reserve_for: 1h, reason: SPENT}
"""
BOTH = RETENTION_ONCE + GIFTS.replace("\npolicies:", "")


@pytest.fixture
def once(store: OnlineStore, tmp_path: Path) -> Iterator[Service]:
    """One retention offer in seven days, counted from the decision on."""
    store.put_customers([("C1", vector())])
    with service(store, company(RETENTION_ONCE), tmp_path / "logs") as opened:
        yield opened


@pytest.fixture
def gifts(store: OnlineStore, tmp_path: Path) -> Iterator[Service]:
    """Two gifts a week for all customers, three retention offers a day."""
    store.put_customers((f"C{i}", vector()) for i in range(1, 10))
    with service(store, company(GIFTS), tmp_path / "logs") as opened:
        yield opened


@pytest.fixture
def both(store: OnlineStore, tmp_path: Path) -> Iterator[Service]:
    """One retention offer for each customer, and budgets for all."""
    store.put_customers([("C1", vector())])
    with service(store, company(BOTH), tmp_path / "logs") as opened:
        yield opened


def fail(*_: object, **__: object) -> None:
    """What a store does that cannot be reached."""
    raise StoreUnavailable("not now")


def contacts(opened: Service, customer_id: str = "C1") -> list[tuple[str, OutcomeType]]:
    """Action and outcome of what is kept."""
    found = opened.store.read(customer_id)
    assert found is not None
    return [(event.action_id, event.outcome) for event in found.contacts]


def test_the_next_decision_counts_what_the_first_returned(once: Service) -> None:
    """The better of the group is returned once, and the other not beside it."""
    first, second = once.decide(), once.decide()

    assert returned(first) == [GIFT, NEWS, HELP]
    assert reasons(first, REBATE) == ["TOO_OFTEN"]
    assert returned(second) == [NEWS, HELP]
    assert reasons(second, GIFT) == ["TOO_OFTEN"]
    assert contacts(once) == [(GIFT, OutcomeType.RESERVED)]


def test_a_reservation_ends_unshown_at_its_time(once: Service) -> None:
    """Half-open: at the end it counts no longer."""
    once.decide()

    once.clock.now_ms = NOW_MS + 30 * MINUTE_MS - 1
    before = once.decide()
    once.clock.now_ms = NOW_MS + 30 * MINUTE_MS
    after = once.decide()

    assert GIFT not in returned(before)
    assert GIFT in returned(after)


def test_a_showing_replaces_the_reservation(once: Service) -> None:
    """It counts for the whole window, once."""
    decided = once.decide()

    counted = [once.record(decided, GIFT, SHOWN) for _ in range(2)]
    once.clock.now_ms = NOW_MS + 7 * DAY_MS - 1
    before = once.decide()
    once.clock.now_ms = NOW_MS + 7 * DAY_MS
    after = once.decide()

    assert counted == [True, False]
    assert GIFT not in returned(before)
    assert GIFT in returned(after)


@pytest.mark.parametrize("outcome", [CLICKED, ACCEPTED, DECLINED, OutcomeType.SNOOZED])
def test_any_outcome_implies_a_showing(once: Service, outcome: OutcomeType) -> None:
    """A client that reports the click only does not make the cap forget; a late showing is no second one."""
    decided = once.decide()

    counted = once.record(decided, GIFT, outcome)
    implied = contacts(once)
    again = once.record(decided, GIFT, outcome)
    reported = once.record(decided, GIFT, SHOWN)

    assert (counted, again, reported) == (True, False, True)
    assert sorted(implied) == sorted([(GIFT, SHOWN), (GIFT, outcome)])
    assert sorted(contacts(once)) == sorted(implied)


def test_two_showings_of_one_decision_are_two(once: Service) -> None:
    """What was shown twice counts twice, as without reservations."""
    decided = once.decide()

    for number in range(2):
        once.record(decided, GIFT, SHOWN, outcome_id=f"showing-{number}")

    assert contacts(once) == [(GIFT, SHOWN)] * 2


def test_actions_that_no_policy_reserves_are_counted_as_ever(once: Service) -> None:
    """Nothing is held for them, and their outcomes are kept as they come."""
    decided = once.decide()

    once.record(decided, NEWS, SHOWN)

    assert [held.action_id for held in decided.held] == [GIFT]
    assert contacts(once) == [(GIFT, OutcomeType.RESERVED), (NEWS, SHOWN)]


def test_a_decision_on_an_old_state_is_made_again(once: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contact that comes between reading and reserving is seen, not overwritten."""
    read, old = once.store.read, once.store.read("C1")
    shown = ContactEvent(NOW_MS, GIFT, "retention", "sms", "marketing", SHOWN)
    once.store.record_contact("C1", shown, key="meanwhile")
    answers = iter([old])
    monkeypatch.setattr(type(once.store), "read", lambda _, name: next(answers, None) or read(name))

    decided = once.decide()

    assert returned(decided) == [NEWS, HELP]
    assert decided.state.contacts == (shown,)
    assert decided.held == ()


def test_a_client_cannot_reserve(once: Service) -> None:
    """Only decisions do."""
    decided = once.decide()

    with pytest.raises(RequestInvalid):
        once.record(decided, GIFT, OutcomeType.RESERVED)


def test_a_repeated_request_holds_once(once: Service) -> None:
    """The second answer is the first, and one reservation is kept."""
    first = once.decide(request_id="again")
    second = once.decide(request_id="again")

    assert first.decision_id == second.decision_id
    assert contacts(once) == [(GIFT, OutcomeType.RESERVED)]


def test_a_decision_that_is_not_logged_gives_back_what_it_held(both: Service) -> None:
    """Neither reservations nor units stay behind."""
    both.log.close()

    unlogged = both.decide("C1")

    left = both.store.left(company(BOTH).limits.demands["web", ""], now_ms=NOW_MS)
    assert (unlogged.decision_id, unlogged.held) == ("", ())
    assert contacts(both) == []
    assert left == (2, 3)


def test_units_are_held_by_decisions_until_they_end(gifts: Service) -> None:
    """Two gifts are promised; the third customer gets none until a promise ends."""
    first, second, third = (gifts.decide(name, limit=1) for name in ("C1", "C2", "C3"))
    gifts.clock.now_ms = NOW_MS + HOUR_MS
    later = gifts.decide("C3", limit=1)

    assert [returned(r) for r in (first, second, third)] == [[GIFT], [GIFT], [REBATE]]
    assert reasons(third, GIFT) == ["SPENT"]
    assert returned(later) == [GIFT]


def test_one_decision_takes_a_unit_for_each_action_it_returns(gifts: Service) -> None:
    """With one unit left of three, the second retention offer of one decision is cut."""
    gifts.decide("C1", limit=2)

    decided = gifts.decide("C2")

    assert returned(decided) == [GIFT, NEWS, HELP]
    assert reasons(decided, REBATE) == ["SPENT"]
    assert decided.supply is not None
    assert decided.supply.left["budget.retention/retention"] == 1


def test_a_yes_spends_a_unit_and_a_no_gives_it_back(gifts: Service) -> None:
    """A spent unit outlives the hold; one that was refused is free at once."""
    accepted, declined = gifts.decide("C1", limit=1), gifts.decide("C2", limit=1)

    gifts.record(accepted, GIFT, ACCEPTED)
    gifts.record(declined, GIFT, DECLINED)
    left = gifts.store.left(company(GIFTS).limits.demands["web", ""], now_ms=NOW_MS + 2 * HOUR_MS)
    now = gifts.store.left(company(GIFTS).limits.demands["web", ""], now_ms=NOW_MS)

    assert left == (1, 1)  # both were shown, as they were answered
    assert now == (1, 1)


def test_a_late_yes_is_counted_while_there_is_a_unit(gifts: Service) -> None:
    """The hold has ended, the customer came back: the unit is spent all the same, once."""
    decided = gifts.decide("C1", limit=1)
    gifts.clock.now_ms = NOW_MS + 5 * HOUR_MS

    for _ in range(2):
        gifts.record(decided, GIFT, ACCEPTED)

    left = gifts.store.left(company(GIFTS).limits.demands["web", ""], now_ms=NOW_MS + 7 * HOUR_MS)
    assert left == (1, 2)


def test_a_held_decision_replays_to_the_same_bytes(gifts: Service) -> None:
    """What was left is in the record, so that the same is decided again."""
    gifts.decide("C1", limit=2)
    gifts.decide("C2")
    last = gifts.decide("C3")

    logged = gifts.log.read(last.decision_id)
    assert logged is not None
    assert logged.supply is not None
    assert replay(logged, company(GIFTS)).same
    assert decision_bytes(logged.decision) == decision_bytes(last.decision)


def test_the_token_of_contacts_is_not_logged(once: Service) -> None:
    """What a store compares by is no part of what was decided from."""
    once.decide()
    held = once.store.read("C1")
    assert held is not None
    assert held.contacts_token

    decided = once.decide()

    logged = once.log.read(decided.decision_id)
    assert logged is not None
    assert logged.state.contacts_token == b""
    assert encode_record(replace(decided, state=held)) == encode_record(
        replace(decided, state=replace(held, contacts_token=b""))
    )


def test_what_cannot_be_reserved_is_not_returned(once: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer goes without it and says so; the rest goes on."""
    monkeypatch.setattr(type(once.store), "reserve", fail)

    decided = once.decide()

    assert returned(decided) == [NEWS, HELP]
    assert reasons(decided, GIFT) == ["TOO_OFTEN"]
    assert decided.decision.degraded_by == (UNRESERVABLE,)


@pytest.mark.parametrize("call", ["take", "left"])
def test_budgets_that_cannot_be_used_are_empty(
    gifts: Service, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Nothing is promised that nobody counted."""
    monkeypatch.setattr(type(gifts.store), call, fail)

    decided = gifts.decide()

    assert returned(decided) == [NEWS, HELP]
    assert reasons(decided, GIFT) == ["SPENT", "SPENT"]
    assert decided.decision.degraded_by == (UNREADABLE,)


def test_a_unit_that_may_have_been_taken_is_given_back(
    gifts: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store took it and could not say so: it is not held until the offer would have ended."""
    take = type(gifts.store).take

    def lost(*arguments: object, **named: object) -> None:
        take(*arguments, **named)  # type: ignore[arg-type]  # as they came
        fail()

    monkeypatch.setattr(type(gifts.store), "take", lost)

    decided = gifts.decide()

    assert returned(decided) == [NEWS, HELP]
    assert gifts.store.left(company(GIFTS).limits.demands["web", ""], now_ms=NOW_MS) == (2, 3)


def test_what_cannot_be_given_back_ends_by_itself(both: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets what needs no record, and does not learn why it is so hard to clean up."""
    both.log.close()
    for call in ("settle", "update"):
        monkeypatch.setattr(type(both.store), call, fail)

    unlogged = both.decide("C1")

    later_ms = NOW_MS + HOUR_MS
    assert unlogged.decision_id == ""
    assert both.store.left(company(BOTH).limits.demands["web", ""], now_ms=later_ms) == (2, 3)
    assert contacts(both) == [(GIFT, OutcomeType.RESERVED)]


def test_a_customer_who_is_gone_meanwhile_leaves_nothing_held(
    both: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erased between reading and reserving: no decision, and the units go back."""
    old = both.store.read("C1")
    both.store.record_contact(
        "C1", ContactEvent(NOW_MS, NEWS, "upsell", "web", "marketing", SHOWN), key="meanwhile"
    )
    answers = iter([old])
    monkeypatch.setattr(type(both.store), "read", lambda *_: next(answers, None))

    with pytest.raises(CustomerUnknown):
        both.decide("C1")

    assert both.store.left(company(BOTH).limits.demands["web", ""], now_ms=NOW_MS) == (2, 3)


def test_a_customer_who_can_no_longer_be_read_gets_what_needs_no_counting(
    both: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store fails between reading and reserving: nothing is held, and nothing marketed."""
    old = both.store.read("C1")
    both.store.record_contact(
        "C1", ContactEvent(NOW_MS, NEWS, "upsell", "web", "marketing", SHOWN), key="meanwhile"
    )
    answers = iter([old])

    def read(*_: object) -> CustomerState | None:
        return next(answers, None) or fail()

    monkeypatch.setattr(type(both.store), "read", read)

    decided = both.decide("C1")

    assert returned(decided) == [HELP]
    assert decided.held == ()
    assert both.store.left(company(BOTH).limits.demands["web", ""], now_ms=NOW_MS) == (2, 3)


def test_a_customer_whom_others_keep_changing_is_answered_without(
    once: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a bounded number of tries nothing is held, and the answer says why."""
    monkeypatch.setattr(type(once.store), "reserve", lambda *_: False)

    decided = once.decide()

    assert returned(decided) == [NEWS, HELP]
    assert decided.decision.degraded_by == (CONTENDED,)
    assert decided.held == ()


def test_no_round_trip_more_without_such_policies(
    store: OnlineStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company that counts what was shown neither reserves nor takes nor asks what is left."""
    store.put_customers([("C1", vector())])
    for call in ("reserve", "take", "left", "settle", "update"):
        monkeypatch.setattr(type(store), call, fail)

    with service(store, company(RETENTION_ONCE.replace("reserved, ", "")), tmp_path / "logs") as opened:
        decided = opened.decide()
        opened.record(decided, GIFT, SHOWN)

    assert returned(decided) == [GIFT, REBATE, NEWS]


def test_what_is_left_is_asked_once_a_second(gifts: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hint is enough: taking decides."""
    asked: list[int] = []
    left = gifts.store.left
    monkeypatch.setattr(
        type(gifts.store),
        "left",
        lambda _, demands, *, now_ms: asked.append(now_ms) or left(demands, now_ms=now_ms),
    )

    for at_ms in (0, 999, 1000, 1001):
        gifts.clock.now_ms = NOW_MS + at_ms
        gifts.decide("C1", channel="web", filter=ActionFilter(action_ids=(NEWS,)))

    assert asked == [NOW_MS, NOW_MS + 1000]
