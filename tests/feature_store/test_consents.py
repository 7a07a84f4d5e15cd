"""The effective consent: rules in examples, safety in properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_examples import consent

from feature_store.consents import EffectiveConsent, effective_consent, prevailing
from feature_store.state import ANY_CHANNEL, ConsentRecord, ConsentState

GRANTED, DENIED, WITHDRAWN = ConsentState.GRANTED, ConsentState.DENIED, ConsentState.WITHDRAWN
OBJECTED, EXPIRED, UNKNOWN = ConsentState.OBJECTED, ConsentState.EXPIRED, ConsentState.UNKNOWN
NOW_MS = 50

times = st.integers(0, 100)
channels = st.sampled_from([ANY_CHANNEL, "web", "email"])
purposes = st.sampled_from(["marketing", "profiling"])
grants = st.builds(
    lambda at, channel, until, purpose: consent(
        GRANTED, at_ms=at, channel=channel, until_ms=until, purpose=purpose
    ),
    times,
    channels,
    st.none() | times,
    purposes,
)
refusals = st.builds(
    lambda state, at, channel, purpose: consent(state, at_ms=at, channel=channel, purpose=purpose),
    st.sampled_from([DENIED, WITHDRAWN, OBJECTED]),
    times,
    channels,
    purposes,
)
histories = st.lists(grants | refusals, max_size=8)


def on_web(*records: ConsentRecord, now_ms: int = NOW_MS) -> EffectiveConsent:
    return effective_consent(records, purpose="marketing", channel="web", now_ms=now_ms)


def web(state: ConsentState, at_ms: int, until_ms: int | None = None) -> ConsentRecord:
    return consent(state, at_ms=at_ms, channel="web", until_ms=until_ms)


def any_channel(state: ConsentState, at_ms: int, until_ms: int | None = None) -> ConsentRecord:
    return consent(state, at_ms=at_ms, until_ms=until_ms)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        pytest.param((), (UNKNOWN, "web", None), id="nothing is recorded"),
        pytest.param(
            (consent(purpose="profiling"), consent(channel="email")),
            (UNKNOWN, "web", None),
            id="another purpose or channel says nothing",
        ),
        pytest.param(
            (any_channel(GRANTED, 1),), (GRANTED, "any", 1), id="any holds without a record of its own"
        ),
        pytest.param((web(GRANTED, 1),), (GRANTED, "web", 1), id="the channel's own record"),
        pytest.param(
            (web(DENIED, 1), any_channel(GRANTED, 9)),
            (DENIED, "web", 1),
            id="own refusal beats a newer any grant",
        ),
        pytest.param(
            (web(GRANTED, 9), any_channel(OBJECTED, 1)),
            (GRANTED, "web", 9),
            id="own newer grant beats any refusal",
        ),
        pytest.param(
            (web(GRANTED, 1), any_channel(WITHDRAWN, 9)),
            (WITHDRAWN, "any", 9),
            id="any refusal as newer wins",
        ),
        pytest.param(
            (web(GRANTED, 5), any_channel(DENIED, 5)),
            (DENIED, "any", 5),
            id="any refusal at the same time wins",
        ),
        pytest.param(
            (web(DENIED, 9), any_channel(OBJECTED, 1)),
            (OBJECTED, "any", 1),
            id="a milder refusal hides no objection",
        ),
        pytest.param(
            (web(OBJECTED, 1), any_channel(DENIED, 9)),
            (OBJECTED, "web", 1),
            id="nor does a newer, milder any",
        ),
        pytest.param((web(GRANTED, 1, 50),), (EXPIRED, "web", 1), id="a grant ends at its end"),
        pytest.param((web(GRANTED, 1, 51),), (GRANTED, "web", 1), id="and not before"),
        pytest.param(
            (web(GRANTED, 9, 20), any_channel(GRANTED, 1)),
            (EXPIRED, "web", 9),
            id="an ended grant hides any grant",
        ),
        pytest.param(
            (web(GRANTED, 9, 20), any_channel(OBJECTED, 1)), (OBJECTED, "any", 1), id="but no any refusal"
        ),
        pytest.param((web(GRANTED, 51),), (DENIED, "web", 51), id="a grant ahead of now does not count yet"),
        pytest.param((web(GRANTED, 50),), (GRANTED, "web", 50), id="a grant counts from its instant"),
        pytest.param(
            (web(GRANTED, 51), any_channel(OBJECTED, 1)),
            (OBJECTED, "any", 1),
            id="nor does it lift an objection",
        ),
        pytest.param((web(OBJECTED, 99),), (OBJECTED, "web", 99), id="a refusal ahead of now counts at once"),
        pytest.param(
            (web(GRANTED, 1), any_channel(DENIED, 99)),
            (DENIED, "any", 99),
            id="also where it is for any channel",
        ),
        pytest.param((web(DENIED, 1, 20),), (DENIED, "web", 1), id="a refusal does not end by itself"),
    ],
)
def test_effective_consent(
    records: tuple[ConsentRecord, ...], expected: tuple[ConsentState, str, int | None]
) -> None:
    """What the customer's records mean for marketing on the web at 50."""
    assert on_web(*records) == EffectiveConsent(*expected)


def test_asking_for_any_channel() -> None:
    """The record for `any` answers a question about every channel."""
    effective = effective_consent([consent(at_ms=7)], purpose="marketing", channel=ANY_CHANNEL, now_ms=NOW_MS)

    assert effective == EffectiveConsent(GRANTED, ANY_CHANNEL, 7)


@given(histories, st.sampled_from([ANY_CHANNEL, "web"]), times, st.lists(grants, max_size=6))
def test_an_objection_is_never_hidden_by_older_grants(
    others: list[ConsentRecord], channel: str, at_ms: int, added: list[ConsentRecord]
) -> None:
    """However many grants no newer than an objection are added, it stands."""
    objection = consent(OBJECTED, at_ms=at_ms, channel=channel)
    not_newer = [r for r in (*others, *added) if r.recorded_at_ms <= at_ms and r.state is GRANTED]

    assert on_web(objection, *not_newer).state is OBJECTED


@given(histories, refusals, times)
def test_a_refusal_never_grants(records: list[ConsentRecord], refusal: ConsentRecord, now_ms: int) -> None:
    """Adding a refusal never turns what was not granted into granted."""
    before = on_web(*records, now_ms=now_ms)

    after = on_web(*records, refusal, now_ms=now_ms)

    assert before.state is GRANTED or after.state is not GRANTED


@given(histories, st.sampled_from([DENIED, WITHDRAWN, OBJECTED]), st.sampled_from([ANY_CHANNEL, "web"]))
def test_the_newest_word_being_no_is_no(
    records: list[ConsentRecord], state: ConsentState, channel: str
) -> None:
    """A refusal that is newer than everything else, or as new, is always obeyed."""
    refusal = consent(state, at_ms=100, channel=channel)

    assert on_web(*records, refusal).state in {DENIED, WITHDRAWN, OBJECTED}


def test_a_no_for_everything_after_an_objection_ends_what_was_granted_between() -> None:
    """The objection stays what it is, and is as new as the last no."""
    objected = consent(OBJECTED, at_ms=0, channel=ANY_CHANNEL)
    granted = consent(GRANTED, at_ms=50, channel="web")
    denied = consent(DENIED, at_ms=100, channel=ANY_CHANNEL)
    late = consent(GRANTED, at_ms=60, channel=ANY_CHANNEL)

    effective = on_web(objected, granted, denied)

    assert (effective.state, effective.since_ms) == (OBJECTED, 100)
    assert prevailing(prevailing(objected, denied), late).state is OBJECTED
    assert prevailing(denied, objected) == prevailing(objected, denied)


@given(histories, times)
def test_granted_rests_on_a_grant_in_force(records: list[ConsentRecord], now_ms: int) -> None:
    """GRANTED is only ever said of a recorded grant that has begun, has not ended and fits the question."""
    effective = on_web(*records, now_ms=now_ms)

    assert effective.state is not GRANTED or any(
        r.state is GRANTED
        and r.purpose == "marketing"
        and r.channel == effective.channel
        and r.channel in {ANY_CHANNEL, "web"}
        and r.recorded_at_ms == effective.since_ms
        and r.recorded_at_ms <= now_ms
        and (r.valid_until_ms is None or now_ms < r.valid_until_ms)
        for r in records
    )


@given(histories, st.randoms(use_true_random=False), times)
def test_order_of_records_does_not_matter(records: list[ConsentRecord], random: object, now_ms: int) -> None:
    """The answer is the same in whatever order records were stored."""
    shuffled = list(records)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert on_web(*shuffled, now_ms=now_ms) == on_web(*records, now_ms=now_ms)


@given(grants | refusals, grants | refusals)
def test_prevailing_record_is_the_later_then_the_stricter(one: ConsentRecord, two: ConsentRecord) -> None:
    """Which record is kept does not depend on which came first, but for records equal in what counts."""
    kept = prevailing(one, two)

    same = prevailing(two, one)
    objected = {one.state, two.state} in ({OBJECTED, DENIED}, {OBJECTED, WITHDRAWN})
    assert kept.state is OBJECTED or not objected
    assert objected or kept.recorded_at_ms == max(one.recorded_at_ms, two.recorded_at_ms)
    assert (kept.recorded_at_ms, kept.state, kept.valid_until_ms) == (
        same.recorded_at_ms,
        same.state,
        same.valid_until_ms,
    )


def test_a_milder_refusal_does_not_take_an_objection_back() -> None:
    """After an objection, a later denial or withdrawal leaves the objection; a later grant ends it."""
    objection = consent(OBJECTED, at_ms=1)

    after = [prevailing(objection, consent(s, at_ms=2)).state for s in (DENIED, WITHDRAWN, GRANTED)]

    assert after == [OBJECTED, OBJECTED, GRANTED]


def test_of_two_grants_at_once_the_shorter_is_kept() -> None:
    """A grant with an end is more restrictive than one without."""
    endless, short = consent(until_ms=None), consent(until_ms=10)

    assert prevailing(endless, short) == short
    assert prevailing(short, endless) == short
