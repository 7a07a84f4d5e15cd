"""Traces: the words of a condition with the value each of them had."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ruleset import SCHEMA, with_condition

from engine.core.rulebook import Input, InputType
from engine.ruleset.build import build_rulebook
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.trace import RulePlaces, Situation, Trace, Tracer, render_trace

INPUTS = (
    Input("features.tenure", InputType.INT),
    Input("features.contract", InputType.STRING),
    Input("context.at", InputType.TIMESTAMP),
)
HOUR_MS = 3_600_000


def _language() -> ConditionLanguage:
    language = ConditionLanguage(INPUTS, {})
    definition, _ = language.definition("segments.loyal", "features.tenure >= 24")
    return language.knowing([definition])


TRACER = Tracer(lambda _: LANGUAGE, INPUTS)
LANGUAGE = _language()


def _traced(condition: str, /, now_ms: int = 0, **values: object) -> Trace:
    named = {f"features.{name}": value for name, value in values.items()}
    return TRACER.trace(condition, Situation(named, now_ms))


def test_each_part_is_shown_with_its_own_words_and_value() -> None:
    """A trace is the condition's tree, in the author's words."""
    trace = _traced('features.tenure >= 12 && !(features.contract == "x")', tenure=7, contract="y")

    assert render_trace(trace) == [
        'features.tenure >= 12 && !(features.contract == "x")  =>  false',
        "  features.tenure >= 12  =>  false",
        "    features.tenure  =>  7",
        '  !(features.contract == "x")  =>  true',
        '    features.contract == "x"  =>  false',
        '      features.contract  =>  "y"',
    ]


def test_a_missing_input_is_named_with_its_cause_in_every_part_that_lacks_it() -> None:
    """Unknown parts say what they lack; has() is never unknown."""
    situation = Situation({}, 0, causes={"features.tenure": "stale"})

    trace = TRACER.trace("has(features.tenure) || features.tenure + 1 > 2", situation)

    assert render_trace(trace) == [
        "has(features.tenure) || features.tenure + 1 > 2  =>  unknown (features.tenure)",
        "  has(features.tenure)  =>  false",
        "  features.tenure + 1 > 2  =>  unknown (features.tenure)",
        "    features.tenure + 1  =>  unknown (features.tenure)",
        "      features.tenure  =>  unknown (stale)",
    ]


def test_what_cannot_be_computed_says_so() -> None:
    """A division by zero is no missing input."""
    trace = _traced("10 / features.tenure > 1", tenure=0)

    assert [part.missing for part in trace.walk()] == ["not computable", "not computable", ""]


def test_instants_and_durations_are_shown_as_they_are_written() -> None:
    """Milliseconds mean nothing to an author."""
    trace = TRACER.trace(
        'now - context.at > duration("1h")', Situation({"context.at": 1000}, 90 * 60_000 + 1000)
    )

    assert render_trace(trace)[1:] == [
        "  now - context.at  =>  1h30m",
        "    now  =>  1970-01-01T01:30:01Z",
        "    context.at  =>  1970-01-01T00:00:01Z",
    ]


def test_a_segment_is_one_atom_and_shows_what_it_stands_for() -> None:
    """Coverage counts the name; the reader sees below it."""
    trace = _traced('segments.loyal && features.contract in ["a", "b"]', tenure=30, contract="b")

    assert [atom.text for atom in trace.atoms()] == ["segments.loyal", 'features.contract in ["a", "b"]']
    assert render_trace(trace)[1:4] == [
        "  segments.loyal  =>  true",
        "    features.tenure >= 24  =>  true",
        "      features.tenure  =>  30",
    ]


@pytest.mark.parametrize(
    ("condition", "texts"),
    [
        ("(features.tenure) > (1)", ["(features.tenure) > (1)"]),
        ("((features.tenure > 1))", ["features.tenure > 1"]),
        ('features.contract.startsWith("(")', ['features.contract.startsWith("(")']),
        ("size(features.contract) in ([1, 2]) ? true : features.tenure<-3", []),
        (
            '"é" == features.contract || features.tenure == -1',
            ['"é" == features.contract', "features.tenure == -1"],
        ),
        (
            "features.tenure > 1 && // why\n features.tenure < 9",
            ["features.tenure > 1", "features.tenure < 9"],
        ),
        ('["a", "b"].exists(x, x == features.contract)', ['["a", "b"].exists(x, x == features.contract)']),
    ],
)
def test_the_words_of_a_part_are_exactly_those_of_the_author(condition: str, texts: list[str]) -> None:
    """Parentheses, signs, comments and accents do not move the place of a part."""
    atoms = list(TRACER.outline(condition).atoms())

    assert all(condition[part.offset : part.end] == part.text for part in TRACER.outline(condition).walk())
    if texts:
        assert [atom.text for atom in atoms] == texts


COMPARISONS = st.sampled_from(
    ["features.tenure > 3", 'features.contract == "a"', "has(features.tenure)", "features.tenure % 2 == 0"]
)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("{} || {}".format, inner, inner),
        st.builds("!({})".format, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
    ),
    max_leaves=8,
)


@settings(deadline=None)  # a busy machine is no mistake
@given(
    condition=CONDITIONS,
    tenure=st.none() | st.integers(-5, 5),
    contract=st.none() | st.sampled_from(["a", "b"]),
)
def test_parts_agree_with_the_whole(condition: str, tenure: int | None, contract: str | None) -> None:
    """The value of a part is the value of its text by itself."""
    trace = _traced(condition, tenure=tenure, contract=contract)

    for part in trace.walk():
        alone = _traced(part.text, tenure=tenure, contract=contract)
        assert (part.value, condition[part.offset : part.end]) == (alone.value, part.text)


def test_what_is_not_a_condition_has_no_trace() -> None:
    """The caller checks first; a mistake is a ValueError and nothing else."""
    with pytest.raises(ValueError, match="not a condition"):
        TRACER.trace("features.nothing > 1", Situation({}, 0))


def test_a_character_of_a_condition_has_a_place_in_its_file() -> None:
    """Line and column are those of the file, whatever the style of the text."""
    sources = with_condition(">-\n      features.tenure > 3\n      && features.monthly >= 70.0")
    rule = next(r for r in build_rulebook(sources, SCHEMA).before_scores.rules if r.id == "extra")
    places = RulePlaces(sources)

    place = places.of("extra", rule.condition.index("features.monthly"))

    assert place is not None
    line = sources["rules.yaml"].splitlines()[place.line - 1]
    assert line[place.column - 1 :] == "features.monthly >= 70.0"
    assert places.of("nobody") is None
