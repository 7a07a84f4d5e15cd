"""A challenger scores its share of the customers: the record names it, and the decision can be made again."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path

import pytest
from rollout_company import MODEL, decide, follower_of, versions_of
from rollout_models import publish_shifted

from engine.bootstrap import Application
from engine.core.canary import Share
from engine.service.explanations import Explanations, replay
from engine.settings import Settings
from engine.snapshots import past_snapshot
from model_registry.rollout import ChangeKind, Rollout, Step, move, start

STEPS = (Step(percent=30, decisions=0, hours=99), Step(percent=100, decisions=0, hours=99))
CUSTOMERS = [f"C{number:04d}" for number in range(1, 161)]


def begin(registry: Path, name: str, version: int) -> Rollout:
    """Starts a rollout whose steps take long."""
    return start(registry, name, version, steps=STEPS, reason="a test", actor="ada")


def test_each_customer_is_scored_by_the_version_of_their_share(at_work: Application, registry: Path) -> None:
    """The same ones again and again, and more of them after a step up."""
    rollout = begin(registry, MODEL, publish_shifted(registry, MODEL, by=0.4))
    follower = follower_of(at_work)
    follower.look()
    share = Share.of(MODEL, salt=rollout.id, percent=30)

    first, again = ([decide(at_work, customer) for customer in CUSTOMERS] for _ in range(2))
    move(registry, MODEL, ChangeKind.STEP_UP, expected=rollout, reason="fine", actor="ada")
    follower.look()
    everybody = versions_of(decide(at_work, customer) for customer in CUSTOMERS[:20])

    chosen = [record.decision.versions.models[MODEL] for record in first]
    assert chosen == [2 if share.holds(customer) else 1 for customer in CUSTOMERS]
    assert chosen == [record.decision.versions.models[MODEL] for record in again]
    assert everybody == {2: 20}
    assert {record.decision.versions.models["churn"] for record in first} == {1}


def test_decisions_of_both_arms_are_made_again_to_the_byte(
    at_work: Application, registry: Path, settings: Settings
) -> None:
    """By the server that made them, after the challenger went back, and from the archive alone."""
    rollout = begin(registry, MODEL, publish_shifted(registry, MODEL, by=0.4))
    follower = follower_of(at_work)
    follower.look()
    records = [decide(at_work, customer) for customer in CUSTOMERS[:40]]

    live = [at_work.explanations.replay(record.decision_id).same for record in records]
    move(registry, MODEL, ChangeKind.ROLL_BACK, expected=rollout, reason="a test", actor="ada")
    follower.look()
    after = [at_work.explanations.replay(record.decision_id).same for record in records]
    cold = [replay(record, past_snapshot(settings, record.decision.versions)).same for record in records]

    assert len(versions_of(records)) == 2
    assert all(live)
    assert all(after)
    assert all(cold)
    assert versions_of(decide(at_work, customer) for customer in CUSTOMERS[:20]) == {1: 20}


def test_the_challengers_scores_are_what_rules_and_ranking_see(at_work: Application, registry: Path) -> None:
    """Every score of a customer in the share is moved by 0.4 in log-odds, and no other."""
    before = {customer: scores(at_work, customer) for customer in CUSTOMERS}
    begin(registry, MODEL, publish_shifted(registry, MODEL, by=0.4))
    follower_of(at_work).look()

    moved = {}
    for customer, earlier in before.items():
        version = decide(at_work, customer).decision.versions.models[MODEL]
        later = scores(at_work, customer)
        both = earlier.keys() & later.keys()  # rules that read scores may let other actions through
        moved[customer] = {version: [logit(later[action]) - logit(earlier[action]) for action in both]}

    by = {version: [each for m in moved.values() for each in m.get(version, [])] for version in (1, 2)}
    assert len(by[2]) >= 5
    assert by[1] == pytest.approx([0.0] * len(by[1]), abs=1e-9)
    assert by[2] == pytest.approx([0.4] * len(by[2]), abs=1e-4)


def logit(probability: float) -> float:
    """Log-odds."""
    return log(probability / (1 - probability))


def scores(application: Application, customer: str) -> dict[str, float]:
    """What the model said of each action that was ranked, by action."""
    decision = decide(application, customer).decision
    ranked = [(a.action_id, a.priority) for a in (*decision.actions, *decision.suppressed)]
    return {
        action: priority.propensity
        for action, priority in ranked
        if priority is not None and priority.propensity_source == "model"
    }


def test_rollouts_of_two_models_choose_their_customers_independently(
    at_work: Application, registry: Path
) -> None:
    """All four mixtures occur, each as the two shares say, and each can be made again."""
    rollouts = {
        name: begin(registry, name, publish_shifted(registry, name, by=0.2)) for name in ("churn", MODEL)
    }
    follower_of(at_work).look()
    shares = {name: Share.of(name, salt=rollout.id, percent=30) for name, rollout in rollouts.items()}

    records = [decide(at_work, customer) for customer in CUSTOMERS]

    found = [dict(record.decision.versions.models) for record in records]
    assert found == [
        {name: 2 if share.holds(customer) else 1 for name, share in shares.items()} for customer in CUSTOMERS
    ]
    assert len({tuple(models.values()) for models in found}) == 4
    assert all(at_work.explanations.replay(record.decision_id).same for record in records[:20])


def test_a_challenger_that_is_explained_is_not_built_again(at_work: Application, registry: Path) -> None:
    """Explanations take the snapshot that serves its share, also of decisions that a challenger scored."""
    begin(registry, MODEL, publish_shifted(registry, MODEL, by=0.4))
    follower_of(at_work).look()
    record = next(r for r in (decide(at_work, c) for c in CUSTOMERS) if versions_of([r]) == {2: 1})
    explanations = Explanations(live=at_work.live, log=at_work.log, snapshot_of=past_snapshot_is_not_asked)

    snapshot = explanations.snapshot_of(record.decision.versions)

    assert snapshot is at_work.live.current.for_customer(record.request.customer_id)


def past_snapshot_is_not_asked(versions: object) -> None:
    """Fails where an archive would be searched."""
    raise AssertionError(f"{versions} should be live")


def test_past_versions_come_from_the_archive(at_work: Application, settings: Settings) -> None:
    """What no longer serves is compiled from what was kept."""
    versions = at_work.live.current.versions

    snapshot = past_snapshot(settings, replace(versions, models=dict(versions.models)))

    assert snapshot.versions == versions
