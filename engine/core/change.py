"""A change of one input, and its size.

Sizes are counted in steps, so that changes of different inputs compare: flipping a truth value, moving a
category by one place in its declared order, giving or leaving out a fact of the moment, supplying a missing
value, another place or channel, a consent given, a rest from contacts, waking hours, or a unit more of a
budget are one step each; a number's change is its distance over the width of the middle half of customers,
or where no reference is known over the larger of both values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.core.supply import PLENTY, Supply
from engine.domain import ContextScalar, DecisionRequest
from feature_store.state import CustomerState

REQUEST_FILTER = "request.filter"
CONTACT_PREFIX = "contact."
_KINDS = ("features.", "signals.", "context.", CONTACT_PREFIX, "consents.", "request.")

Scalar = ContextScalar


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Where a number lies among customers: ascending `edges` to try, and the width of the middle half."""

    edges: tuple[float, ...]
    spread: float


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a decision hangs on besides its values: the inputs that rules read, the literals they compare
    each with, and the range of numbers that models were trained on. All by input name.
    """

    read: frozenset[str] = frozenset()
    literals: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    ranges: Mapping[str, NumberRange] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """The values one decision is made from."""

    request: DecisionRequest
    state: CustomerState
    supply: Supply = PLENTY


@dataclass(frozen=True, slots=True)
class Change:
    """One input with another value; None is missing or not given. `steps` is its size."""

    input: str
    before: Scalar | None
    after: Scalar | None
    steps: float
    protected: bool = False  # a characteristic nobody is asked to change, such as age

    @property
    def order(self) -> tuple[float, int, str, str]:
        """Smaller changes first; of one size features before facts of the moment before channels."""
        kind = next((i for i, prefix in enumerate(_KINDS) if self.input.startswith(prefix)), len(_KINDS))
        return self.steps, kind, self.input, repr(self.after)


@dataclass(frozen=True, slots=True)
class NumberLine:
    """A number that is known, with values to try on both sides, nearest first."""

    input: str
    before: float
    below: tuple[float, ...]
    above: tuple[float, ...]
    spread: float | None
    whole: bool

    def change(self, value: float) -> Change:
        """The change to a value."""
        distance = abs(value - self.before)
        width = self.spread or max(abs(value), abs(self.before), 1.0)
        after: Scalar = int(value) if self.whole else value
        before: Scalar = int(self.before) if self.whole else self.before
        return Change(self.input, before, after, round(distance / width, 6))

    def between(self, low: float, high: float) -> float | None:
        """A value halfway, None where the resolution (1, or a hundredth) leaves none."""
        middle = float((int(low) + int(high)) // 2) if self.whole else round((low + high) / 2, 2)
        return middle if min(low, high) < middle < max(low, high) else None
