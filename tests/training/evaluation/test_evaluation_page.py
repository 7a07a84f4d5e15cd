"""The report as people get it: whole, escaped, alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from engine.pages.page import Warned
from training.evaluation.held_out import HeldOut
from training.evaluation.report import Facts, evaluation_page

FACTS = Facts(
    name="churn",
    version="7",
    intended_use="Ranks customers by risk.",
    made="made by a test",
    training=[("seed", "1")],
    columns=[("<visits>", "int", "2.0 %", "input")],
    warned=[Warned("A column tells the label.", "`churned_at` <b>knows</b> it.", severe=True)],
    gates=[("auc", "0.700", "0.750", False)],
)


class _Reader(HTMLParser):
    """Headings and what is open at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def test_the_page_says_everything_and_fetches_nothing(held: HeldOut) -> None:
    """Nine plots, every heading, no script, and no link that leaves the page."""
    page = evaluation_page(held, FACTS, seed=1).html()

    reader = _Reader()
    reader.feed(page)
    assert page.startswith("<!doctype html>")
    assert reader.tags.count("figure") == 9
    assert "script" not in reader.tags
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    for word in (
        "AUC over logistic regression",
        "Calibration error",
        "region = south",
        "promised minus seen",
    ):
        assert word in page
    assert "FAILED" in page


def test_texts_of_the_data_cannot_become_markup(held: HeldOut) -> None:
    """A column may be named like a tag, in a table and in a plot."""
    page = evaluation_page(held, FACTS, seed=1).html()

    assert "<visits>" not in page
    assert "&lt;visits&gt;" in page
    assert "<b>knows" not in page


def test_the_same_rows_give_the_same_bytes(held: HeldOut) -> None:
    """Nothing of the hour or the machine is in it."""
    first, second = (evaluation_page(held, FACTS, seed=1).html() for _ in range(2))

    assert first == second
    assert not re.search(r"/tmp/|/home/", first)
