"""Lists and maps of the context in suites, at the prompt and in the editors' schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from suite_company import HEAD, SCHEMA, SOURCES
from typer.testing import CliRunner

from engine.cli.app import app
from engine.domain import ContextValue
from engine.ruleset.build import build_rulebook, check
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.sources import RuleSources
from engine.service import requests
from engine.suites import context
from engine.suites.cases import ConcreteCase, expand_suites

RULES = Path(__file__).parents[3] / "rules"
_FIELDS = """\
context:
  - {name: pages, type: list<string>, values: [home, cancel], description: Pages of this visit}
  - {name: ids, type: list<int>, description: Numbers}
  - {name: sums, type: list<double>, description: Amounts}
  - {name: use, type: "map<string,double>", description: Use by product}
"""
_CASE = "  - name: a\n    customer: nora\n    channel: web\n    "


def words(fields: str = _FIELDS) -> dict[str, str]:
    """The small set with other fields of the context before its own."""
    texts = dict(SOURCES)
    return texts | {"vocabulary.yaml": texts["vocabulary.yaml"].replace("context:\n", fields, 1)}


def expanded(line: str) -> tuple[list[ConcreteCase], list[Diagnostic]]:
    """The cases of one entry with a line of its own, and what is wrong with it."""
    rulebook = build_rulebook(RuleSources.from_mapping(words()), SCHEMA)
    return expand_suites({"suites/s_test.yaml": f"{HEAD}{_CASE}{line}\n"}, rulebook, SCHEMA)


@pytest.mark.parametrize(
    ("line", "held"),
    [
        ("context: {pages: [home, cancel]}", [{"pages": ("home", "cancel")}]),
        ("context: {pages: []}", [{"pages": ()}]),
        ("context: {ids: [1, 2], sums: [1, 2.5]}", [{"ids": (1, 2), "sums": (1.0, 2.5)}]),
        ("context: {use: {internet: 2, tv: 0.5}}", [{"use": {"internet": 2.0, "tv": 0.5}}]),
        ("set: {context.pages: [home]}", [{"pages": ("home",)}]),
        ("matrix: {context.pages: [[home], [home, cancel], null]}", [
            {"pages": ("home",)}, {"pages": ("home", "cancel")}, {},
        ]),
    ],
)  # fmt: skip
def test_a_list_or_map_reaches_the_case_as_a_request_would_bring_it(
    line: str, held: list[dict[str, ContextValue]]
) -> None:
    """Tuples and dicts of the declared type; whole numbers where decimals are declared become decimal."""
    cases, problems = expanded(line)

    assert problems == []
    assert [case.facts.request().context for case in cases] == held
    assert [[type(v) for v in c.facts.context.values()] for c in cases] == [
        [type(value) for value in each.values()] for each in held
    ]


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("context: {pages: home}", 22, "`home` is not of type list<string>"),
        ("context: {pages: {home: 1}}", 22, "a map is not of type list<string>"),
        ("context: {pages: [home, nowhere]}", 29, "`pages` is never `nowhere`"),
        ("context: {ids: [1, 2.5]}", 24, "`2.5` is not of type int"),
        ("context: {ids: [true]}", 21, "`true` is not of type int"),
        ("context: {sums: [1.0, x]}", 27, "`x` is not of type double"),
        ("context: {use: [1.0]}", 20, "a list is not of type map<string,double>"),
        ("context: {use: {a: 1.0, b: x}}", 32, "`x` is not of type double"),
        ("context: {call_reason: [billing]}", 28, "a list is not of type string"),
        ("context: {pages: [[home]]}", 22, "`pages`: a list or map must hold texts, numbers or truths"),
        (f"context: {{ids: [{'1, ' * 256}1]}}", 20, "a list or map has at most 256 elements, this one has 257"),  # noqa: E501  # one case a line
        ("set: {features.tenure: [1]}", 28, "`features.tenure` takes one value, not a list"),
        ("set: {channel: {a: 1}}", 20, "`channel` takes one value, not a map"),
        ("set: {signals.payment_trouble: 1}", 36, "`1` is not whether the signal `payment_trouble` holds"),
        ("matrix: {context.pages: [[home], [home, nowhere]]}", 45, "`pages` is never `nowhere`"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_at_the_element(line: str, column: int, message: str) -> None:
    """Line and column are those of the element itself, not of the list it is in."""
    _, problems = expanded(line)

    assert [(p.line, p.column, p.message) for p in problems] == [(14, column, message)]


def test_a_list_for_a_feature_of_a_customer_is_one_mistake() -> None:
    """Features are single values; that is said once, not once for each type a value may have."""
    rulebook = build_rulebook(RuleSources.from_mapping(words()), SCHEMA)
    head = HEAD.replace("tenure: 30", "tenure: [30]")

    _, problems = expand_suites({"suites/s_test.yaml": f"{head}{_CASE}limit: 2\n"}, rulebook, SCHEMA)

    assert [(p.line, p.column, p.message) for p in problems] == [
        (7, 24, "`tenure`: must be one value, not a list")
    ]


@pytest.mark.parametrize(
    ("field", "column", "message", "advice"),
    [
        ("type: list<int>, values: [x]", 40, "`values` are for texts and lists of them", "remove them"),
        ('type: "map<string,doubel>"', 21, "is none of", "did you mean `map<string,double>`"),
        ("type: list<text>", 21, "`list<text>` is none of", "did you mean `list<"),
        ("type: [string]", 21, "a list is none of", "did you mean `string`"),
    ],
)  # fmt: skip
def test_a_wrong_type_in_the_vocabulary_is_told_with_the_types_there_are(
    field: str, column: int, message: str, advice: str
) -> None:
    """A type with a comma in it is one type, also in the advice."""
    fields = f"context:\n  - {{name: a, {field}, description: d}}\n"

    found = [p for p in check(RuleSources.from_mapping(words(fields)), SCHEMA) if p.file == "vocabulary.yaml"]

    assert [(p.column, message in p.message, p.advice.startswith(advice)) for p in found] == [
        (column, True, True)
    ]


def test_editors_accept_lists_and_maps_where_the_check_does() -> None:
    """The schemas in rules/schema know the types of the vocabulary, and such values in suites."""
    vocabulary = json.loads((RULES / "schema" / "vocabulary.json").read_text(encoding="utf-8"))
    suite = json.loads((RULES / "schema" / "test-suite.json").read_text(encoding="utf-8"))
    field = {"$ref": "#/definitions/ContextEntry", "definitions": vocabulary["definitions"]}
    case = {"$ref": "#/definitions/CaseEntry", "definitions": suite["definitions"]}
    held = {"name": "a", "context": {"pages": ["home"], "use": {"tv": 0.5}}, "set": {"context.ids": [1]}}

    for kind in ("list<string>", "list<int>", "list<double>", "map<string,double>"):
        jsonschema.validate({"name": "x", "type": kind, "description": "d"}, field)
    jsonschema.validate(held, case)
    for wrong in ({**held, "context": {"pages": [["home"]]}}, {**held, "context": {"use": {"tv": None}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, case)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "type": "list<text>", "description": "d"}, field)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The demo's rules with a list and a map in the vocabulary, and the suite that has Lea."""
    folder = tmp_path / "rules"
    for path in RULES.rglob("*"):
        if path.is_file() and (path.parent.name != "suites" or path.name == "service_test.yaml"):
            target = folder / path.relative_to(RULES)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    vocabulary = folder / "vocabulary.yaml"
    text = vocabulary.read_text(encoding="utf-8")
    vocabulary.write_text(text.replace("context:\n", _FIELDS, 1), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("facts", "expression"),
    [
        (['pages=["home", "cancel"]'], '"cancel" in context.pages && size(context.pages) == 2'),
        (['use={"tv": 2}'], "context.use.tv > 1.5"),
        (["sums=[1, 2.5]"], "context.sums.exists(s, s > 2.0)"),
    ],
)
def test_a_list_or_map_can_be_typed_at_the_prompt(rules: Path, facts: list[str], expression: str) -> None:
    """As JSON has them; whole numbers fit where decimals are declared."""
    given = [word for fact in facts for word in ("--context", fact)]
    ask = ["rules", "repl", "--rules", str(rules), "--fixture", "--customer", "lea", *given]

    result = CliRunner().invoke(app, [*ask, "--eval", expression])

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{expression}  =>  true")


def test_a_wrong_element_at_the_prompt_is_an_error(rules: Path) -> None:
    """With what the field can be."""
    ask = ["rules", "repl", "--rules", str(rules), "--fixture", "--customer", "lea"]

    result = CliRunner().invoke(app, [*ask, "--context", 'pages=["nowhere"]', "--eval", "true"])

    assert result.exit_code == 3
    assert "`pages` is never `nowhere`" in result.stderr


def test_suites_and_requests_have_one_limit() -> None:
    """What a case may hold, a request may bring."""
    assert context.MAX_ELEMENTS == requests.MAX_ELEMENTS
