"""Constants, variables and segments: they mean what they would mean written out."""

from __future__ import annotations

import pytest
from conditions import LANGUAGE, collection_conditions, compiled, conditions, frames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_ruleset import SCHEMA, base_texts

from engine.core.rulebook import Frame, Rulebook
from engine.ruleset.build import build_rulebook, check
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.definitions import constant_text, glossary_of, language_of
from engine.ruleset.reading import read_documents
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.sources import RuleSources

_SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
_PEOPLE = """\
apiVersion: arbiter/v1
kind: SegmentPack
metadata: {name: people, owner: tests, description: Groups of customers}
constants: {LONG: 24, CONTRACTS: [one-year, two-year]}
variables: {bound: 'features.contract in constants.CONTRACTS'}
segments:
  - {id: settled, description: Bound and not at risk, when: segments.loyal && !segments.at_risk}
  - {id: loyal, description: Long with us, when: features.tenure > constants.LONG && variables.bound}
  - {id: at_risk, description: May leave, when: scores.churn > 0.5}
  - {id: forgotten, description: Nobody uses it, when: features.fiber}
"""
_RULE = """\
  - id: extra
    class: suitability
    applies_to: {}
    when: %s
    effect: deny
    reason: TOO_OFTEN
    state: active
"""


def _texts(condition: str, names: str = "") -> dict[str, str]:
    """The small set with segments and one more rule, in a pack with names of its own."""
    head = (
        "apiVersion: arbiter/v1\nkind: PolicyPack\nmetadata: {name: more, owner: tests, description: More}\n"
    )
    return base_texts() | {
        "segments.yaml": _PEOPLE,
        "more.yaml": f"{head}{names}rules:\n{_RULE % condition}",
    }


def _rulebook(condition: str, names: str = "") -> Rulebook:
    return build_rulebook(RuleSources.from_mapping(_texts(condition, names)), SCHEMA)


def _told(condition: str, names: str = "", **files: str) -> list[str]:
    texts = _texts(condition, names) | {f"{name}.yaml": text for name, text in files.items()}
    return [f"{d.file}:{d.line}:{d.column} {d.code}" for d in check(RuleSources.from_mapping(texts), SCHEMA)]


def _named(text: str) -> ConditionLanguage:
    """The language with `variables.it` for a condition."""
    definition, meaning = LANGUAGE.definition("variables.it", text)
    assert meaning.problems == ()
    return LANGUAGE.knowing([definition])


@_SETTINGS
@given(
    st.one_of(conditions(), collection_conditions()),
    st.sampled_from(["{}", "!{}", "{} || features.fiber"]),
    frames(),
)
def test_a_variable_is_its_text_in_parentheses(text: str, form: str, frame: Frame) -> None:
    """For every action and every missing input, naming a condition changes nothing."""
    written = compiled([form.format(f"({text})")]).evaluate(frame)

    named = compiled([form.format("variables.it")], language=_named(text)).evaluate(frame)

    assert named.tolist() == written.tolist()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (-2.0, "-2.0"),
        (1e300, "1e+300"),
        (True, "true"),
        ('q"\\\n\t\x7f é', '"q\\"\\\\\\n\\t\x7f é"'),
        (["a", "b"], '["a", "b"]'),
        ({"gold": 1.5}, '{"gold": 1.5}'),
    ],
)
def test_a_constant_is_written_as_conditions_say_it(value: object, text: str) -> None:
    """Values of YAML become literals of CEL, which the checker reads back."""
    definition, meaning = LANGUAGE.definition("constants.X", constant_text(value))

    assert (definition.text, meaning.problems) == (text, ())
    assert definition.node is not None


def test_rules_say_what_they_read_through_variables_and_segments() -> None:
    """The inputs of a rule are those of everything it names, however deep."""
    rulebook = _rulebook(
        "segments.settled && variables.yearly > 100.0", "variables: {yearly: features.monthly * 12.0}\n"
    )

    rule = next(r for r in rulebook.after_scores.rules if r.id == "extra")

    assert rule.reads == ("features.contract", "features.monthly", "features.tenure", "scores.churn")


def test_a_segment_without_scores_leaves_its_rule_before_them() -> None:
    """Only what reads a score waits for it."""
    rulebook = _rulebook("segments.loyal")

    assert "extra" in [r.id for r in rulebook.before_scores.rules]


def test_names_belong_to_their_file() -> None:
    """A constant of another pack is unknown, also where a segment of that pack is used."""
    assert _told("segments.loyal && features.tenure < constants.LONG") == ["more.yaml:8:57 R302"]


def test_a_wrong_variable_is_told_once_and_where_it_is_written() -> None:
    """What uses a wrong name is not wrong for it."""
    names = "variables:\n  bad: features.tenre > 3\n  user: variables.bad && true\n"

    assert _told("variables.bad || variables.user", names) == ["more.yaml:5:17 R302"]


def test_a_literal_that_cannot_be_is_found_inside_a_variable() -> None:
    """Values are compared with what an input can be, behind the name too."""
    names = "variables: {contract: features.contract}\n"

    assert _told('variables.contract == "two-years"', names) == ["more.yaml:9:33 R306"]


def test_a_pack_that_cannot_be_read_hides_no_segment() -> None:
    """Whether a segment exists cannot be told while a segment file has mistakes of structure."""
    broken = _PEOPLE.replace("description: May leave", "words: May leave")

    told = _told("segments.whatever", segments=broken)

    assert {place.split(":")[0] for place in told} == {"segments.yaml"}


def test_what_nobody_names_is_known() -> None:
    """Unused names are those neither conditions nor used names use."""
    texts = _texts("segments.settled && constants.A > 1", "constants: {A: 3, B: 4}\n")
    rules = RuleSet.of(read_documents(RuleSources.from_mapping(texts)), SCHEMA, ())
    glossary = glossary_of(rules)

    unused = glossary.unused([("more.yaml", "segments.settled"), ("more.yaml", "constants.A")])

    assert [declared.name for declared in unused] == ["segments.forgotten", "constants.B"]


def test_a_compiled_set_keeps_the_language_of_its_files() -> None:
    """Traces read a condition with the names it was written with."""
    rulebook = _rulebook("segments.loyal && variables.rich", "variables: {rich: features.monthly > 50.0}\n")

    node, problems = language_of(rulebook, "more.yaml").check("segments.loyal && variables.rich")

    assert node is not None
    assert problems == []


@pytest.mark.parametrize(
    ("condition", "slow"),
    [
        ('action.tags.exists(t, t.startsWith("p")) && features.fiber', False),
        ("context.basket > 1.0 && action.value > 50.0", False),
        ("action.id in [features.contract]", True),
        ("features.tenure / 7 > 3 && action.cost < 5.0", False),
        ("action.value / double(features.calls) > 3.0 || action.id.contains(features.contract)", True),
    ],
)
def test_what_is_not_computed_for_all_actions_at_once_is_noted(condition: str, slow: bool) -> None:
    """A note, not an error: the answer is the same, only slower."""
    told = check(RuleSources.from_mapping(_texts(condition)), SCHEMA)

    found = [d for d in told if d.code == "R309"]

    assert [(d.file, d.line) for d in found] == ([("more.yaml", 8)] if slow else [])
