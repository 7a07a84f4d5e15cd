"""libyaml and ruamel.yaml read the same from every text, places and problems included."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ruleset import GOLDEN, base_texts

from engine.ruleset.yamltree import YamlDocument, parse_yaml, read_slowly

_ROOT = Path(__file__).parents[3]
_INSERTED = st.one_of(
    st.sampled_from(" \n:-#'\"[]{},|>?&*!%@`~.x0\t\r\\=\u2028\ufeff\x85"),
    st.sampled_from(
        [
            ": ", " #", "- ", "\n  ", "  ", "{}", "[]", "[a, b]", "{a: b}", '"x"', "'x''y'", "|\n",
            ">-\n    a\n    b\n", "key: ", "---", "...", "null", "~: ", "-1", "? ", "a:b", "# c\n", "\n\n",
            "- - a", " :", "&a ", "*a", "!t ",
        ]
    ),
)  # fmt: skip


def _all_of(document: YamlDocument) -> tuple[object, ...]:
    """A document with 1, 1.0 and true told apart; what is refused or not written stands nowhere."""
    if document.problems:
        return [(problem.line, problem.column, problem.code) for problem in document.problems], document.lines
    written = {path for path, scalar in document.scalars.items() if scalar.start < scalar.end}
    unwritten = set(document.scalars) - written
    return (
        repr(document.data),
        document.keys,
        {path: place for path, place in document.values.items() if path not in unwritten},
        {path: document.scalars[path] for path in written},
        document.lines,
    )


def _pieces() -> list[str]:
    """Beginnings and middles of the files of the small rule set, moved to the left."""
    texts = [*base_texts().values(), (_ROOT / "rules" / "business" / "care.yaml").read_text(encoding="utf-8")]
    lines = [text.split("\n") for text in texts]
    pieces = [found[start : start + 10] for found in lines for start in range(0, len(found), 5)]
    return [*texts, *(_moved_left(piece) for piece in pieces)]


def _moved_left(lines: list[str]) -> str:
    blanks = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    return "\n".join(line[min(blanks, default=0) :] for line in lines)


@pytest.mark.parametrize("folder", ["rules", "tests/engine/ruleset/golden"])
def test_files_read_the_same(folder: str) -> None:
    """Right and wrong files alike."""
    for path in sorted((_ROOT / folder).rglob("*.yaml")):
        text = path.read_bytes().decode()

        assert _all_of(parse_yaml(path.name, text)) == _all_of(read_slowly(path.name, text)), path


@settings(deadline=None)
@given(
    st.sampled_from(_pieces()),
    st.lists(st.tuples(st.integers(0, 6_000), st.integers(0, 3), _INSERTED), max_size=3),
)
def test_damaged_files_read_the_same(text: str, damages: list[tuple[int, int, str]]) -> None:
    """Whatever is inserted and cut out, both read the same."""
    for place, cut, inserted in damages:
        at = place % (len(text) + 1)
        text = text[:at] + inserted + text[at + cut :]

    assert _all_of(parse_yaml("x.yaml", text)) == _all_of(read_slowly("x.yaml", text))


@pytest.mark.parametrize(
    "text",
    [
        "", "# nothing\n", "just text\n", " a: 1\n", "a:\n", "a: b\n  c\n", "a: b: c\n", "a: b\na: c\n",
        "null: 1\n", "? a\n: b\n", "a: &x b\n", "a: *x\n", "a: !t b\n", "a: [b,\n c]\n", "a: [b: c]\n",
        "a: {b}\n", "a: [b,]\n", "a: [b] c\n", "a: 'b\n  c'\n", 'a: "\\n"\n', 'a: "\\ud800"\n', "a: 'b'c\n",
        "a: |\n\n  b\nc: 1\n", "a: >\n  b\n   c\nd: 1\n", "a: |+\n  b\nc: 1\n", "a: |2\n  b\nc: 1\n",
        "- a\n -b\n", "-\n  a\n", "- - a\n", "a: 1\n--- \nb: 2\n", "%YAML 1.2\n---\na: 1\n", "a:\t1\n",
        "a: 1\r\n", "\ufeffa: 1\n", "a: \x07\n", "a: b\u2028c\n", "a: \U0001f600 b\nc: 1\n", "a: - b\n",
        "a: `b`\n", "a: b:\n", "a: [" * 30, "[" * 100, "a: 0x1f\nb: 1_000\nc: 1:30\nd: yes\ne: 0o7\n",
        "".join(" " * i + "a:\n" for i in range(60)) + " " * 60 + "b: 1\n", "a: \udc80\n", "a: .inf\n",
        "a: {b:1}\n", "a: [b:c]\n", 'a: {"b":1}\n', "a: b#c\n", "a: >-\n  one\n  two\nb: |\n  one\n  # two\n",
        "a:\n    b:\n     - c\n     -   d: 1\n         e: 2\n", "a: |\n  b\n\n\n", "a: |-\n  b",
        "|# c\n", "a: >-# c\n  b\n",
    ],
)  # fmt: skip
def test_rare_and_wrong_texts_read_the_same(text: str) -> None:
    """Values, places and every diagnostic are those of one reader."""
    assert _all_of(parse_yaml("x.yaml", text)) == _all_of(read_slowly("x.yaml", text))


def test_the_places_are_those_of_the_file() -> None:
    """A condition is found where it is written, also behind characters of several bytes."""
    text = "# \U0001f600 café\n" + (GOLDEN / "base" / "rules.yaml").read_text(encoding="utf-8")

    found = parse_yaml("rules.yaml", text)

    scalar = found.scalars["rules", 0, "when"]
    assert text[scalar.start : scalar.end] == 'scores.churn >= 0.55 && features.contract == "month-to-month"'
    assert text.split("\n")[scalar.line].index("scores") == scalar.column
    assert found.keys["rules", 0, "when"] == (scalar.line, 4)
