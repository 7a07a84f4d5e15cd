"""The kinds of document authors write, typed. rules/README.md is the format for people.

These models hold what one file can say by itself; names that refer to other files are checked by
`engine.ruleset.checks`.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from engine.core.rulebook import ContactKind, CountedPer, InputType
from engine.domain import Effect, LegalBasis, PolicyClass
from feature_store.state import OutcomeType

API_VERSION: Final = "arbiter/v1"
_UNIT_MS: Final = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhdw])\Z")
_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{3}(?:\d{3})?)?)?(?:Z|[+-]\d{2}:\d{2})?)?\Z"
)
INSTANT_PATTERN: Final = "^" + _INSTANT.pattern.replace(r"\Z", "$")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND: Final = dt.timedelta(milliseconds=1)
_MAX_CONSTANT_VALUES: Final = 1_000
_MAX_CONSTANT_TEXT: Final = 2_000
_MAX_WINDOW_MS: Final = 10 * 366 * 86_400_000


def _duration_ms(written: object) -> object:
    found = _DURATION.match(written) if isinstance(written, str) else None
    if found is None:
        raise PydanticCustomError("duration", "not a duration; write 30m, 24h, 7d or 52w")
    return int(found[1]) * _UNIT_MS[found[2]]


def instant_ms(written: object) -> object:
    """Milliseconds of a date or instant; without an offset it is UTC."""
    if isinstance(written, dt.datetime):
        instant = written
    elif isinstance(written, dt.date):
        instant = dt.datetime.combine(written, dt.time())
    else:
        instant = _parsed_instant(written)
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=dt.UTC)
    return (instant - _EPOCH) // _MILLISECOND


def _parsed_instant(written: object) -> dt.datetime:
    try:
        if isinstance(written, str) and _INSTANT.match(written):
            return dt.datetime.fromisoformat(written)
    except ValueError:
        pass  # e.g. the 31st of June; the words below fit it too
    raise PydanticCustomError("instant", "not a date or instant; write 2026-01-31 or 2026-01-31T08:00:00Z")


def _language_tag_texts(texts: object) -> object:
    if isinstance(texts, str):
        raise PydanticCustomError("texts", "needs one text per language, e.g. {{en: ..., fr: ...}}")
    return texts


Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,99}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""An id that conditions read as a field, so without dots and dashes."""
Code = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,99}$")]
LanguageTag = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e12, le=1e12)]
Share = Annotated[float, Field(strict=True, ge=0.0, le=1.0)]
Text = Annotated[str, Field(min_length=1, max_length=2_000)]
TextsByLanguage = Annotated[dict[LanguageTag, Text], BeforeValidator(_language_tag_texts)]
Milliseconds = Annotated[
    int,
    BeforeValidator(_duration_ms),
    Field(le=_MAX_WINDOW_MS),
    WithJsonSchema({"type": "string", "pattern": "^" + _DURATION.pattern.replace(r"\Z", "$")}),
]
Instant = Annotated[
    int,
    BeforeValidator(instant_ms),
    WithJsonSchema({"type": "string", "pattern": INSTANT_PATTERN}),
]


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Strict(BaseModel):
    """Frozen, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Metadata(Strict):
    """Who owns a document and what it is for."""

    name: Id
    owner: Text
    description: Text


class Document(Strict):
    """What every file begins with."""

    api_version: Annotated[Literal["arbiter/v1"], Field(alias="apiVersion")]
    metadata: Metadata


class Validity(Strict):
    """A half-open time, [from, to); either end may be left open."""

    from_ms: Annotated[Instant | None, Field(alias="from")] = None
    to_ms: Annotated[Instant | None, Field(alias="to")] = None

    @model_validator(mode="after")
    def _from_before_to(self) -> Validity:
        if self.from_ms is not None and self.to_ms is not None and self.from_ms >= self.to_ms:
            raise PydanticCustomError("interval", "`from` must lie before `to`; `to` itself is outside")
        return self


ALWAYS: Final = Validity()


class ChannelEntry(Strict):
    """A channel and its placements."""

    id: Id
    placements: tuple[Id, ...] = ()


class ContextEntry(Strict):
    """A fact of the moment that requests may bring."""

    name: Name
    type: InputType
    description: Text
    values: tuple[Text, ...] = ()


class SignalEntry(Strict):
    """A fact derived from recent events."""

    name: Name
    description: Text


class ValueEntry(Strict):
    """What a customer is worth, as a band of one feature."""

    feature: Name
    bands: Annotated[dict[Name, Number], Field(min_length=1)]


class GlanceEntry(Strict):
    """What somebody who talks to the customer sees first."""

    facts: tuple[Name, ...] = ()
    value: ValueEntry | None = None
    issues: tuple[Name, ...] = ()


class VocabularyDocument(Document):
    """What requests and rules may name."""

    kind: Literal["Vocabulary"]
    channels: Annotated[tuple[ChannelEntry, ...], Field(min_length=1)]
    languages: Annotated[tuple[LanguageTag, ...], Field(min_length=1)]
    identity_types: tuple[Name, ...] = ()
    context: tuple[ContextEntry, ...] = ()
    signals: tuple[SignalEntry, ...] = ()
    churn_bands: Annotated[dict[Name, Share], Field(min_length=1)]
    glance: GlanceEntry = GlanceEntry()


class TreatmentEntry(Strict):
    """The form of an action on one channel."""

    id: Id
    channel: Id
    placements: tuple[Id, ...] = ()
    template_id: str = ""
    headline: TextsByLanguage
    body: TextsByLanguage


class ActionEntry(Strict):
    """Something the company can propose."""

    id: Id
    group: Id
    purpose: Name
    name: TextsByLanguage
    value: Number
    cost: Number
    prior: Share
    weight: Annotated[Number, Field(gt=0)] = 1.0
    target: str = ""
    tags: tuple[Id, ...] = ()
    valid: Validity = ALWAYS
    treatments: tuple[TreatmentEntry, ...] = ()


class CatalogueDocument(Document):
    """All actions."""

    kind: Literal["Catalogue"]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    groups: Annotated[tuple[Id, ...], Field(min_length=1)]
    actions: Annotated[tuple[ActionEntry, ...], Field(min_length=1)]


class ReasonEntry(Strict):
    """The words of one reason code."""

    code: Code
    agent: TextsByLanguage
    customer: TextsByLanguage


class ReasonCatalogueDocument(Document):
    """The words of reason codes."""

    kind: Literal["ReasonCatalogue"]
    reasons: tuple[ReasonEntry, ...]
    labels: dict[Text, TextsByLanguage] = {}


class PurposeEntry(Strict):
    """The legal basis of a purpose, and where a channel differs."""

    id: Name
    basis: LegalBasis
    channels: dict[Id, LegalBasis] = {}


class GpcEntry(Strict):
    """What Global Privacy Control in a request objects to, and whether the objection is kept."""

    purposes: tuple[Name, ...]
    record: bool = False


class ConsentPolicyDocument(Document):
    """All purposes, and which of them is profiling."""

    kind: Literal["ConsentPolicy"]
    profiling_purpose: Name
    gpc: GpcEntry | None = None
    purposes: Annotated[tuple[PurposeEntry, ...], Field(min_length=1)]


_EFFECTS_OF_RULES: Final = ["allow", "deny", "lever", "weight"]


def _effect_of_a_rule(written: object) -> object:
    """Values are set by decision tables, one table an action, so that they cannot add up by mistake."""
    if written not in _EFFECTS_OF_RULES:
        expected = "'allow', 'deny', 'lever' or 'weight'"
        raise PydanticCustomError("enum", "is none of {expected}", {"expected": expected})
    return written


class Scope(Strict):
    """Which actions a rule is for: all that are given must match; nothing given is all actions."""

    groups: tuple[Id, ...] = ()
    actions: tuple[Id, ...] = ()
    purposes: tuple[Id, ...] = ()
    tags: tuple[Id, ...] = ()


class RuleEntry(Strict):
    """One rule of a policy pack."""

    id: Id
    policy_class: Annotated[PolicyClass | None, Field(alias="class")] = None
    applies_to: Scope
    when: Annotated[str, Field(min_length=1, max_length=4_000)]
    effect: Annotated[Effect, BeforeValidator(_effect_of_a_rule), WithJsonSchema({"enum": _EFFECTS_OF_RULES})]
    share: Annotated[Number, Field(ge=-10, le=10)] | None = None
    factor: Annotated[Number, Field(gt=0, le=1_000)] | None = None
    reason: Code | None = None
    otherwise: Code | None = None
    valid: Validity = ALWAYS
    state: Literal["draft", "shadow", "active"]


def _constant(written: object) -> object:
    """A simple value, a list of them, or a map from text to them."""
    held: Iterable[object] = (written,)
    if isinstance(written, (list, dict)):
        held = written.values() if isinstance(written, dict) else written
        if not 0 < len(written) <= _MAX_CONSTANT_VALUES:
            words = f"a list or map holds 1 to {_MAX_CONSTANT_VALUES} values"
            raise PydanticCustomError("constant", words)
    if not all(_is_simple(value) for value in held):
        words = "must be text, a number, true or false, or a list or map of these"
        raise PydanticCustomError("constant", words)
    return written


def _is_simple(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):  # true and false are
        return -(2**63) <= value < 2**63
    return isinstance(value, str) and len(value) <= _MAX_CONSTANT_TEXT


ConstantName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,62}$")]
Constant = Annotated[object, BeforeValidator(_constant)]
Condition = Annotated[str, Field(min_length=1, max_length=4_000)]


class NamingDocument(Document):
    """A document that may name values for its conditions: `constants.X`, `variables.x`."""

    constants: Annotated[dict[ConstantName, Constant], Field(max_length=500)] = {}
    variables: Annotated[dict[Name, Condition], Field(max_length=200)] = {}  # each may use those before it


class PolicyPackDocument(NamingDocument):
    """Rules that belong together."""

    kind: Literal["PolicyPack"]
    rules: tuple[RuleEntry, ...]


class SegmentEntry(Strict):
    """A condition with a name: `segments.<id>`."""

    id: Name
    description: Text
    when: Condition


class SegmentPackDocument(NamingDocument):
    """Conditions about the customer that every policy pack may use."""

    kind: Literal["SegmentPack"]
    segments: Annotated[tuple[SegmentEntry, ...], Field(min_length=1, max_length=500)]


def _cap(written: object) -> object:
    if written == 0 and not isinstance(written, bool):
        raise PydanticCustomError("cap", "a cap of 0 lets nothing through; write a rule with effect deny")
    return written


_MAX_LIMIT: Final = 1_000_000_000
TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
EndOfDay = Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]


class ContactEntry(Strict):
    """One limit over a sliding window, or hours of the day in which nothing is sent."""

    id: Id
    kind: ContactKind
    applies_to: Scope
    per: CountedPer | None = None
    counts: Annotated[tuple[OutcomeType, ...], Field(min_length=1)] | None = None
    limit: Annotated[int, BeforeValidator(_cap), Field(strict=True, ge=1, le=_MAX_LIMIT)] | None = None
    window: Milliseconds | None = None
    reserve_for: Milliseconds | None = None
    channels: Annotated[tuple[Id, ...], Field(min_length=1)] | None = None
    days: Annotated[tuple[Weekday, ...], Field(min_length=1)] | None = None
    from_time: Annotated[TimeOfDay | None, Field(alias="from")] = None
    to_time: Annotated[EndOfDay | None, Field(alias="to")] = None
    reason: Code


class ContactPackDocument(Document):
    """Limits that belong together; what the pack says of times holds for policies that do not say it."""

    kind: Literal["ContactPack"]
    time_zone: Text | None = None
    time_zone_from: Text | None = None
    reserve_for: Milliseconds | None = None
    policies: tuple[ContactEntry, ...]

    def reserve_ms(self, policy: ContactEntry) -> int:
        """How long a policy of the pack counts what is only reserved; 0 where nobody says it."""
        return policy.reserve_for or self.reserve_for or 0


class ArbitrationDocument(Document):
    """How candidates that qualify are cut."""

    kind: Literal["Arbitration"]
    threshold: Number
    max_per_group: Annotated[int, Field(strict=True, ge=1, le=1_000)]


KINDS: Final[dict[str, type[Document]]] = {
    "Vocabulary": VocabularyDocument,
    "Catalogue": CatalogueDocument,
    "ReasonCatalogue": ReasonCatalogueDocument,
    "ConsentPolicy": ConsentPolicyDocument,
    "PolicyPack": PolicyPackDocument,
    "SegmentPack": SegmentPackDocument,
    "ContactPack": ContactPackDocument,
    "Arbitration": ArbitrationDocument,
}
