"""The files of the demo rules are as `arbiter rules fmt` and `arbiter rules schema` would have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # publishes no types

from engine.ruleset.filekinds import KINDS
from engine.ruleset.layout import lay_out
from engine.ruleset.schemas import HELP, schema_line, schema_name, schema_texts, stale_schemas
from engine.ruleset.yamltree import parse_yaml
from engine.suites.documents import SUITE_KINDS

RULES = Path(__file__).parents[3] / "rules"
FILE_KINDS = {**KINDS, **SUITE_KINDS}
FILES = sorted(p.relative_to(RULES).as_posix() for p in RULES.rglob("*.yaml"))


def _data(file: str) -> Mapping[str, Any]:
    yaml = parse_yaml(file, (RULES / file).read_text(encoding="utf-8"))
    assert yaml.problems == []
    assert isinstance(yaml.data, dict)
    return yaml.data


def _validator(kind: str) -> Draft7Validator:
    schema = json.loads((RULES / "schema" / schema_name(kind)).read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def test_the_schemas_say_what_the_documents_say() -> None:
    """`arbiter rules schema --write` would change nothing."""
    assert list(stale_schemas(RULES, FILE_KINDS)) == []


@pytest.mark.parametrize("file", FILES)
def test_a_rule_file_names_its_schema_and_is_valid_by_it(file: str) -> None:
    """Editors that read the first line show no mistake in a right file."""
    data = _data(file)
    first = (RULES / file).read_text(encoding="utf-8").split("\n", 1)[0]

    errors = [error.message for error in _validator(data["kind"]).iter_errors(data)]

    assert errors == []
    assert first == schema_line(file, data["kind"])
    assert (RULES / file).parent.joinpath(first.partition("=")[2]).resolve().is_file()


@pytest.mark.parametrize("file", FILES)
def test_a_rule_file_is_laid_out(file: str) -> None:
    """`arbiter rules fmt --check` passes."""
    text = (RULES / file).read_text(encoding="utf-8")

    laid = lay_out(file, text, kinds=FILE_KINDS)

    assert (laid.text, laid.problems) == (text, ())


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("PolicyPack", {"rules": [{"id": "a", "applies_to": {}, "effect": "deny", "state": "active"}]}),
        ("PolicyPack", {"rulez": []}),
        ("ContactPack", {"policies": [{"window": 7}]}),
        ("Arbitration", {"threshold": "high"}),
        ("TestSuite", {"now": 3}),
        ("Vocabulary", {"churn_bands": {"Low": 0.1}}),
    ],
)
def test_a_schema_refuses_what_the_compiler_refuses(kind: str, change: Mapping[str, object]) -> None:
    """Editors mark missing fields, unknown fields, wrong types and wrong names."""
    file = next(f for f in FILES if _data(f)["kind"] == kind)

    errors = list(_validator(kind).iter_errors({**_data(file), **change}))

    assert errors != []


def test_the_suite_in_the_readme_is_valid() -> None:
    """What authors copy from the documentation is valid by its schema."""
    readme = (RULES / "README.md").read_text(encoding="utf-8")
    example = next(part for part in readme.split("```") if "kind: TestSuite" in part).removeprefix("yaml\n")

    yaml = parse_yaml("readme", example)

    assert yaml.problems == []
    assert [error.message for error in _validator("TestSuite").iter_errors(yaml.data)] == []


def test_editors_show_help_only_for_fields_that_exist() -> None:
    """A field that is renamed takes its help along."""
    texts = "".join(schema_texts(FILE_KINDS).values())

    assert [key for key, words in HELP.items() if json.dumps(words)[1:-1] not in texts] == []
