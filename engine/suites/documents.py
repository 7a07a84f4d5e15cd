"""The kind `TestSuite`: customers made up for tests, and what must be decided for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from engine.domain import Stage
from engine.ruleset.documents import Code, Document, Id, Instant, Milliseconds, Name, Share, Strict, Text
from feature_store.state import ConsentState, OutcomeType

Plain = bool | int | float | str
"""A value as it stands in YAML; instants are text."""

Said = Literal[ConsentState.GRANTED, ConsentState.DENIED, ConsentState.WITHDRAWN, ConsentState.OBJECTED]


class ContactFixture(Strict):
    """A contact of the past."""

    action: Id
    channel: Id
    outcome: OutcomeType
    ago: Milliseconds


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

    set: dict[str, Plain | None]
    expect: Expectation = Expectation()


class CaseEntry(Strict):
    """One decision and what must be true of it, or with `matrix` and `rows` many."""

    name: Text
    customer: Name | None = None
    channel: Id | None = None
    placement: Id | None = None
    language: str | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=100)] | None = None
    context: dict[Name, Plain] = Field(default_factory=dict)
    filter: FilterFixture = FilterFixture()
    now: Instant | None = None
    set: dict[str, Plain | None] = Field(default_factory=dict)
    matrix: dict[str, tuple[Plain | None, ...]] = Field(default_factory=dict)
    rows: tuple[RowEntry, ...] = ()
    expect: Expectation = Expectation()


class TestSuiteDocument(Document):
    """Fixtures and cases for the rules beside it."""

    __test__ = False  # not a test of pytest's

    kind: Literal["TestSuite"]
    now: Instant
    models: Literal["fixed", "champion"] = "fixed"
    customers: Annotated[dict[Name, CustomerFixture], Field(min_length=1)]
    cases: Annotated[tuple[CaseEntry, ...], Field(min_length=1)]


SUITE_KINDS: Final[Mapping[str, type[Document]]] = {"TestSuite": TestSuiteDocument}
