"""What tests of the pages share: the server's address, what a page complained of, and axe-core."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page

Desk = Callable[..., Page]
"""Opens a fresh page with cookies of its own; what it is given are options of a browser context."""

AXE = Path(__file__).with_name("axe.min.js")
DESK = {"width": 1280, "height": 800}
PANEL = {"width": 400, "height": 800}
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass(frozen=True, slots=True)
class Site:
    """A running web server; `app` is what it serves."""

    address: str
    app: Any

    def at(self, path: str) -> str:
        """The whole address of a path."""
        return self.address + path

    def post(self, path: str, body: bytes = b"{}", **headers: str) -> tuple[int, bytes]:
        """Asks as a telephone system would."""
        asked = urllib.request.Request(
            self.at(path), body, {"Content-Type": "application/json", **headers}, method="POST"
        )
        with urllib.request.urlopen(asked, timeout=10) as reply:
            return reply.status, reply.read()


@dataclass(slots=True)
class Complaints:
    """What pages wrote to their console as errors or warnings, and scripts that failed."""

    found: list[str]
    expected: tuple[str, ...] = ()

    def expect(self, *parts: str) -> None:
        """Complaints that hold one of these are meant to be."""
        self.expected += parts

    def __call__(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.found.append(message.text)

    def unexpected(self) -> list[str]:
        """All the others."""
        return [text for text in self.found if not any(part in text for part in self.expected)]


def accessibility(page: Page) -> list[str]:
    """What axe-core finds wrong with a page as it stands, by WCAG 2.2 AA and its own practices."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(f"axe.run({{runOnly: {_RULES}}})")
    return [
        f"{each['id']}: {node['html'][:160]} {node.get('failureSummary', '')}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def sideways(page: Page) -> bool:
    """Whether anything has to be scrolled sideways to be seen."""
    wide: bool = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return wide
