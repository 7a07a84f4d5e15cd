"""JSON Schemas of the file kinds, for editors: made from the documents that type the files."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from engine.ruleset.documents import Document

SCHEMA_FOLDER: Final = "schema"
_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""The draft that yaml-language-server reads in every version."""
_LINE: Final = "# yaml-language-server: $schema="
_BY_NAME: Final = frozenset({"properties", "definitions", "patternProperties"})
HELP: Final = {
    "GpcEntry.purposes": "Purposes that Global Privacy Control in a request objects to.",
    "GpcEntry.record": "true keeps the objection for the customer, on every channel; false forgets it.",
    "RuleEntry.id": "Name of the rule in reasons, traces and the decision log; never used twice.",
    "RuleEntry.class": "eligibility: may we; applicability: does it fit now; suitability: is it right.",
    "RuleEntry.applies_to": "Actions the rule is for: all that is given must match; {} is every action.",
    "RuleEntry.when": "CEL over features, context, signals, consents, request, scores, action and now.",
    "RuleEntry.effect": "allow keeps where true; deny removes where true; lever and weight change priority.",
    "RuleEntry.share": "lever only: 0.25 is +25 %, -0.1 is -10 %.",
    "RuleEntry.factor": "weight only: multiplies the weight of the action.",
    "RuleEntry.reason": "Reason code given where the rule holds; its words are in the reason catalogue.",
    "RuleEntry.otherwise": "allow only: reason code of removal where the rule does not hold.",
    "RuleEntry.state": "draft: checked only; shadow: evaluated and logged, changes nothing; active.",
    "Validity.from": "First instant inside, a date or instant, UTC.",
    "Validity.to": "First instant outside, a date or instant, UTC.",
    "ContactEntry.per": "Which contacts count together.",
    "ContactEntry.kind": "cap, cooldown, exclusion, quiet_hours, or budget: a limit over all customers.",
    "ContactEntry.counts": "Outcomes that count; reserved counts from the decision until it ends unshown.",
    "ContactEntry.limit": "cap: how often for one customer; budget: how often for all customers together.",
    "ContactEntry.window": "Sliding and ending now: 30m, 24h, 7d, 52w.",
    "ContactEntry.reserve_for": "How long a decision that returns the action counts if it is not shown.",
    "ContactEntry.channels": "quiet_hours only: the channels that are quiet; all where not given.",
    "ContactEntry.days": "quiet_hours only: days on which the hours begin; all where not given.",
    "ContactEntry.from": "quiet_hours only: the customer's local time at which they begin, such as 21:00.",
    "ContactEntry.to": "quiet_hours only: local time at which they end, the next day where not later.",
    "ContactPackDocument.time_zone": "IANA name of the zone of customers whose own is not known.",
    "ContactPackDocument.time_zone_from": "Input that names the customer's zone, such as features.time_zone.",
    "ContactPackDocument.reserve_for": "reserve_for of the policies that do not say it.",
    "CaseEntry.set": "Facts by dotted name, such as features.x or scores.churn; null takes one away.",
    "CaseEntry.matrix": "Values by dotted name; every combination is a case.",
    "CaseEntry.rows": "Cases that differ in what they set and expect.",
    "CustomerFixture.like": "Takes everything from this customer first.",
    "CustomerFixture.ages": "How old the values of a view are, such as {behaviour: 8d}.",
}
"""What editors show for a field, by document part and field."""
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def schema_name(kind: str) -> str:
    """File name of a kind's schema, e.g. policy-pack.json."""
    return "-".join(_WORD.split(kind)).lower() + ".json"


def schema_line(file: str, kind: str) -> str:
    """First line of a rule file at a path relative to the rules folder."""
    target = posixpath.join(SCHEMA_FOLDER, schema_name(kind))
    return _LINE + posixpath.relpath(target, posixpath.dirname(file) or ".")


def is_schema_line(line: str) -> bool:
    """Whether a line names a schema, right or wrong."""
    return line.startswith(_LINE.rstrip("="))


def schema_texts(kinds: Mapping[str, type[Document]]) -> dict[str, str]:
    """File name to text of every kind's schema; the same documents give the same bytes."""
    return {
        schema_name(kind): json.dumps(_schema(kind, model), ensure_ascii=False, indent=2) + "\n"
        for kind, model in sorted(kinds.items())
    }


def _schema(kind: str, model: type[Document]) -> dict[str, Any]:
    made = model.model_json_schema(by_alias=True, mode="validation", ref_template="#/definitions/{model}")
    made["definitions"] = made.pop("$defs", {})
    for part, definition in {model.__name__: made, **made["definitions"]}.items():
        for name, field in definition.get("properties", {}).items():
            if help_text := HELP.get(f"{part}.{name}"):
                field["description"] = help_text
    described = _tidied(made)
    return {"$schema": _DIALECT, **described, "title": f"Arbiter {kind}"}


def _tidied(node: Any) -> Any:  # noqa: ANN401  # any JSON
    """Without titles that repeat names, which editors would show as help; closed where files are."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidied = {
        key: _tidied_fields(value) if key in _BY_NAME else _tidied(value)
        for key, value in node.items()
        if key != "title"
    }
    if "patternProperties" in tidied:  # pydantic leaves open what keys of no pattern hold
        tidied["additionalProperties"] = False
    return tidied


def _tidied_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields by name; one may itself be called `title`."""
    return {name: _tidied(value) for name, value in fields.items()}


def stale_schemas(rules: Path, kinds: Mapping[str, type[Document]]) -> Iterator[str]:
    """Schema files, by name, that do not say what the documents say, or that no kind has."""
    folder = rules / SCHEMA_FOLDER
    wanted = schema_texts(kinds)
    there = {path.name: path for path in folder.glob("*.json")}
    for name in sorted({*wanted, *there}):
        if name not in there or there[name].read_text(encoding="utf-8") != wanted.get(name):
            yield name


def write_schemas(rules: Path, kinds: Mapping[str, type[Document]]) -> list[str]:
    """Brings the schema files up to date; returns the names of those that changed. Raises OSError."""
    changed = list(stale_schemas(rules, kinds))
    folder = rules / SCHEMA_FOLDER
    folder.mkdir(exist_ok=True)
    wanted = schema_texts(kinds)
    for name in changed:
        if name in wanted:
            (folder / name).write_text(wanted[name], encoding="utf-8")
        else:
            (folder / name).unlink()
    return changed
