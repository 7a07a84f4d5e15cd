"""Random typed conditions with data, and the reference CEL runtime as the judge of their truth.

The reference declares every root as a map, so that a missing input is an absent key: an error, which
`&&` and `||` absorb. That is what Arbiter promises, said by another implementation.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence

import numpy as np
from cel_expr_python import cel
from cel_expr_python.ext import ext_strings
from hypothesis import strategies as st

from engine.core.rulebook import FALSE, TRUE, UNKNOWN, Frame, Input, InputType, PolicyRule, SourcePosition
from engine.domain import Action, Effect, PolicyClass
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.compile import CompiledRule, Program, compile_program

INPUTS = (
    Input("features.tenure", InputType.INT),
    Input("features.calls", InputType.INT),
    Input("features.monthly", InputType.DOUBLE),
    Input("features.contract", InputType.STRING),
    Input("features.fiber", InputType.BOOL),
    Input("context.count", InputType.INT),
    Input("context.basket", InputType.DOUBLE),
    Input("context.page", InputType.STRING),
    Input("context.at", InputType.TIMESTAMP),
    Input("context.pages", InputType.STRING_LIST),
    Input("context.counts", InputType.INT_LIST),
    Input("context.amounts", InputType.DOUBLE_LIST),
    Input("context.usage", InputType.DOUBLE_MAP),
    Input("signals.trouble", InputType.BOOL),
    Input("scores.churn", InputType.DOUBLE),
)
LANGUAGE = ConditionLanguage(INPUTS, {})


def an_action(number: int) -> Action:
    """Actions differ in every column that conditions may read."""
    return Action(
        id=f"a{number}",
        group=("retention", "care")[number % 2],
        purpose="marketing",
        name={},
        value=(0.0, 12.5, 100.0, -3.0)[number % 4],
        cost=float(number),
        prior=0.1 * number,
        weight=1.0,
        target="",
        treatments=(),
        tags=(("price", "b"), (), ("b",))[number % 3],
    )


ACTIONS = tuple(an_action(i) for i in range(5))
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ROOTS = ("features", "context", "signals", "scores", "action")
_REFERENCE = cel.NewEnv(
    None,
    variables={
        **{root: cel.Type.Map(cel.Type.STRING, cel.Type.DYN) for root in _ROOTS},
        "now": cel.Type.TIMESTAMP,
    },
    extensions=[ext_strings.ExtStrings()],
)
TEXTS = ("", "a", "b", "month-to-month", "retention", "a1", 'q"\\', "é\u00a0\n", "/support/x", "price")


def compiled(
    conditions: Sequence[str],
    actions: Sequence[Action] = ACTIONS,
    language: ConditionLanguage = LANGUAGE,
) -> Program:
    """A program of conditions; rule ids are their places."""
    rules = []
    for i, text in enumerate(conditions):
        node, problems = language.check(text)
        assert node is not None, (text, problems)
        rule = PolicyRule(
            id=str(i),
            policy_class=PolicyClass.ELIGIBILITY,
            effect=Effect.DENY,
            amount=0.0,
            reason="R",
            otherwise="",
            condition=text,
            reads=(),
            position=SourcePosition("test.yaml", 1, 1),
        )
        rules.append(CompiledRule(rule, node, np.ones(len(actions), dtype=np.bool_)))
    return compile_program(rules, actions)


def frame_of(
    values: Mapping[str, object], now_ms: int = 0, propensity: Sequence[float] | None = None
) -> Frame:
    """A frame of the inputs given by name; the others are missing."""
    listed = [values.get(declared.name) for declared in INPUTS]
    missing = sum(1 << i for i, value in enumerate(listed) if value is None)
    scores = None if propensity is None else np.array(propensity, dtype=np.float64)
    return Frame(listed, missing, now_ms, scores)


def reference(text: str, frame: Frame, place: int) -> int:
    """The truth of a condition for one action, by Google's runtime."""
    data: dict[str, dict[str, object]] = {root: {} for root in _ROOTS}
    for declared, value in zip(INPUTS, frame.values, strict=True):
        root, name = declared.name.split(".")
        if value is not None and declared.type is not InputType.TIMESTAMP:
            data[root][name] = list(value) if isinstance(value, tuple) else value
    if frame.propensity is not None and not np.isnan(frame.propensity[place]):
        data["scores"]["propensity"] = float(frame.propensity[place])
    action = ACTIONS[place]
    columns = ("id", "group", "purpose", "value", "cost", "prior", "weight", "target")
    data["action"] = {name: getattr(action, name) for name in columns} | {"tags": list(action.tags)}
    at_ms = frame.values[[i.name for i in INPUTS].index("context.at")]
    expression = _REFERENCE.compile(_with_instant(text, at_ms))
    result = expression.eval(data={**data, "now": _EPOCH + dt.timedelta(milliseconds=frame.now_ms)})
    value = result.value()
    return {True: TRUE, False: FALSE}[value] if isinstance(value, bool) else UNKNOWN


def _with_instant(text: str, at_ms: object) -> str:
    """The text with context.at written out: the runtime takes no instants inside maps."""
    if at_ms is None:
        return text
    assert isinstance(at_ms, int)
    instant = (_EPOCH + dt.timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds")
    written = f'timestamp("{instant.replace("+00:00", "Z")}")'
    return re.sub(r"context\.at\b", lambda _: written, text.replace("has(context.at)", "true"))


def quoted(text: str) -> str:
    """A CEL literal of a text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


_EQUALS = st.sampled_from(["==", "!="])
_ORDERS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
_DURATIONS = st.sampled_from(
    ['duration("24h")', 'duration("-90m")', 'duration("1.5s")', 'duration("250ms")', 'duration("2562047h")']
)
_SEPARATORS = st.sampled_from(['""', '"a"', '"-"', '"/"'])
_INTS = st.one_of(
    st.integers(-3, 40), st.sampled_from([2**63 - 1, -(2**63), 2**62, -(2**31), 2**53 + 1])
).map(lambda n: str(n) if n >= 0 else f"({n})")
_DOUBLES = st.sampled_from(["0.0", "0.5", "(-1.5)", "70.0", "1e300", "12.5", "100.0", "(-0.0)"])
_GETTERS = st.sampled_from(
    [
        "getFullYear()", "getMonth()", "getDate()", "getDayOfMonth()", "getDayOfYear()", "getDayOfWeek()",
        "getHours()", "getMinutes()", "getSeconds()", "getMilliseconds()", 'getHours("Europe/Zurich")',
        'getDayOfWeek("America/New_York")', 'getMonth("Asia/Tokyo")', 'getMinutes("Asia/Kolkata")',
    ]
)  # fmt: skip


def _join(pattern: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda values: pattern.format(*values))


def _ints(depth: int) -> st.SearchStrategy[str]:
    leaves = st.one_of(st.sampled_from(["features.tenure", "features.calls", "context.count"]), _INTS)
    if depth == 0:
        return leaves
    lower = _ints(depth - 1)
    return st.one_of(
        leaves,
        _join("({} {} {})", lower, st.sampled_from("+-*/%"), lower),
        _join("-({})", lower),
        _join("size({})", _strings(depth - 1)),
        _join("int({})", _doubles(depth - 1)),
        _join("{}.{}", _instants(depth - 1), _GETTERS),
        _join("({}).{}", _spans(depth - 1), st.sampled_from(["getHours()", "getMinutes()", "getSeconds()"])),
        _join("size({})", st.one_of(_texts(depth - 1), _numbers(depth - 1), st.just("context.usage"))),
        _join("{}[{}]", _numbers(depth - 1), st.sampled_from(["0", "1", "-1", "context.count"])),
        _join("int({})", _instants(depth - 1)),
        _join("{}.{}({})", _strings(0), st.sampled_from(["indexOf", "lastIndexOf"]), _strings(0)),
        _join("({} ? {} : {})", _bools(depth - 1), lower, lower),
    )


def _doubles(depth: int) -> st.SearchStrategy[str]:
    inputs = ["features.monthly", "context.basket", "scores.churn", "action.value", "action.cost"]
    leaves = st.one_of(st.sampled_from([*inputs, "scores.propensity"]), _DOUBLES)
    if depth == 0:
        return leaves
    lower = _doubles(depth - 1)
    return st.one_of(
        leaves,
        _join("({} {} {})", lower, st.sampled_from("+-*/"), lower),
        _join("-({})", lower),
        _join("double({})", _ints(depth - 1)),
        _join("{}[{}]", _amounts(depth - 1), st.sampled_from(["0", "1"])),
        _join("context.usage[{}]", _strings(0)),
        st.sampled_from(["context.usage.a", '{"a": 1.5, "b": context.basket}["b"]', '{"a": 1.5}["z"]']),
        _join("({} ? {} : {})", _bools(depth - 1), lower, lower),
    )


def _strings(depth: int) -> st.SearchStrategy[str]:
    inputs = ["features.contract", "context.page", "action.id", "action.group"]
    leaves = st.one_of(st.sampled_from(inputs), st.sampled_from(TEXTS).map(quoted))
    if depth == 0:
        return leaves
    return st.one_of(
        leaves,
        _join("({} + {})", _strings(depth - 1), _strings(depth - 1)),
        _join("string({})", _ints(depth - 1)),
        _join("string({})", st.one_of(_instants(depth - 1), _spans(depth - 1))),
        _join("{}.{}()", _strings(depth - 1), st.sampled_from(["lowerAscii", "upperAscii", "trim"])),
        _join("{}.replace({}, {})", _strings(depth - 1), _strings(0), _strings(0)),
        _join("{}.substring({})", _strings(0), st.sampled_from(["0", "1", "2", "-1", "features.calls"])),
        _join("{}.join({})", _texts(depth - 1), st.one_of(st.just(""), _strings(0))),
        _join("{}[{}]", _texts(depth - 1), st.sampled_from(["0", "1", "features.calls"])),
    )


def _texts(depth: int) -> st.SearchStrategy[str]:
    """Lists of texts."""
    leaves = st.one_of(
        st.sampled_from(["context.pages", "action.tags", '["a", "b", "/support/x"]']),
        _join("[{}, {}]", _strings(0), _strings(0)),
    )
    if depth <= 0:
        return leaves
    return st.one_of(
        leaves,
        _join("{}.split({})", _strings(0), _SEPARATORS),
        _join("({} + {})", _texts(depth - 1), _texts(depth - 1)),
        _join("{}.filter(x, {})", _texts(0), _tests_of_text()),
        _join("{}.map(x, x + {})", _texts(0), _strings(0)),
        _join("{}.map(x, {}, x.upperAscii())", _texts(0), _tests_of_text()),
        _join("{}.map(y, string(y))", _numbers(0)),
    )


def _numbers(depth: int) -> st.SearchStrategy[str]:
    """Lists of whole numbers."""
    leaves = st.one_of(
        st.sampled_from(["context.counts", "[1, 2, 3]", "[0, 1, features.calls]"]), _join("[{}]", _ints(0))
    )
    if depth <= 0:
        return leaves
    return st.one_of(
        leaves,
        _join("{}.map(x, size(x))", _texts(0)),
        _join("{}.filter(y, {})", _numbers(0), _tests_of_number()),
        _join("{}.map(y, y {} {})", _numbers(0), st.sampled_from("+-*/%"), _ints(0)),
        _join("({} + {})", _numbers(0), _numbers(0)),
    )


def _amounts(depth: int) -> st.SearchStrategy[str]:
    """Lists of doubles."""
    leaves = st.one_of(st.just("context.amounts"), _join("[{}, {}]", _doubles(0), _DOUBLES))
    return (
        leaves
        if depth <= 0
        else st.one_of(leaves, _join("{}.map(z, z {} {})", leaves, st.sampled_from("+*/"), _doubles(0)))
    )


def _tests_of_text() -> st.SearchStrategy[str]:
    """Truths about an element x of a list of texts."""
    return st.one_of(
        _join("x {} {}", _ORDERS, _strings(0)),
        _join("x.{}({})", st.sampled_from(["startsWith", "contains"]), _strings(0)),
        _join("size(x) > {}", _ints(0)),
        _join("x in {}", _texts(0)),
        _join("features.fiber || x == {}", _strings(0)),
        _join("{}.exists(w, w == x)", _texts(0)),
        _join("{}.all(x, x != {})", _texts(0), _strings(0)),
        st.sampled_from(
            [
                'x.matches("^[a-c]+|/sup.*t")',
                "scores.propensity > 0.5 && x != action.id",
                "x in context.usage",
            ]
        ),
    )


def _tests_of_number() -> st.SearchStrategy[str]:
    """Truths about an element y of a list of whole numbers."""
    return st.one_of(
        _join("y {} {}", _ORDERS, _ints(0)),
        _join("{} / y > {}", _ints(0), _ints(0)),
        _join(
            "y % 2 == 0 && {}", st.sampled_from(["features.fiber", "signals.trouble", "action.cost > 1.0"])
        ),
        _join("{}.exists_one(v, v == y)", _numbers(0)),
    )


def collection_tests(depth: int = 1) -> st.SearchStrategy[str]:
    """Truths about lists and maps."""
    macros = st.sampled_from(["all", "exists", "exists_one"])
    return st.one_of(
        _join("{}.{}(x, {})", _texts(depth), macros, _tests_of_text()),
        _join("{}.{}(y, {})", _numbers(depth), macros, _tests_of_number()),
        _join("{}.{}(z, z {} {})", _amounts(depth), macros, _ORDERS, _doubles(0)),
        _join("context.usage.{}(k, k {} {})", macros, _EQUALS, _strings(0)),
        _join("{} in {}", _strings(depth), _texts(depth)),
        _join("{} in {}", _ints(depth), _numbers(depth)),
        _join("{} in {}", _doubles(0), _amounts(depth)),
        _join("{} in context.usage", _strings(0)),
        _join("{} in context.pages", st.sampled_from(["action.id", "action.group"])),
        _join("{} {} {}", _texts(depth), _EQUALS, _texts(depth)),
        _join("{} {} {}", _amounts(0), _EQUALS, _amounts(0)),
        st.sampled_from(
            ["has(context.pages)", "has(context.usage.a)", "has(context.usage)", "size(context.pages) > 1"]
        ),
        st.sampled_from(['action.tags.exists(t, t.startsWith("p"))', "action.tags.map(t, size(t))[0] > 2"]),
    )


def _instants(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(
        ["now", "context.at", 'timestamp("2026-03-29T01:30:00.250Z")', 'timestamp("0007-01-01T00:00:00Z")']
    )
    if depth == 0:
        return leaves
    return st.one_of(
        leaves,
        _join("timestamp({})", _ints(0)),
        _join("({} {} {})", leaves, st.sampled_from("+-"), _DURATIONS),
    )


def _spans(depth: int) -> st.SearchStrategy[str]:
    spans = st.one_of(_DURATIONS, _join("({} - {})", _instants(depth), _instants(depth)))
    return spans if depth == 0 else st.one_of(spans, _join("({} {} {})", spans, st.sampled_from("+-"), spans))


def _atoms(depth: int) -> st.SearchStrategy[str]:
    return st.one_of(
        st.sampled_from(["features.fiber", "signals.trouble", "true", "false"]),
        st.sampled_from(
            ["has(features.fiber)", "has(context.at)", "has(scores.propensity)", "has(signals.trouble)"]
        ),
        _join("{} {} {}", _ints(depth), _ORDERS, _ints(depth)),
        _join("{} {} {}", _doubles(depth), _ORDERS, _doubles(depth)),
        _join("{} {} {}", _strings(depth), _ORDERS, _strings(depth)),
        _join("{} {} {}", _instants(depth), _ORDERS, _instants(depth)),
        _join("{} {} {}", _spans(depth), _ORDERS, _spans(depth)),
        _join("action.group {} {}", _EQUALS, _strings(0)),
        _join("scores.propensity {} {}", _ORDERS, _doubles(0)),
        collection_tests(min(depth, 1)),
        _join("{} in action.tags", _strings(depth)),
        _join("{} in [{}, {}]", _strings(depth), _strings(0), _strings(0)),
        _join("{} in [{}, {}, 3, 4, 5]", _ints(depth), _INTS, _INTS),
        _join(
            "{}.{}({})", _strings(0), st.sampled_from(["startsWith", "endsWith", "contains"]), _strings(depth)
        ),
        _join('{}.matches("^[a-c]+|/sup.*t")', _strings(0)),
    )


def _bools(depth: int) -> st.SearchStrategy[str]:
    if depth == 0:
        return _atoms(0)
    lower = _bools(depth - 1)
    return st.one_of(
        _atoms(depth - 1),
        _join("({} && {})", lower, lower),
        _join("({} || {})", lower, lower),
        _join("({} && {} && {})", lower, lower, lower),
        _join("!({})", lower),
        _join("({} ? {} : {})", lower, lower, lower),
        _join("({}) {} ({})", lower, _EQUALS, lower),
    )


def conditions() -> st.SearchStrategy[str]:
    """Conditions of all kinds, customer-level and action-level."""
    return _bools(2)


def collection_conditions() -> st.SearchStrategy[str]:
    """Conditions about lists and maps, alone and beside others."""
    one = collection_tests()
    other = st.one_of(one, _atoms(0))
    return st.one_of(one, _join("({} && {})", one, other), _join("({} || !({}))", other, one))


def whole_number_conditions() -> st.SearchStrategy[str]:
    """Comparisons of whole-number arithmetic, where Python and 64 bits part."""
    small = st.integers(-4, 4).map(lambda n: f"({n})")
    leaves = st.one_of(st.sampled_from(["context.count", "features.calls"]), small, _INTS)
    one = _join("({} {} {})", leaves, st.sampled_from("+-*/%"), leaves)
    two = _join("({} {} {})", one, st.sampled_from("+-*/%"), leaves)
    return _join("{} {} {}", st.one_of(one, two), _ORDERS, small)


def _collections() -> dict[str, st.SearchStrategy[object]]:
    texts = st.sampled_from([t for t in TEXTS if "\n" not in t])
    amounts = st.sampled_from([0.0, 12.5, -1.5, -0.0, float("inf"), float("nan")])
    return {
        "context.pages": st.lists(texts, max_size=4).map(tuple),
        "context.counts": st.lists(st.sampled_from([-1, 0, 1, 2, 7, 2**63 - 1]), max_size=4).map(tuple),
        "context.amounts": st.lists(amounts, max_size=3).map(tuple),
        "context.usage": st.dictionaries(st.sampled_from(["a", "b", "", "price"]), amounts, max_size=3),
    }


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Frames with some inputs missing, and propensities of which some are."""
    kinds = {
        "features.tenure": st.integers(-5, 1 << 24),
        "features.calls": st.integers(0, 5),
        "context.count": st.one_of(st.integers(-3, 3), st.sampled_from([2**63 - 1, -(2**63)])),
        "features.monthly": st.sampled_from([0.0, 12.5, 70.0, -0.0, 1e300]),
        "context.basket": st.sampled_from([0.0, 100.0, -1.5, float("inf"), float("nan")]),
        "features.contract": st.sampled_from(TEXTS),
        "context.page": st.sampled_from(TEXTS),
        "context.at": st.integers(-(10**12), 4 * 10**12),
        "scores.churn": st.floats(0, 1),
        **_collections(),
    }
    values = {
        declared.name: draw(st.one_of(kinds.get(declared.name, st.booleans()), st.none()))
        for declared in INPUTS
    }
    chance = st.one_of(st.floats(0, 1), st.just(float("nan")))
    propensity = draw(st.one_of(st.none(), st.lists(chance, min_size=len(ACTIONS), max_size=len(ACTIONS))))
    return frame_of(values, draw(st.integers(-(10**12), 4 * 10**12)), propensity)


@st.composite
def full_frames(draw: st.DrawFn) -> Frame:
    """Frames in which nothing is missing."""
    values: dict[str, object] = {
        "features.tenure": draw(st.integers(0, 80)),
        "features.calls": draw(st.integers(0, 5)),
        "features.monthly": draw(st.sampled_from([0.0, 12.5, 70.0])),
        "features.contract": draw(st.sampled_from(TEXTS)),
        "features.fiber": draw(st.booleans()),
        "context.count": draw(st.integers(-3, 3)),
        "context.basket": draw(st.sampled_from([0.0, 100.0, -1.5])),
        "context.page": draw(st.sampled_from(TEXTS)),
        "context.at": draw(st.integers(0, 2 * 10**12)),
        **{name: draw(values) for name, values in _collections().items()},
        "signals.trouble": draw(st.booleans()),
        "scores.churn": draw(st.floats(0, 1)),
    }
    propensity = draw(st.lists(st.floats(0, 1), min_size=len(ACTIONS), max_size=len(ACTIONS)))
    return frame_of(values, draw(st.integers(0, 2 * 10**12)), propensity)
