"""What is wrong in a rule set, where, and what to do: one form for every kind of mistake.

Codes are stable; tools and documentation may refer to them:

R1xx  files and YAML        R2xx  structure of documents     R3xx  conditions (CEL)
R4xx  names and references  R5xx  whole-set checks
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

UNREADABLE_FILE: Final = "R101"
FILE_TOO_LARGE: Final = "R102"
NOT_UTF8: Final = "R103"
NOT_YAML: Final = "R104"
ALIAS: Final = "R105"
NESTED_TOO_DEEPLY: Final = "R106"
SEVERAL_DOCUMENTS: Final = "R107"
DUPLICATE_KEY: Final = "R108"
UNUSUAL_YAML: Final = "R109"
OUTSIDE_FOLDER: Final = "R110"
UNKNOWN_KIND: Final = "R201"
MISSING_FIELD: Final = "R202"
UNKNOWN_FIELD: Final = "R203"
WRONG_VALUE: Final = "R204"
SYNTAX: Final = "R301"
UNDECLARED: Final = "R302"
TYPE_MISMATCH: Final = "R303"
NOT_A_CONDITION: Final = "R304"
UNSUPPORTED: Final = "R305"
UNKNOWN_LITERAL: Final = "R306"
UNKNOWN_NAME: Final = "R401"
DECLARED_TWICE: Final = "R402"
UNKNOWN_PLACEHOLDER: Final = "R403"
MISSING_TEXT: Final = "R404"
WRONG_DOCUMENTS: Final = "R501"
MISSING_REASON: Final = "R502"
NO_TREATMENT: Final = "R503"
OVERLAPPING_TREATMENTS: Final = "R504"
NO_CONSENT_RULE: Final = "R505"
NOTHING_IN_SCOPE: Final = "R506"
NO_PROFILING: Final = "R507"
UNORDERED_BANDS: Final = "R508"
UNFIT_EFFECT: Final = "R509"

_MAX_SHOWN = 160


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One mistake. Lines and columns count from 1; `source_line` is the line it stands on."""

    file: str
    line: int
    column: int
    code: str
    message: str
    advice: str = ""
    source_line: str = ""

    def render(self) -> str:
        """The mistake for a terminal: place, words, the line with a caret, advice."""
        lines = [f"{self.file}:{self.line}:{self.column} {self.code} {self.message}"]
        if self.source_line.strip():
            start = max(0, self.column - _MAX_SHOWN // 2)
            shown = self.source_line[start : start + _MAX_SHOWN].rstrip()
            lead = "".join("\t" if c == "\t" else " " for c in shown[: self.column - 1 - start])
            lines += [f"    {shown}", f"    {lead}^"]
        if self.advice:
            lines.append(f"    {self.advice}")
        return "\n".join(lines)


class RuleSetInvalid(Exception):
    """The rule set has mistakes; `diagnostics` holds all of them, in order of place."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(set(diagnostics)))
        super().__init__(f"the rule set has {counted(len(self.diagnostics))}\n{render(self.diagnostics)}")


def counted(number: int) -> str:
    """The number of mistakes in words for people."""
    return "1 problem" if number == 1 else f"{number} problems"


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """All mistakes for a terminal, a blank line between them."""
    return "\n\n".join(d.render() for d in diagnostics)


def to_json(diagnostics: Iterable[Diagnostic]) -> str:
    """All mistakes as a JSON array of objects with the fields of Diagnostic."""
    return json.dumps([asdict(d) for d in diagnostics], ensure_ascii=False, indent=2)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Advice for a name nobody declared: the nearest known ones, else what there is."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(f"`{n}`" for n in near) + "?"
    if not names:
        return "none is declared"
    shown = ", ".join(names[:12])
    return f"known: {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")
