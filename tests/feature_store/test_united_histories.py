"""Two histories of one person: nothing gets looser, and what was put together comes apart again."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from store_examples import consent, contact
from streaming_reference import Happened
from test_streaming import NOW_MS, STREAMING, applied, happenings

from feature_store.consents import effective_consent
from feature_store.contacts import key_digest
from feature_store.merging import (
    filled,
    parted_contacts,
    said_together,
    united_consents,
    united_contacts,
    united_tallies,
)
from feature_store.schema import FeatureSchema
from feature_store.state import (
    ANY_CHANNEL,
    ConsentRecord,
    ConsentState,
    ContactHistory,
    FeatureVector,
    MergedPart,
    OutcomeType,
)
from feature_store.streaming import Tallies, Tally

GRANTED, DENIED, WITHDRAWN, OBJECTED = (
    ConsentState.GRANTED,
    ConsentState.DENIED,
    ConsentState.WITHDRAWN,
    ConsentState.OBJECTED,
)
STRENGTH = (GRANTED, ConsentState.EXPIRED, DENIED, WITHDRAWN, OBJECTED)
MERGED_MS = 100
CHANNELS = ("email", "sms", "push")

records = st.builds(
    lambda state, at, channel, until: consent(
        state, at_ms=at, channel=channel, until_ms=None if until is None else at + until
    ),
    st.sampled_from([GRANTED, GRANTED, DENIED, WITHDRAWN, OBJECTED]),
    st.integers(0, MERGED_MS - 1),
    st.sampled_from([ANY_CHANNEL, "email", "sms"]),
    st.none() | st.integers(1, 2 * MERGED_MS),
)
wills = st.lists(records, max_size=4, unique_by=lambda record: record.channel).map(tuple)
contacts = st.lists(
    st.builds(lambda at, action: contact(at, action=f"a{action}"), st.integers(0, 50), st.integers(0, 2)),
    max_size=6,
).map(lambda events: sorted(events, key=lambda event: event.at_ms))


def state_of(said: tuple[ConsentRecord, ...], channel: str, now_ms: int) -> ConsentState:
    return effective_consent(said, purpose="marketing", channel=channel, now_ms=now_ms).state


@given(wills, wills, st.sampled_from(CHANNELS), st.integers(MERGED_MS, 4 * MERGED_MS))
def test_no_will_gets_milder(
    one: tuple[ConsentRecord, ...], other: tuple[ConsentRecord, ...], channel: str, now_ms: int
) -> None:
    """At any time after, on any channel, both together refuse what either refused alone."""
    together = state_of(united_consents(one, other, at_ms=MERGED_MS), channel, now_ms)

    alone = [state_of(said, channel, now_ms) for said in (one, other)]
    told = [STRENGTH.index(state) for state in alone if state is not ConsentState.UNKNOWN]
    assert told == [] or (together in STRENGTH and STRENGTH.index(together) >= max(told))


@given(wills, wills, st.sampled_from(CHANNELS), st.integers(MERGED_MS, 4 * MERGED_MS))
def test_it_does_not_matter_who_is_merged_into_whom(
    one: tuple[ConsentRecord, ...], other: tuple[ConsentRecord, ...], channel: str, now_ms: int
) -> None:
    """The wills are the same, and to unite them once more changes nothing."""
    united = united_consents(one, other, at_ms=MERGED_MS)

    assert state_of(united, channel, now_ms) == state_of(
        united_consents(other, one, at_ms=MERGED_MS), channel, now_ms
    )
    assert united_consents(united, other, at_ms=MERGED_MS) == united


def test_whoever_said_nothing_restricts_nothing() -> None:
    """A yes stays one where the other was never asked about it."""
    yes = consent(GRANTED, at_ms=1, channel="email")

    assert united_consents([yes], [], at_ms=MERGED_MS) == (yes,)
    assert united_consents([yes], [consent(DENIED, purpose="sharing")], at_ms=MERGED_MS)[0] == yes


def test_a_stricter_word_for_any_channel_takes_a_yes_away() -> None:
    """It decides alone then, so that a later yes for any channel is one for this channel, too."""
    yes, no = consent(GRANTED, at_ms=9, channel="email"), consent(OBJECTED, at_ms=1)

    united = united_consents([yes], [no], at_ms=MERGED_MS)
    later = said_together(united, consent(GRANTED, at_ms=200), merged_at_ms=MERGED_MS)

    assert united == (no,)
    assert state_of(later, "email", 300) is GRANTED


@given(wills, wills, records, st.sampled_from(CHANNELS))
def test_a_refusal_that_comes_late_is_obeyed(
    one: tuple[ConsentRecord, ...], other: tuple[ConsentRecord, ...], late: ConsentRecord, channel: str
) -> None:
    """And a yes that comes late never loosens what is on record."""
    united = united_consents(one, other, at_ms=MERGED_MS)

    after = state_of(said_together(united, late, merged_at_ms=MERGED_MS), channel, 4 * MERGED_MS)

    before = state_of(united, channel, 4 * MERGED_MS)
    assert before in (GRANTED, ConsentState.UNKNOWN) or after is not GRANTED


def part(name: str, history: ContactHistory) -> MergedPart:
    return MergedPart(name, "own", MERGED_MS, contacts=history)


def history(*rows: tuple[str, object]) -> ContactHistory:
    return ContactHistory(
        tuple(event for _, event in rows),  # type: ignore[misc]  # contacts
        tuple(key_digest(key) for key, _ in rows),
    )


@given(contacts, contacts, contacts)
def test_all_contacts_count_and_come_apart_again(
    one: list[object], two: list[object], new: list[object]
) -> None:
    """None is lost or counted twice, whatever their keys; what is new goes to the id it came in under."""
    own = history(*((f"k{i}", event) for i, event in enumerate(one)))
    other = part("other", history(*((f"k{i}", event) for i, event in enumerate(two))))
    united = united_contacts(own, [other])
    added = history(*((f"n{i}", event) for i, event in enumerate(new)))
    longer = ContactHistory(united.events + added.events, united.keys + added.keys)

    back, (part_back,) = parted_contacts(longer, own, [other], under="other")

    pairs = {
        *zip(own.events, own.keys, strict=True),
        *zip(other.contacts.events, other.contacts.keys, strict=True),
    }
    assert len(united.events) == len(pairs)
    assert back == own
    assert set(part_back.contacts.keys) == {*other.contacts.keys, *added.keys}
    assert len(part_back.contacts.events) == len(two) + len(new)


def test_what_takes_a_contacts_place_stays_with_it() -> None:
    """A reservation of the other that becomes a showing is the other's showing; one that goes is gone."""
    held = structs.replace(contact(1), outcome=OutcomeType.RESERVED, until_ms=9)
    own, other = history(("a", contact(2))), part("other", history(("b", held), ("c", held)))

    settled = history(("b", contact(1)), ("a", contact(2)), ("d", contact(3)))
    back, (part_back,) = parted_contacts(settled, own, [other], under="")

    assert back == history(("a", contact(2)), ("d", contact(3)))
    assert part_back.contacts == history(("b", contact(1)))


@given(st.lists(st.tuples(happenings, st.booleans()), max_size=30))
def test_events_of_two_count_as_those_of_one(events: list[tuple[Happened, bool]]) -> None:
    """Whoever they came in for: to the bit, in any order, and neither's own tallies are changed."""
    everything = [event for event, _ in events]
    one = applied([event for event, first in events if first], NOW_MS)
    other = applied([event for event, first in events if not first], NOW_MS)
    before = copy.deepcopy((one, other))

    united = united_tallies(one, [other])

    wanted = STREAMING.values(applied(everything, NOW_MS), now_ms=NOW_MS)
    assert np.array_equal(
        list(STREAMING.values(united, now_ms=NOW_MS).values()), list(wanted.values()), equal_nan=True
    )
    assert united == united_tallies(other, [one])
    assert (one, other) == before


def test_tallies_of_another_definition_are_passed_over() -> None:
    """A count cannot be added to what was counted otherwise."""
    mine: Tallies = {"n": Tally(b"now", {1: 1}, {}, {})}

    united = united_tallies(mine, [{"n": Tally(b"before", {1: 5}, {}, {})}])

    assert united == mine


def of_telco(telco: FeatureSchema, **views: int) -> FeatureVector:
    """Features that are 1 in the views named, which are as old as said, and absent in others."""
    places = {view.name: place for place, view in enumerate(telco.view)}
    values = np.full(len(telco.feature), np.nan, dtype=np.float32)
    times = [0] * len(places)
    for name, at_ms in views.items():
        values[telco.view_index == places[name]] = at_ms
        times[places[name]] = at_ms
    return FeatureVector(telco.digest, tuple(times), values)


def test_a_view_that_is_missing_is_the_others(telco: FeatureSchema) -> None:
    """Whole and as old as it is; what the customer has itself, and what is computed, is never taken."""
    own, other = of_telco(telco, profile=5), of_telco(telco, profile=7, billing=6, behaviour=8)

    together = filled(own, [of_telco(telco), other], telco)

    wanted = of_telco(telco, profile=5, billing=6)
    assert together.view_times_ms == wanted.view_times_ms
    assert np.array_equal(together.values, wanted.values, equal_nan=True)


def test_features_that_cannot_be_compared_are_left(telco: FeatureSchema) -> None:
    """Of another schema, or of a view of which a value is there that nobody can tell."""
    own, other = of_telco(telco, profile=5), of_telco(telco, billing=6)
    billing = [view.name for view in telco.view].index("billing")
    place = int(np.flatnonzero(telco.view_index == billing)[0])

    assert filled(own, [replace(other, schema_version="sha256:" + "0" * 64)], telco) is own
    unread = replace(own, unread=(place,))
    assert filled(unread, [other], telco) is unread
