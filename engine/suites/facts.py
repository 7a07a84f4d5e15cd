"""From fixtures to what a decision takes: everything a case says, checked against the rule set."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from engine.core.contact import budget_names, reserving
from engine.core.rulebook import Rulebook
from engine.core.supply import PLENTY, Supply
from engine.domain import Action, ActionFilter, ContextValue, DecisionRequest
from engine.ruleset.diagnostics import did_you_mean
from engine.suites.context import context_value, instant_value, shown
from engine.suites.documents import FilterFixture, Given, Said
from engine.suites.wrong import FactWrong
from feature_store.errors import SchemaError
from feature_store.schema import FeatureSchema
from feature_store.state import (
    ANY_CHANNEL,
    ConsentRecord,
    ConsentState,
    ContactEvent,
    CustomerState,
    FeatureVector,
    OutcomeType,
    Signal,
)

MINUTE_MS = 60_000
DAY_MS = 86_400_000
_SAID: TypeAdapter[ConsentState] = TypeAdapter(Said)


@dataclass(frozen=True, slots=True)
class PastContact:
    """What happened with an action some time ago."""

    action: Action
    channel: str
    outcome: OutcomeType
    ago_ms: int
    reserved_for_ms: int | None

    def event(self, now_ms: int) -> ContactEvent:
        """It as the store holds it."""
        at_ms, action = now_ms - self.ago_ms, self.action
        until_ms = None if self.reserved_for_ms is None else at_ms + self.reserved_for_ms
        return ContactEvent(
            at_ms, action.id, action.group, self.channel, action.purpose, self.outcome, until_ms
        )


@dataclass(slots=True)
class Facts:
    """Everything one concrete case is about; setters raise FactWrong."""

    rulebook: Rulebook
    schema: FeatureSchema
    now_ms: int
    customer: str = ""
    channel: str = ""
    placement: str = ""
    language: str = ""
    limit: int = 3
    global_privacy_control: bool = False
    consents_readable: bool = True
    filter: ActionFilter = field(default_factory=ActionFilter)
    features: dict[str, Any] = field(default_factory=dict)
    consents: dict[tuple[str, str], ConsentState] = field(default_factory=dict)
    signals: dict[str, bool] = field(default_factory=dict)
    contacts: list[PastContact] = field(default_factory=list)
    budgets: dict[str, int] = field(default_factory=dict)
    context: dict[str, ContextValue] = field(default_factory=dict)
    churn: float | None = None
    propensity: dict[str, float] = field(default_factory=dict)
    ages: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Facts:
        """Facts that can be changed without changing these."""
        other = copy.copy(self)
        for name in _COPIED:
            setattr(other, name, copy.copy(getattr(self, name)))
        return other

    def set(self, path: str, value: Given | None) -> None:
        """Sets one fact by its dotted name, such as features.contract or scores.churn."""
        root, _, name = path.partition(".")
        if isinstance(value, (list, tuple, dict)) and root != "context":
            raise FactWrong(f"`{path}` takes one value, not {shown(value)}", "a list or map is for context")
        setters: Mapping[str, Callable[[str, Given | None], None]] = {
            "features": self.set_feature,
            "context": self.set_context,
            "signals": lambda name, value: self.set_signal(name, _truth(name, value)),
            "consents": self.set_consent,
            "scores": self.set_score,
            "budgets": self.set_budget,
        }
        if root in setters:
            setters[root](name, value)
        elif not name:
            self.set_request(root, value)
        else:
            raise FactWrong(f"unknown fact `{path}`", did_you_mean(root, _ROOTS))

    def set_request(self, name: str, value: Given | None) -> None:
        """Sets a fact of the request, or the instant of the decision."""
        words = self.rulebook.vocabulary
        match name:
            case "channel":
                self.channel = _known(value, words.channels, "channel")
            case "placement":
                self.placement = str(value or "")
            case "language":
                self.language = _known(value, words.languages, "language")
            case "limit" if isinstance(value, int) and 1 <= value <= 100:
                self.limit = value
            case "now":
                self.now_ms = instant_value(value)
            case "global_privacy_control" if value is None or isinstance(value, bool):
                self.global_privacy_control = value is True
            case "consents_readable" if value is None or isinstance(value, bool):
                self.consents_readable = value is not False
            case _:
                raise FactWrong(f"unknown or wrong fact `{name}`", did_you_mean(name, _ROOTS))

    def set_feature(self, name: str, value: object) -> None:
        """Sets a feature; None is absent."""
        _known(name, self.schema.index, "feature")
        try:
            self.schema.pack({name: value})  # type: ignore[dict-item]  # what does not fit is refused
        except SchemaError as error:
            raise FactWrong(str(error)) from error
        self.features[name] = value

    def set_context(self, name: str, value: object) -> None:
        """Sets a fact of the moment; None takes it away."""
        declared = self.rulebook.vocabulary.context[
            _known(name, self.rulebook.vocabulary.context, "context field")
        ]
        self.context.pop(name, None)
        if value is not None:
            self.context[name] = context_value(declared, value)

    def set_signal(self, name: str, value: bool) -> None:
        """Sets whether a signal holds now."""
        self.signals[_known(name, self.rulebook.vocabulary.signals, "signal")] = value

    def set_consent(self, name: str, value: object) -> None:
        """Records what the customer said of a purpose, everywhere or `purpose.channel`; None: nothing."""
        purpose, _, channel = name.partition(".")
        _known(purpose, self.rulebook.consent.purposes, "purpose")
        if channel and channel != ANY_CHANNEL:
            _known(channel, self.rulebook.vocabulary.channels, "channel")
        key = (purpose, channel or ANY_CHANNEL)
        self.consents.pop(key, None)
        if value is None:
            return
        try:
            self.consents[key] = _SAID.validate_python(value)
        except ValidationError:
            states = [s.value for s in ConsentState]
            raise FactWrong(
                f"`{value}` is not what a customer says", did_you_mean(str(value), states)
            ) from None

    def set_score(self, name: str, value: object) -> None:
        """Sets what a model says: `churn`, or `propensity.<action or target>`; None: it says nothing."""
        model, _, action = name.partition(".")
        if value is not None and (isinstance(value, (bool, str)) or not 0.0 <= float(value) <= 1.0):  # type: ignore[arg-type]  # a number
            raise FactWrong(f"`{value}` is not a score", "write a number from 0 to 1")
        score = None if value is None else float(value)  # type: ignore[arg-type]  # a number, see above
        if model == "churn" and not action:
            self.churn = score
        elif model == "propensity":
            known = [name for a in self.rulebook.actions for name in (a.id, a.target) if name]
            _known(action, known, "action or target")
            self.propensity.pop(action, None)
            if score is not None:
                self.propensity[action] = score
        else:
            raise FactWrong(f"unknown score `{name}`", "write scores.churn or scores.propensity.<action>")

    def add_contact(
        self, action: str, channel: str, outcome: OutcomeType, ago_ms: int, reserved_for_ms: int | None = None
    ) -> None:
        """Adds a contact of the past; one that is only reserved is so for as long as decisions reserve it."""
        by_id = {a.id: a for a in self.rulebook.actions}
        known = by_id[_known(action, by_id, "action")]
        if outcome is OutcomeType.RESERVED:
            reserved_for_ms = reserved_for_ms or self._reserve_ms(known)
        elif reserved_for_ms is not None:
            raise FactWrong(f"a contact that was {outcome} is not reserved", "remove `reserved_for`")
        there = _known(channel, self.rulebook.vocabulary.channels, "channel")
        self.contacts.append(PastContact(known, there, outcome, ago_ms, reserved_for_ms))

    def _reserve_ms(self, action: Action) -> int:
        """How long a decision reserves the action."""
        index = self.rulebook.actions.index(action)
        found = [p.reserve_ms for p in reserving(self.rulebook.contact) if p.scope[index]]
        if not found:
            advice = "write `reserved_for`, or count `reserved` in a contact policy for it"
            raise FactWrong(f"no contact policy reserves `{action.id}`", advice)
        return max(found)

    def set_budget(self, name: str, value: object) -> None:
        """Sets the units left of a budget; None: plenty."""
        names = budget_names(self.rulebook)
        _known(name, names, "budget")
        self.budgets.pop(name, None)
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise FactWrong(f"`{value}` is not what is left of a budget", "write a whole number, such as 0")
        self.budgets[name] = value

    def set_age(self, view: str, age_ms: int) -> None:
        """Sets how old the values of a view are."""
        self.ages[_known(view, [v.name for v in self.schema.view], "view")] = age_ms

    def set_filter(self, wanted: FilterFixture) -> None:
        """Narrows the candidates."""
        ids = [a.id for a in self.rulebook.actions]
        for name in (*wanted.actions, *wanted.exclude):
            _known(name, ids, "action")
        for group in wanted.groups:
            _known(group, {a.group for a in self.rulebook.actions}, "group")
        self.filter = ActionFilter(wanted.groups, wanted.actions, wanted.exclude)

    def check(self) -> None:
        """Checks what only the whole says. Raises FactWrong."""
        if not self.channel:
            raise FactWrong("the case has no channel", "add `channel:`")
        placements = self.rulebook.vocabulary.channels[self.channel].placements
        if self.placement and self.placement not in placements:
            message = f"channel `{self.channel}` has no placement `{self.placement}`"
            raise FactWrong(message, did_you_mean(self.placement, placements))

    def request(self) -> DecisionRequest:
        """The request, for the instant `now_ms`."""
        return DecisionRequest(
            customer_id=self.customer,
            channel=self.channel,
            placement=self.placement,
            context=dict(sorted(self.context.items())),
            limit=self.limit,
            filter=self.filter,
            language=self.language or self.rulebook.vocabulary.languages[0],
            global_privacy_control=self.global_privacy_control,
        )

    def state(self) -> CustomerState:
        """What the store would hold of the customer; nothing where it is away, as decisions then see it."""
        if not self.consents_readable:
            return CustomerState(self.customer, consents_readable=False)
        times = tuple(self.now_ms - self.ages.get(view.name, 0) for view in self.schema.view)
        return CustomerState(
            customer_id=self.customer,
            features=FeatureVector(self.schema.digest, times, self.schema.pack(self.features)),
            consents=tuple(
                ConsentRecord(purpose, channel, state, self.now_ms - 30 * DAY_MS)
                for (purpose, channel), state in self.consents.items()
            ),
            contacts=tuple(c.event(self.now_ms) for c in sorted(self.contacts, key=lambda c: -c.ago_ms)),
            signals=tuple(
                Signal(name, value, self.now_ms - MINUTE_MS, self.now_ms + DAY_MS)
                for name, value in self.signals.items()
            ),
        )

    def supply(self) -> Supply:
        """What there would be besides."""
        return Supply(left=dict(self.budgets)) if self.budgets else PLENTY


_COPIED = ("features", "consents", "signals", "contacts", "context", "propensity", "ages", "budgets")
_ROOTS = (
    "features",
    "context",
    "signals",
    "consents",
    "scores",
    "budgets",
    "customer",
    "channel",
    "placement",
    "language",
    "limit",
    "global_privacy_control",
    "consents_readable",
    "now",
)


def _known(name: object, known: Any, what: str) -> str:  # noqa: ANN401  # any container of names
    if name not in known:
        raise FactWrong(f"unknown {what} `{name}`", did_you_mean(str(name), known))
    return str(name)


def _truth(name: str, value: object) -> bool:
    """Whether a signal holds; None is no."""
    if value is not None and not isinstance(value, bool):
        raise FactWrong(f"`{value}` is not whether the signal `{name}` holds", "write true or false")
    return value is True
