"""A version in the shadow decides too, differences are logged, and no reply ever shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from engine import publishing
from engine.bootstrap import Application, open_application, watch_rules
from engine.decisionlog.ledger import ShadowEntry, shadow_log
from engine.demo.cast import CAST
from engine.service.requests import DecisionQuery
from engine.service.shadowing import QUEUE, Shadow
from engine.settings import Settings
from engine.snapshots import version_snapshot

CUSTOMERS = ("C0131", "C0133", "C0060")


def publish(data_dir: Path, folder: Path) -> str:
    """Publishes a folder and says its version."""
    settings = Settings(data_dir=data_dir, rules=folder)
    return publishing.publish(settings, author="ada", message=folder.name)[0].rules


def decide(application: Application, customer: str) -> list[str]:
    """Decides for a member of the cast; what was returned."""
    scene = CAST[customer]
    query = DecisionQuery(customer_id=customer, channel=scene.channel, placement=scene.placement, context={})
    return [action.action_id for action in application.decisions.decide(query).record.decision.actions]


def until_evaluated(shadow: Shadow, count: int) -> None:
    """Waits for the shadow's own thread."""
    deadline = time.monotonic() + 20.0
    while shadow.counts.evaluated < count and time.monotonic() < deadline:
        time.sleep(0.01)


def logged(data_dir: Path) -> list[ShadowEntry]:
    """What the shadow wrote down."""
    return list(shadow_log(data_dir / "shadow").replay())


def test_a_shadow_version_is_evaluated_and_changes_no_reply(
    data_dir: Path, rules_with: Callable[[float], Path]
) -> None:
    """Rules that would propose nothing leave every reply as it is; what they would say is logged."""
    high = publish(data_dir, rules_with(500_000.0))
    settings = Settings(data_dir=data_dir)
    with open_application(settings) as application:
        without = [decide(application, customer) for customer in CUSTOMERS]
    publishing.shadow(settings, high, author="ada", reason="trial")

    with open_application(settings) as application, watch_rules(application):
        wait_for_shadow(application, high)
        replied = [decide(application, customer) for customer in CUSTOMERS]
        until_evaluated(application.shadow, len(CUSTOMERS))
        counts, served = application.shadow.counts, application.live.current.versions.rules

    assert without == replied
    assert served != high
    assert (len(CUSTOMERS), len(CUSTOMERS), 0) == (counts.evaluated, counts.differing, counts.failed)
    assert [(tuple(list_), (), high) for list_ in replied] == [
        (entry.returned, entry.shadow_returned, entry.shadow) for entry in logged(data_dir)
    ]


def wait_for_shadow(application: Application, rules: str) -> None:
    """Until the follower's thread has set the shadow."""
    deadline = time.monotonic() + 20.0
    while application.shadow.version != rules and time.monotonic() < deadline:
        time.sleep(0.01)


def test_the_same_rules_in_the_shadow_differ_nowhere(
    data_dir: Path, rules_with: Callable[[float], Path]
) -> None:
    """What serves, evaluated again from the record, gives the same answer."""
    low = publish(data_dir, rules_with(0.5))
    settings = Settings(data_dir=data_dir)
    publishing.activate(settings, low, author="ada", reason="")
    publishing.shadow(settings, low, author="ada", reason="")

    with open_application(settings) as application, watch_rules(application):
        wait_for_shadow(application, low)
        for customer in CUSTOMERS:
            decide(application, customer)
        until_evaluated(application.shadow, len(CUSTOMERS))
        counts = application.shadow.counts

    assert (len(CUSTOMERS), 0) == (counts.evaluated, counts.differing)
    assert logged(data_dir) == []


def test_a_full_queue_drops_and_counts_and_never_waits(
    data_dir: Path, rules_with: Callable[[float], Path]
) -> None:
    """Without its thread nothing takes records off the queue; replies go on."""
    low = publish(data_dir, rules_with(0.5))
    settings = Settings(data_dir=data_dir)

    with open_application(settings) as application:
        application.shadow.use(version_snapshot(settings, low))
        for _ in range(QUEUE + 5):
            decide(application, "C0131")

        assert application.shadow.counts.dropped == 5


def test_taking_the_shadow_off_ends_its_work(data_dir: Path, rules_with: Callable[[float], Path]) -> None:
    """Records offered without a shadow version go nowhere."""
    low = publish(data_dir, rules_with(0.5))
    settings = Settings(data_dir=data_dir)

    with open_application(settings) as application:
        application.shadow.use(version_snapshot(settings, low))
        application.shadow.use(None)
        decide(application, "C0131")

        assert (application.shadow.version, application.shadow.counts.dropped) == (None, 0)
