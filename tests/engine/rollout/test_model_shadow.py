"""Other versions score in the shadow: logged beside what scored, told as figures, and never in a reply."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rollout_company import MODEL, decide, follower_of
from rollout_models import publish_broken, publish_shifted

from engine.bootstrap import Application
from engine.decisionlog.ledger import ModelShadowEntry, model_shadow_log
from engine.service.model_shadow import QUEUE, ModelShadow, Scored
from engine.service.shadow_report import ScoreDifference, shadow_reports
from model_registry import promote
from model_registry.aliases import CHALLENGER, SHADOW
from model_registry.rollout import ChangeKind, Step, move, start

CUSTOMERS = [f"C{number:04d}" for number in range(1, 31)]


def shadowed(application: Application, customers: list[str]) -> list[ModelShadowEntry]:
    """What the shadow logged of decisions for customers, once its thread has seen them all."""
    shadow = application.model_shadow
    with shadow:
        for customer in customers:
            before = total(shadow)
            decide(application, customer)
            due = before + len(shadow.versions)
            until(lambda due=due: total(shadow) >= due)  # one by one: the queue is short
    return list(model_shadow_log(application.settings.data_dir / "model-shadow").replay())


def total(shadow: ModelShadow) -> int:
    """Decisions that something became of."""
    return sum(count for results in shadow.counts().values() for count in results.values())


def until(done: Callable[[], bool]) -> None:
    """Waits for another thread."""
    import threading

    pause = threading.Event()
    for _ in range(4000):
        if done():
            return
        pause.wait(0.005)
    raise AssertionError("it never happened")


@pytest.mark.parametrize("alias", [SHADOW, CHALLENGER])
def test_a_version_in_the_shadow_is_logged_and_changes_no_reply(
    at_work: Application, registry: Path, alias: str
) -> None:
    """The shadow, or a challenger that has no customers yet: scores of both, by action, and both orders."""
    replied = [[a.action_id for a in decide(at_work, c).decision.actions] for c in CUSTOMERS]
    promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.5), alias=alias, reason="a test")
    follower_of(at_work).look()

    entries = shadowed(at_work, CUSTOMERS)

    assert [e.customer_id for e in entries] == CUSTOMERS
    assert [list(e.returned) for e in entries] == replied
    assert {(e.model, e.version, e.shadow) for e in entries} == {(MODEL, 1, 2)}
    assert all(after > before for e in entries for before, after in e.scores.values())
    assert any(e.scores for e in entries)
    assert at_work.live.current.versions.models[MODEL] == 1


def test_a_challenger_with_customers_is_no_shadow(at_work: Application, registry: Path) -> None:
    """Nor is one that went back: its scores are known to be bad."""
    version = publish_shifted(registry, MODEL, by=0.5)
    promote(registry, MODEL, version, alias=CHALLENGER, reason="a test")
    rollout = start(registry, MODEL, version, steps=[Step(percent=50)], reason="a test", actor="ada")
    follower = follower_of(at_work)
    follower.look()
    on = at_work.model_shadow.versions

    move(registry, MODEL, ChangeKind.ROLL_BACK, expected=rollout, reason="bad", actor="ada")
    follower.look()

    assert (on, at_work.model_shadow.versions) == ((), ())


def test_two_versions_score_beside_each_other(at_work: Application, registry: Path) -> None:
    """Of churn and of propensity: each entry is of one of them, and the other model is the champion's."""
    for name in ("churn", MODEL):
        promote(registry, name, publish_shifted(registry, name, by=0.5), alias=SHADOW, reason="a test")
    follower_of(at_work).look()

    entries = shadowed(at_work, CUSTOMERS[:10])

    by_model = {name: [e for e in entries if e.model == name] for name in ("churn", MODEL)}
    assert [len(found) for found in by_model.values()] == [10, 10]
    assert all(e.churn is None for e in by_model[MODEL])
    assert all(e.scores == {} for e in by_model["churn"])


def test_a_shadow_that_cannot_serve_is_refused(at_work: Application, registry: Path) -> None:
    """It scores nothing; decisions go on."""
    promote(registry, MODEL, publish_broken(registry, MODEL), alias=SHADOW, reason="a test")

    follower_of(at_work).look()

    assert at_work.model_shadow.versions == ()
    assert decide(at_work, "C0131").decision.versions.models[MODEL] == 1


def test_a_shadow_that_cannot_keep_up_drops_and_counts(at_work: Application, registry: Path) -> None:
    """Its thread does not run here, so that the queue fills; replies do not wait for it."""
    promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.5), alias=SHADOW, reason="a test")
    follower_of(at_work).look()
    record = decide(at_work, "C0131")

    for _ in range(QUEUE + 9):
        at_work.model_shadow.offer(record)

    assert at_work.model_shadow.counts() == {f"{MODEL}/2": {"dropped": 10}}


def test_a_decision_of_other_rules_or_models_is_not_compared(at_work: Application, registry: Path) -> None:
    """The difference would not be the version's own."""
    record = decide(at_work, "C0131")
    promote(registry, "churn", publish_shifted(registry, "churn", by=0.1), reason="meanwhile")
    promote(registry, MODEL, publish_shifted(registry, MODEL, by=0.5), alias=SHADOW, reason="a test")
    follower_of(at_work).look()
    shadow = at_work.model_shadow

    with shadow:
        shadow.offer(record)
        until(lambda: total(shadow) == 1)

    assert shadow.counts() == {f"{MODEL}/2": {"skipped": 1}}
    assert {Scored.SKIPPED} == {Scored(result) for result in shadow.counts()[f"{MODEL}/2"]}


def test_rules_in_the_shadow_are_compared_on_the_champions_customers_only(
    at_work: Application, registry: Path
) -> None:
    """What differs for a challenger's customers is the model's doing, not that of the rules."""
    rules_shadow = at_work.shadow
    rules_shadow.use(at_work.live.current)
    start(
        registry,
        MODEL,
        publish_shifted(registry, MODEL, by=2.0),
        steps=[Step(percent=50)],
        reason="a test",
        actor="ada",
    )
    follower_of(at_work).look()

    with rules_shadow:
        records = [decide(at_work, customer) for customer in CUSTOMERS]
        champions = sum(record.decision.versions.models[MODEL] == 1 for record in records)
        until(lambda: rules_shadow.counts.evaluated >= champions)

    assert 0 < champions < len(records)
    counts = rules_shadow.counts
    assert (counts.evaluated, counts.differing, counts.dropped) == (champions, 0, 0)


def entry(decision: str, *, live: float, shadow: float, order: str, shadow_order: str) -> ModelShadowEntry:
    """One entry: scores of one action, and orders as letters."""
    return ModelShadowEntry(
        decision_id=decision,
        customer_id="C1",
        model=MODEL,
        version=1,
        shadow=2,
        scores={"a": (live, shadow)},
        churn=None,
        returned=tuple(order),
        shadow_returned=tuple(shadow_order),
        received_at_ms=1000 + int(decision),
    )


def test_a_report_tells_scores_orders_and_first_actions() -> None:
    """Another first action, another order, the same; one decision logged twice counts once."""
    entries = [
        entry("1", live=0.1, shadow=0.2, order="ab", shadow_order="ba"),
        entry("2", live=0.3, shadow=0.1, order="abc", shadow_order="acb"),
        entry("3", live=0.2, shadow=0.2, order="a", shadow_order="a"),
        entry("4", live=0.2, shadow=0.2, order="", shadow_order="b"),
        entry("4", live=0.2, shadow=0.2, order="", shadow_order="b"),
    ]

    (report,) = shadow_reports(entries, model=MODEL)

    assert (report.decisions, report.first, report.order) == (4, 2, 3)
    assert report.became == {("", "b"): 1, ("a", "b"): 1}
    assert (report.beside, report.from_ms, report.until_ms) == ((1,), 1001, 1004)
    assert report.scores == {
        "a": ScoreDifference(
            count=4,
            live=pytest.approx(0.2),
            shadow=pytest.approx(0.175),
            mean=pytest.approx(-0.025),
            p95=pytest.approx(0.185),
            largest=pytest.approx(0.2),
        )
    }


def test_a_report_of_a_model_without_a_shadow_is_empty() -> None:
    """And so is that of another model."""
    entries = [entry("1", live=0.1, shadow=0.2, order="a", shadow_order="a")]

    assert shadow_reports(entries, model="churn") == ()
