"""Plots as SVG that stands in a page: text stays text, and the same figures give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

BLUE: Final = "#1f5fa8"
ORANGE: Final = "#c4621a"
GREEN: Final = "#1c7a4a"
RED: Final = "#b3261e"
GREY: Final = "#8a8f98"
WIDE: Final = 10.0
"""Inches of a plot that takes the page's width; letters are then as large as in the others."""


def draw(paint: Callable[[Axes], None], *, width: float = 4.8, height: float = 3.4) -> str:
    """An SVG element with what `paint` draws; inches at 72 points."""
    style = mpl.rc_context(
        {
            "font.size": 9,
            "font.family": "sans-serif",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.fonttype": "none",
            "svg.hashsalt": "arbiter",
            "text.parse_math": False,  # a column may be named $x$
        }
    )
    with style:
        figure = Figure(figsize=(width, height), layout="constrained", dpi=144)
        paint(figure.subplots())
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"^.*?(?=<svg)", "", content.getvalue(), flags=re.DOTALL)


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers, at 1, 2 and 5 of each power of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(LogLocator(subs=()))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
