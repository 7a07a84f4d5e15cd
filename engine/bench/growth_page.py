"""The page of how cost grows: a plot and a table for each dimension."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from engine.bench.growth_points import Point, exponents, of_dimension
from engine.pages.drawing import BLUE, GREY, ORANGE, draw, logarithmic
from engine.pages.page import Grid, Headline, Page, Plot, Section

_DIMENSIONS: Final = ("candidates", "rules", "features", "customers")
_HEAD: Final = ("µs of a core", "p50 ms", "p99 ms", "exponent")


def growth_page(points: Sequence[Point], *, cliff: float) -> Page:
    """All points; an exponent above `cliff` is coloured."""
    measured = [name for name in _DIMENSIONS if of_dimension(points, name)]
    return Page(
        title="How the cost of a decision grows",
        subtitle="make bench ONLY=growth",
        lead="One thing grows at a time; all else is as in the benchmark of the whole. The exponent is how "
        "cost grows from one point to the next: 0 not at all, 1 in proportion.",
        headlines=[_headline(points, name, cliff) for name in measured],
        warned=[],
        sections=[*(_section(points, name) for name in measured), *_workers(points)],
        made=f"{platform.machine()} {platform.system()}, Python {platform.python_version()}; the best of "
        "several turns of each point, from the request's bytes to the reply's, in one process, on the "
        "embedded store.",
    )


def _headline(points: Sequence[Point], name: str, cliff: float) -> Headline:
    steepest = max(exponents(points, name))
    verdict = "bad" if steepest > cliff else "good"
    return Headline(name, f"{steepest:.2f}", "steepest exponent", verdict)  # type: ignore[arg-type]  # a literal


def _section(points: Sequence[Point], name: str) -> Section:
    of_name = of_dimension(points, name)
    words = ", ".join(f"{point.size:,}: {point.cpu_us:,.0f} µs" for point in of_name)
    return Section(
        name.capitalize(),
        f"From {of_name[0].size:,} to {of_name[-1].size:,}.",
        [
            Plot(f"Cost by {name}", draw(lambda axes: _paint(axes, of_name, name)), words),
            Grid(name.capitalize(), (name, *_HEAD), _lines(points, name), frozenset(range(5))),
        ],
    )


def _paint(axes: Axes, points: Sequence[Point], name: str) -> None:
    sizes = [point.size for point in points]
    first = points[0]
    axes.plot(sizes, [p.cpu_us for p in points], color=BLUE, marker="o", label="a decision")
    axes.plot(sizes, [p.p99_ms * 1e3 for p in points], color=ORANGE, marker="o", label="p99")
    proportional = [first.cpu_us * size / first.size for size in sizes]
    axes.plot(sizes, proportional, color=GREY, linestyle=":", label="in proportion")
    axes.set_xscale("log")
    logarithmic(axes)
    axes.set_ylim(top=3 * max(max(p.p99_ms * 1e3 for p in points), first.cpu_us))
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(name)
    axes.set_ylabel("µs")
    axes.legend(frameon=False)


def _lines(points: Sequence[Point], name: str) -> list[list[str]]:
    grown = ["", *(f"{exponent:.2f}" for exponent in exponents(points, name))]
    return [
        [f"{p.size:,}", f"{p.cpu_us:,.0f}", f"{p.p50_ms:.2f}", f"{p.p99_ms:.2f}", exponent]
        for p, exponent in zip(of_dimension(points, name), grown, strict=True)
    ]


def _workers(points: Sequence[Point]) -> list[Section]:
    served = of_dimension(points, "workers")
    if not served:
        return []
    lines = [[f"{p.size}", f"{p.per_s:,.0f}", f"{p.cpu_us:,.0f}"] for p in served]
    head = ("workers", "requests a second", "µs of a core")
    lead = "Processes of one server on all cores of the machine, which the load shares with them."
    return [Section("Workers", lead, [Grid("Workers", head, lines, frozenset(range(3)))])]
