"""Rules that are looked up by their inputs: the truth is that of the reference, however many there are."""

from __future__ import annotations

import os

import pytest
from conditions import LANGUAGE, TEXTS, compiled, frame_of, frames, full_frames, quoted, reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.rulebook import FALSE, TRUE, UNKNOWN, Frame
from engine.ruleset import lookups
from engine.ruleset.lookups import RULES_FROM, Lookups, lookups_of

_EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "80"))
_SETTINGS = settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
_SIGNS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
_INTS = st.one_of(st.integers(-3, 6), st.sampled_from([2**63 - 1, -(2**63), 2**53])).map(
    lambda n: str(n) if n >= 0 else f"({n})"
)
_DOUBLES = st.sampled_from(
    ["0.0", "(-0.0)", "12.5", "12.500000000000002", "70.0", "1e300", "(-1.5)", "5e-324"]
)
_WORDS = st.sampled_from(TEXTS).map(quoted)
_TRUTHS = st.sampled_from(["true", "false"])
_INSTANTS = st.sampled_from(
    [
        'timestamp("1990-01-01T00:00:00Z")',
        'timestamp("2005-05-05T05:05:05.250Z")',
        'timestamp("1970-01-01T00:00:00Z")',
    ]
)


def _compared(
    names: list[str], values: st.SearchStrategy[str], signs: st.SearchStrategy[str] = _SIGNS
) -> st.SearchStrategy[str]:
    name = st.sampled_from(names)
    return st.one_of(
        st.tuples(name, signs, values).map(" ".join),
        st.tuples(values, signs, name).map(" ".join),
        st.tuples(name, st.lists(values, min_size=1, max_size=5)).map(
            lambda t: f"{t[0]} in [{', '.join(t[1])}]"
        ),
    )


_EQUALITIES = st.sampled_from(["==", "!="])
_TESTS = st.one_of(
    _compared(["features.calls", "context.count"], _INTS),
    _compared(["features.monthly", "context.basket"], _DOUBLES),
    _compared(["features.contract", "context.page"], _WORDS, _EQUALITIES),
    st.tuples(st.sampled_from(["features.fiber", "signals.trouble"]), _SIGNS, _TRUTHS).map(" ".join),
    st.tuples(st.just("context.at"), _SIGNS, _INSTANTS).map(" ".join),
    st.sampled_from(["features.fiber", "signals.trouble", "has(features.calls)", "has(context.basket)"]),
)  # fmt: skip
_TERMS = st.one_of(
    _TESTS, _TESTS.map(lambda t: f"!({t})"), st.tuples(_TESTS, _TESTS).map(lambda t: f"!({t[0]} || {t[1]})")
)
_CONJUNCTIONS = st.lists(_TERMS, min_size=1, max_size=4).map(" && ".join)


def _lookups(texts: list[str]) -> Lookups:
    """What is looked up of conditions."""
    nodes = [LANGUAGE.check(text)[0] for text in texts]
    return lookups_of([node for node in nodes if node is not None])


@_SETTINGS
@given(
    st.lists(_CONJUNCTIONS, min_size=4, max_size=12),
    st.lists(st.one_of(frames(), full_frames()), min_size=1, max_size=2),
    st.booleans(),
)
def test_truth_of_what_is_looked_up_is_that_of_the_reference(
    texts: list[str], given: list[Frame], among_others: bool
) -> None:
    """Missing inputs, no numbers and infinities included, alone and beside rules that are not looked up."""
    asked = [text for text in texts for _ in range(RULES_FROM)]  # enough of each to be worth a look
    others = ["features.calls % 2 == 0", "features.fiber || context.count > 1"] if among_others else []
    written = [*others, *asked]
    assert len(_lookups(written).places) == len(asked)

    program = compiled(written)

    for frame in given:
        actual = program.evaluate(frame)[:, 0].tolist()
        truths = {text: reference(text, frame, 0) for text in {*written}}
        assert actual == [truths[rule.condition] for rule in program.rules]


def test_rules_that_ask_many_things_are_looked_up_too() -> None:
    """Every rule of a decision table, with the bounds of its cells in and out."""
    texts = [
        f'features.calls >= {i} && features.calls < {i + 2} && features.contract == "a"' for i in range(20)
    ]

    program = compiled(texts)

    assert len(_lookups(texts).places) == 20
    for calls in (*range(-1, 25), -1_000, 80, 90, 1 << 40):
        truths = program.evaluate(frame_of({"features.calls": calls, "features.contract": "a"}))[:, 0]
        assert [i for i, truth in enumerate(truths) if truth == TRUE] == [
            i for i in range(20) if i <= calls < i + 2
        ]


@pytest.mark.parametrize(
    "condition",
    [
        "features.calls % 2 == 0",  # computes
        "features.calls > 1 || features.fiber",  # is no conjunction
        "features.calls > context.count",  # tests two inputs at once
        'features.contract < "b"',  # orders texts
        "features.contract in context.pages",
        "now > context.at",
        "size(context.pages) == 0",
        "has(context.pages)",
    ],
)
def test_other_conditions_keep_their_own_text(condition: str) -> None:
    """What is not a conjunction of tests of single inputs is not looked up."""
    assert not _lookups([condition] * 2 * RULES_FROM).places


def test_an_input_that_few_rules_ask_is_not_looked_up() -> None:
    """A look costs more than the text of a few rules; rules that need it beside others keep theirs."""
    few = ["features.fiber && features.calls > 1"] * (RULES_FROM - 1)
    alone = ["features.calls > 2"]

    assert not _lookups([*few, *alone]).places
    assert len(_lookups(["features.calls > 1"] * RULES_FROM).places) == RULES_FROM


def test_an_input_with_very_many_bounds_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers grow with rules times bounds, so their size is bounded; the rules stay right."""
    monkeypatch.setattr(lookups, "_BYTES_AT_MOST", 500)
    texts = [f"features.calls == {i}" for i in range(30)]

    program = compiled(texts)

    assert not _lookups(texts).places
    assert program.evaluate(frame_of({"features.calls": 7}))[:, 0].tolist() == [
        int(i == 7) for i in range(30)
    ]


@pytest.mark.parametrize("spoiled", ["seven", 5 + 1j, [1], {}])
def test_a_value_of_a_wrong_type_spoils_its_own_rules_only(spoiled: object) -> None:
    """The rules that ask another input are decided as ever."""
    asks_calls = ["features.calls > 1"] * RULES_FROM
    asks_contract = ['features.contract == "a"', 'features.contract == "b"'] * RULES_FROM
    program = compiled([*asks_calls, *asks_contract])

    truths = program.evaluate(frame_of({"features.calls": spoiled, "features.contract": "a"}))[:, 0].tolist()

    assert truths == [UNKNOWN] * RULES_FROM + [TRUE, FALSE] * RULES_FROM
