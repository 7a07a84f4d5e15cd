"""Random signals and histories for the property tests, and small ones for the others."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from engine.ruleset.signal_documents import AttributeType
from engine.signals.patterns import (
    Absence,
    AllPattern,
    AnyPattern,
    Comparison,
    CountPattern,
    Event,
    EventPattern,
    Pattern,
    SequencePattern,
    SignalPattern,
    SignalPatterns,
)

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
TYPES = ("login", "payment", "call")
NUMBER, TEXT = AttributeType.DOUBLE, AttributeType.STRING


def patterns_of(*signals: SignalPattern, types: Sequence[str] = TYPES) -> SignalPatterns:
    """Signals as a set."""
    return SignalPatterns("sha256:test", frozenset(types), signals)


def stands(pattern: Pattern, *absent: Absence, name: str = "it", valid_for_ms: int = 10**9) -> SignalPattern:
    """A signal of a pattern."""
    return SignalPattern(name, "a test", valid_for_ms, pattern, absent)


def at(type_: str, *ages_ms: int, **attributes: bool | int | float | str) -> list[Event]:
    """Events of a type, so long ago."""
    return [Event(f"{type_}-{i}-{age}", type_, NOW_MS - age, attributes) for i, age in enumerate(ages_ms)]


_windows = st.sampled_from([1, 2, 3, 5, 8, 20, 100])
_comparisons = st.one_of(
    st.builds(
        Comparison,
        st.just("amount"),
        st.just(NUMBER),
        st.sampled_from(["equals", "differs", "below", "at_most", "above", "at_least"]),
        st.sampled_from([0.0, 1e-05, 2.0]),
    ),
    st.builds(Comparison, st.just("place"), st.just(TEXT), st.just("equals"), st.sampled_from(["1", "ä"])),
    st.builds(
        Comparison, st.just("due"), st.just(AttributeType.TIMESTAMP), st.just("within_next"), st.just(5)
    ),
)
_events = st.builds(
    EventPattern,
    st.sampled_from(TYPES),
    st.one_of(st.just(()), st.lists(_comparisons, max_size=2).map(tuple)),
)
_counts = st.builds(
    CountPattern, _events, st.integers(1, 4), _windows, st.sampled_from([None, None, "place"]), st.just(TEXT)
)


def _combined(inner: st.SearchStrategy[Pattern]) -> st.SearchStrategy[Pattern]:
    parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(SequencePattern, parts, _windows),
        st.builds(AllPattern, parts, _windows),
        st.builds(AnyPattern, parts),
    )


_patterns = st.recursive(st.one_of(_events, _counts), _combined, max_leaves=4)
signals = st.builds(
    SignalPattern,
    st.just("it"),
    st.just("a test"),
    _windows,
    _patterns,
    st.lists(st.builds(Absence, _events, st.one_of(st.none(), _windows)), max_size=2).map(tuple),
)
_values = st.fixed_dictionaries(
    {},
    optional={
        "amount": st.sampled_from([0.0, -0.0, 1e-05, 2.0, 2, True, "2.0", float("nan")]),
        "place": st.sampled_from(["1", "ä", "a\u0308", "", 1, True]),
        "due": st.sampled_from([NOW_MS - 1, NOW_MS, NOW_MS + 4, NOW_MS + 5, float(NOW_MS)]),
    },
)
histories = st.lists(
    st.builds(
        Event,
        st.integers(0, 15).map(str),  # so that some ids come twice
        st.sampled_from([*TYPES, "unheard_of"]),
        st.integers(-2, 25).map(lambda age: NOW_MS - age),
        _values,
    ),
    max_size=14,
)
