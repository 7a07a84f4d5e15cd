"""A run as a page: whether it kept what was promised, and how latency goes with load and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from engine.pages.drawing import BLUE, GREEN, GREY, ORANGE, RED, WIDE, draw, logarithmic
from engine.pages.page import Grid, Headline, Page, Plot, Section, Warned
from loadtest.objectives import KEPT_UP, Objectives, judge, kept, knee
from loadtest.results import PERCENTILES, Result, Step, latency_ms

MOST_SENDER_CPU: Final = 0.8
"""Share of a core that a sender process may use; beyond it it measures itself."""
MOST_LAG_MS: Final = 1.0
_COLORS: Final = (BLUE, ORANGE, GREEN, RED, "#6a4c93", "#8a6d3b", "#0f7b8a", GREY)
_NINES: Final = np.array([0.5, 0.9, 0.99, 0.999, 0.9999])


def report_page(result: Result, objectives: Objectives) -> Page:
    """The report of one run."""
    best = knee(result.steps, objectives)
    judged = best or result.steps[0]
    return Page(
        title=f"Load test {result.name}",
        subtitle=f"{result.profile} traffic on {result.target}, {result.started}",
        lead="Open loop: calls are sent when their schedule says, whatever the server does, and each counts "
        "from its scheduled instant. " + _server(result),
        headlines=_headlines(result, objectives, best),
        warned=doubts(result),
        sections=[
            _objectives(judged, objectives),
            _latencies(result),
            *([_load(result, objectives)] if len(result.steps) > 1 else []),
            _over_time(judged),
            _steps(result, objectives),
        ],
        made=f"{result.machine}; {result.processes} sender processes with {result.channels} channels each; "
        f"{result.arrivals} arrivals, seed {result.seed}; warm-up of {result.warm_up_s:g} s left out; "
        f"deadline {result.deadline_s:g} s.",
    )


def doubts(result: Result) -> tuple[Warned, ...]:
    """What speaks against the figures: a sender that was too busy or too late."""
    found = []
    busy = [s for s in result.steps if s.sender_cpu > MOST_SENDER_CPU * result.processes]
    late = [s for s in result.steps if s.lag_p99_ms > MOST_LAG_MS]
    if busy:
        found.append(
            Warned(
                "The senders were busy.",
                f"At {_rates(busy)} calls/s they used more than {MOST_SENDER_CPU:.0%} of a core each: what "
                "is measured there is partly the load test. Use more --processes, or another machine.",
            )
        )
    if late:
        found.append(
            Warned(
                "Calls were sent late.",
                f"At {_rates(late)} calls/s one in a hundred left more than {MOST_LAG_MS:g} ms after its "
                "instant. That wait is counted as latency; a less busy machine would have less of it.",
            )
        )
    return tuple(found)


def _rates(steps: Sequence[Step]) -> str:
    return ", ".join(f"{step.rate:,.0f}" for step in steps)


def _server(result: Result) -> str:
    return f"Server: {result.server}." if result.server else ""


def _headlines(result: Result, objectives: Objectives, best: Step | None) -> list[Headline]:
    told = [
        Headline(
            "Objectives",
            "kept" if best is not None else "broken",
            objectives.name,
            "good" if best is not None else "bad",
        )
    ]
    step = best or result.steps[0]
    latencies = step.latencies()
    told.append(
        Headline("Rate", f"{step.rate:,.0f}/s", "the highest that kept them" if best else "lowest tried")
    )
    for percentile in (50.0, 99.0, 99.9):
        told.append(
            Headline(f"p{percentile:g}", f"{latency_ms(latencies, percentile):.2f} ms", "at that rate")
        )
    told.append(Headline("Errors", f"{step.failed_share:.3%}", f"{step.shed_share:.3%} shed"))
    return told


def _objectives(step: Step, objectives: Objectives) -> Section:
    return Section(
        title="What was promised",
        lead=f"At {step.rate:,.0f} calls a second, of which {step.answered_rate:,.0f} were answered in "
        f"time; a server keeps up that answers {KEPT_UP:.0%}.",
        blocks=[
            Grid(
                title=objectives.name,
                head=("objective", "found", "limit", ""),
                lines=[
                    (j.objective, f"{j.found:.4g}", f"{j.limit:.4g}", "kept" if j.kept else "BROKEN")
                    for j in judge(step, objectives)
                ],
                numbers=frozenset({1, 2}),
            )
        ],
    )


def _latencies(result: Result) -> Section:
    shown = _spread(result.steps, len(_COLORS))

    def paint(axes: Axes) -> None:
        marks = 1.0 - np.logspace(0, -4, 120)
        for step, color in zip(shown, _COLORS, strict=False):
            latencies = step.latencies()
            took = [latency_ms(latencies, 100.0 * mark) for mark in marks]
            axes.plot(-np.log10(1.0 - marks), took, color=color, linewidth=1.2, label=f"{step.rate:,.0f}/s")
        axes.set_xticks(-np.log10(1.0 - _NINES), [f"{100 * nine:g}" for nine in _NINES])
        logarithmic(axes)
        axes.grid(axis="y", color="#e3e6ea", linewidth=0.6)
        axes.set(xlabel="percentile", ylabel="latency, ms")
        axes.legend(loc="upper left", frameon=False, title="offered")

    return Section(
        title="Latency by percentile",
        lead="What share of calls took no longer. A line that bends up early is a queue.",
        blocks=[
            Plot("Percentiles", draw(paint, width=WIDE), "Latency by percentile of each rate", wide=True)
        ],
    )


def _load(result: Result, objectives: Objectives) -> Section:
    steps = sorted(result.steps, key=lambda step: step.rate)

    def paint_latency(axes: Axes) -> None:
        rates = [step.answered_rate for step in steps]
        for percentile, color in ((50.0, GREY), (99.0, BLUE), (99.9, ORANGE)):
            axes.plot(
                rates,
                [s.at_ms(percentile) for s in steps],
                color=color,
                marker="o",
                ms=3,
                label=f"p{percentile:g}",
            )
        for limit, color in ((objectives.p99_ms, BLUE), (objectives.p99_9_ms, ORANGE)):
            if limit is not None:
                axes.axhline(limit, color=color, linewidth=0.8, linestyle=":")
        logarithmic(axes)
        axes.set(xlabel="answered, calls/s", ylabel="latency, ms")
        axes.legend(loc="upper left", frameon=False)

    def paint_answers(axes: Axes) -> None:
        rates = [step.calls / step.seconds for step in steps]
        axes.plot(rates, rates, color=GREY, linewidth=0.8, linestyle=":", label="offered")
        axes.plot(rates, [s.answered_rate for s in steps], color=BLUE, marker="o", ms=3, label="answered")
        axes.plot(
            rates,
            [s.shed_share * s.calls / s.seconds for s in steps],
            color=ORANGE,
            marker="o",
            ms=3,
            label="shed",
        )
        axes.set(xlabel="offered, calls/s", ylabel="calls/s")
        axes.legend(loc="upper left", frameon=False)

    return Section(
        title="Latency under load",
        lead="Each dot is a step. Dotted lines are what was promised.",
        blocks=[
            Plot("Throughput against latency", draw(paint_latency), "Latency by answered rate"),
            Plot("Offered and answered", draw(paint_answers), "Answered rate by offered rate"),
        ],
    )


def _over_time(step: Step) -> Section:
    seconds = np.arange(len(step.over_time))

    def paint(axes: Axes) -> None:
        for name, color in (("worst_ms", ORANGE), ("p99_ms", BLUE), ("p50_ms", GREY)):
            axes.plot(
                seconds,
                [getattr(s, name) for s in step.over_time],
                color=color,
                label=name.removesuffix("_ms"),
            )
        logarithmic(axes)
        axes.set(xlabel="seconds since the start of the step", ylabel="latency, ms")
        axes.legend(loc="upper right", frameon=False)

    def paint_calls(axes: Axes) -> None:
        axes.bar(seconds, [s.calls for s in step.over_time], color=BLUE, width=0.8, label="calls")
        axes.bar(seconds, [s.failed for s in step.over_time], color=RED, width=0.8, label="without an answer")
        axes.set(xlabel="seconds since the start of the step", ylabel="calls")
        axes.legend(loc="lower right")

    return Section(
        title=f"Over time, at {step.rate:,.0f} calls a second",
        lead="By the second in which a call was to be sent.",
        blocks=[
            Plot("Latency", draw(paint), "Latency by second"),
            Plot("Calls", draw(paint_calls), "Calls by second"),
        ],
    )


def _steps(result: Result, objectives: Objectives) -> Section:
    names = [f"p{percentile:g}" if percentile < 100 else "worst" for percentile in PERCENTILES]
    lines = []
    for step in result.steps:
        latencies = step.latencies()
        lines.append(
            (
                f"{step.rate:,.0f}",
                f"{step.answered_rate:,.0f}",
                *(f"{latency_ms(latencies, percentile):.2f}" for percentile in PERCENTILES),
                ", ".join(f"{name} {count:,}" for name, count in step.codes.items()),
                f"{step.degraded:,}",
                f"{step.lag_p99_ms:.2f}",
                f"{step.sender_cpu:.2f}",
                "–" if step.server_cpu is None else f"{step.server_cpu:.2f}",
                "kept" if kept(step, objectives) else "broken",
            )
        )
    return Section(
        title="Every step",
        lead="Latencies in milliseconds, of answered calls. CPU in cores.",
        blocks=[
            Grid(
                title="Steps",
                head=(
                    "offered/s",
                    "answered/s",
                    *names,
                    "status codes",
                    "degraded",
                    "lag p99",
                    "sender CPU",
                    "server CPU",
                    "objectives",
                ),
                lines=lines,
                numbers=frozenset({*range(2 + len(names)), *range(3 + len(names), 7 + len(names))}),
            )
        ],
    )


def _spread(steps: Sequence[Step], most: int) -> list[Step]:
    """At most so many steps, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    places = np.unique(np.linspace(0, len(steps) - 1, most).round().astype(int))
    return [steps[place] for place in places]
