"""Sets of values that a condition or a cell of a table leaves to one input, with exact arithmetic.

Numbers are closed spans between representable values, so that `< 10.0` and `>= 10.0` leave nothing between
them. Two special values lie outside of every comparison: a missing input, and "not a number".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from engine.ruleset.expression import INT_MAX, INT_MIN, Kind

MISSING: Final = "missing"
NAN: Final = "nan"
Number = int | float
Span = tuple[Number, Number]
_NOTHING_SPECIAL: Final[frozenset[str]] = frozenset()
_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers in closed spans that ascend and do not touch. `whole`: 4 is next to 5."""

    spans: tuple[Span, ...]
    whole: bool
    special: frozenset[str] = _NOTHING_SPECIAL

    def meet(self, other: Numbers) -> Numbers:
        """What is in both."""
        spans = [
            (max(low, other_low), min(high, other_high))
            for low, high in self.spans
            for other_low, other_high in other.spans
            if max(low, other_low) <= min(high, other_high)
        ]
        return Numbers(tuple(spans), self.whole, self.special & other.special)

    def without(self, other: Numbers) -> Numbers:
        """What is in this set only."""
        spans = list(self.spans)
        for cut_low, cut_high in other.spans:
            spans = [part for span in spans for part in self._around(span, cut_low, cut_high)]
        return Numbers(tuple(spans), self.whole, self.special - other.special)

    def _around(self, span: Span, cut_low: Number, cut_high: Number) -> Iterable[Span]:
        low, high = span
        if cut_high < low or high < cut_low:
            yield span
            return
        if low < cut_low:
            yield low, self.before(cut_low)
        if cut_high < high:
            yield self.after(cut_high), high

    def before(self, value: Number) -> Number:
        """The number just below."""
        return value - 1 if self.whole else math.nextafter(value, -math.inf)

    def after(self, value: Number) -> Number:
        """The number just above."""
        return value + 1 if self.whole else math.nextafter(value, math.inf)

    def holds(self, value: Number) -> bool:
        """Whether a number is in the set."""
        return any(low <= value <= high for low, high in self.spans)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in the set."""
        return not self.spans and not self.special

    def words(self) -> str:
        """The set as a cell of a table would say it."""
        return _listed([self._span_words(*span) for span in self.spans], self.special)

    def _span_words(self, low: Number, high: Number) -> str:
        open_low = low == (INT_MIN if self.whole else -math.inf)
        open_high = high == (INT_MAX if self.whole else math.inf)
        start, start_sign = self._bound(low, self.before(low), "[", "(")
        end, end_sign = self._bound(high, self.after(high), "]", ")")
        if open_low and open_high:
            return "any"
        if open_low:
            return f"{'<=' if end_sign == ']' else '<'} {end}"
        if open_high:
            return f"{'>=' if start_sign == '[' else '>'} {start}"
        return start if low == high else f"{start_sign}{start}..{end}{end_sign}"

    def _bound(self, value: Number, beyond: Number, closed: str, opened: str) -> tuple[str, str]:
        """A bound as people wrote it: 10 outside rather than 9.999999999999998 inside."""
        if not self.whole and math.isfinite(beyond) and len(repr(beyond)) < len(repr(value)):
            return _number_words(beyond), opened
        return _number_words(value), closed


@dataclass(frozen=True, slots=True)
class Words:
    """Texts or booleans: those named, or with `others` all but those named."""

    names: frozenset[str]
    others: bool = False
    special: frozenset[str] = _NOTHING_SPECIAL

    def meet(self, other: Words) -> Words:
        """What is in both."""
        special = self.special & other.special
        if self.others and other.others:
            return Words(self.names | other.names, others=True, special=special)
        if self.others:
            return Words(other.names - self.names, special=special)
        return Words(self.names - other.names if other.others else self.names & other.names, special=special)

    def without(self, other: Words) -> Words:
        """What is in this set only."""
        special = self.special - other.special
        if other.others:
            kept = other.names - self.names if self.others else self.names & other.names
            return Words(kept, special=special)
        if self.others:
            return Words(self.names | other.names, others=True, special=special)
        return Words(self.names - other.names, special=special)

    def holds(self, value: str) -> bool:
        """Whether a text is in the set."""
        return (value in self.names) != self.others

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in the set."""
        return not self.names and not self.others and not self.special

    def words(self) -> str:
        """The set as a cell of a table would say it."""
        names = sorted(self.names)
        if self.others:
            return f"not({_listed(names, _NOTHING_SPECIAL)})" if names else "any"
        return _listed([name or '""' for name in names], self.special)


ValueSet = Numbers | Words
EVERY_WHOLE: Final = Numbers(((INT_MIN, INT_MAX),), whole=True)
EVERY_NUMBER: Final = Numbers(((-math.inf, math.inf),), whole=False)
EVERY_TEXT: Final = Words(frozenset(), others=True)
BOTH: Final = Words(frozenset({"true", "false"}))


def meet(one: ValueSet, other: ValueSet) -> ValueSet:
    """What is in both sets of one input."""
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return one.meet(other)
    assert isinstance(one, Words)
    assert isinstance(other, Words)
    return one.meet(other)


def without(one: ValueSet, other: ValueSet) -> ValueSet:
    """What is in the first set of one input only."""
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return one.without(other)
    assert isinstance(one, Words)
    assert isinstance(other, Words)
    return one.without(other)


def every_value(kind: Kind) -> ValueSet:
    """All values of a kind; instants and durations are whole milliseconds."""
    match kind:
        case Kind.BOOL:
            return BOTH
        case Kind.STRING:
            return EVERY_TEXT
        case Kind.DOUBLE:
            return EVERY_NUMBER
        case _:
            return EVERY_WHOLE


def compared(every: ValueSet, sign: str, value: bool | int | float | str) -> ValueSet:
    """The values for which `value_of_input sign value` holds; a special value satisfies `!=` if it is NaN."""
    if sign == "!=":
        kept = without(every, compared(every, "==", value))
        return without(kept, _only_missing(every))
    if isinstance(every, Words):
        named = Words(frozenset({str(value).lower() if isinstance(value, bool) else str(value)}))
        return every.meet(named)
    assert not isinstance(value, str)
    lowest, highest = (INT_MIN, INT_MAX) if every.whole else (-math.inf, math.inf)
    low, high = {
        "==": (value, value),
        "<": (lowest, every.before(value)),
        "<=": (lowest, value),
        ">": (every.after(value), highest),
        ">=": (value, highest),
    }[sign]
    return every.meet(Numbers(((low, high),) if low <= high else (), every.whole))


def _only_missing(like: ValueSet) -> ValueSet:
    special = frozenset({MISSING})
    return (
        Numbers((), like.whole, special) if isinstance(like, Numbers) else Words(frozenset(), special=special)
    )


def only_missing(like: ValueSet) -> ValueSet:
    """The set of an input that holds only "missing"."""
    return _only_missing(like)


def _listed(parts: list[str], special: frozenset[str]) -> str:
    shown = [*parts, *sorted(special)]
    rest = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _number_words(value: Number) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)
