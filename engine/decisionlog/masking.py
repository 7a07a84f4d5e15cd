"""What of a decision may leave the log: a policy that is declared, and that leaves out what it does not name.

Records are taken apart by name and put together anew, so that a field nobody thought of stays where it is.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.decisionlog.ledger import OutcomeEntry
from engine.decisionlog.record import DecisionRecord
from engine.domain import Priority, RankedAction, Reason, SuppressedAction, Versions
from engine.errors import SetupInvalid
from engine.pseudonyms import Pseudonyms

DEFAULT: Final = "default"
"""Names every field of a section that is not named itself."""
_HARMLESS: Final = frozenset({"baseline", "channel", "feature", "placement", "purpose", "rule", "typical"})
"""Values of reasons that say nothing of the customer."""

Row = dict[str, Any]
FeatureNames = Callable[[Versions], Sequence[str]]
"""Names of the features of a decision's schema, in the order of its vector; none where it is not held."""


class Handling(StrEnum):
    """What becomes of a value."""

    KEEP = "keep"
    PSEUDONYM = "pseudonym"
    DROP = "drop"


class MaskingPolicy(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """The file of a policy. What it does not name is dropped; customers have pseudonyms.

    `context`, `features` and `signals` say it by name, with `default` for all others. `evidence` is what is
    on record of each consent: source, notice, actor and evidence. `scores` are the probabilities of models.
    """

    customer_id: Handling = Handling.PSEUDONYM
    request_id: Handling = Handling.DROP
    evidence: Handling = Handling.DROP
    scores: Handling = Handling.KEEP
    context: dict[str, Handling] = {}
    features: dict[str, Handling] = {}
    signals: dict[str, Handling] = {}


def read_policy(path: Path) -> MaskingPolicy:
    """The policy of a TOML file. Raises SetupInvalid with the place and what to write."""
    handlings = ", ".join(Handling)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        policy = msgspec.convert(document, type=MaskingPolicy)
    except OSError as error:
        raise SetupInvalid(f"{path}: cannot be read: {error.strerror}; name a masking policy") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SetupInvalid(f"{path}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        known = ", ".join(MaskingPolicy.__struct_fields__)
        raise SetupInvalid(f"{path}: {error}; fields are {known}, and each is {handlings}") from error
    for name in ("evidence", "scores", "features", "signals"):
        value = getattr(policy, name)
        if Handling.PSEUDONYM in (value.values() if isinstance(value, dict) else [value]):
            raise SetupInvalid(f"{path}: {name}: can have no pseudonyms; write keep or drop")
    return policy


def unknown_names(policy: MaskingPolicy, **known: frozenset[str]) -> list[str]:
    """What a policy names and the rules and the schema do not know: most likely misspelt, hence dropped."""
    return [
        f"{section}.{name}"
        for section, names in known.items()
        for name in sorted(set(getattr(policy, section)) - names - {DEFAULT})
    ]


@dataclass(frozen=True, slots=True)
class _Section:
    """How the values of one section are handled, and by what name reasons call them."""

    name: str
    handlings: Mapping[str, Handling]

    def of(self, name: str) -> Handling:
        return self.handlings.get(name, self.handlings.get(DEFAULT, Handling.DROP))


class Mask:
    """Makes rows of decisions that hold what the policy lets through."""

    def __init__(self, policy: MaskingPolicy, *, key: bytes, feature_names: FeatureNames) -> None:
        """`key` makes pseudonyms. Raises SetupInvalid where the policy needs it and there is none."""
        self._policy = policy
        self._pseudonyms = Pseudonyms(key) if key else None
        self._feature_names = feature_names
        self._context = _Section("context", policy.context)
        self._features = _Section("features", policy.features)
        self._signals = _Section("signals", policy.signals)
        self._sections = {s.name: s for s in (self._context, self._features, self._signals)}
        if not key and Handling.PSEUDONYM in _handlings(policy):
            raise SetupInvalid(
                "the masking policy wants pseudonyms, and there is no ARBITER_IDENTITY_KEY to make them "
                "with; give the key, or write customer_id = 'drop' into the policy"
            )

    def row(self, record: DecisionRecord) -> Row:
        """What the policy lets through of a decision, as plain values."""
        decision, request = record.decision, record.request
        candidates: tuple[RankedAction | SuppressedAction, ...] = (*decision.actions, *decision.suppressed)
        churn = decision.churn if self._policy.scores is Handling.KEEP else None
        return {
            "decision_id": record.decision_id,
            "now_ms": record.now_ms,
            "customer": self.customer(request.customer_id),
            "request_id": self._text(self._policy.request_id, record.request_id or None),
            "identity_type": record.identity_type or None,
            "channel": request.channel,
            "placement": request.placement or None,
            "language": request.language,
            "limit": request.limit,
            "global_privacy_control": request.global_privacy_control,
            "profiled": decision.profiled,
            "degraded_by": list(decision.degraded_by),
            "churn": None if churn is None else churn.probability,
            "churn_band": None if churn is None else churn.band,
            "churn_reasons": [] if churn is None else self._reasons(churn.reasons),
            "no_action": decision.no_action is not None,
            "no_action_reasons": self._reasons(decision.no_action or ()),
            "candidates": [self._candidate(action) for action in candidates],
            "consents": [
                {
                    "purpose": c.purpose, "channel": c.channel, "state": str(c.state),
                    "legal_basis": str(c.legal_basis), "permitted": c.permitted, "since_ms": c.since_ms,
                    "signal": c.signal or None,
                }
                for c in decision.consents
            ],
            "evidence": self._evidence(record),
            "missing_inputs": [{"name": m.name, "cause": str(m.cause)} for m in decision.missing_inputs],
            "shadow_rules": list(decision.shadow_rules),
            "context": self._context_of(record),
            "features": self._features_of(record),
            "signals": self._signals_of(record),
            "rules_version": decision.versions.rules,
            "catalogue_version": decision.versions.catalogue,
            "feature_schema": decision.versions.feature_schema,
            "engine_version": decision.versions.engine,
            "models": dict(decision.versions.models),
        }  # fmt: skip

    def outcome(self, position: int, entry: OutcomeEntry) -> Row:
        """What leaves the log of an outcome; its id is the client's, as that of a request."""
        return {
            "position": position,
            "outcome_id": self._text(self._policy.request_id, entry.outcome_id),
            "decision_id": entry.decision_id,
            "action_id": entry.action_id,
            "type": str(entry.type),
            "at_ms": entry.at_ms,
            "received_at_ms": entry.received_at_ms,
        }

    def customer(self, customer_id: str) -> str | None:
        """A customer's id as the policy handles it; None where it is dropped."""
        return self._text(self._policy.customer_id, customer_id)

    @property
    def digest(self) -> str:
        """Names the policy: what was exported under another one is not continued."""
        return blake2b(msgspec.json.encode(self._policy, order="sorted"), digest_size=16).hexdigest()

    def _text(self, handling: Handling, value: str | None) -> str | None:
        if value is None or handling is Handling.DROP:
            return None
        if handling is Handling.KEEP or self._pseudonyms is None:
            return value
        return self._pseudonyms.of(value)

    def _context_of(self, record: DecisionRecord) -> dict[str, str]:
        """Values of the context as JSON: they are of many types."""
        context = record.request.context
        found = {name: msgspec.json.encode(value).decode() for name, value in context.items()}
        return self._named(self._context, found)

    def _features_of(self, record: DecisionRecord) -> dict[str, float]:
        """Features that are kept and there; those of a schema that is not held are left out."""
        vector = record.state.features
        if vector is None or not set(self._policy.features.values()) & {Handling.KEEP}:
            return {}
        names = self._feature_names(record.decision.versions)
        if vector.schema_version != record.decision.versions.feature_schema or len(names) != len(
            vector.values
        ):
            return {}
        pairs = zip(names, vector.values.tolist(), strict=True)
        return {n: v for n, v in pairs if not math.isnan(v) and self._features.of(n) is Handling.KEEP}

    def _signals_of(self, record: DecisionRecord) -> dict[str, bool]:
        return {s.name: s.value for s in record.state.signals if self._signals.of(s.name) is Handling.KEEP}

    def _named(self, section: _Section, values: Mapping[str, str], *, called: str = "") -> dict[str, str]:
        handled = {called or name: self._text(section.of(name), value) for name, value in values.items()}
        return {name: value for name, value in handled.items() if value is not None}

    def _evidence(self, record: DecisionRecord) -> list[Row]:
        if self._policy.evidence is not Handling.KEEP:
            return []
        return [
            {
                "purpose": c.purpose, "channel": c.channel, "state": str(c.state),
                "recorded_at_ms": c.recorded_at_ms, "source": c.source, "notice_version": c.notice_version,
                "actor": c.actor, "evidence": c.evidence,
            }
            for c in record.state.consents
        ]  # fmt: skip

    def _candidate(self, action: RankedAction | SuppressedAction) -> Row:
        returned = isinstance(action, RankedAction)
        return {
            "action_id": action.action_id,
            "returned": returned,
            "rank": action.rank if isinstance(action, RankedAction) else None,
            "treatment_id": action.treatment_id if isinstance(action, RankedAction) else None,
            "stage": str(action.stage) if isinstance(action, SuppressedAction) else None,
            **self._priority(action.priority),
            "reasons": self._reasons(action.reasons),
        }

    def _priority(self, priority: Priority | None) -> Row:
        names = ("priority", "propensity", "weight", "value")
        if priority is None or self._policy.scores is not Handling.KEEP:
            return {**dict.fromkeys(names), "propensity_source": None, "levers": []}
        return {
            **{name: getattr(priority, name) for name in names},
            "propensity_source": str(priority.propensity_source),
            "levers": [{"rule_id": lever.rule_id, "share": lever.share} for lever in priority.levers],
        }

    def _reasons(self, reasons: Sequence[Reason]) -> list[Row]:
        scores = self._policy.scores is Handling.KEEP
        return [
            {
                "code": reason.code,
                "source": str(reason.source),
                "rule_id": reason.rule_id or None,
                "model": reason.model or None,
                "contribution": reason.contribution if scores and reason.model else None,
                "values": self._values(reason.values),
            }
            for reason in reasons
        ]

    def _values(self, values: Mapping[str, str]) -> dict[str, str]:
        """What a reason names: inputs as the policy handles them, and what says nothing of the customer."""
        kept: dict[str, str] = {}
        for name, value in values.items():
            section, _, field = name.partition(".")
            if name in _HARMLESS:
                kept[name] = value
            elif name == "value":  # of a model's reason, which names the feature beside it
                kept |= self._named(self._features, {values.get("feature", ""): value}, called=name)
            elif section in self._sections and field:
                kept |= self._named(self._sections[section], {field: value}, called=name)
        return kept


def _handlings(policy: MaskingPolicy) -> set[Handling]:
    named = (policy.context, policy.features, policy.signals)
    return {policy.customer_id, policy.request_id, *(t for section in named for t in section.values())}
