"""Checks a decision request against the vocabulary: all violations at once, never personal data in them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.core.rulebook import ContextField, InputType, Rulebook, Vocabulary
from engine.domain import ActionFilter, ContextScalar, ContextValue, DecisionRequest, Detail
from engine.errors import RequestInvalid, Violation
from feature_store.state import Identity

MAX_ID = 128
MAX_TEXT = 1024
MAX_LANGUAGE = 35
MAX_CONTEXT = 64
MAX_LIMIT = 100
DEFAULT_LIMIT = 3
MAX_FILTER = 1000
MAX_ELEMENTS = 256  # of a list or map; macros of conditions look through as many
MIN_INSTANT_MS = -62_135_596_800_000
MAX_INSTANT_MS = 253_402_300_799_999
"""Years 1 to 9999: what a protobuf timestamp may say."""
_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class DecisionQuery:
    """A request as it came in, before it is checked and the customer is resolved."""

    customer_id: str = ""
    identity: Identity | None = None
    channel: str = ""
    placement: str = ""
    context: Mapping[str, tuple[InputType, ContextValue]] = field(default_factory=dict)
    limit: int | None = None
    filter: ActionFilter = field(default_factory=ActionFilter)
    language: str = ""
    detail: Detail = Detail.STANDARD
    request_id: str = ""
    global_privacy_control: bool = False
    violations: tuple[Violation, ...] = ()  # found while reading the message


class RequestCheck:
    """Collects violations, so that a client learns of all of them at once."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def fail(self, field_name: str, description: str) -> None:
        """Notes a violation."""
        self.violations.append(Violation(field_name, description))

    def require(self, ok: bool, field_name: str, description: str) -> None:
        """Notes a violation unless `ok`."""
        if not ok:
            self.fail(field_name, description)

    def identifier(self, value: str, field_name: str) -> None:
        """A required id: 1 to 128 printable characters."""
        if not value:
            self.fail(field_name, "is required")
        else:
            self.text(value, field_name, MAX_ID)

    def text(self, value: str, field_name: str, longest: int) -> None:
        """Printable text of bounded length."""
        if len(value) > longest:
            self.fail(field_name, f"has {len(value)} characters; at most {longest} are allowed")
        elif not value.isprintable() and not all(is_printable(c) for c in value):  # the first is quick
            self.fail(field_name, "holds control or unprintable characters")

    def instant(self, at_ms: int, field_name: str) -> None:
        """An instant that a protobuf timestamp may say."""
        self.require(MIN_INSTANT_MS <= at_ms <= MAX_INSTANT_MS, field_name, "is not within years 1 to 9999")

    def done(self) -> None:
        """Raises RequestInvalid if anything was noted."""
        if self.violations:
            raise RequestInvalid(self.violations)


def is_printable(character: str) -> bool:
    """Whether a character may stand in an id or a text: no control, surrogate or format character."""
    return not unicodedata.category(character).startswith("C")


def check_identifiers(**values: str) -> None:
    """Checks required ids by field name. Raises RequestInvalid with every violation."""
    check = RequestCheck()
    for name, value in values.items():
        check.identifier(value, name)
    check.done()


def check_query(query: DecisionQuery, rulebook: Rulebook) -> None:
    """Checks everything but who the customer is. Raises RequestInvalid with every violation."""
    check = RequestCheck()
    check.violations.extend(query.violations)
    vocabulary = rulebook.vocabulary
    _check_customer(check, query, vocabulary)
    _check_place(check, query, vocabulary)
    _check_context(check, query.context, vocabulary)
    _check_filter(check, query.filter, rulebook)
    if query.limit is not None and not 1 <= query.limit <= MAX_LIMIT:
        check.fail("limit", f"is {query.limit}; give 1 to {MAX_LIMIT}, or leave it out for {DEFAULT_LIMIT}")
    check.text(query.request_id, "request_id", MAX_ID)
    check.text(query.language, "language", MAX_LANGUAGE)
    check.done()


def to_request(query: DecisionQuery, customer_id: str, vocabulary: Vocabulary) -> DecisionRequest:
    """The request for a resolved customer; `query` must have passed `check_query`."""
    return DecisionRequest(
        customer_id=customer_id,
        channel=query.channel,
        placement=query.placement,
        context={name: value for name, (_, value) in sorted(query.context.items())},
        limit=DEFAULT_LIMIT if query.limit is None else query.limit,
        filter=query.filter,
        language=choose_language(query.language, vocabulary),
        detail=query.detail,
        global_privacy_control=query.global_privacy_control,
    )


def choose_language(tag: str, vocabulary: Vocabulary) -> str:
    """The declared language that fits a BCP 47 tag best; the first declared one if none does."""
    wanted = tag.lower().replace("_", "-")
    for candidate in (wanted, wanted.split("-", maxsplit=1)[0]):
        if candidate in vocabulary.languages:
            return candidate
    return vocabulary.languages[0]


def _check_customer(check: RequestCheck, query: DecisionQuery, vocabulary: Vocabulary) -> None:
    if query.identity is None:
        check.identifier(query.customer_id, "customer_id")
        return
    known = ", ".join(vocabulary.identity_types)
    check.require(query.identity.type in vocabulary.identity_types, "identity.type", f"is none of {known}")
    check.identifier(query.identity.value, "identity.value")


def _check_place(check: RequestCheck, query: DecisionQuery, vocabulary: Vocabulary) -> None:
    channel = vocabulary.channels.get(query.channel)
    if channel is None:
        known = ", ".join(vocabulary.channels)
        check.fail("channel", f"is required; one of {known}" if not query.channel else f"is none of {known}")
    elif query.placement and query.placement not in channel.placements:
        known = ", ".join(channel.placements) or "none; leave it out"
        check.fail("placement", f"is not on channel {channel.id}; placements there: {known}")


def _check_context(
    check: RequestCheck, context: Mapping[str, tuple[InputType, ContextValue]], vocabulary: Vocabulary
) -> None:
    check.require(len(context) <= MAX_CONTEXT, "context", f"has more than {MAX_CONTEXT} entries")
    for name, (kind, value) in list(context.items())[:MAX_CONTEXT]:
        declared = vocabulary.context.get(name)
        if declared is None:
            known = ", ".join(vocabulary.context)
            shown = name if len(name) <= 64 and name.isprintable() else "(unprintable)"
            check.fail(f"context[{shown}]", f"is not declared; declared are {known}")
        else:
            _check_context_value(check, declared, kind, value)


def _check_context_value(
    check: RequestCheck, declared: ContextField, kind: InputType, value: ContextValue
) -> None:
    name = f"context[{declared.name}]"
    if kind is not declared.type:
        check.fail(name, f"is of type {kind}; {declared.type} is declared")
    elif isinstance(value, (tuple, dict)):
        _check_context_elements(check, declared, name, value)
    elif isinstance(value, float) and not math.isfinite(value):
        check.fail(name, "is not a finite number; leave it out where it is unknown")
    elif kind is InputType.TIMESTAMP and isinstance(value, int):
        check.instant(value, name)
    elif isinstance(value, int) and not -_INT64 <= value < _INT64:
        check.fail(name, "does not fit 64 bits")
    elif isinstance(value, str):
        check.text(value, name, MAX_TEXT)
        if declared.values and value not in declared.values:
            check.fail(name, f"is none of {', '.join(declared.values)}")


def _check_context_elements(
    check: RequestCheck, declared: ContextField, name: str, held: tuple[ContextScalar, ...] | dict[str, float]
) -> None:
    """The elements of a list, or the keys and values of a map, each as a value of its own."""
    if len(held) > MAX_ELEMENTS:
        check.fail(name, f"has more than {MAX_ELEMENTS} elements")
        return
    values: tuple[ContextScalar, ...] = (*held, *held.values()) if isinstance(held, dict) else held
    for value in values:
        _check_context_value(check, declared, declared.type, value)


def _check_filter(check: RequestCheck, wanted: ActionFilter, rulebook: Rulebook) -> None:
    if wanted == ActionFilter():
        return
    groups = {action.group for action in rulebook.actions}
    ids = {action.id for action in rulebook.actions}
    for field_name, given, known in (
        ("filter.groups", wanted.groups, groups),
        ("filter.action_ids", wanted.action_ids, ids),
        ("filter.exclude_action_ids", wanted.exclude_action_ids, ids),
    ):
        if len(given) > MAX_FILTER:
            check.fail(field_name, f"has more than {MAX_FILTER} entries")
            continue
        for position, item in enumerate(given):
            check.require(item in known, f"{field_name}[{position}]", "is not in the catalogue")
