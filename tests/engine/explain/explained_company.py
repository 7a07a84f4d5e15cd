"""The demo's cast in a data directory of its own, and the questions tests ask about their decisions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from engine._pb.arbiter.v1 import decision_service_pb2 as messages
from engine.api.servicers import DecisionServicer
from engine.bootstrap import open_application, wall_clock_ms
from engine.demo.cast import CAST
from engine.demo.company import consents_of
from engine.settings import Settings
from feature_store.embedded import open_embedded
from feature_store.loading import load_customers
from feature_store.schema import load_schema
from feature_store.state import ContactEvent, FeatureVector


class Company:
    """A running application that is asked in the words of the contract."""

    def __init__(self, servicer: DecisionServicer) -> None:
        self._servicer = servicer

    def decide(self, customer: str, **fields: object) -> str:
        """Decides for a cast member's scene; the id of the decision."""
        scene = CAST[customer]
        request = messages.DecideRequest(customer_id=customer, language=scene.language)
        request.channel, request.placement = scene.channel, scene.placement
        for name, value in scene.context.items():
            request.context[name].string_value = value
        for name, value in fields.items():
            setattr(request, name, value)
        return self._servicer.Decide(request, None).decision_id

    def explain(self, decision_id: str, action_id: str = "", language: str = "") -> messages.ExplainResponse:
        """The explanation of one decision."""
        request = messages.ExplainRequest(decision_id=decision_id, action_id=action_id, language=language)
        return self._servicer.Explain(request, None)

    def why(self, customer: str, action_id: str, language: str = "", **fields: object):
        """The explanation of one action in a fresh decision."""
        (found,) = self.explain(self.decide(customer, **fields), action_id, language).explanations
        return found


@lru_cache(maxsize=1)
def _cast() -> list[tuple[str, FeatureVector]]:
    """The features of the cast, read once."""
    source = settings_of(Path()).feature_schema
    path = source.parent / "customers.csv.gz"
    loaded = load_customers(path, schema=load_schema(source), as_of_ms=wall_clock_ms())
    return [(name, vector) for name, vector in loaded if name in CAST]


def load_cast(data_dir: Path, contacts: tuple[tuple[str, ContactEvent], ...] = ()) -> None:
    """Puts the cast, as they are in the demo, into a data directory."""
    now_ms = wall_clock_ms()
    store = open_embedded(data_dir / "store")
    try:
        store.put_customers(_cast())
        store.put_consents((name, record) for name in CAST for record in consents_of(name, now_ms))
        for number, (name, event) in enumerate(contacts):
            store.record_contact(name, event, key=f"test-{number}")
    finally:
        store.close()


def settings_of(data_dir: Path, **overrides: object) -> Settings:
    """Settings of a test: the repository's rules and models."""
    return Settings(data_dir=data_dir, port=0, **overrides)  # type: ignore[arg-type]  # checked by pydantic


@contextmanager
def company_at(data_dir: Path, **overrides: object) -> Iterator[Company]:
    """The company on a data directory, as one process would have it."""
    with open_application(settings_of(data_dir, **overrides)) as application:
        yield Company(DecisionServicer(application.decisions, application.explanations))
