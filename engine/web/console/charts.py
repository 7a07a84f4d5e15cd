"""Pictures as values: what a script draws with Chart.js, and the table that says the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

Tone = Literal["accent", "good", "warn", "bad", "quiet", "one", "two", "three", "four", "five", "six"]
TONES: tuple[Tone, ...] = ("one", "two", "three", "four", "five", "six", "quiet")
"""Of series that stand beside each other, in this order."""
Value = float | tuple[float, float] | None
"""A bar or a point; a pair is a bar from one value to the other."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values with a name, one for each label; `tones` colour them one by one, instead of all alike."""

    name: str
    values: Sequence[Value]
    tone: Tone = "accent"
    tones: Sequence[Tone] = ()
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of series over labels. `words` says in a sentence what is to be seen.

    `head` and `rows` are the table of the same data.
    """

    kind: Literal["bar", "line"]
    title: str
    words: str
    labels: Sequence[str]
    series: Sequence[Series]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    sideways: bool = False
    stacked: bool = False
    across: str = ""
    up: str = ""
    most: float | None = None  # where the axis of values ends

    @property
    def said(self) -> str:
        """What the script reads."""
        return json.dumps(
            {
                "kind": self.kind,
                "labels": list(self.labels),
                "sideways": self.sideways,
                "stacked": self.stacked,
                "across": self.across,
                "up": self.up,
                "most": self.most,
                "series": [
                    {
                        "name": one.name,
                        "values": list(one.values),
                        "tone": one.tone,
                        "tones": list(one.tones),
                        "dashed": one.dashed,
                    }
                    for one in self.series
                ],
            },
            ensure_ascii=False,
        )

    @property
    def tall(self) -> str:
        """How much room it wants, by the number of its bars."""
        count = len(self.labels)
        if not self.sideways:
            return "high" if len(self.series) > 3 else "normal"  # a legend of several lines
        return "short" if count <= 4 else "normal" if count <= 8 else "high"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a waterfall: what it is called, how far it goes, and what is said of it in the table."""

    name: str
    change: float
    told: str = ""


def waterfall(
    title: str,
    words: str,
    *,
    begins: tuple[str, float],
    steps: Sequence[Step],
    ends: str,
    head: Sequence[str],
    good_up: bool,
) -> Chart:
    """Bars that each begin where the one before ended: what raised a figure and what lowered it.

    `good_up` where raising it is what one would like, which colours tell.
    """
    first, base = begins
    reached = list(accumulate((step.change for step in steps), initial=base))
    spans: list[Value] = [(0.0, base)]
    spans += [(_plain(before), _plain(after)) for before, after in pairwise(reached)]
    spans.append((0.0, _plain(reached[-1])))
    up: Tone = "good" if good_up else "warn"
    down: Tone = "warn" if good_up else "good"
    tones: list[Tone] = ["quiet", *(up if step.change > 0 else down for step in steps), "accent"]
    rows = [
        (first, "", f"{base:+.2f}", ""),
        *(
            (s.name, f"{s.change:+.2f}", f"{to:+.2f}", s.told)
            for s, to in zip(steps, reached[1:], strict=True)
        ),
        (ends, "", f"{reached[-1]:+.2f}", ""),
    ]
    return Chart(
        kind="bar",
        title=title,
        words=words,
        labels=[first, *(f"{step.name}  {step.change:+.2f}" for step in steps), ends],
        series=[Series(title, spans, tones=tones)],
        head=head,
        rows=rows,
        sideways=True,
    )


def _plain(value: float) -> float:
    return round(value, 6)
