"""The demo company's signals mean what they say, and rules and reasons know each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from signal_examples import HOUR_MS, NOW_MS

from engine.ruleset.sources import RuleSources
from engine.signals.compile import signal_patterns
from engine.signals.evaluator import SignalEvaluator
from engine.signals.patterns import Event, SignalPatterns, Value
from engine.signals.reference import evaluate

RULES = Path(__file__).resolve().parents[3] / "rules"
DAY_MS = 24 * HOUR_MS
History = list[tuple[str, int, dict[str, Value]]]

STORIES: list[tuple[str, History, set[str]]] = [
    (
        "three failed payments in a week",
        [("payment_failed", days * DAY_MS, {"amount": 79.0}) for days in (20, 18, 15)],
        {"payment_trouble"},
    ),
    (
        "three failed payments, then all is paid",
        [
            *(("payment_failed", days * DAY_MS, {"amount": 79.0}) for days in (20, 18, 15)),
            ("payment_settled", 14 * DAY_MS, {}),
        ],
        set(),
    ),
    (
        "three failed payments over two weeks",
        [("payment_failed", days * DAY_MS, {"amount": 79.0}) for days in (20, 13, 6)],
        set(),
    ),
    (
        "three payments of a centime that failed",
        [("payment_failed", days * DAY_MS, {"amount": 0.01}) for days in (3, 2, 1)],
        set(),
    ),
    (
        "a complaint and a call the same day",
        [("complaint_opened", 30 * HOUR_MS, {}), ("call_received", 10 * HOUR_MS, {})],
        {"complaint_open", "complaint_then_call"},
    ),
    (
        "a complaint, a call, and an answer",
        [
            ("complaint_opened", 30 * HOUR_MS, {}),
            ("call_received", 10 * HOUR_MS, {}),
            ("complaint_closed", 2 * HOUR_MS, {}),
        ],
        set(),
    ),
    (
        "the cancellation page on three days, then the notice period",
        [
            *(("page_viewed", d * DAY_MS, {"path": "/cancel", "day": str(d)}) for d in (4, 3, 2)),
            ("search_made", DAY_MS, {"topic": "notice_period"}),
        ],
        {"cancel_intent", "cancel_page_repeated"},
    ),
    (
        "the cancellation page three times in one evening",
        [("page_viewed", DAY_MS + n, {"path": "/cancel", "day": "1"}) for n in range(3)],
        set(),
    ),
    (
        "a commitment that ends in a month, and nobody called",
        [("commitment_announced", 3 * DAY_MS, {"ends_at": NOW_MS + 30 * DAY_MS})],
        {"contract_ending_soon", "contract_ending_unattended"},
    ),
    (
        "a commitment that ends in a month, and somebody wrote",
        [
            ("commitment_announced", 3 * DAY_MS, {"ends_at": NOW_MS + 30 * DAY_MS}),
            ("contact_made", 2 * DAY_MS, {"channel": "email"}),
        ],
        {"contract_ending_soon"},
    ),
    (
        "a fault and two slow nights",
        [
            ("line_measured", 3 * DAY_MS, {"megabits": 2.5}),
            ("outage_reported", 2 * DAY_MS, {}),
            ("line_measured", DAY_MS, {"megabits": 3.5}),
        ],
        {"connection_trouble"},
    ),
    ("less than half the use", [("usage_compared", DAY_MS, {"ratio": 0.4})], {"usage_drop"}),
    (
        "less than half the use, then more again",
        [("usage_compared", 2 * DAY_MS, {"ratio": 0.4}), ("usage_compared", DAY_MS, {"ratio": 0.8})],
        set(),
    ),
    ("in Italy yesterday", [("roaming_session", DAY_MS, {"country": "IT"})], {"roaming_abroad"}),
    ("in Italy last week", [("roaming_session", 7 * DAY_MS, {"country": "IT"})], set()),
]


@pytest.fixture(scope="module")
def demo() -> SignalPatterns:
    """The signals of the demo company."""
    return signal_patterns(RuleSources.from_directory(RULES))


def _events(history: History) -> list[Event]:
    return [Event(str(n), type_, NOW_MS - age, data) for n, (type_, age, data) in enumerate(history)]


def test_every_story_raises_its_signals(demo: SignalPatterns) -> None:
    """Served and by definition, exactly the signals of the story stand."""
    told = [(title, _events(history)) for title, history, _ in STORIES]

    with SignalEvaluator(demo) as evaluator:
        found = evaluator.evaluate_many(told, NOW_MS)

    assert [(t, s) for t, _, s in STORIES] == [
        (title, {s.name for s in signals if s.value}) for (title, _), signals in zip(told, found, strict=True)
    ]
    assert [evaluate(demo, events, NOW_MS) for _, events in told] == found


def test_every_signal_is_declared_and_has_words(demo: SignalPatterns) -> None:
    """Each signal is in the vocabulary, is read by a rule, and has a name that people read."""
    vocabulary = (RULES / "vocabulary.yaml").read_text(encoding="utf-8")
    rules = "".join(path.read_text(encoding="utf-8") for path in (RULES / "business").glob("*.yaml"))
    words = (RULES / "reasons.yaml").read_text(encoding="utf-8")

    for signal in demo.signals:
        assert f"name: {signal.id}," in vocabulary
        assert f"signals.{signal.id}" in rules
        assert f'"signals.{signal.id}": ' in words


def test_what_stands_runs_out(demo: SignalPatterns) -> None:
    """A signal names the instant it stands since, and the one from which it no longer does."""
    (roaming,) = [
        s
        for s in evaluate(demo, _events([("roaming_session", DAY_MS, {"country": "IT"})]), NOW_MS)
        if s.value
    ]

    assert (roaming.since_ms, roaming.valid_until_ms) == (NOW_MS - DAY_MS, NOW_MS + DAY_MS)
