"""What people read about quiet hours, budgets and reservations: from the log to a terminal."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from contact_company import GIFT, HOUR_MS, NOW_MS, Service, company, open_store, service, vector
from rich.console import Console

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.api.explaining import action_explanation
from engine.cli.explain_view import explain_view
from engine.decisionlog.record import DecisionRecord
from engine.service.explanations import Explanations
from engine.service.live import LiveSnapshot
from feature_store.state import OutcomeType

PACK = """
time_zone: Europe/Zurich
time_zone_from: features.time_zone
reserve_for: 30m
policies:
  - {id: quiet.nights, kind: quiet_hours, applies_to: {purposes: [marketing]}, channels: [sms],
     from: "21:00", to: "08:00", reason: QUIET}
  - {id: cap.gift, kind: cap, applies_to: {actions: [gift]}, per: action, counts: [reserved, shown],
     limit: 1, window: 7d, reason: TOO_OFTEN}
  - {id: budget.gift, kind: budget, applies_to: {actions: [gift]}, per: overall, counts: [reserved, shown],
     limit: 1, window: 30d, reason: SPENT}
"""


def explained(opened: Service, record: DecisionRecord) -> decision_service_pb2.ActionExplanation:
    """The explanation of the gift in a logged decision."""
    snapshot = company(PACK)
    explanations = Explanations(
        live=LiveSnapshot(lambda: snapshot), log=opened.log, snapshot_of=lambda _: snapshot
    )
    found = explanations.explain(record.decision_id, action_id=GIFT)
    assert found.reproduced
    return action_explanation(found.accounts[0], found.snapshot, "en")


def shown(explanation: decision_service_pb2.ActionExplanation) -> str:
    """What the terminal says."""
    out = StringIO()
    response = decision_service_pb2.ExplainResponse(explanations=[explanation], reproduced=True)
    Console(file=out, width=200).print(explain_view(response))
    return out.getvalue()


def test_why_not_names_the_reservation_the_budget_and_the_hour(tmp_path: Path) -> None:
    """Each with what there was at the decision, and when it ends where that is known."""
    store = open_store(str(tmp_path / "store"))
    store.put_customers([("C1", vector("America/New_York")), ("C2", vector())])
    with service(store, company(PACK), tmp_path / "logs") as opened:
        opened.clock.now_ms = NOW_MS - 4 * HOUR_MS
        opened.decide()

        again = explained(opened, opened.decide())
        other = explained(opened, opened.decide("C2"))
        opened.clock.now_ms = NOW_MS + 12 * HOUR_MS
        night = explained(opened, opened.decide(channel="sms"))
    store.close()

    cap = next(each for each in again.contacts if each.policy_id == "cap.gift")
    assert (cap.forbids, cap.counted[0].outcome) == (True, str(OutcomeType.RESERVED))
    assert cap.free_time.ToMilliseconds() == cap.counted[0].reserved_until.ToMilliseconds()
    assert "✗ cap.gift: 1 of 1 in 7 days per action (reserved 2026-09-21 10:13 until 10:43 UTC)" in shown(
        again
    )
    budget = next(each for each in other.contacts if each.policy_id == "budget.gift")
    assert (budget.forbids, budget.left, budget.HasField("free_time")) == (True, 0, False)
    assert "✗ budget.gift: 0 left of 1 for all customers in 30 days per overall" in shown(other)
    assert "what if  found: explain.budget: 0 -> 1" in shown(other)
    quiet = next(each for each in night.contacts if each.kind == "quiet_hours")
    assert (quiet.time_zone, quiet.local_time) == ("America/New_York", "2026-09-21 22:13")
    assert (quiet.per, quiet.limit, quiet.window_seconds) == ("", 0, 0)
    assert "✗ quiet.nights: quiet hours, 2026-09-21 22:13 in America/New_York" in shown(night)
    assert "free again 2026-09-22 12:00 UTC" in shown(night)
    assert "· budget.gift: plenty left of 1" not in shown(night)
