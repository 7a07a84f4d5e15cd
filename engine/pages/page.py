"""A report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

_FOLDER: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Headline:
    """One figure that people look for first. `verdict` colours it."""

    name: str
    value: str
    note: str = ""
    verdict: Literal["", "good", "bad"] = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """An SVG element with its title, and in words what it shows for those who cannot see it."""

    title: str
    svg: str
    words: str
    wide: bool = False

    @property
    def markup(self) -> Markup:
        """The element as it stands in the page: drawn by our own code from numbers and escaped names."""
        return Markup(self.svg)  # noqa: S704


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; `numbers` are the columns set to the right."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a reader must know before trusting the rest."""

    title: str
    text: str
    severe: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under a heading."""

    title: str
    lead: str
    blocks: Sequence[Plot | Grid]


@dataclass(frozen=True, slots=True)
class Page:
    """All that a report says, in its order."""

    title: str
    subtitle: str
    lead: str
    headlines: Sequence[Headline]
    warned: Sequence[Warned]
    sections: Sequence[Section]
    made: str

    def html(self) -> str:
        """The file's content; every text is escaped."""
        return _template().render(page=self, is_plot=lambda block: isinstance(block, Plot)) + "\n"


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")
