"""Files and data meant to do harm cost bounded time and memory, and end in a diagnostic or in unknown.

Bounds are many times what a quiet machine needs, and far below what an unbounded reading would take.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conditions import LANGUAGE, compiled, frame_of
from small_ruleset import SCHEMA, base_texts, with_condition

from engine.core.rulebook import FALSE, TRUE, UNKNOWN
from engine.ruleset.build import check
from engine.ruleset.diagnostics import RuleSetInvalid
from engine.ruleset.sequences import MAX_ELEMENTS
from engine.ruleset.sources import RuleSources

_HEAD = "apiVersion: arbiter/v1\nkind: PolicyPack\nmetadata: {name: more, owner: t, description: More}\n"


@contextmanager
def within(seconds: float, megabytes: float = 200.0) -> Iterator[None]:
    """Fails where the block takes longer, or holds more memory at once."""
    tracemalloc.start()
    started = time.perf_counter()
    yield
    took = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    assert took < seconds
    assert peak < megabytes


def _codes(texts: dict[str, str]) -> set[str]:
    return {problem.code for problem in check(RuleSources.from_mapping(base_texts() | texts), SCHEMA)}


def _truth(condition: str, **values: object) -> int:
    rows = compiled([condition]).evaluate(frame_of({f"context.{k}": v for k, v in values.items()}))
    return int(rows[0, 0])


def test_a_file_of_ten_megabytes_is_refused_unread(tmp_path: Path) -> None:
    """Size is looked at before content."""
    (tmp_path / "big.yaml").write_bytes(b"- x\n" * 2_500_000)

    with within(10.0, megabytes=20.0), pytest.raises(RuleSetInvalid) as refused:
        RuleSources.from_directory(tmp_path)

    assert [d.code for d in refused.value.diagnostics] == ["R102"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "R105"),
        ("[" * 50_000, "R106"),
        ("{a: " * 50_000, "R106"),
        ("- " * 50_000, "R106"),
        ("a: !!python/object:os.system x\n", "R109"),
    ],
)
def test_yaml_bombs_do_not_go_off(text: str, code: str) -> None:
    """Anchors, tags and depth are refused where they begin."""
    with within(20.0):
        codes = _codes({"bomb.yaml": text})

    assert code in codes


def test_variables_that_double_each_other_are_stopped() -> None:
    """A billion laughs of variables is refused at the first that is too large, and told once."""
    lines = [f"  v{i}: variables.v{i - 1} + variables.v{i - 1}\n" for i in range(1, 100)]
    pack = f"{_HEAD}variables:\n  v0: features.monthly\n{''.join(lines)}rules: []\n"

    with within(20.0):
        codes = _codes({"more.yaml": pack})

    assert codes == {"R305"}


def test_a_long_chain_of_segments_is_refused_for_its_depth() -> None:
    """What Python's parser could not take is told, not tried."""
    segments = ["  - {id: s0, description: d, when: features.tenure > 1}\n"]
    segments += [
        f"  - {{id: s{i}, description: d, when: '!(segments.s{i - 1} == features.fiber)'}}\n"
        for i in range(1, 100)
    ]
    head = _HEAD.replace("PolicyPack", "SegmentPack")

    with within(20.0):
        codes = _codes({"people.yaml": f"{head}segments:\n{''.join(segments)}"})

    assert codes == {"R305"}


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 3_000 + "true",
        "!" * 3_000 + "true",
        "[" * 1_000 + "]" * 1_000 + ".size() > 0",
        "features.tenure" + " + features.tenure" * 200 + " > 0",
        "[1,2].exists(a, " * 200 + "true" + ")" * 200,
        '["a"]' + '.map(x, x + "a")' * 200 + ' == ["b"]',
        '"a"' + '.replace("a", "aa")' * 150 + ' == "b"',
        'features.contract.matches("(x+x+)+y")',
        "features.tenure / 0 > 1",
    ],
)
def test_a_condition_meant_to_harm_is_read_soon(condition: str) -> None:
    """Deep, long and repeated: a diagnostic, or a program, in bounded time."""
    with within(20.0):
        problems = check(with_condition("'" + condition.replace("'", "''") + "'"), SCHEMA)

    assert {problem.code[:2] for problem in problems} <= {"R3", "R4", "R6"}  # understood, or refused


def test_texts_do_not_grow_without_bound() -> None:
    """Each replace may double a text; beyond a bound the truth is unknown."""
    condition = "size(context.page" + '.replace("a", "aaaaaaaaaa")' * 12 + ") > 0"

    with within(20.0, megabytes=50.0):
        truth = _truth(condition, page="a" * 50)

    assert truth == UNKNOWN


def test_a_macro_over_a_huge_list_is_unknown_at_once() -> None:
    """A list is not looked through beyond a length; size() still tells it."""
    pages = tuple(str(i) for i in range(1_000_000))

    with within(20.0):
        truths = [
            _truth('context.pages.exists(x, x == "z")', pages=pages),
            _truth("context.pages.map(x, size(x)).size() > 0", pages=pages),
            _truth("size(context.pages) > 3", pages=pages),
            _truth('"z" in context.pages', pages=pages),
        ]

    assert truths == [UNKNOWN, UNKNOWN, TRUE, FALSE]


def test_nested_macros_over_the_longest_lists_take_bounded_time() -> None:
    """Two levels of the longest list that macros take are quick enough for a decision."""
    pages = tuple(str(i) for i in range(MAX_ELEMENTS))

    with within(10.0):
        truth = _truth("context.pages.all(x, context.pages.all(y, x != y || size(x) < 9))", pages=pages)

    assert truth == TRUE


def test_division_by_zero_in_an_element_is_unknown() -> None:
    """An element that cannot be computed spoils the macro unless another decides."""
    assert _truth("context.counts.exists(y, 10 / y > 3)", counts=(0, 5)) == UNKNOWN
    assert _truth("context.counts.exists(y, 10 / y > 3)", counts=(0, 2)) == TRUE
    assert _truth("context.counts.map(y, 10 / y).size() == 2", counts=(0, 2)) == UNKNOWN


def test_a_megabyte_of_conditions_is_checked_in_bounded_time() -> None:
    """The largest file of the longest conditions that name the heaviest variable."""
    variables = "  v0: features.monthly\n" + "".join(
        f"  v{i}: variables.v{i - 1} + variables.v{i - 1}\n" for i in range(1, 10)
    )
    when = " + ".join(["variables.v9"] * 250)
    rules = "".join(
        f"  - {{id: r{i}, class: suitability, applies_to: {{}}, when: {when} > 1.0, effect: deny, "
        "reason: TOO_OFTEN, state: active}\n"
        for i in range(240)
    )

    with within(120.0, megabytes=400.0):
        codes = _codes({"more.yaml": f"{_HEAD}variables:\n{variables}rules:\n{rules}"})

    assert codes == {"R305"}


def test_the_language_keeps_its_size() -> None:
    """A condition may be wide, but not without end."""
    wide = " || ".join(f"features.tenure == {i}" for i in range(700))

    node, problems = LANGUAGE.check(wide)

    assert node is None
    assert [problem.code for problem in problems] == ["R305"]
