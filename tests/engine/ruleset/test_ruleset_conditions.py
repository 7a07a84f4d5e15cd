"""Single conditions: three-valued truth, exact arithmetic, and what can never raise."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from cel_expr_python import cel
from conditions import ACTIONS, LANGUAGE, compiled, frame_of, quoted
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.rulebook import FALSE, TRUE, UNKNOWN
from engine.ruleset.customer import compile_customer
from engine.ruleset.lowering import duration_ms, timestamp_ms
from engine.ruleset.patterns import PatternRefused, compile_pattern
from engine.ruleset.scalar import literal_text

_TRUTHS = {"true": TRUE, "false": FALSE, "features.fiber": UNKNOWN}


def truth(condition: str, **values: object) -> int:
    """Truth of a customer-level condition; names of values have `__` for the dot."""
    frame = frame_of({name.replace("__", "."): value for name, value in values.items()})
    rows = compiled([condition]).evaluate(frame)
    assert len(set(rows.ravel().tolist())) == 1
    return int(rows[0, 0])


@pytest.mark.parametrize("left", _TRUTHS)
@pytest.mark.parametrize("right", _TRUTHS)
def test_and_is_false_where_one_side_is_and_unknown_before_true(left: str, right: str) -> None:
    """Kleene's table of `&&`, in both orders."""
    sides = {_TRUTHS[left], _TRUTHS[right]}

    expected = FALSE if FALSE in sides else UNKNOWN if UNKNOWN in sides else TRUE

    assert truth(f"{left} && {right}") == expected


@pytest.mark.parametrize("left", _TRUTHS)
@pytest.mark.parametrize("right", _TRUTHS)
def test_or_is_true_where_one_side_is_and_unknown_before_false(left: str, right: str) -> None:
    """Kleene's table of `||`, in both orders."""
    sides = {_TRUTHS[left], _TRUTHS[right]}

    expected = TRUE if TRUE in sides else UNKNOWN if UNKNOWN in sides else FALSE

    assert truth(f"{left} || {right}") == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("!features.fiber", UNKNOWN),
        ("has(features.fiber)", FALSE),
        ("!has(features.fiber)", TRUE),
        ("has(features.fiber) && features.fiber", FALSE),
        ("features.fiber ? true : true", UNKNOWN),
        ("true ? true : features.fiber", TRUE),
        ("features.tenure > 3", UNKNOWN),
        ('features.contract in ["a", "b"]', UNKNOWN),
        ('"a" in ["a", features.contract]', UNKNOWN),
        ("features.fiber == features.fiber", UNKNOWN),
    ],
)
def test_a_missing_input_is_neither_true_nor_false(condition: str, expected: int) -> None:
    """Nothing but has() and a deciding other side makes a missing input known."""
    assert truth(condition) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("context.count + 1 > 0", UNKNOWN),
        ("context.count + 1 > 0 || true", TRUE),
        ("context.count + 1 > 0 && false", FALSE),
        ("-context.count < 0", TRUE),
        ("-(-context.count - 1) > 0", UNKNOWN),
        ("context.count * 2 > 0", UNKNOWN),
        ("context.count / (context.count - context.count) > 0", UNKNOWN),
        ("context.count % 0 == 0", UNKNOWN),
        ("-7 / 2 == -3 && -7 % 2 == -1 && 7 / -2 == -3 && 7 % -2 == 1", TRUE),
        ("1.0 / 0.0 > 1e300 && -1.0 / 0.0 < 0.0 && 1.0 / -0.0 < 0.0", TRUE),
        ("0.0 / 0.0 == 0.0 / 0.0", FALSE),
        ("int(1e30) > 0", UNKNOWN),
        ('int("12") == 12 && int(" -7 ") == -7', TRUE),
        ('int("1_000") > 0', UNKNOWN),
        ('int("9223372036854775808") > 0', UNKNOWN),
        ("9223372036854775807 == context.count", TRUE),
    ],
)
def test_arithmetic_is_that_of_64_bits_and_failing_is_unknown(condition: str, expected: int) -> None:
    """Overflow and division by zero spoil their own term only."""
    assert truth(condition, context__count=2**63 - 1) == expected


def test_a_value_of_a_wrong_type_spoils_its_own_rule_only() -> None:
    """Text where a number is declared makes that rule unknown and leaves the others alone."""
    program = compiled(["features.tenure > 3", "features.fiber", "action.cost < 1.0 && features.tenure > 3"])
    frame = frame_of({"features.tenure": "many", "features.fiber": True})

    truths = program.evaluate(frame)

    assert truths[:, 0].tolist() == [UNKNOWN, TRUE, UNKNOWN]


def test_an_action_without_propensity_is_unknown_and_the_others_are_not() -> None:
    """NaN is a missing input of its action alone."""
    frame = frame_of({}, propensity=[0.1, float("nan"), 0.9, 0.5, 0.5])

    truths = compiled(["scores.propensity >= 0.5"]).evaluate(frame)

    assert truths.tolist() == [[FALSE, UNKNOWN, TRUE, TRUE, TRUE]]


def test_without_scores_a_rule_on_propensity_is_unknown_everywhere() -> None:
    """Before scoring nothing has a propensity, and has() says so."""
    program = compiled(["scores.propensity >= 0.5", "!has(scores.propensity)"])

    truths = program.evaluate(frame_of({}))

    assert truths.tolist() == [[UNKNOWN] * len(ACTIONS), [TRUE] * len(ACTIONS)]


def test_an_empty_program_has_no_rows() -> None:
    """A set without rules evaluates to nothing."""
    program = compiled([])

    assert program.evaluate(frame_of({})).shape == (0, len(ACTIONS))
    assert program.scope.shape == (0, len(ACTIONS))


def test_authors_text_never_becomes_code() -> None:
    """Texts with quotes, braces and newlines are compared, not run."""
    nasty = "'); __import__('os').abort() #\n\"{0}\\"
    joined = f"features.contract + {quoted(nasty)} == context.page"

    assert truth(f"features.contract == {quoted(nasty)}", features__contract=nasty) == TRUE
    assert truth(joined, features__contract="", context__page="") == FALSE


def test_only_plain_constants_have_a_literal() -> None:
    """An object that is no constant is refused rather than written into code."""
    for value in (object(), [1], None, b"x"):
        with pytest.raises(TypeError):
            literal_text(value)
    with pytest.raises(ValueError, match="no literal"):
        literal_text(float("inf"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", 86_400_000), ("-90m", -5_400_000), ("1.5s", 1500), ("250ms", 250), ("1h30m", 5_400_000),
        ("1d", None), ("", None), ("-", None), ("0.5ms", None), ("h", None), ("1h 30m", None),
        ("99999999999h", None),
    ],
)  # fmt: skip
def test_durations_are_whole_milliseconds(text: str, expected: int | None) -> None:
    """Nothing finer than the unit of frames is taken."""
    assert duration_ms(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1000), ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.250Z", 250),
        ("2026-02-30T00:00:00Z", None), ("2026-01-01", None), ("1970-01-01T00:00:00", None),
    ],
)  # fmt: skip
def test_instants_are_rfc_3339(text: str, expected: int | None) -> None:
    """Instants in conditions name their offset."""
    assert timestamp_ms(text) == expected


_PATTERN_PIECES = [
    "a", "b", ".", "^", "$", "|", "(", ")", "(?:", "*", "+", "?", "{2}", "{1,}", "[ab]", "[^a]", "[a-c]", "[",
    "]", r"\d", r"\w", r"\s", r"\D", r"\.", r"[\d_]", r"[a\-z]", r"\b", "é", "{", "-", " ",
]  # fmt: skip
_CEL = cel.NewEnv(None, variables={"t": cel.Type.STRING, "p": cel.Type.STRING})
_MATCHES = _CEL.compile("t.matches(p)")


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(_PATTERN_PIECES), min_size=1, max_size=7).map("".join),
    st.lists(st.text("ab.1_ é\n\v-", max_size=6), min_size=3, max_size=3),
)
def test_accepted_patterns_find_what_re2_finds(pattern: str, texts: list[str]) -> None:
    """A pattern is refused, or means the same in Python as in the reference."""
    try:
        ours = compile_pattern(pattern)
    except PatternRefused:
        return

    for text in texts:
        assert (ours.search(text) is not None) == _MATCHES.eval(data={"t": text, "p": pattern}).value(), text


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|a)*b", "a*a*a*b", "(?i)a", r"(a)\1", "(?=a)", "a{1000}", "[", "(", "*", "\\"]
)
def test_patterns_that_could_run_for_ever_or_differ_are_refused(pattern: str) -> None:
    """Backtracking without bound, look-around, flags and back references are not taken."""
    with pytest.raises(PatternRefused):
        compile_pattern(pattern)


def test_a_long_text_is_not_searched() -> None:
    """The time of a search is bounded by the text's length; beyond it the truth is unknown."""
    condition = 'context.page.matches("a*b*c")'

    started = time.perf_counter()
    at_bound = truth(condition, context__page="a" * 256)
    seconds = time.perf_counter() - started

    assert at_bound == FALSE
    assert seconds < 2.0
    assert truth(condition, context__page="a" * 257) == UNKNOWN


def test_deep_and_wide_conditions_compile() -> None:
    """Chains of && and || of any length are one level."""
    wide = " || ".join(f"features.tenure == {i}" for i in range(300))

    assert truth(wide, features__tenure=299) == TRUE
    assert truth(wide) == UNKNOWN


@pytest.mark.parametrize("depth", range(1, 40, 3))
@pytest.mark.parametrize(
    "layer",
    [
        "(features.fiber ? {} : 1)",
        "(1 + 2 * -({}))",
        "int(string({}))",
        "(now - context.at).getHours() / ({})",
    ],
)
def test_nesting_that_the_parser_takes_compiles_and_more_is_told(depth: int, layer: str) -> None:
    """What the reference parses, Python's parser takes too; beyond it there is a diagnostic."""
    nested = "features.tenure"
    for _ in range(depth):
        nested = layer.replace("{}", nested)
    node, problems = LANGUAGE.check(f"{nested} > 0")

    if node is None:
        assert [problem.code for problem in problems] == ["R305"]
    else:
        assert compile_customer([node]).truths(frame_of({})) == b"\xff"


def test_rules_are_ordered_by_level_and_keep_their_place_within() -> None:
    """Customer-level rules come first, then action-level ones, then those on propensity alone."""
    program = compiled(
        ["scores.propensity > 0.1", 'action.group == "care"', "features.fiber", "action.cost > 1.0", "true"]
    )

    assert [rule.id for rule in program.rules] == ["2", "4", "1", "3", "0"]


def test_evaluation_is_writable_and_fresh() -> None:
    """A result belongs to its caller: the next evaluation does not share it."""
    program = compiled(["features.fiber", "action.cost > 1.0"])
    frame = frame_of({"features.fiber": True})

    first = program.evaluate(frame)
    kept = first.copy()
    first[:] = 7
    second = program.evaluate(frame)

    np.testing.assert_array_equal(second, kept)
    assert second.dtype == np.int8


def test_problems_name_the_place_in_the_condition() -> None:
    """Offsets count characters, also behind those that take several bytes."""
    _, problems = LANGUAGE.check('features.contract == "é\U0001f600" && features.nope')

    assert [(p.offset, p.code) for p in problems] == [(38, "R302")]
    assert re.search("no field `nope`", problems[0].message)
