"""Diagnostics as SARIF 2.1.0, which code hosts show beside the lines of a pull request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

from engine.ruleset.codes import MEANINGS
from engine.ruleset.diagnostics import Diagnostic, severity_of

VERSION: Final = "2.1.0"
SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def to_sarif(diagnostics: Iterable[Diagnostic], *, version: str, root: str = "") -> str:
    """One run of `arbiter rules check`. `root` is the rules folder, put before every file's path."""
    found = list(diagnostics)
    rules = sorted({d.code for d in found})
    prefix = f"{root.strip('/')}/" if root.strip("/") else ""
    run = {
        "tool": {
            "driver": {
                "name": "arbiter",
                "semanticVersion": version,
                "rules": [_rule(code) for code in rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(d, rules, prefix) for d in found],
    }
    return json.dumps({"$schema": SCHEMA, "version": VERSION, "runs": [run]}, ensure_ascii=False, indent=2)


def _rule(code: str) -> dict[str, object]:
    return {
        "id": code,
        "shortDescription": {"text": MEANINGS[code]},
        "defaultConfiguration": {"level": severity_of(code).value},
    }


def _result(diagnostic: Diagnostic, rules: Sequence[str], prefix: str) -> dict[str, object]:
    told = [diagnostic.message, diagnostic.advice]
    region: dict[str, object] = {"startLine": diagnostic.line, "startColumn": diagnostic.column}
    if diagnostic.source_line:
        region["snippet"] = {"text": diagnostic.source_line}
    place = {"artifactLocation": {"uri": quote(prefix + diagnostic.file)}, "region": region}
    return {
        "ruleId": diagnostic.code,
        "ruleIndex": rules.index(diagnostic.code),
        "level": diagnostic.severity.value,
        "message": {"text": "; ".join(part for part in told if part)},
        "locations": [{"physicalLocation": place}],
    }
