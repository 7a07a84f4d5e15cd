"""What a made-up customer says of itself, as changes of the facts of a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.suites.documents import CustomerFixture
from engine.suites.facts import Facts
from engine.suites.wrong import FactWrong
from feature_store.state import ANY_CHANNEL


def apply_fixture(facts: Facts, fixture: CustomerFixture) -> list[tuple[tuple[str | int, ...], FactWrong]]:
    """Adds what a fixture says; returns each wrong fact with its path in the fixture."""
    wrong: list[tuple[tuple[str | int, ...], FactWrong]] = []
    for path, change in _changes(facts, fixture):
        try:
            change[0](*change[1:])
        except FactWrong as error:
            wrong.append((path, error))
    return wrong


def _changes(facts: Facts, fixture: CustomerFixture) -> list[tuple[tuple[str | int, ...], tuple[Any, ...]]]:
    changes: list[tuple[tuple[str | int, ...], tuple[Any, ...]]] = []
    for name, value in fixture.features.items():
        changes.append((("features", name), (facts.set_feature, name, value)))
    for purpose, said in fixture.consents.items():
        by_channel: Mapping[str, object] = said if isinstance(said, dict) else {ANY_CHANNEL: said}
        changes += [
            (("consents", purpose), (facts.set_consent, f"{purpose}.{channel}", state))
            for channel, state in by_channel.items()
        ]
    for i, name in enumerate(fixture.signals):
        changes.append((("signals", i), (facts.set_signal, name, True)))
    for i, c in enumerate(fixture.contacts):
        changes.append(
            (("contacts", i), (facts.add_contact, c.action, c.channel, c.outcome, c.ago, c.reserved_for))
        )
    if fixture.scores.churn is not None:
        changes.append((("scores", "churn"), (facts.set_score, "churn", fixture.scores.churn)))
    for name, score in fixture.scores.propensity.items():
        changes.append((("scores", "propensity", name), (facts.set_score, f"propensity.{name}", score)))
    for view, age in fixture.ages.items():
        changes.append((("ages", view), (facts.set_age, view, age)))
    return changes
