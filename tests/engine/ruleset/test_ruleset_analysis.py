"""The analysis of a rule set: what it claims holds for every customer, and what it says is said well."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conditions import ACTIONS, INPUTS, LANGUAGE, compiled, frame_of
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ruleset import GOLDEN, SCHEMA, base_texts, with_condition

from engine.core.rulebook import FALSE, TRUE, Frame, InputType
from engine.ruleset import analysis, contradictions, diagnostics
from engine.ruleset.asof import Standing, as_of, share_an_instant, standing
from engine.ruleset.build import build_rulebook, check
from engine.ruleset.codes import MEANINGS, documentation
from engine.ruleset.diagnostics import Diagnostic, Severity, to_json
from engine.ruleset.expression import is_action_level
from engine.ruleset.reasoning import reach
from engine.ruleset.regions import meet_regions
from engine.ruleset.sarif import to_sarif
from engine.ruleset.sources import RuleSources

SARIF = Path(__file__).parent / "sarif"
DOCS = Path(__file__).parents[3] / "docs" / "rules" / "diagnostics.md"
_NAMES = {
    InputType.INT: ("0", "3", "5", "(-1)"),
    InputType.DOUBLE: ("0.0", "0.5", "70.0", "(-1.5)"),
    InputType.STRING: ('"a"', '"b"', '""'),
}
_ORDERS = ("==", "!=", "<", "<=", ">", ">=")


def _atoms() -> st.SearchStrategy[str]:
    """Comparisons of few inputs with few literals, so that they often meet; and what is opaque."""
    numbers = st.one_of(
        *(
            st.tuples(st.just(i.name), st.sampled_from(_ORDERS), st.sampled_from(_NAMES[i.type])).map(
                " ".join
            )
            for i in INPUTS
            if i.name in ("features.tenure", "features.monthly", "context.basket", "scores.churn")
        )
    )
    words = st.tuples(
        st.just("features.contract"),
        st.sampled_from(["==", "!=", "<"]),
        st.sampled_from(_NAMES[InputType.STRING]),
    ).map(" ".join)
    others = st.sampled_from(
        [
            "features.fiber", "has(features.tenure)", "has(context.basket)", "true", "false",
            'features.contract in ["a", "b"]', "features.tenure in [0, 3, 5]", "3 < features.tenure",
            "features.tenure - features.calls > 3", "features.tenure - features.calls > 5",
            "1.0 / context.basket > 0.0",
            '"b" in action.tags', 'action.group == "care"', "action.value >= 12.5", "scores.propensity > 0.5",
            "scores.propensity <= 0.5", "has(scores.propensity)",
            "(features.fiber ? features.tenure : 3) > 2",
            "features.fiber ? features.tenure > 3 : features.tenure <= 3",
            'features.contract.startsWith("a")',
            'now > timestamp("2026-01-01T00:00:00Z")', "now.getHours() < 8",
            '"a" in context.pages', 'context.pages.exists(p, p == "b")', "context.counts == [1, 2]",
            "context.counts.size() > 1", "context.counts.size() < 1", "has(context.usage)",
            'context.usage["a"] > 3.0', 'has(context.usage.a)', 'context.usage.a <= 3.0',
            '["a", "b"].exists(x, x == features.contract)', 'action.tags.exists(t, t == "b")',
        ]
    )  # fmt: skip
    return st.one_of(numbers, words, others)


_CONDITIONS = st.recursive(
    _atoms(),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})"),
        inner.map(lambda text: f"!({text})"),
    ),
    max_leaves=6,
)
_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "features.tenure": st.integers(-2, 7),
        "features.calls": st.integers(-2, 7),
        "features.monthly": st.sampled_from([-1.5, -0.0, 0.0, 0.25, 0.5, 70.0, 71.0, 5e-324]),
        "features.contract": st.sampled_from(["a", "b", "", "c"]),
        "features.fiber": st.booleans(),
        "context.basket": st.sampled_from([float("nan"), float("inf"), -0.0, 0.0, 0.5, 1.0, 70.0]),
        "scores.churn": st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        "context.pages": st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
        "context.counts": st.sampled_from([(), (1,), (1, 2), (2, 1)]),
        "context.usage": st.sampled_from([{}, {"a": 1.0}, {"a": 4.0, "b": 0.0}, {"a": float("nan")}]),
    },
)
_FRAMES = st.builds(
    frame_of,
    _VALUES,
    now_ms=st.sampled_from([0, 1_790_000_000_000, 3_600_000 * 9]),
    propensity=st.sampled_from([None, (0.1, 0.5, 0.9, float("nan"), 1.0)]),
)


def _claims(condition: str, place: int) -> tuple[bool, bool]:
    """Whether the analysis says that a condition is never true, and never false, for an action."""
    node, _ = LANGUAGE.check(condition)
    assert node is not None
    found = reach(node, {}, ACTIONS[place] if is_action_level(node) else None)
    return not found.true, not found.false


@given(_CONDITIONS, st.lists(_FRAMES, min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_what_is_called_never_true_or_never_false_never_is(condition: str, frames: list[Frame]) -> None:
    """Whatever the analysis claims, no evaluation of the compiled condition contradicts."""
    program = compiled([condition])
    truths = np.stack([program.evaluate(frame)[0] for frame in frames])

    for place in range(len(ACTIONS)):
        never_true, never_false = _claims(condition, place)
        assert not (never_true and (truths[:, place] == TRUE).any())
        assert not (never_false and (truths[:, place] == FALSE).any())


@given(_CONDITIONS, _CONDITIONS, st.lists(_FRAMES, min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_what_is_called_contradictory_never_passes_both(allow: str, deny: str, frames: list[Frame]) -> None:
    """Where an allow and a deny are said to leave nobody, no customer passes both."""
    program = compiled([allow, deny])
    rows = {rule.id: i for i, rule in enumerate(program.rules)}
    truths = np.stack([program.evaluate(frame) for frame in frames])
    nodes = [LANGUAGE.check(text)[0] for text in (allow, deny)]

    for place, action in enumerate(ACTIONS):
        first, second = (reach(node, {}, action) for node in nodes if node is not None)
        if not meet_regions(first.true, second.false):
            passed = (truths[:, rows["0"], place] == TRUE) & (truths[:, rows["1"], place] == FALSE)
            assert not passed.any()


@pytest.mark.parametrize(
    ("condition", "never_true", "never_false"),
    [
        ("features.tenure > 3 && features.tenure < 4", True, False),
        ("features.monthly > 3.0 && features.monthly < 4.0", False, False),
        ("features.monthly >= 3.0 || features.monthly < 3.0", False, True),
        ("context.basket >= 3.0 || context.basket < 3.0", False, False),  # it may be no number
        ("!has(features.tenure) && features.tenure > 3", True, False),
        ("has(features.tenure) || features.tenure > 3", False, True),  # where it is missing it is unknown
        ("has(features.tenure) || !has(features.tenure)", False, True),
        ("scores.churn > 1.0", True, False),
        ("features.fiber && !features.fiber", True, False),
        ('features.contract == "a" && features.contract != "a"', True, False),
        ("features.fiber ? features.tenure > 3 : false", False, False),
        ("now.getHours() >= 8 && now.getHours() < 8", True, False),
        ("features.tenure * 2 > 8 || features.tenure * 2 <= 8", False, True),
        ('features.contract < "b" || features.contract >= "b"', False, False),  # words have no order here
    ],
)
def test_the_analysis_sees_what_one_input_can_be(condition: str, never_true: bool, never_false: bool) -> None:
    """Intervals, categories, presence and equal terms are reasoned about; the rest is left open."""
    assert _claims(condition, 0) == (never_true, never_false)


def test_a_huge_condition_is_analysed_in_bounded_time() -> None:
    """Forty alternatives joined by `and` would be 2 to the 40 cases; the analysis stops before that."""
    text = " && ".join(f"(features.tenure == {i} || features.calls == {i})" for i in range(40))

    assert _claims(text, 0) in {(True, False), (False, False)}


def test_warnings_do_not_refuse_a_set() -> None:
    """A set with a warning is built, and the warning is told."""
    sources = with_condition("features.tenure < 3 && features.tenure > 5")

    rulebook = build_rulebook(sources, SCHEMA)

    assert [d.severity for d in check(sources, SCHEMA)] == [Severity.WARNING]
    assert "extra" in {rule.id for rule in rulebook.before_scores.rules}


def test_drafts_and_shadows_contradict_nobody() -> None:
    """Only rules that remove actions today are held against each other."""
    texts = base_texts()
    rule = (
        "  - id: extra\n    class: suitability\n    applies_to: {groups: [retention]}\n"
        '    when: features.contract == "month-to-month"\n    effect: deny\n'
        "    reason: TOO_OFTEN\n    state: STATE\n"
    )
    found = {
        state: [
            d.code
            for d in check(
                RuleSources.from_mapping(
                    texts | {"rules.yaml": texts["rules.yaml"] + rule.replace("STATE", state)}
                ),
                SCHEMA,
            )
        ]
        for state in ("draft", "shadow", "active")
    }

    assert found == {"draft": [], "shadow": [], "active": ["R604", "R603"]}


def test_rules_that_are_never_valid_together_do_not_contradict() -> None:
    """Two rules for different years leave the action to somebody in each."""
    texts = base_texts()
    rule = (
        "  - id: extra\n    class: suitability\n    applies_to: {groups: [retention]}\n"
        '    when: features.contract == "month-to-month"\n    effect: deny\n    reason: TOO_OFTEN\n'
        "    valid: {from: 2026-06-01}\n    state: active\n"
    )
    other = texts["rules.yaml"].replace(
        "    otherwise: RISK_LOW\n", "    otherwise: RISK_LOW\n    valid: {to: 2026-06-01}\n"
    )

    found = check(RuleSources.from_mapping(texts | {"rules.yaml": other + rule}), SCHEMA)

    assert found == []


def test_as_of_holds_only_rules_in_force_against_each_other() -> None:
    """Asked about a day, the analysis leaves out what has ended by then."""
    texts = base_texts()
    rule = (
        "  - id: extra\n    class: suitability\n    applies_to: {groups: [retention]}\n"
        '    when: features.contract == "month-to-month"\n    effect: deny\n    reason: TOO_OFTEN\n'
        "    valid: {to: 2026-06-01}\n    state: active\n"
    )
    sources = RuleSources.from_mapping(texts | {"rules.yaml": texts["rules.yaml"] + rule})
    may, july = 1_777_600_000_000, 1_783_000_000_000

    assert {d.code for d in check(sources, SCHEMA, as_of_ms=may)} == {"R603", "R604"}
    assert {d.code for d in check(sources, SCHEMA, as_of_ms=july)} == {"R610"}


def _pack(*rules: str) -> RuleSources:
    """The small set with more rules for its actions."""
    texts = base_texts()
    return RuleSources.from_mapping(texts | {"rules.yaml": texts["rules.yaml"] + "".join(rules)})


def _deny(number: int, when: str) -> str:
    return (
        f"  - id: extra-{number}\n    class: suitability\n    applies_to: {{}}\n    when: '{when}'\n"
        "    effect: deny\n    reason: TOO_OFTEN\n    state: active\n"
    )


def test_a_condition_with_too_many_cases_is_said_to_be_analysed_in_part() -> None:
    """Seventeen times seventeen cases are more than the analysis looks at; the author is told so."""
    either = " || ".join(f"features.tenure == {n}" for n in range(0, 34, 2))
    other = " || ".join(f"features.calls == {n}" for n in range(0, 34, 2))

    found = check(_pack(_deny(1, f"({either}) && ({other})")), SCHEMA)

    assert [(d.code, d.severity, d.message) for d in found] == [
        (
            "R613",
            Severity.NOTE,
            "this condition has too many cases to be analysed in full; what it contradicts may go unnoticed",
        )
    ]


def test_of_a_table_with_too_many_cases_one_row_speaks_for_all() -> None:
    """Each row competes with those before it, so what is too much for one is mostly too much for many."""
    ages = ", ".join(str(n) for n in range(0, 34, 2))
    rows = "".join(f"  - {{when: ['{ages}', '{ages}'], then: 0.{n}}}\n" for n in (1, 2, 3))
    table = (
        "apiVersion: arbiter/v1\nkind: DecisionTable\nid: very.wide\nreason: TOO_OFTEN\nstate: active\n"
        "metadata: {name: t, owner: tests, description: A table}\napplies_to: {groups: [retention]}\n"
        "inputs: [{input: features.tenure}, {input: features.calls}]\noutput: lever\nhit_policy: COLLECT\n"
        f"collect: sum\ngaps: allowed\nrows:\n{rows}"
    )

    found = check(RuleSources.from_mapping(base_texts() | {"table.yaml": table}), SCHEMA)

    (told,) = [d for d in found if d.code == "R613"]
    assert told.message.startswith("this and maybe other rows of `very.wide` have too many cases")
    assert (told.file, told.line) == ("table.yaml", 14)


def test_a_condition_with_many_cases_is_analysed_in_full() -> None:
    """Below the limit nothing is said, and what is wrong is found."""
    either = " || ".join(f"features.tenure == {n}" for n in range(0, 24, 2))

    found = check(_pack(_deny(1, f"({either}) && features.tenure == 3")), SCHEMA)

    assert [d.code for d in found] == ["R601"]


def test_pairs_that_are_not_compared_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set with more pairs than the limit says how many were left out."""
    monkeypatch.setattr(contradictions, "MAX_PAIRS", 5)
    rules = [_deny(n, f"features.tenure == {n}") for n in range(4)]

    found = check(_pack(*rules), SCHEMA)

    (told,) = [d for d in found if d.code == "R613"]
    assert told.file == "catalogue.yaml"
    assert told.message.startswith("of 16 pairs of rules for one action, 11 were not compared; ")


def test_rules_too_interwoven_to_be_analysed_together_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not known whether anybody can get an action, that is said of the action."""
    monkeypatch.setattr(analysis, "MAX_STEPS", 2)
    rules = [_deny(n, f"features.tenure == {n} && features.calls == {n}") for n in range(4)]

    found = check(_pack(*rules), SCHEMA)

    (told,) = [d for d in found if d.code == "R613"]
    assert told.message == "the rules for `discount`, `bill_help` are too interwoven to be analysed together"


def test_many_rules_of_several_cases_each_are_analysed_together() -> None:
    """Three to the power of twelve boxes would be too many; one case that all let pass is found at once."""
    rules = [
        _deny(n, f"features.tenure == {n} && features.calls == {n} && features.fiber") for n in range(12)
    ]

    assert check(_pack(*rules), SCHEMA) == []


def test_rules_of_several_cases_that_leave_nobody_are_found() -> None:
    """Each lets a part pass, and all of them together nobody."""
    rules = [
        _deny(1, "features.tenure < 10 && features.calls >= 0"),
        _deny(2, "features.tenure >= 10 && features.calls >= 0"),
        _deny(3, "features.calls < 0 && features.tenure < 10"),
        _deny(4, "features.calls < 0 && features.tenure >= 10"),
    ]

    found = [d for d in check(_pack(*rules), SCHEMA) if d.code == "R604"]

    assert [d.message.partition(",")[0] for d in found] == [
        "no customer can ever get `discount`",
        "no customer can ever get `bill_help`",
    ]


def test_validity_is_half_open() -> None:
    """A rule is in force from its first instant and not at its last."""
    assert [standing(10, 20, at) for at in (9, 10, 19, 20)] == [
        Standing.NOT_YET,
        Standing.IN_FORCE,
        Standing.IN_FORCE,
        Standing.ENDED,
    ]
    assert not share_an_instant((None, 10), (10, None))
    assert share_an_instant((None, 11), (10, None), (None, None))


def test_a_set_as_of_an_instant_names_what_is_in_force() -> None:
    """The compiled set is parted into what is in force and what is not."""
    rulebook = build_rulebook(RuleSources.from_mapping(base_texts()), SCHEMA)

    found = as_of(rulebook, at_ms=1_830_000_000_000)

    assert [a.id for a in found.actions] == ["bill_help"]
    assert [(a.id, s) for a, s in found.other_actions] == [("discount", Standing.ENDED)]
    assert len(found.rules) == 2
    assert found.other_rules == ()


def test_every_code_has_a_meaning_and_stands_in_the_documentation() -> None:
    """The page of codes is made from the code; `python -m engine.ruleset.codes` writes it."""
    declared = {v for n, v in vars(diagnostics).items() if n.isupper() and isinstance(v, str) and v[0] == "R"}

    assert set(MEANINGS) == declared
    assert DOCS.read_text(encoding="utf-8") == documentation()


def test_sarif_has_what_code_hosts_need() -> None:
    """Version, driver, one rule a code, and for every result its level, words and place, all inside 2.1.0."""
    cases = GOLDEN / "cases"
    texts = base_texts() | {
        "table.yaml": (cases / "table_gap" / "table.yaml").read_text(encoding="utf-8"),
        "rules with blank.yaml": (cases / "cel_syntax" / "rules.yaml").read_text(encoding="utf-8"),
    }
    found = check(RuleSources.from_mapping(texts), SCHEMA)

    log = json.loads(to_sarif(found, version="1.2.3", root="rules/"))

    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert (log["version"], driver["name"], driver["semanticVersion"]) == ("2.1.0", "arbiter", "1.2.3")
    assert len(run["results"]) == len(found)
    for result, diagnostic in zip(run["results"], found, strict=True):
        _assert_result(result, driver["rules"], diagnostic)


def test_sarif_fits_its_schema_for_every_kind_of_mistake() -> None:
    """Each golden case, with a folder and without, is a log that the schema of SARIF 2.1.0 accepts."""
    schema = json.loads((SARIF / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft4Validator(schema)
    found = [
        check(RuleSources.from_mapping(base_texts() | texts_of(case)), SCHEMA)
        for case in sorted((GOLDEN / "cases").iterdir())
    ]

    wrong = [
        error.message
        for problems in (*found, [])
        for root in ("", "rules/")
        for error in validator.iter_errors(json.loads(to_sarif(problems, version="1.2.3", root=root)))
    ]

    assert len({d.code for problems in found for d in problems}) > 50
    assert wrong == []


def test_the_schema_of_sarif_refuses_what_is_wrong() -> None:
    """A schema that accepts anything would prove nothing."""
    schema = json.loads((SARIF / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
    log = json.loads(to_sarif(check(with_condition("scores.churn > 2.0"), SCHEMA), version="1.2.3"))
    log["runs"][0]["results"][0]["level"] = "catastrophe"
    log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0
    del log["runs"][0]["tool"]["driver"]["name"]

    wrong = {error.path[-1] for error in jsonschema.Draft4Validator(schema).iter_errors(log)}

    assert {"level", "startLine", "driver"} <= wrong


def texts_of(case: Path) -> dict[str, str]:
    """The files that a golden case adds or changes."""
    return {p.name: p.read_text(encoding="utf-8") for p in case.iterdir() if p.suffix in (".yaml", ".csv")}


def _assert_result(result: dict[str, object], rules: list[dict[str, object]], diagnostic: Diagnostic) -> None:
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == diagnostic.code  # type: ignore[index]  # JSON
    assert result["level"] in {"error", "warning", "note"}
    assert result["message"]["text"].startswith(diagnostic.message)  # type: ignore[index]  # JSON
    place = result["locations"][0]["physicalLocation"]  # type: ignore[index]  # JSON
    assert place["artifactLocation"]["uri"] == "rules/" + diagnostic.file.replace(" ", "%20")
    region = place["region"]
    assert (region["startLine"], region["startColumn"]) == (diagnostic.line, diagnostic.column)


def test_json_tells_the_severity() -> None:
    """Every diagnostic in JSON says how grave it is."""
    found = check(with_condition("scores.churn > 2.0"), SCHEMA)

    assert [d["severity"] for d in json.loads(to_json(found))] == ["warning"]
