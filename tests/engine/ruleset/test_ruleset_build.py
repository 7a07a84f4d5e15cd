"""From files to a rulebook: what is built, in which order, and under which version."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from small_ruleset import GOLDEN, SCHEMA, base_texts, with_condition

from engine.core.rulebook import TRUE, UNKNOWN, ContactKind, Frame, InputType, Rulebook
from engine.domain import Effect, PolicyClass
from engine.rulefiles import champions, model_reasons
from engine.ruleset.build import build_rulebook, check
from engine.ruleset.diagnostics import RuleSetInvalid, to_json
from engine.ruleset.positions import locate, offset_of
from engine.ruleset.sources import MAX_FILE_BYTES, RuleSources
from engine.ruleset.yamltree import parse_yaml
from feature_store.schema import load_schema

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def book() -> Rulebook:
    """The small set, built."""
    return build_rulebook(RuleSources.from_mapping(base_texts()), SCHEMA)


def test_inputs_begin_with_the_features_in_schema_order(book: Rulebook) -> None:
    """Places of features are those of the schema, so a decoded vector fills them as it is."""
    names = [declared.name for declared in book.vocabulary.inputs]

    assert names == [
        *(f"features.{feature.name}" for feature in SCHEMA.feature),
        "context.call_reason", "context.basket", "context.last_call",
        "signals.payment_trouble",
        "consents.marketing", "consents.service", "consents.profiling",
        "request.channel", "request.placement", "request.language",
        "scores.churn",
    ]  # fmt: skip


def test_behavioural_features_signals_and_scores_are_marked(book: Rulebook) -> None:
    """What needs consent to profiling is known by input."""
    marked = [declared.name for declared in book.vocabulary.inputs if declared.behavioural]

    assert marked == [
        "features.payments_30d",
        "features.calls",
        "signals.payment_trouble",
        "scores.churn",
    ]


def test_categories_are_strings_and_instants_are_timestamps(book: Rulebook) -> None:
    """Inputs have the types conditions see."""
    types = {declared.name: declared.type for declared in book.vocabulary.inputs}

    assert types["features.contract"] is InputType.STRING
    assert types["context.last_call"] is InputType.TIMESTAMP


def test_rules_that_read_scores_run_after_scoring(book: Rulebook) -> None:
    """Both scores count; the others run before."""
    assert [rule.id for rule in book.before_scores.rules] == ["service.boost"]
    assert [rule.id for rule in book.after_scores.rules] == ["retention.at-risk"]


def test_a_rule_knows_its_reads_place_and_amount(book: Rulebook) -> None:
    """What explanations need is in the rule."""
    rule = book.after_scores.rules[0]

    assert rule.reads == ("features.contract", "scores.churn")
    assert (rule.position.file, rule.position.line, rule.position.column) == ("rules.yaml", 5, 5)
    assert (rule.policy_class, rule.effect, rule.reason, rule.otherwise) == (
        PolicyClass.ELIGIBILITY, Effect.ALLOW, "", "RISK_LOW",
    )  # fmt: skip
    assert book.before_scores.rules[0].amount == 0.25


def test_scope_marks_the_actions_a_rule_is_for(book: Rulebook) -> None:
    """Groups and tags select from the catalogue, in its order."""
    assert book.after_scores.scope.tolist() == [[True, False]]
    assert book.before_scores.scope.tolist() == [[False, True]]


def test_contact_policies_are_in_milliseconds_with_scope(book: Rulebook) -> None:
    """Windows and scopes are ready to use."""
    policy = book.contact[0]

    assert (policy.kind, policy.limit, policy.window_ms) == (ContactKind.CAP, 2, 604_800_000)
    assert policy.scope.tolist() == [True, False]


def test_actions_carry_half_open_validity_in_utc(book: Rulebook) -> None:
    """Dates are instants at midnight UTC."""
    assert (book.actions[0].valid_from_ms, book.actions[0].valid_to_ms) == (
        1_767_225_600_000,
        1_798_761_600_000,
    )
    assert book.actions[1].valid_from_ms is None


def test_labels_come_with_the_reasons(book: Rulebook) -> None:
    """Words for values are part of the rulebook."""
    assert book.labels["month-to-month"] == {"en": "monthly", "fr": "mensuel"}


def test_drafts_are_left_out_and_shadows_are_marked() -> None:
    """A draft is checked and not run; a shadow rule is run and marked."""
    text = base_texts()["rules.yaml"]
    draft = RuleSources.from_mapping(
        base_texts() | {"rules.yaml": text.replace("state: active", "state: draft", 1)}
    )
    shadow = RuleSources.from_mapping(
        base_texts() | {"rules.yaml": text.replace("state: active", "state: shadow", 1)}
    )

    assert build_rulebook(draft, SCHEMA).after_scores.rules == ()
    assert [rule.shadow for rule in build_rulebook(shadow, SCHEMA).after_scores.rules] == [True]


def test_a_draft_with_a_mistake_is_told() -> None:
    """Drafts are checked, so that activating one brings no surprise."""
    text = (
        base_texts()["rules.yaml"]
        .replace("state: active", "state: draft")
        .replace("scores.churn", "scores.chrun")
    )

    problems = check(RuleSources.from_mapping(base_texts() | {"rules.yaml": text}), SCHEMA)

    assert [problem.code for problem in problems] == ["R302"]


def test_a_built_program_decides() -> None:
    """A rule from a file gives its truth for a frame in the order of inputs."""
    book = build_rulebook(with_condition("features.tenure < 3 && consents.marketing"), SCHEMA)
    names = [declared.name for declared in book.vocabulary.inputs]
    values: list[object] = [None] * len(names)
    values[names.index("consents.marketing")] = True
    row = [rule.id for rule in book.before_scores.rules].index("extra")

    missing = (1 << len(names)) - 1 - (1 << names.index("consents.marketing"))
    unknown = book.before_scores.evaluate(Frame(list(values), missing, 0))
    values[0] = 2
    known = book.before_scores.evaluate(Frame(list(values), missing & ~1, 0))

    np.testing.assert_array_equal(unknown[row], [UNKNOWN, UNKNOWN])
    np.testing.assert_array_equal(known[row], [TRUE, TRUE])


def test_the_version_changes_with_any_byte_and_the_catalogues_with_its_own() -> None:
    """Versions are content addresses."""
    base = base_texts()
    changed = base | {"arbitration.yaml": base["arbitration.yaml"].replace("0.5", "0.75")}

    before = build_rulebook(RuleSources.from_mapping(base), SCHEMA)
    again = build_rulebook(RuleSources.from_mapping(dict(reversed(base.items()))), SCHEMA)
    after = build_rulebook(RuleSources.from_mapping(changed), SCHEMA)

    assert before.version == again.version
    assert before.version != after.version
    assert before.catalogue_version == after.catalogue_version
    assert before.version.startswith("sha256:")


def test_moving_text_between_files_changes_the_version() -> None:
    """Lengths are part of the address, so two sets never join to the same bytes."""
    assert RuleSources({"a": "bc", "d": ""}).digest != RuleSources({"a": "b", "cd": ""}).digest


def test_an_invalid_set_raises_every_mistake() -> None:
    """Nothing is built, and the exception lists what check lists."""
    sources = with_condition("features.nope > 1 && features.monthly > 70")

    with pytest.raises(RuleSetInvalid) as raised:
        build_rulebook(sources, SCHEMA)

    assert list(raised.value.diagnostics) == check(sources, SCHEMA)
    assert [d.code for d in raised.value.diagnostics] == ["R302", "R303"]
    assert json.loads(to_json(raised.value.diagnostics))[0]["line"] == 22


def test_codes_of_models_need_words() -> None:
    """A reason only a model gives is checked like the others."""
    problems = check(RuleSources.from_mapping(base_texts()), SCHEMA, model_reasons=["PRICE_HIGH"])

    assert [(p.code, "PRICE_HIGH" in p.message) for p in problems] == [("R502", True)]


def test_a_directory_reads_like_a_mapping(tmp_path: Path) -> None:
    """Suites, schemas, hidden and other files are not rules; paths have slashes."""
    for name, text in base_texts().items():
        path = tmp_path / ("business/rules.yaml" if name == "rules.yaml" else name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for other in ("suites/x_test.yaml", "schema/x.yaml", ".hidden/x.yaml", ".x.yaml", "README.md"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("not: [rules", encoding="utf-8")

    sources = RuleSources.from_directory(tmp_path)

    assert sorted(sources) == sorted({*base_texts(), "business/rules.yaml"} - {"rules.yaml"})
    assert check(sources, SCHEMA) == []


def test_files_that_cannot_be_taken_are_all_named(tmp_path: Path) -> None:
    """Large, foreign, linked and broken files are told together."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "outside.yaml").write_text("a: 1", encoding="utf-8")
    (tmp_path / "rules" / "a.yaml").write_bytes(b"x: caf\xe9")
    (tmp_path / "rules" / "b.yaml").write_text("#" * (MAX_FILE_BYTES + 1), encoding="utf-8")
    (tmp_path / "rules" / "c.yaml").symlink_to(tmp_path / "outside.yaml")
    (tmp_path / "rules" / "d.yaml").symlink_to(tmp_path / "rules" / "d.yaml")
    os.mkfifo(tmp_path / "rules" / "e.yaml")

    with pytest.raises(RuleSetInvalid) as raised:
        RuleSources.from_directory(tmp_path / "rules")

    assert [(d.file, d.code) for d in raised.value.diagnostics] == [
        ("a.yaml", "R103"), ("b.yaml", "R102"), ("c.yaml", "R110"), ("d.yaml", "R101"), ("e.yaml", "R101"),
    ]  # fmt: skip
    assert raised.value.diagnostics[0].column == 7


def test_an_absent_folder_is_told(tmp_path: Path) -> None:
    """A wrong path is a diagnostic, not a traceback."""
    with pytest.raises(RuleSetInvalid, match="no such folder"):
        RuleSources.from_directory(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " + "{b: " * 50_000,
        "- " * 100_000,
        "&a [" + "*a, " * 100_000,
        "a: &x b\nc: *x",
        "? [a]\n: b",
    ],
    ids=["brackets", "braces", "dashes", "aliases", "alias", "complex key"],
)
def test_bombs_are_refused_quickly(text: str) -> None:
    """Depth and aliases are bounded before they cost anything."""
    document = parse_yaml("bomb.yaml", text)

    assert document.problems[0].code in {"R104", "R105", "R106", "R109"}


@pytest.mark.parametrize(
    "written",
    [
        "plain text here",
        '"quoted \\"x\\" \\u00e9 \\x41 here"',
        "'single ''quoted'' here'",
        "|\n    block\n      of here\n    text",
        ">-\n    folded\n    block\n\n    here it is",
        "folded plain\n    text here",
        '"folded\n    quoted here"',
    ],
)
def test_every_style_of_text_has_its_place(written: str) -> None:
    """The place of a word in a value is where the word stands in the file."""
    text = f"a:\n  b: {written}\n"
    document = parse_yaml("x.yaml", text)
    value = document.data["a"]["b"]  # type: ignore[index,call-overload]

    line, column = locate(text, document.scalars["a", "b"], value, value.index("here"))

    assert text.splitlines()[line - 1][column - 1 :].startswith("here")


def test_offsets_count_lines_of_the_value() -> None:
    """Line and column of a value are turned into one offset."""
    assert offset_of("ab\ncd", 2, 2) == 4
    assert offset_of("ab", 1, 9) == 2


def test_the_rules_of_this_repository_have_no_mistakes() -> None:
    """What is shipped can be built."""
    rules = REPOSITORY / "rules"
    schema = load_schema(REPOSITORY / "feature_store" / "demo" / "telco.toml")

    registry = REPOSITORY / "model_registry"
    codes = model_reasons(registry, champions(registry))

    problems = check(RuleSources.from_directory(rules), schema, model_reasons=codes)

    assert [p.render() for p in problems] == []


def test_golden_has_every_code() -> None:
    """Each diagnostic that files alone can cause is shown by a golden case or tested above."""
    shown = "".join(path.read_text(encoding="utf-8") for path in (GOLDEN / "cases").glob("*/expected.txt"))
    declared = {
        value
        for name, value in vars(__import__("engine.ruleset.diagnostics", fromlist=["x"])).items()
        if name.isupper() and isinstance(value, str)
    }

    assert {code for code in declared if code not in shown} == {"R101", "R102", "R103", "R110"}
