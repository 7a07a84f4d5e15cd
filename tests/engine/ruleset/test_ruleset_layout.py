"""`rules fmt`: one form for every file, comments kept, meaning kept, and nothing left to do a second time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ruleset import GOLDEN

from engine.core.rulebook import Input, InputType
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.filekinds import KINDS
from engine.ruleset.layout import lay_out
from engine.ruleset.yamltree import parse_yaml

LANGUAGE = ConditionLanguage(
    (Input("features.tenure", InputType.INT), Input("features.monthly", InputType.DOUBLE)), {}
)
LINE = "# yaml-language-server: $schema=schema/policy-pack.json\n"


def _laid(text: str) -> str:
    laid = lay_out("rules.yaml", text, kinds=KINDS, language=LANGUAGE)
    assert laid.problems == ()
    return laid.text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param(
            "kind: PolicyPack\nrules:\n- id: a\n  x: 1\n", "rules:\n  - id: a\n    x: 1\n", id="indent"
        ),
        pytest.param("kind: PolicyPack\nx:   {a: 1,b:  2}\n", "x: {a: 1, b: 2}\n", id="flow"),
        pytest.param("kind: PolicyPack\n\n\n\nx: 1   \n\n\n", "\nx: 1\n", id="blank lines"),
        pytest.param("kind: PolicyPack\r\nx: 1\r\n", "x: 1\n", id="line ends"),
        pytest.param("\ufeffkind: PolicyPack\nx: 1", "x: 1\n", id="mark and end"),
        pytest.param("kind: PolicyPack\n# why\nx: 1 # because\n", "# why\nx: 1 # because\n", id="comments"),
        pytest.param("kind: PolicyPack\nx: 'it''s'\ny: \"a\"\n", "x: 'it''s'\ny: \"a\"\n", id="quotes"),
        pytest.param("kind: PolicyPack\nx: |\n  a\n\n\n  b\n", "x: |\n  a\n\n\n  b\n", id="blanks that mean"),
        pytest.param("kind: PolicyPack\nx: >-\n   a\n   b\n", "x: >-\n  a\n  b\n", id="folded"),
        pytest.param("kind: PolicyPack\nx: [\n  a,\n  b]\n", "x: [a, b]\n", id="list over lines"),
        pytest.param(
            "kind: PolicyPack\nx: " + "word " * 60 + "\n", "x: " + ("word " * 60).strip() + "\n", id="long"
        ),
        pytest.param("kind: PolicyPack\nx: 1.50\ny: 0.20\n", "x: 1.50\ny: 0.20\n", id="numbers as written"),
    ],
)
def test_layout_is_one_form(written: str, expected: str) -> None:
    """What an editor may do to a file is undone; what an author meant stays."""
    laid = _laid(written)

    assert laid == f"{LINE}kind: PolicyPack\n{expected}"
    assert _laid(laid) == laid


def test_a_wrong_schema_line_is_put_right() -> None:
    """The path depends on the folder of the file."""
    laid = lay_out(
        "business/a.yaml",
        "# yaml-language-server: $schema=../nowhere.json\n# ours\nkind: PolicyPack\n",
        kinds=KINDS,
    )

    assert laid.text == (
        "# yaml-language-server: $schema=../schema/policy-pack.json\n# ours\nkind: PolicyPack\n"
    )


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("features.monthly > 70", "features.monthly > 70.0"),
        ("70 < features.monthly && features.tenure > 70", "70.0 < features.monthly && features.tenure > 70"),
        (
            "features.tenure > 7 || features.monthly + 7 > 7",
            "features.tenure > 7 || features.monthly + 7.0 > 7.0",
        ),
        ('"features.monthly >= 70"', '"features.monthly >= 70.0"'),
        ("features.tenure > 70", "features.tenure > 70"),
        ("features.monthly > 70.0", "features.monthly > 70.0"),
        ("features.tenure > 7.5", "features.tenure > 7.5"),
        ("features.monthly > ", "features.monthly >"),
        (
            ">-\n      features.monthly > 70\n      && features.monthly < 700",
            ">-\n      features.monthly > 70.0\n      && features.monthly < 700.0",
        ),
    ],
)
def test_whole_numbers_beside_decimal_ones_become_decimal(condition: str, expected: str) -> None:
    """Only those that the type checker refuses, in any style of text."""
    laid = _laid(f"kind: PolicyPack\nrules:\n  - id: a # 70\n    when: {condition}\n")

    assert laid == f"{LINE}kind: PolicyPack\nrules:\n  - id: a # 70\n    when: {expected}\n"


@pytest.mark.parametrize(
    "text", ["a: [\n", "- 1\n", "just text\n", "", "kind: a\nkind: b\n", "a: &x 1\nb: *x\n", "\tx"]
)
def test_what_is_not_a_document_stays_as_it_is(text: str) -> None:
    """A file that cannot be read is told, never changed."""
    laid = lay_out("rules.yaml", text, kinds=KINDS)

    assert laid.text == text
    assert laid.problems != ()


@pytest.mark.parametrize("file", sorted(GOLDEN.rglob("*.yaml")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_laying_out_keeps_meaning_and_is_done_at_once(file: object) -> None:
    """Every golden file, right or wrong, means the same afterwards, and stays the same then."""
    text = file.read_text(encoding="utf-8", errors="replace")  # type: ignore[attr-defined]  # a path
    once = lay_out("rules.yaml", text, kinds=KINDS).text

    assert lay_out("rules.yaml", once, kinds=KINDS).text == once
    assert parse_yaml("a", once).data == parse_yaml("a", text).data


SCALARS = st.one_of(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co", "Zl", "Zp"]), max_size=12
    ).map(lambda s: "'" + s.replace("\ufeff", "").replace("'", "''") + "'"),
    st.sampled_from(
        ["1", "0.50", "true", "null", "~", "2026-01-01", "plain words", '"q\\"q"', "[a, b]", "{a: 1}"]
    ),
)
KEYS = st.sampled_from(["a", "b", "c-d", "'e f'", "when"])


def _block(node: object, indent: str, width: int) -> str:
    pad = " " * width
    if isinstance(node, dict):
        return "".join(f"{indent}{key}:{_inline(value, indent + pad, width)}" for key, value in node.items())
    assert isinstance(node, list)
    return "".join(f"{indent}-{_inline(value, indent + pad, width)}" for value in node)


def _inline(value: object, indent: str, width: int) -> str:
    if isinstance(value, (dict, list)) and value:
        return "  # below\n" + _block(value, indent, width)
    return f" {value if isinstance(value, str) else 'null'}   # note\n\n"


TREES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3) | st.dictionaries(KEYS, inner, min_size=1, max_size=3)
        ),
        max_leaves=6,
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)  # a busy machine is no mistake
@given(tree=TREES, width=st.integers(1, 6))
def test_any_document_keeps_its_values_and_its_comments(tree: dict[str, object], width: int) -> None:
    """Whatever is written, the values, the order and every comment are still there; or nothing changed."""
    text = "kind: PolicyPack\n" + _block(tree, "", width)

    once = lay_out("rules.yaml", text, kinds=KINDS)
    twice = lay_out("rules.yaml", once.text, kinds=KINDS)

    assert twice.text == once.text
    before, after = parse_yaml("a", text), parse_yaml("a", once.text)
    assert (after.data, list(after.keys)) == (before.data, list(before.keys))
    assert once.text.count("# note") == text.count("# note")
