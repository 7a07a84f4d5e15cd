"""What the page shows of a talk, in words: values only, so that the template decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.core.counterfactual import Counterfactual
from engine.core.inputs import describe
from engine.core.reasons import PRIOR_ONLY
from engine.core.rulebook import InputType, Rulebook
from engine.core.snapshot import Snapshot
from engine.core.words import tell
from engine.decisionlog.record import DecisionRecord
from engine.domain import Action, ConsentUsed, Decision, PropensitySource, RankedAction, Reason, Treatment
from engine.service.explanations import Explanation
from engine.service.whatif_words import labelled, tell_what_if
from engine.web.look.words import Words
from engine.web.pop.answers import Answers, Said
from engine.web.pop.talks import CALL_REASON, Talk
from feature_store.schema import FeatureSchema
from feature_store.state import ConsentState, CustomerState

MAX_REASONS = 4
"""More than a person takes in while somebody talks."""
MAX_WHY = 8
MAX_CONTACTS = 5
_REFUSED = frozenset({ConsentState.DENIED, ConsentState.WITHDRAWN, ConsentState.OBJECTED})


@dataclass(frozen=True, slots=True)
class Band:
    """Where something lies among bands: its word, its place from 1, and how many there are."""

    name: str
    place: int
    of: int


@dataclass(frozen=True, slots=True)
class Badge:
    """One consent; `mark` is good, bad or warn."""

    where: str
    state: str
    mark: str
    since_ms: int | None


@dataclass(frozen=True, slots=True)
class Contact:
    """Something that reached the customer lately."""

    at_ms: int
    what: str
    where: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """One action as an agent sees it."""

    id: str
    rank: int
    headline: str
    talk_track: str
    reasons: tuple[str, ...]
    worth: float
    currency: str
    until_ms: int | None
    held_until_ms: int | None
    by_model: bool
    said: Said | None
    undoable: bool


@dataclass(frozen=True, slots=True)
class Customer:
    """What is known of a customer at a glance; `readable` False where nothing can be read."""

    id: str
    facts: tuple[tuple[str, str], ...]
    value: Band | None
    issues: tuple[str, ...]
    signals: tuple[str, ...]
    signals_withheld: bool
    readable: bool
    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class Risk:
    """How likely the customer leaves, as a band, and why."""

    band: Band
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """One decision, in words."""

    decision_id: str
    proposals: tuple[Proposal, ...]
    nothing: tuple[str, ...]
    others: tuple[tuple[str, str], ...]
    risk: Risk | None
    degraded: tuple[str, ...]
    profiled: bool


@dataclass(frozen=True, slots=True)
class Why:
    """Why an action was proposed, or why not, in words; `free_ms` is when contact policies allow it again."""

    name: str
    stage: str
    rank: int
    reasons: tuple[str, ...]
    free_ms: int | None
    what_if: str


class Teller:
    """Puts values of one snapshot into words of one language."""

    def __init__(self, snapshot: Snapshot, words: Words) -> None:
        self._rulebook: Rulebook = snapshot.rulebook
        self._schema: FeatureSchema = snapshot.schema
        self._words = words
        spoken = self._rulebook.vocabulary.languages
        self._language = words.language if words.language in spoken else spoken[0]

    def reasons(self, reasons: Iterable[Reason], most: int = MAX_REASONS) -> tuple[str, ...]:
        """The agent's sentences."""
        texts, labels = self._rulebook.reasons, self._rulebook.labels
        told = [r for r in reasons if r.code in texts]
        return tuple(tell(r, texts[r.code], labels, self._language)[0] for r in told[:most])

    def label(self, token: str) -> str:
        """The rule set's word for a value, or the value."""
        return labelled(token, self._rulebook.labels, self._language)

    def titled(self, *tokens: str) -> str:
        """The first of these that the rule set has a word for, as a title; else the last, readable."""
        labels = self._rulebook.labels
        found = next((labels[t][self._language] for t in tokens if t in labels), None)
        return _capital(found or tokens[-1].rpartition(".")[2].replace("_", " "))

    def customer(self, state: CustomerState, *, withheld: bool) -> Customer:
        """Somebody at a glance; `withheld` where nobody may look at behaviour."""
        glance = self._rulebook.vocabulary.glance
        standing = [signal.name for signal in state.signals if signal.value]
        return Customer(
            id=state.customer_id,
            facts=self.facts(state),
            value=self._value(state),
            issues=tuple(self._signal(name) for name in standing if name in glance.issues),
            signals=tuple(self._signal(name) for name in standing if name not in glance.issues),
            signals_withheld=withheld and state.consents_readable,
            readable=state.consents_readable,
            contacts=self._contacts(state),
        )

    def facts(self, state: CustomerState) -> tuple[tuple[str, str], ...]:
        """Names and values of what the rule set shows first, as far as it is known."""
        values = self._values(state)
        return tuple(
            (self.titled(f"glance.{name}", f"features.{name}"), values[name])
            for name in self._rulebook.vocabulary.glance.facts
            if name in values
        )

    def consents(self, effective: Sequence[tuple[str, ConsentUsed]]) -> list[tuple[str, list[Badge]]]:
        """Badges by purpose: one for the channels that are alike."""
        by_purpose: dict[str, list[tuple[str, ConsentUsed]]] = {}
        for channel, used in effective:
            by_purpose.setdefault(used.purpose, []).append((channel, used))
        return [(self.titled(purpose), self._badges(held)) for purpose, held in by_purpose.items()]

    def told(self, talk: Talk, answers: Answers) -> Told | None:
        """The decision that stands; None where there is none."""
        if talk.answer is None:
            return None
        record = talk.answer.record
        decision = record.decision
        actions = {action.id: action for action in self._rulebook.actions}
        return Told(
            decision_id=record.decision_id,
            proposals=tuple(
                self._proposal(record, each, actions[each.action_id], talk, answers)
                for each in decision.actions
            ),
            nothing=() if decision.no_action is None else self.reasons(decision.no_action),
            others=tuple(
                sorted(
                    ((f.action_id, self._name(actions[f.action_id])) for f in decision.suppressed),
                    key=lambda pair: pair[1].casefold(),
                )
            ),
            risk=self._risk(decision),
            degraded=tuple(dict.fromkeys(self._degraded(by) for by in decision.degraded_by)),
            profiled=decision.profiled,
        )

    def why(self, found: Explanation, action_id: str) -> Why:
        """The fate of one action of an explained decision."""
        decision = found.record.decision
        stage, rank = "", 0
        reasons: tuple[Reason, ...] = ()
        for ranked in decision.actions:
            if ranked.action_id == action_id:
                rank, reasons = ranked.rank, ranked.reasons
        for fate in decision.suppressed:
            if fate.action_id == action_id:
                stage, reasons = fate.stage.value, fate.reasons
        free_ms, what_if = None, ""
        for account in found.accounts:
            frees = [c.frees_at_ms for c in account.found.contacts if c.forbids and c.frees_at_ms]
            free_ms = max(frees, default=None)
            if account.what_if is not None:
                what_if = self._what_if(account.what_if.to_first, account.found.action, found.snapshot)
        told = self.reasons(reasons, most=MAX_WHY)
        return Why(self.label(action_id), stage, rank, told, free_ms, what_if)

    def _what_if(self, found: Counterfactual, action: Action, snapshot: Snapshot) -> str:
        return tell_what_if(found, action=action, snapshot=snapshot, language=self._language)

    def intents(self) -> list[tuple[str, str]]:
        """Reasons for a call that the vocabulary knows."""
        field = self._rulebook.vocabulary.context.get(CALL_REASON)
        return [] if field is None else [(value, self.titled(value)) for value in field.values]

    def _proposal(
        self, record: DecisionRecord, ranked: RankedAction, action: Action, talk: Talk, answers: Answers
    ) -> Proposal:
        treatment: Treatment = next(t for t in action.treatments if t.id == ranked.treatment_id)
        held = next((held for held in record.held if held.action_id == action.id), None)
        said = talk.said.get(action.id)
        return Proposal(
            id=action.id,
            rank=ranked.rank,
            headline=treatment.headline[self._language],
            talk_track=treatment.body[self._language],
            reasons=self.reasons(r for r in ranked.reasons if r.code != PRIOR_ONLY),
            worth=ranked.priority.value,
            currency=self._rulebook.currency,
            until_ms=action.valid_to_ms,
            held_until_ms=None if held is None else held.reserved_until_ms,
            by_model=ranked.priority.propensity_source is PropensitySource.MODEL,
            said=said,
            undoable=said is not None and answers.waits(said),
        )

    def _name(self, action: Action) -> str:
        return action.name[self._language]

    def _risk(self, decision: Decision) -> Risk | None:
        """The band and its reasons; those that speak against it are left out of a high one."""
        churn = decision.churn
        if churn is None:
            return None
        names = [name for name, _ in self._rulebook.vocabulary.churn_bands]
        return Risk(self._band(churn.band, names), self.reasons(churn.reasons))

    def _band(self, name: str, names: Sequence[str]) -> Band:
        return Band(self._words.known(f"pop.band.{name}", name), names.index(name) + 1, len(names))

    def _value(self, state: CustomerState) -> Band | None:
        glance = self._rulebook.vocabulary.glance
        place = self._schema.index.get(glance.value)
        if state.features is None or place is None or not self._fits(state):
            return None
        worth = float(state.features.values[place])
        names = [name for name, start in glance.value_bands if worth >= start]  # of NaN none
        return self._band(names[-1], [name for name, _ in glance.value_bands]) if names else None

    def _values(self, state: CustomerState) -> Mapping[str, str]:
        """Every known feature in words, by name."""
        if state.features is None or not self._fits(state):
            return {}
        values = self._schema.decode_all(state.features.values)
        told = {}
        for feature, value in zip(self._schema.feature, values, strict=True):
            if value is not None:
                kind = InputType.DOUBLE if isinstance(value, float) else InputType.STRING
                told[feature.name] = self.label(f"{describe(value, kind)} {feature.unit}".strip())
        return told

    def _fits(self, state: CustomerState) -> bool:
        """Whether the features were packed as today's schema says."""
        return state.features is not None and state.features.schema_version == self._schema.digest

    def _signal(self, name: str) -> str:
        return self.titled(f"glance.{name}", f"signals.{name}")

    def _contacts(self, state: CustomerState) -> tuple[Contact, ...]:
        latest = sorted(state.contacts, key=lambda event: event.at_ms, reverse=True)[:MAX_CONTACTS]
        return tuple(
            Contact(
                event.at_ms,
                self.label(event.action_id),
                self.label(event.channel),
                self._words(f"pop.outcome.{event.outcome}"),
            )
            for event in latest
        )

    def _badges(self, held: Sequence[tuple[str, ConsentUsed]]) -> list[Badge]:
        alike: dict[tuple[object, ...], list[tuple[str, ConsentUsed]]] = {}
        for channel, used in held:
            alike.setdefault((used.state, used.permitted, used.since_ms), []).append((channel, used))
        if len(alike) == 1:
            return [self._badge(self._words("pop.everywhere"), held[0][1])]
        return [
            self._badge(", ".join(self.label(channel) for channel, _ in same), same[0][1])
            for same in alike.values()
        ]

    def _badge(self, where: str, used: ConsentUsed) -> Badge:
        mark = "good" if used.permitted else "bad" if used.state in _REFUSED else "warn"
        words = self._words(f"pop.consent.{used.state}")
        if used.permitted and used.state is ConsentState.UNKNOWN:
            words = self._words("pop.consent.by_law")
        return Badge(where, words, mark, used.since_ms)

    def _degraded(self, by: str) -> str:
        return self._words.known(f"pop.degraded.{by.partition(':')[0]}", self._words("pop.degraded.other"))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
