"""What authors are told about every kind of mistake, word for word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_ruleset import GOLDEN, SCHEMA, base_texts

from engine.ruleset.build import check
from engine.ruleset.diagnostics import render
from engine.ruleset.sources import RuleSources

CASES = sorted(path for path in (GOLDEN / "cases").iterdir() if path.is_dir())


def _sources(case: Path) -> RuleSources:
    texts = base_texts()
    for path in (*case.glob("*.yaml"), *case.glob("*.csv")):
        texts[path.name] = path.read_text(encoding="utf-8")
    for path in case.glob("*.absent"):
        del texts[path.name.removesuffix(".absent")]
    return RuleSources.from_mapping(texts)


def _as_of_ms(case: Path) -> int | None:
    """The instant a case asks about; most ask about none."""
    file = case / "as_of.txt"
    return int(file.read_text(encoding="utf-8")) if file.exists() else None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_told_with_place_words_and_advice(case: Path) -> None:
    """Every golden case gives exactly its text."""
    expected_file = case / "expected.txt"

    told = render(check(_sources(case), SCHEMA, as_of_ms=_as_of_ms(case))) + "\n"

    if os.environ.get("UPDATE_GOLDEN"):
        expected_file.write_text(told, encoding="utf-8")
    assert told == expected_file.read_text(encoding="utf-8")


def test_the_base_has_no_mistakes() -> None:
    """The set that every case starts from is right, so a case shows its own mistake only."""
    assert check(RuleSources.from_mapping(base_texts()), SCHEMA) == []


def test_every_case_has_a_mistake() -> None:
    """A golden case that says nothing would prove nothing."""
    silent = [case.name for case in CASES if not (case / "expected.txt").read_text(encoding="utf-8").strip()]

    assert silent == []
