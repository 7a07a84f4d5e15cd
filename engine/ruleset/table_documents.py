"""Decision tables as authors write them, typed. docs/rules/decision-tables.md is the format for people."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from engine.domain import PolicyClass
from engine.ruleset.documents import ALWAYS, Code, Document, Id, Scope, Strict, Validity


def _cell_text(written: object) -> object:
    """Cells are text; YAML reads some of them as numbers, booleans or nothing."""
    if isinstance(written, bool):
        return str(written).lower()
    if isinstance(written, (int, float)):
        return repr(written)
    return "" if written is None else written


CellText = Annotated[
    str,
    BeforeValidator(_cell_text),
    Field(max_length=1_000),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}),
]


class HitPolicy(StrEnum):
    """Which rows of a table count where several match, after DMN."""

    UNIQUE = "UNIQUE"  # at most one row matches; the compiler proves it
    FIRST = "FIRST"  # the first in order
    PRIORITY = "PRIORITY"  # the one whose output stands first in `priority`
    COLLECT = "COLLECT"  # all, joined by `collect`


class Collect(StrEnum):
    """How the outputs of several rows become one."""

    SUM = "sum"
    MIN = "min"
    MAX = "max"


class TableOutput(StrEnum):
    """What the rows of a table decide."""

    VALUE = "value"  # V of the action, in the catalogue's currency
    WEIGHT = "weight"
    LEVER = "lever"
    ELIGIBILITY = "eligibility"  # allow or deny


class TableInput(Strict):
    """One column of a table."""

    input: Annotated[str, Field(pattern=r"^[a-z]+\.[a-z][a-z0-9_]*$")]
    domain: CellText = ""  # the values that occur, as a cell; gaps are looked for inside it only
    missing: Literal["unknown", "no_match"] = "unknown"


class TableRowEntry(Strict):
    """One row: a cell for each input, the output, and the reason it gives."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")] | None = None
    when: tuple[CellText, ...]
    then: CellText
    reason: Code | None = None


class DecisionTableDocument(Document):
    """Rules that differ in values only, as rows; beside them in the file, or in a CSV file."""

    kind: Literal["DecisionTable"]
    id: Id
    applies_to: Scope
    inputs: Annotated[tuple[TableInput, ...], Field(min_length=1, max_length=20)]
    output: TableOutput
    hit_policy: HitPolicy
    collect: Collect | None = None
    priority: tuple[CellText, ...] = ()
    policy_class: Annotated[PolicyClass | None, Field(alias="class")] = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    rows: tuple[TableRowEntry, ...] = ()
    csv: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}\.csv$")] | None = None
    delimiter: Literal[",", ";"] = ","
    reason: Code | None = None  # of rows that give none themselves
    otherwise: Code | None = None  # eligibility: why an action is removed where no row matches
    gaps: Literal["reported", "allowed"] = "reported"
    valid: Validity = ALWAYS
    state: Literal["draft", "shadow", "active"]
