"""The kind `TestSuite`: customers made up for tests, and what must be decided for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from engine.domain import Stage
from engine.ruleset.documents import (
    INSTANT_PATTERN,
    Code,
    Document,
    Id,
    Milliseconds,
    Name,
    Share,
    Strict,
    Text,
    instant_ms,
)
from engine.ruleset.localtime import instant_in_zone
from feature_store.state import ConsentState, OutcomeType


def _one_value(written: object) -> object:
    """Refuses in one sentence what the types below would refuse in one each."""
    if isinstance(written, (list, dict)):
        raise ValueError(f"must be one value, not {'a list' if isinstance(written, list) else 'a map'}")
    return written


def _one_value_or_several(written: object) -> object:
    held = written.values() if isinstance(written, dict) else written if isinstance(written, list) else ()
    if any(value is None or isinstance(value, (list, dict)) for value in held):
        raise ValueError("a list or map must hold texts, numbers or truths")
    return written


Plain = Annotated[bool | int | float | str, BeforeValidator(_one_value)]
"""A value as it stands in YAML; instants are text."""

_ZONED: Final = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}([+-]\d{2}:\d{2})?\[[A-Za-z0-9_+/-]+\]$"


def _moment_ms(written: object) -> object:
    """Milliseconds of an instant, or of a local time with its zone."""
    try:
        zoned = instant_in_zone(written) if isinstance(written, str) else None
    except ValueError as error:
        raise PydanticCustomError("instant", "{cause}", {"cause": str(error)}) from error
    return instant_ms(written) if zoned is None else zoned


Moment = Annotated[
    int,
    BeforeValidator(_moment_ms),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": p} for p in (INSTANT_PATTERN, _ZONED)]}),
]
"""An instant: 2026-11-10T21:30:00Z, or what the customer's clock shows: 2026-11-10T22:30[Europe/Zurich]."""

BudgetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_./-]{0,199}$")]
"""A budget of a contact policy: its id, and after a slash the action, group, channel or purpose it is per."""
Given = Annotated[
    bool | int | float | str | tuple[bool | int | float | str, ...] | dict[str, bool | int | float | str],
    BeforeValidator(_one_value_or_several),
]
"""A value, or for the context a list or map of values."""

Said = Literal[ConsentState.GRANTED, ConsentState.DENIED, ConsentState.WITHDRAWN, ConsentState.OBJECTED]


class ContactFixture(Strict):
    """A contact of the past."""

    action: Id
    channel: Id
    outcome: OutcomeType
    ago: Milliseconds
    reserved_for: Milliseconds | None = None


class ScoresFixture(Strict):
    """What the models would say; propensity by action or by the target the catalogue names for it."""

    churn: Share | None = None
    propensity: dict[Id, Share] = Field(default_factory=dict)


class CustomerFixture(Strict):
    """What is known of a made-up customer. `like` takes everything from another one first."""

    like: Name | None = None
    features: dict[Name, Plain | None] = Field(default_factory=dict)
    consents: dict[Name, Said | dict[Id, Said]] = Field(default_factory=dict)
    signals: tuple[Name, ...] = ()
    contacts: tuple[ContactFixture, ...] = ()
    scores: ScoresFixture = ScoresFixture()
    ages: dict[Name, Milliseconds] = Field(default_factory=dict)


class FilterFixture(Strict):
    """Narrows the candidates, as a request may."""

    groups: tuple[Id, ...] = ()
    actions: tuple[Id, ...] = ()
    exclude: tuple[Id, ...] = ()


class SuppressionExpectation(Strict):
    """The fate of an action that is not returned; what is left out is not checked."""

    stage: Stage | None = None
    reasons: tuple[Code, ...] = ()
    rules: tuple[Id, ...] = ()


class Expectation(Strict):
    """What must be true of the decision; what is left out is not checked."""

    actions: tuple[Id, ...] | None = None
    first: Id | None = None
    returned: tuple[Id, ...] = ()
    not_returned: tuple[Id, ...] = ()
    suppressed: dict[Id, SuppressionExpectation | Stage] = Field(default_factory=dict)
    reasons: dict[Id, tuple[Code, ...]] = Field(default_factory=dict)
    no_action: tuple[Code, ...] | bool | None = None
    churn_band: Name | None = None
    profiled: bool | None = None
    shadow_rules: tuple[Id, ...] | None = None


class RowEntry(Strict):
    """One line of a table of cases: what it changes, and what it expects beyond the case."""

    set: dict[str, Given | None]
    expect: Expectation = Expectation()


class CaseEntry(Strict):
    """One decision and what must be true of it, or with `matrix` and `rows` many."""

    name: Text
    customer: Name | None = None
    channel: Id | None = None
    placement: Id | None = None
    language: str | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=100)] | None = None
    global_privacy_control: Annotated[bool, Field(strict=True)] | None = None
    consents_readable: Annotated[bool, Field(strict=True)] | None = None
    context: dict[Name, Given] = Field(default_factory=dict)
    filter: FilterFixture = FilterFixture()
    now: Moment | None = None
    budgets: dict[BudgetName, Annotated[int, Field(strict=True, ge=0)]] = Field(default_factory=dict)
    set: dict[str, Given | None] = Field(default_factory=dict)
    matrix: dict[str, tuple[Given | None, ...]] = Field(default_factory=dict)
    rows: tuple[RowEntry, ...] = ()
    expect: Expectation = Expectation()


class TestSuiteDocument(Document):
    """Fixtures and cases for the rules beside it."""

    __test__ = False  # not a test of pytest's

    kind: Literal["TestSuite"]
    now: Moment
    models: Literal["fixed", "champion"] = "fixed"
    customers: Annotated[dict[Name, CustomerFixture], Field(min_length=1)]
    cases: Annotated[tuple[CaseEntry, ...], Field(min_length=1)]


SUITE_KINDS: Final[Mapping[str, type[Document]]] = {"TestSuite": TestSuiteDocument}
