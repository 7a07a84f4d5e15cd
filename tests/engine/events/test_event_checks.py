"""Events are judged by what is declared: form, type, attributes, time and effects, with a stable reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bootstrap import Application
from engine.events.checking import CheckedEvent, check_form
from engine.events.raw import MAX_JSON_BYTES, RawEvent, read_event, write_event
from engine.events.types import EventRefused, Reason
from engine.signals.patterns import Value
from feature_store.state import Identity, OutcomeType

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000


def raw(type_: str, age_ms: int = 0, **attributes: Value) -> RawEvent:
    """An event of one customer."""
    return RawEvent("e-1", type_, "C1", None, NOW_MS - age_ms, attributes, NOW_MS)


def refusal(company: Application, event: RawEvent) -> tuple[Reason, str]:
    """Why an event is refused."""
    with pytest.raises(EventRefused) as refused:
        checked(company, event)
    return refused.value.reason, str(refused.value)


def checked(company: Application, event: RawEvent) -> CheckedEvent:
    """An event that passes."""
    check_form(event)
    return company.events.rules.check.check(event, event.customer_id)


@pytest.mark.parametrize(
    ("event", "reason", "words"),
    [
        (raw("never_heard"), Reason.TYPE_UNKNOWN, "no event type `never_heard` is declared"),
        (raw("login"), Reason.ATTRIBUTE_INVALID, "`sessions` is missing"),
        (raw("login", sessions="1"), Reason.ATTRIBUTE_INVALID, "`sessions` is not of type int"),
        (raw("login", sessions=True), Reason.ATTRIBUTE_INVALID, "`sessions` is not of type int"),
        (raw("login", sessions=1, where="home"), Reason.ATTRIBUTE_INVALID, "no attribute `where`"),
        (raw("data_used", gigabytes=float("nan")), Reason.ATTRIBUTE_INVALID, "not of type double"),
        (raw("data_used", gigabytes=1e13), Reason.ATTRIBUTE_INVALID, "cannot be summed"),
        (raw("search_made", topic="x" * 1025), Reason.ATTRIBUTE_INVALID, "1025 characters"),
        (raw("login", -600_000, sessions=1), Reason.AHEAD, "600 s ahead"),
        (raw("data_used", 4 * DAY_MS, gigabytes=1.0), Reason.TOO_LATE, "345600 s late"),
        (
            raw("offer_contacted", action="gone", channel="web", outcome="shown"),
            Reason.EFFECT_INVALID,
            "`gone` is not in the catalogue",
        ),
        (
            raw("offer_contacted", action="streaming_tv", channel="fax", outcome="shown"),
            Reason.EFFECT_INVALID,
            "`fax` is none of",
        ),
        (
            raw("offer_contacted", action="streaming_tv", channel="web", outcome="reserved"),
            Reason.EFFECT_INVALID,
            "`reserved` is none of",
        ),
        (raw("billing_changed", method="gold"), Reason.EFFECT_INVALID, "'gold' is none of"),
        (replace(raw("login", sessions=1), id=""), Reason.MALFORMED, "`event_id` is missing"),
        (replace(raw("login", sessions=1), id="x\n"), Reason.MALFORMED, "printable characters"),
        (replace(raw("login", sessions=1), customer_id=""), Reason.MALFORMED, "`customer_id` is missing"),
        (
            replace(raw("login", sessions=1), identity=Identity("phone", "1")),
            Reason.MALFORMED,
            "names a customer_id and an identity",
        ),
        (replace(raw("login", sessions=1), at_ms=-1, late=True), Reason.MALFORMED, "before 1970"),
    ],
)
def test_what_cannot_be_applied_is_refused(
    company: Application, event: RawEvent, reason: Reason, words: str
) -> None:
    """With a reason to act on and words to understand it."""
    found, told = refusal(company, event)

    assert found is reason
    assert words in told


def test_a_replay_may_be_late(company: Application) -> None:
    """What was never applied may be, however long ago it happened."""
    event = replace(raw("data_used", 400 * DAY_MS, gigabytes=1.0), late=True)

    assert checked(company, event).at_ms == NOW_MS - 400 * DAY_MS


def test_a_fast_clock_moves_nothing_into_the_future(company: Application) -> None:
    """An event counts at the latest when it was received."""
    assert checked(company, raw("login", -200_000, sessions=1)).at_ms == NOW_MS


def test_whole_numbers_may_stand_for_decimals_and_text_for_instants(company: Application) -> None:
    """Nothing else is converted."""
    used = checked(company, raw("data_used", gigabytes=3))
    announced = checked(company, raw("commitment_announced", ends_at="2027-01-31T08:00:00Z"))

    assert repr(used.attributes["gigabytes"]) == "3.0"
    assert announced.attributes["ends_at"] == 1_801_382_400_000


def test_effects_take_what_the_event_brings(company: Application) -> None:
    """A contact with the group and purpose of its action, a consent, and values of features."""
    shown = checked(company, raw("offer_contacted", action="streaming_tv", channel="app", outcome="clicked"))
    said = checked(company, raw("consent_changed", purpose="marketing", channel="any", state="denied"))
    changed = checked(company, raw("billing_changed", paperless=True))

    assert shown.contact is not None
    contact = shown.contact.event
    assert (contact.group, contact.outcome) == ("cross_sell", OutcomeType.CLICKED)
    assert said.consent is not None
    assert said.consent.state == "denied"
    schema = company.live.current.schema
    assert changed.features == ((schema.index["paperless_billing"], 1.0),)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20)
values = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts


@given(
    st.builds(
        RawEvent,
        texts,
        texts,
        texts,
        st.none(),
        st.integers(0, 4_000_000_000_000),
        st.dictionaries(texts, values, max_size=5),
        st.just(NOW_MS),
    )
)
def test_events_are_written_and_read(event: RawEvent) -> None:
    """As JSON, any event comes back as it was."""
    if any(isinstance(v, float) and v in (float("inf"), float("-inf")) for v in event.attributes.values()):
        return

    again = read_event(write_event(event), received_ms=NOW_MS)

    assert again == event


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"event_id": 1, "type": "x"}',
        '{"event_id": "1", "type": "x", "custmer_id": "C1"}',
        '{"event_id": "1", "type": "x", "customer_id": "C1", "occur_time": "yesterday"}',
        '{"event_id": "1", "type": "x", "attributes": {"a": [1]}}',
        '{"event_id": "1", "type": "x", "identity": {"type": "phone"}}',
        '{"event_id": "\\ud800", "type": "x"}',
        "[" * 5_000,
        '{"event_id": "' + "x" * MAX_JSON_BYTES + '", "type": "x"}',
    ],
)
def test_what_is_no_event_is_refused(text: str) -> None:
    """And never an error of ours."""
    with pytest.raises(EventRefused) as refused:
        check_form(read_event(text, received_ms=NOW_MS))

    assert refused.value.reason is Reason.MALFORMED
