"""What events do, told as stories: decisions, deaths in between, time that passes, damage."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from eventful_company import CUSTOMERS

from engine.bootstrap import Application, wall_clock_ms
from engine.errors import RequestInvalid
from engine.events.applying import Verdict, apply_events, look_again, settle_signals
from engine.events.memory import read_memory
from engine.events.raw import RawEvent
from engine.events.relevance import told
from engine.events.types import Reason
from engine.service.consents import ConsentSubmission
from engine.service.refreshing import Refresher
from engine.service.requests import DecisionQuery
from engine.signals.patterns import Value
from engine.signals.reference import evaluate
from feature_store.embedded import open_embedded
from feature_store.state import ConsentState, CustomerChange, CustomerRecord, FeatureVector, Identity

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
_numbers = itertools.count(1)


@pytest.fixture
def customer(company: Application) -> str:
    """A customer of the test's own, of whom it is known that nothing happened."""
    name = f"S{next(_numbers):03}"
    state = company.store.read(CUSTOMERS[0])
    assert state is not None
    assert state.features is not None
    company.store.put_customers([(name, state.features)])
    company.events.refresh_all([name])
    return name


def event(customer: str, kind: str, age_ms: int = 0, **attributes: Value) -> RawEvent:
    """An event with an id of its own."""
    now_ms = wall_clock_ms()
    return RawEvent(f"story-{next(_numbers)}", kind, customer, None, now_ms - age_ms, attributes, now_ms)


def feature(company: Application, customer: str, name: str) -> float:
    """A stored value."""
    state = company.store.read(customer)
    assert state is not None
    assert state.features is not None
    return float(state.features.values[company.live.current.schema.index[name]])


def signals(company: Application, customer: str) -> set[str]:
    """Signals that stand."""
    state = company.store.read(customer)
    assert state is not None
    return {signal.name for signal in state.signals if signal.value}


def record_of(company: Application, customer: str) -> CustomerRecord:
    """All that is kept of a customer."""
    found: list[CustomerRecord] = []
    company.store.update([customer], lambda _, record: found.append(record))
    return found[0]


def test_three_failed_payments_are_trouble_at_once(company: Application, customer: str) -> None:
    """When the call returns, feature and signal are there."""
    company.events.ingest([event(customer, "payment_failed", n * DAY_MS, amount=50.0) for n in range(3)])

    assert feature(company, customer, "failed_payments_90d") == 3.0
    assert signals(company, customer) == {"payment_trouble"}

    company.events.ingest([event(customer, "payment_settled")])

    assert signals(company, customer) == set()


def test_death_before_signals_leaves_the_customer_due(company: Application, customer: str) -> None:
    """Whoever looks at the customers that are due evaluates them."""
    rules, now_ms = company.events.rules, wall_clock_ms()
    failed = [
        rules.check.check(event(customer, "payment_failed", n * HOUR_MS, amount=50.0), customer)
        for n in range(3)
    ]
    company.store.update(
        [customer], lambda _, record: apply_events(rules, record, failed, now_ms=now_ms).change
    )
    before = signals(company, customer)

    company.events.refresh()

    assert before == set()
    assert signals(company, customer) == {"payment_trouble"}
    assert customer not in company.store.due(now_ms=wall_clock_ms(), limit=1_000)


def test_one_process_at_a_time_looks(company: Application, customer: str, tmp_path: Path) -> None:
    """The lease is another's for some seconds, then free; a thread looks by itself."""
    now = [1_000_000]
    store = open_embedded(tmp_path / "store")
    one, other = (
        Refresher(events=company.events, store=store, clock=lambda: now[0], interval_s=0.01) for _ in range(2)
    )
    company.events.refresh()
    company.store.update([customer], lambda *_: CustomerChange(due_at_ms=1))

    first, second = other.look(), one.look()
    now[0] += 6_000
    company.store.update([customer], lambda *_: CustomerChange(due_at_ms=1))
    with one:
        while customer in company.store.due(now_ms=wall_clock_ms(), limit=100):
            pass

    assert (first, second) == (1, 0)
    store.close()


def test_signals_evaluated_on_other_events_are_not_kept(company: Application, customer: str) -> None:
    """Who changed the customer in between sees to its signals."""
    rules, now_ms = company.events.rules, wall_clock_ms()
    record = record_of(company, customer)
    first = apply_events(
        rules, record, [rules.check.check(event(customer, "complaint_opened"), customer)], now_ms=now_ms
    )
    assert first.change is not None
    assert first.unsettled is not None
    changed = replace(record, stream=first.change.stream or b"")

    assert settle_signals(rules, changed, first.unsettled, []) is not None
    assert settle_signals(rules, replace(changed, stream=record.stream), first.unsettled, []) is None


def test_an_absence_comes_true_by_time_alone(company: Application, customer: str) -> None:
    """Somebody talked to the customer 29 days ago; two days later that is too long ago."""
    rules, now_ms = company.events.rules, wall_clock_ms()
    late = [
        replace(event(customer, "commitment_announced", DAY_MS, ends_at=now_ms + 20 * DAY_MS), late=True),
        replace(event(customer, "contact_made", 29 * DAY_MS), late=True),
    ]
    company.events.ingest(late)
    record = record_of(company, customer)
    memory = read_memory(record.stream)

    due = memory.signals_due_ms
    looked = look_again(rules, record, now_ms=due)

    assert signals(company, customer) == {"contract_ending_soon"}
    assert due == (late[1].at_ms or 0) + 30 * DAY_MS
    assert looked.unsettled is not None
    standing = {s.name for s in evaluate(rules.patterns, told(looked.unsettled.events), due) if s.value}
    assert standing == {"contract_ending_soon", "contract_ending_unattended"}
    assert look_again(rules, record, now_ms=due - 1).unsettled is None


def test_counts_fall_when_events_leave_the_window(company: Application, customer: str) -> None:
    """At the instant that the due mark says, and are never stale before the next look."""
    rules = company.events.rules
    company.events.ingest([event(customer, "page_viewed", 2 * DAY_MS, path="/cancel")])
    record = record_of(company, customer)
    place = company.live.current.schema.index["cancel_page_visits_7d"]
    view = rules.streaming.views[0]

    values, now_ms = [], wall_clock_ms()
    for _ in range(20):  # more often than the window needs, as other values change with time too
        looked = look_again(rules, record, now_ms=now_ms)
        assert looked.change is not None
        assert looked.change.features is not None
        assert looked.change.due_at_ms is not None
        values.append(float(looked.change.features.values[place]))
        freshness_ms = company.live.current.schema.view[view].freshness_ms
        assert now_ms < looked.change.due_at_ms < looked.change.features.view_times_ms[view] + freshness_ms
        record = replace(record, features=looked.change.features, stream=looked.change.stream or b"")
        now_ms = looked.change.due_at_ms

    assert values[0] == 1.0
    assert values[-1] == 0.0


def test_a_consent_redelivered_after_death_is_recorded_again_to_no_effect(
    company: Application, customer: str
) -> None:
    """The ledger holds it twice, as one: the same instant and the same event; the will is the same."""
    said = event(customer, "consent_changed", HOUR_MS, purpose="marketing", channel="any", state="granted")
    later = event(customer, "consent_changed", 0, purpose="marketing", channel="any", state="withdrawn")
    company.events.ingest([said])
    company.events.ingest([later])
    company.store.update([customer], lambda *_: CustomerChange(stream=b""))

    fates = company.events.ingest([said, said])

    state = company.store.read(customer)
    assert state is not None
    assert [fate.verdict for fate in fates] == [Verdict.APPLIED, Verdict.DUPLICATE]
    assert [consent.state.value for consent in state.consents] == ["withdrawn"]
    entries = [entry.consent for entry in company.ledger.replay() if entry.customer_id == customer]
    assert {(c.evidence, c.recorded_at_ms) for c in entries} == {
        (f"event {said.id}", said.at_ms),
        (f"event {later.id}", later.at_ms),
    }


def test_contacts_count_once_for_an_id(company: Application, customer: str) -> None:
    """Even where what ingestion remembered is gone."""
    shown = event(customer, "offer_contacted", action="streaming_tv", channel="web", outcome="shown")
    company.events.ingest([shown])
    company.store.update([customer], lambda *_: CustomerChange(stream=b""))

    company.events.ingest([shown])

    state = company.store.read(customer)
    assert state is not None
    assert [(c.action_id, c.group) for c in state.contacts] == [("streaming_tv", "cross_sell")]


def test_an_outcome_settles_what_its_decision_held(company: Application, customer: str) -> None:
    """Counted once, in the place of the reservation; one of no decision is refused."""
    company.consents.record(ConsentSubmission(customer, "marketing", "any", ConsentState.GRANTED))
    decided = company.decisions.decide(DecisionQuery(customer_id=customer, channel="web")).record
    action = decided.decision.actions[0].action_id
    said = {"action": action, "channel": "web", "outcome": "shown"}
    shown = event(customer, "outcome_reported", decision=decided.decision_id, **said)

    fates = company.events.ingest([shown, event(customer, "outcome_reported", decision="none", **said)])
    again = company.events.ingest([shown])

    state = company.store.read(customer)
    assert state is not None
    assert [fate.reason for fate in fates] == [None, Reason.EFFECT_INVALID]
    assert [fate.verdict for fate in again] == [Verdict.DUPLICATE]
    assert [c.outcome.value for c in state.contacts if c.action_id == action] == ["shown"]


def test_features_set_by_events_hold_the_latest(company: Application, customer: str) -> None:
    """Whatever order they come in; what was loaded after them stands."""
    new = event(customer, "billing_changed", HOUR_MS, paperless=True, method="credit-card")
    old = event(customer, "billing_changed", 2 * HOUR_MS, paperless=False)
    company.events.ingest([new])
    company.events.ingest([old])
    after = feature(company, customer, "paperless_billing")
    state = company.store.read(customer)
    assert state is not None
    assert state.features is not None
    loaded = FeatureVector(
        state.features.schema_version,
        (wall_clock_ms(),) * len(state.features.view_times_ms),
        state.features.values * 0,
    )
    company.store.put_customers([(customer, loaded)])

    company.events.ingest([event(customer, "billing_changed", HOUR_MS // 2, paperless=True)])

    assert after == 1.0
    assert feature(company, customer, "paperless_billing") == 0.0


def test_who_does_not_exist_yet_is_remembered(company: Application) -> None:
    """What happened shows once the customer is loaded."""
    name = f"later-{next(_numbers)}"
    fates = company.events.ingest([event(name, "call_received", reason="x")])
    state = company.store.read(CUSTOMERS[0])
    assert state is not None
    assert state.features is not None
    unknown = company.store.read(name)

    company.store.put_customers([(name, state.features)])
    company.events.refresh_all([name])

    assert [fate.verdict for fate in fates] == [Verdict.APPLIED]
    assert unknown is None
    assert feature(company, name, "support_calls_30d") == 1.0


def test_identities_name_one_customer_or_none(company: Application, customer: str) -> None:
    """None and several are refused, each with its own reason."""
    own, shared = Identity("phone", f"+{customer}"), Identity("phone", "shared")
    company.store.link([(own, customer), (shared, customer), (shared, CUSTOMERS[1])])
    call = replace(event("", "call_received"), customer_id="")

    fates = company.events.ingest(
        [
            replace(call, id=f"i-{n}", identity=identity)
            for n, identity in enumerate((own, shared, Identity("phone", "nobody")))
        ]
    )

    assert [fate.reason for fate in fates] == [None, Reason.IDENTITY_AMBIGUOUS, Reason.CUSTOMER_UNKNOWN]
    assert feature(company, customer, "support_calls_30d") == 1.0


def test_damage_of_one_customer_is_not_that_of_others(company: Application, customer: str) -> None:
    """The others' events of the same batch are applied."""
    other = CUSTOMERS[2]
    company.store.update([customer], lambda *_: CustomerChange(stream=b"damaged", due_at_ms=1))
    before = feature(company, other, "support_calls_30d")
    said = {"purpose": "marketing", "channel": "any", "state": "denied"}

    fates = company.events.ingest(
        [
            event(customer, "call_received"),
            event(other, "call_received"),
            event(other, "consent_changed", **said),
            event(customer, "consent_changed", **said),
        ]
    )
    looked = [company.events.refresh(limit=1) for _ in range(60)]

    assert [fate.reason for fate in fates] == [Reason.NOT_APPLIED, None, None, Reason.NOT_APPLIED]
    assert feature(company, other, "support_calls_30d") == before + 1
    assert looked[0] == 1
    assert looked[-1] == 0  # it does not hold up the others
    company.store.update([customer], lambda *_: CustomerChange(stream=b"", due_at_ms=0))


def test_an_event_older_than_remembered_ids_is_refused(company: Application, customer: str) -> None:
    """It may be a copy of one whose id is forgotten; a replay is applied all the same."""
    old = replace(event(customer, "call_received", 40 * DAY_MS), late=True)
    early = replace(old, at_ms=old.at_ms, received_ms=old.at_ms or 0)
    company.events.ingest([early])
    company.events.ingest([replace(event(customer, "login", sessions=1))])
    copy, replay = replace(early, late=False), replace(early, id="another")

    fates = company.events.ingest([copy, replay])

    assert [fate.reason for fate in fates] == [Reason.TOO_LATE, None]


@pytest.mark.parametrize("count", [0, 501])
def test_a_batch_has_a_size(company: Application, count: int) -> None:
    """Too few or too many is the sender's mistake."""
    with pytest.raises(RequestInvalid):
        company.intake.ingest([event("E000", "login", sessions=1)] * count)


def test_nothing_known_is_not_nothing_happened(company: Application, customer: str) -> None:
    """Counts are zero once somebody looked; what has never been is absent."""
    assert feature(company, customer, "failed_payments_90d") == 0.0
    assert math.isnan(feature(company, customer, "tenure_months"))
