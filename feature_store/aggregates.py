"""How a streaming feature is computed from a customer's events, as the feature schema declares it.

    [feature.aggregate]
    function = "count"           # count, sum, last_seen, distinct, decay or rfm
    events = ["payment_failed"]
    window = "90d"

An event at instant t counts at `now` while floor(t / step) > floor((now - window) / step): a window as long
as `window` that moves in steps of `step`. With a step of 1 ms that is the true window (now - window, now].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})(ms|s|m|h|d|w)\Z")
_MAX_WINDOW_MS: Final = 10 * 366 * 86_400_000
_NICE_STEPS_MS: Final = (86_400_000, 3_600_000, 60_000, 1_000)
_STEPS_PER_WINDOW: Final = 100
"""Steps that a window has at least where its author names none: the edge is then within 1 % of the window."""
_STEPS_PER_HALF_LIFE: Final = 10
MAX_STEPS: Final = 5_000
"""Steps of a window longer than a day: what is kept for one feature stays below about 50 kB."""
MAX_DISTINCT: Final = 500
"""Values that `distinct` tells apart; the newest are kept, and the count ends there."""

Attribute = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Wanted = bool | int | float | str


def _milliseconds(written: object) -> object:
    found = _DURATION.match(written) if isinstance(written, str) else None
    if found is None:
        raise ValueError("not a duration; write 30m, 24h, 7d or 52w")
    return int(found[1]) * _UNIT_MS[found[2]]


Duration = Annotated[int, BeforeValidator(_milliseconds), Field(le=_MAX_WINDOW_MS)]
Cuts = Annotated[tuple[float, ...], Field(min_length=1, max_length=8)]


class RfmCuts(BaseModel):
    """Where recency (days), frequency (events) and monetary value (sum) go from one score to the next.

    Each list ascends and makes scores from 1 to one more than its cuts; for recency fewer days score higher.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recency_days: Cuts
    frequency: Cuts
    monetary: Cuts

    @model_validator(mode="after")
    def _cuts_ascend(self) -> Self:
        for name in ("recency_days", "frequency", "monetary"):
            cuts = getattr(self, name)
            if any(low >= high for low, high in pairwise(cuts)) or cuts[0] <= 0:
                raise ValueError(f"`{name}` must be positive and ascend")
        return self


class Aggregate(BaseModel):
    """What a feature counts, and how far back.

    - count: how many events; sum: of the attribute, to six decimals;
    - last_seen: whole `unit`s since the latest event, absent where none is in the window;
    - distinct: how many values of the attribute, at most 500;
    - decay: events (or the attribute's values), each halved for every `half_life` of its age in steps;
    - rfm: three digits, recency, frequency and monetary score; absent where no event is in the window.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: Literal["count", "sum", "last_seen", "distinct", "decay", "rfm"]
    events: Annotated[tuple[Attribute, ...], Field(min_length=1)]
    window: Duration
    step: Duration | None = None
    attribute: Attribute | None = None
    where: Mapping[Attribute, Wanted | tuple[Wanted, ...]] = Field(default={})
    half_life: Duration | None = None
    unit: Duration | None = None
    cuts: RfmCuts | None = None

    @model_validator(mode="after")
    def _parts_fit_function(self) -> Self:
        self._require(
            "attribute", for_=("sum", "distinct", "rfm"), allowed=("sum", "distinct", "rfm", "decay")
        )
        self._require("half_life", for_=("decay",), allowed=("decay",))
        self._require("unit", for_=("last_seen",), allowed=("last_seen",))
        self._require("cuts", for_=("rfm",), allowed=("rfm",))
        if self.step is not None and self.step > self.window:
            raise ValueError("`step` is longer than `window`")
        long = self.window > _UNIT_MS["d"]
        if self.step is not None and long and self.window / self.step > MAX_STEPS:
            raise ValueError(f"the window has more than {MAX_STEPS} steps; give a longer `step`")
        return self

    def _require(self, part: str, *, for_: tuple[str, ...], allowed: tuple[str, ...]) -> None:
        given = getattr(self, part) is not None
        if not given and self.function in for_:
            raise ValueError(f"`{part}` is missing; {self.function} needs it")
        if given and self.function not in allowed:
            raise ValueError(f"`{part}` is not for {self.function}")

    @property
    def step_ms(self) -> int:
        """The declared step, or one that suits the window."""
        if self.step is not None:
            return self.step
        longest = self.window // _STEPS_PER_WINDOW
        if self.half_life is not None:
            longest = min(self.half_life // _STEPS_PER_HALF_LIFE, self.window)
        return next((step for step in _NICE_STEPS_MS if step <= longest), 1)

    @property
    def canonical(self) -> object:
        """Everything that decides the values, as plain data."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"step": self.step_ms}
