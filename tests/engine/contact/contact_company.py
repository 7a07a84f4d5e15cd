"""A company whose only rules are its contact policies: its files, and its service over any store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.core.reasons import PLACEHOLDERS
from engine.core.snapshot import Snapshot, assemble
from engine.decisionlog.ledger import OutcomeLog, outcome_log
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import DecisionRecord
from engine.ruleset.build import build_rulebook
from engine.ruleset.sources import RuleSources
from engine.service.decisions import Decisions
from engine.service.live import LiveSnapshot
from engine.service.outcomes import OutcomeReport, Outcomes
from engine.service.requests import DecisionQuery
from engine.suites.scores import TableScorer
from feature_store.embedded import open_embedded
from feature_store.redis.store import open_redis
from feature_store.schema import Feature, FeatureSchema, View
from feature_store.state import CustomerState, FeatureVector, OutcomeType
from feature_store.store import OnlineStore

NOW_MS = 1_790_000_000_000  # Monday 21 September 2026, 14:13:20 UTC
SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
PATIENT_MS = 10_000
"""Tests share two cores with whatever runs beside them."""

SCHEMA = FeatureSchema(
    name="contact",
    version=1,
    view=(View(name="profile", kind="batch", owner="o", freshness_hours=1000, description="d"),),
    feature=(
        Feature(
            name="time_zone",
            view="profile",
            type="category",
            categories=("Europe/Zurich", "America/New_York"),
            data_class="contractual",
            description="d",
        ),
    ),
)

_HEAD = "apiVersion: arbiter/v1\nkind: {kind}\nmetadata: {{name: {name}, owner: tests, description: Tests}}\n"
_ACTIONS = (  # id, group, purpose, value, channels
    ("gift", "retention", "marketing", 50, ("web", "sms")),
    ("rebate", "retention", "marketing", 40, ("web", "sms")),
    ("news", "upsell", "marketing", 10, ("web", "sms")),
    ("help", "care", "service", 5, ("web", "sms")),
)
GIFT, REBATE, NEWS, HELP = (name for name, *_ in _ACTIONS)


def _file(kind: str, text: str) -> str:
    return _HEAD.format(kind=kind, name=kind.lower()) + text


def _treatment(action: str, channel: str) -> str:
    return f"{{id: {action}.{channel}, channel: {channel}, headline: {{en: A}}, body: {{en: A}}}}"


def _action(action: str, group: str, purpose: str, value: int, channels: tuple[str, ...]) -> str:
    treatments = ", ".join(_treatment(action, channel) for channel in channels)
    return (
        f"  - {{id: {action}, group: {group}, purpose: {purpose}, name: {{en: A}}, value: {value}.0,"
        f" cost: 0.0, prior: 0.5, treatments: [{treatments}]}}\n"
    )


def rule_files(pack: str) -> dict[str, str]:
    """The files of the company with a contact pack."""
    words = "  - {{code: {}, agent: {{en: A}}, customer: {{en: A}}}}\n"
    reasons = "".join(words.format(code) for code in (*PLACEHOLDERS, "TOO_OFTEN", "QUIET", "SPENT"))
    return {
        "vocabulary.yaml": _file(
            "Vocabulary",
            "channels: [{id: web}, {id: sms}]\nlanguages: [en]\n"
            "context: [{name: zone, type: string, description: Time zone}]\nchurn_bands: {low: 0.0}\n",
        ),
        "catalogue.yaml": _file(
            "Catalogue",
            "currency: CHF\ngroups: [retention, upsell, care]\nactions:\n"
            + "".join(_action(*given) for given in _ACTIONS),
        ),
        "reasons.yaml": _file("ReasonCatalogue", "reasons:\n" + reasons),
        "consent.yaml": _file(
            "ConsentPolicy",
            "profiling_purpose: profiling\npurposes: [{id: marketing, basis: legitimate_interest},"
            " {id: service, basis: contract}, {id: profiling, basis: consent}]\n",
        ),
        "arbitration.yaml": _file("Arbitration", "threshold: 0.0\nmax_per_group: 10\n"),
        "contact.yaml": _file("ContactPack", pack),
    }


def company(pack: str) -> Snapshot:
    """The company with a contact pack."""
    rulebook = build_rulebook(RuleSources.from_mapping(rule_files(pack)), SCHEMA)
    scorer = TableScorer(actions=rulebook.actions)
    return assemble(rulebook=rulebook, schema=SCHEMA, scorer=scorer, engine_version="test")


def vector(zone: str | None = None) -> FeatureVector:
    """Features of a customer who lives in a zone."""
    return FeatureVector(SCHEMA.digest, (NOW_MS,), SCHEMA.pack({"time_zone": zone}))


def state(customer_id: str = "C1", zone: str | None = None, **fields: object) -> CustomerState:
    """A customer."""
    return CustomerState(customer_id, vector(zone), **fields)  # type: ignore[arg-type]  # by field name


def open_store(place: str) -> OnlineStore:
    """The store at a folder or at a URL, which a process opens for itself."""
    if not place.startswith("redis:"):
        return open_embedded(Path(place))
    url, _, prefix = place.partition("#")
    return open_redis(url, prefix=prefix, timeout_ms=PATIENT_MS)


@dataclass
class Clock:
    """A clock that stands until it is set."""

    now_ms: int = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class Service:
    """Decisions and outcomes over one store, with logs of their own."""

    store: OnlineStore
    decisions: Decisions
    outcomes: Outcomes
    log: DecisionLog
    outcome_log: OutcomeLog
    clock: Clock

    def decide(self, customer_id: str = "C1", **fields: object) -> DecisionRecord:
        """A decision on the web."""
        query = DecisionQuery(**{"customer_id": customer_id, "channel": "web", **fields})  # type: ignore[arg-type]  # by field name
        return self.decisions.decide(query).record

    def record(self, decision: DecisionRecord, action: str, outcome: OutcomeType, **fields: object) -> bool:
        """An outcome of an action, under an id of its own."""
        given = {
            "outcome_id": f"{decision.decision_id}-{action}-{outcome}",
            "decision_id": decision.decision_id,
            "action_id": action,
            "outcome": outcome,
            "at_ms": self.clock.now_ms,
        }
        return self.outcomes.record(OutcomeReport(**(given | fields)))  # type: ignore[arg-type]  # by field name


@contextmanager
def service(
    store: OnlineStore, snapshot: Snapshot, folder: Path, clock: Callable[[], int] | None = None
) -> Iterator[Service]:
    """The service over a store; logs are in the folder, which processes may share."""
    clock = clock or Clock()
    live = LiveSnapshot(lambda: snapshot)
    with (
        DecisionLog(folder / "decisions") as log,
        outcome_log(folder / "outcomes") as outcomes,
    ):
        yield Service(
            store=store,
            decisions=Decisions(live=live, store=store, log=log, clock=clock, request_id_ttl_ms=HOUR_MS),
            outcomes=Outcomes(live=live, store=store, decisions=log, log=outcomes, clock=clock),
            log=log,
            outcome_log=outcomes,
            clock=clock,  # type: ignore[arg-type]  # tests that set it give one that can be set
        )


def returned(record: DecisionRecord) -> list[str]:
    """Ids of the actions of a decision."""
    return [action.action_id for action in record.decision.actions]


def reasons(record: DecisionRecord, action: str) -> list[str]:
    """Codes of why an action was not returned."""
    fate = next(fate for fate in record.decision.suppressed if fate.action_id == action)
    return [reason.code for reason in fate.reasons]
