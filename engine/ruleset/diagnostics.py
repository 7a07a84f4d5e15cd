"""What is wrong in a rule set, where, and what to do: one form for every kind of mistake.

Codes are stable; tools and documentation may refer to them:

R1xx  files and YAML        R2xx  structure of documents     R3xx  conditions (CEL)
R4xx  names and references  R5xx  whole-set checks      R6xx  analysis    R7xx  decision tables
R8xx  signals               R9xx  events

How grave each is, and what it means, is in `codes.py`; docs/rules/diagnostics.md is made from that.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
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
CIRCLE: Final = "R307"
NOT_ABOUT_THE_CUSTOMER: Final = "R308"
NOT_VECTORISED: Final = "R309"
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
UNFIT_RESERVATION: Final = "R510"
NEVER_TRUE: Final = "R601"
ALWAYS_TRUE: Final = "R602"
CONTRADICTION: Final = "R603"
NEVER_POSSIBLE: Final = "R604"
NO_CHANNEL: Final = "R605"
TREATMENT_NEVER_SHOWN: Final = "R606"
WINDOWS_NEVER_MEET: Final = "R607"
UNUSED_REASON: Final = "R608"
POLICY_NEVER_LIMITS: Final = "R609"
NOT_IN_FORCE: Final = "R610"
NEVER_WORTH_IT: Final = "R611"
ANALYSED_IN_PART: Final = "R613"
BAD_CELL: Final = "R701"
BAD_CSV: Final = "R702"
BAD_TABLE: Final = "R703"
ROWS_OVERLAP: Final = "R704"
GAP: Final = "R705"
ROW_NEVER_HIT: Final = "R706"
NOT_ANALYSED: Final = "R707"
UNREAD_CSV: Final = "R708"
VALUE_TWICE: Final = "R709"
NO_CURRENCY: Final = "R710"
UNUSED_NAME: Final = "R612"
SIGNAL_WITHOUT_PATTERN: Final = "R801"
UNFIT_CONDITION: Final = "R802"
PATTERN_TOO_LARGE: Final = "R803"
UNFIT_SOURCE: Final = "R901"
UNFIT_AGGREGATE: Final = "R902"
_WARNINGS: Final = frozenset(
    {
        NEVER_TRUE, ALWAYS_TRUE, CONTRADICTION, NEVER_POSSIBLE, NO_CHANNEL, TREATMENT_NEVER_SHOWN,
        WINDOWS_NEVER_MEET, POLICY_NEVER_LIMITS, NEVER_WORTH_IT, UNUSED_NAME, GAP, ROW_NEVER_HIT, UNREAD_CSV,
        SIGNAL_WITHOUT_PATTERN, UNFIT_AGGREGATE,
    }
)  # fmt: skip
_NOTES: Final = frozenset({UNUSED_REASON, NOT_IN_FORCE, NOT_ANALYSED, NOT_VECTORISED, ANALYSED_IN_PART})

_MAX_SHOWN = 160
_NEAREST: Final = 2
_LIKE: Final = 0.6
"""How alike two names must be, of 1, to be taken for each other."""
_SAME_WORD: Final = 0.8
_PART: Final = 3
"""Letters of the shortest word that may stand for the beginning of one."""
_WORD: Final = re.compile(r"[^\W_]+")


class Severity(StrEnum):
    """How grave a diagnostic is. An error refuses the rule set; the others do not."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


def severity_of(code: str) -> Severity:
    """How grave every diagnostic of a code is."""
    if code in _WARNINGS:
        return Severity.WARNING
    return Severity.NOTE if code in _NOTES else Severity.ERROR


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

    @property
    def severity(self) -> Severity:
        """How grave it is."""
        return severity_of(self.code)

    def render(self) -> str:
        """The mistake for a terminal: place, words, the line with a caret, advice."""
        grave = "" if self.severity is Severity.ERROR else f" {self.severity.value}:"
        lines = [f"{self.file}:{self.line}:{self.column} {self.code}{grave} {self.message}"]
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


def counted_by_severity(diagnostics: Iterable[Diagnostic]) -> str:
    """The numbers of errors, warnings and notes in words for people; none of those there are none of."""
    found = [d.severity for d in diagnostics]
    numbers = [(severity.value, found.count(severity)) for severity in Severity]
    return ", ".join(f"{n} {word}" + ("s" if n > 1 else "") for word, n in numbers if n)


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """All mistakes for a terminal, a blank line between them."""
    return "\n\n".join(d.render() for d in diagnostics)


def to_json(diagnostics: Iterable[Diagnostic]) -> str:
    """All diagnostics as a JSON array of objects with the fields of Diagnostic and `severity`."""
    told = [{**asdict(d), "severity": d.severity.value} for d in diagnostics]
    return json.dumps(told, ensure_ascii=False, indent=2)


def errors(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Those that refuse the rule set."""
    return [d for d in diagnostics if d.severity is Severity.ERROR]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Advice for a name nobody declared: the nearest known ones, else what there is."""
    names = sorted(known)
    near = _near(name, names)
    if near:
        return "did you mean " + " or ".join(f"`{n}`" for n in near) + "?"
    if not names:
        return "none is declared"
    shown = ", ".join(names[:12])
    return f"known: {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _near(name: str, names: Sequence[str]) -> list[str]:
    """Names spelt nearly the same, then those of which `name` is a part, shortest first; two at most."""
    folded = name.casefold()
    alike = {each: _likeness(each.casefold(), folded, _LIKE) for each in names}
    spelt = sorted((each for each in names if alike[each]), key=lambda each: -alike[each])
    parts = [each for each in names if not alike[each] and _is_part(folded, each.casefold())]
    return [*spelt, *sorted(parts, key=len)][:_NEAREST]


def _likeness(one: str, other: str, least: float) -> float:
    """How alike two texts are, up to 1; 0 where less than asked for."""
    matcher = difflib.SequenceMatcher(None, one, other)
    if matcher.real_quick_ratio() < least or matcher.quick_ratio() < least:  # spares the slow way
        return 0.0
    found = matcher.ratio()
    return found if found >= least else 0.0


def _is_part(name: str, whole: str) -> bool:
    """Whether each word of a name begins, or nearly is, a word of another: `tenur` of `tenure_months`."""
    written, words = _WORD.findall(name), _WORD.findall(whole)
    return bool(written) and all(any(_begins(part, word) for word in words) for part in written)


def _begins(part: str, word: str) -> bool:
    if len(part) < _PART:  # too short to tell anything by itself
        return part == word
    return word.startswith(part) or (len(part) > _PART and _likeness(word, part, _SAME_WORD) > 0.0)
