"""What each kind of contact policy forbids, and how that is explained: from files to decisions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from contact_company import (
    DAY_MS,
    GIFT,
    HELP,
    HOUR_MS,
    MINUTE_MS,
    NEWS,
    NOW_MS,
    REBATE,
    company,
    rule_files,
    state,
)
from hypothesis import given
from hypothesis import strategies as st

from engine.core import contact
from engine.core.change import Case, Grounds
from engine.core.contact import Moment, holds
from engine.core.counterfactual import Counterfactual, Outcome, what_if
from engine.core.pipeline import decide, examine
from engine.core.rulebook import OutcomeType
from engine.core.snapshot import Snapshot
from engine.core.supply import PLENTY, Held, HeldBudget, Supply
from engine.core.whynot import ContactFinding, findings
from engine.domain import ActionFilter, Decision, DecisionRequest, Stage
from engine.ruleset.changes import changes
from engine.service.whatif_words import tell_what_if
from feature_store.state import ContactEvent, CustomerState

RESERVED, SHOWN, ACCEPTED = OutcomeType.RESERVED, OutcomeType.SHOWN, OutcomeType.ACCEPTED
NIGHT_MS = NOW_MS + 8 * HOUR_MS  # 22:13:20 UTC: after midnight in Zurich, 18:13 in New York
QUIET = """
time_zone: Europe/Zurich
time_zone_from: {zone}
policies:
  - {{id: quiet.nights, kind: quiet_hours, applies_to: {{purposes: [marketing]}}, channels: [sms],
     from: "21:00", to: "08:00", reason: QUIET}}
"""
BUDGETS = """
policies:
  - {id: budget.gift, kind: budget, applies_to: {actions: [gift]}, per: overall, counts: [reserved, accepted],
     limit: 100, window: 30d, reserve_for: 2h, reason: SPENT}
  - {id: budget.sms, kind: budget, applies_to: {purposes: [marketing]}, per: channel,
     counts: [reserved, shown], limit: 500, window: 1d, reserve_for: 30m, reason: SPENT}
"""
CAPS = """
reserve_for: 30m
policies:
  - {id: cap.gift, kind: cap, applies_to: {actions: [gift]}, per: action, counts: [reserved, shown],
     limit: 2, window: 7d, reserve_for: 2h, reason: TOO_OFTEN}
  - {id: cap.all, kind: cap, applies_to: {purposes: [marketing]}, per: overall, counts: [reserved, shown],
     limit: 3, window: 7d, reason: TOO_OFTEN}
  - {id: one.retention, kind: exclusion, applies_to: {groups: [retention]}, counts: [reserved, shown],
     window: 1d, reason: TOO_OFTEN}
"""
NIGHTS = company(QUIET.format(zone="features.time_zone"))
ZONE_ASKED = company(QUIET.format(zone="context.zone"))
SHARED = company(BUDGETS)
CAPPED = company(CAPS)


def pack_file(text: str) -> str:
    """A whole contact pack."""
    return rule_files(text)["contact.yaml"]


def asked(channel: str = "sms", **fields: object) -> DecisionRequest:
    """A request for all actions."""
    return DecisionRequest("C1", channel, **{"limit": 10, **fields})  # type: ignore[arg-type]  # by field name


def returned(decision: Decision) -> list[str]:
    """Ids of the actions of a decision."""
    return [action.action_id for action in decision.actions]


def fate(decision: Decision, action: str) -> tuple[Stage, list[str]]:
    """The step that removed an action, and the policies that did."""
    found = next(each for each in decision.suppressed if each.action_id == action)
    return found.stage, [reason.rule_id for reason in found.reasons]


def event(action: str, outcome: OutcomeType, ago_ms: int, until_ms: int | None = None) -> ContactEvent:
    """A contact of the past; groups as in the catalogue."""
    group = {GIFT: "retention", REBATE: "retention", NEWS: "upsell", HELP: "care"}[action]
    return ContactEvent(NOW_MS - ago_ms, action, group, "web", "marketing", outcome, until_ms)


def told(
    snapshot: Snapshot,
    customer: CustomerState,
    action: str,
    *,
    now_ms: int = NOW_MS,
    supply: Supply = PLENTY,
    channel: str = "sms",
) -> tuple[list[ContactFinding], Counterfactual]:
    """What is found about an action's contact policies, and what would put it first."""
    request = asked(channel)
    decision = decide(snapshot, request, customer, now_ms=now_ms, supply=supply)
    case = Case(request, customer, supply)
    about = next(each for each in snapshot.rulebook.actions if each.id == action)
    examined = examine(snapshot, request, customer, now_ms=now_ms)
    found = findings(snapshot, case, examined, action=about, decision=decision, now_ms=now_ms)
    change = what_if(snapshot, case, action=about, decision=decision, grounds=Grounds(), now_ms=now_ms)
    return list(found.contacts), change.to_first


@pytest.mark.parametrize(
    ("zone", "channel", "now_ms", "quiet"),
    [
        ("Europe/Zurich", "sms", NIGHT_MS, True),
        ("America/New_York", "sms", NIGHT_MS, False),
        (None, "sms", NIGHT_MS, True),
        ("Europe/Zurich", "web", NIGHT_MS, False),
        ("Europe/Zurich", "sms", NOW_MS, False),
        ("America/New_York", "sms", NOW_MS - 6 * HOUR_MS, True),
    ],
)
def test_quiet_hours_are_those_of_the_customer(
    zone: str | None, channel: str, now_ms: int, quiet: bool
) -> None:
    """On the channels named, for purposes in scope, by the pack's zone where the customer's is unknown."""
    decision = decide(NIGHTS, asked(channel), state(zone=zone), now_ms=now_ms)

    assert returned(decision) == ([HELP] if quiet else [GIFT, REBATE, NEWS, HELP])
    assert not quiet or fate(decision, GIFT) == (Stage.CONTACT, ["quiet.nights"])


@pytest.mark.parametrize(("zone", "quiet"), [("America/New_York", False), ("Mars/Olympus", True), ("", True)])
def test_a_zone_may_come_with_the_request(zone: str, quiet: bool) -> None:
    """A name that no zone has counts as not known."""
    decision = decide(
        ZONE_ASKED,
        asked(context={"zone": zone}),
        state(zone="Europe/Zurich"),
        now_ms=NIGHT_MS,
    )

    assert (GIFT not in returned(decision)) == quiet


def test_a_stale_zone_is_not_used() -> None:
    """A value that is too old is missing, so the pack's zone holds."""
    later_ms = NIGHT_MS + 60 * DAY_MS  # 23:13 in Zurich, whose summer time has ended; 17:13 in New York

    decision = decide(NIGHTS, asked(), state(zone="America/New_York"), now_ms=later_ms)

    assert fate(decision, GIFT) == (Stage.CONTACT, ["quiet.nights"])


def test_quiet_hours_are_explained_by_the_clock_on_the_wall() -> None:
    """What time it was there, when they end, and that then the action would come first."""
    found, change = told(ZONE_ASKED, state(), GIFT, now_ms=NIGHT_MS)

    assert [(f.forbids, f.clock, f.zone) for f in found] == [(True, "2026-09-22 00:13", "Europe/Zurich")]
    assert found[0].frees_at_ms == NIGHT_MS + 7 * HOUR_MS + 46 * MINUTE_MS + 40_000
    assert change.outcome is Outcome.FOUND
    assert change.change is not None
    assert (change.change.input, change.change.before, change.change.after) == (
        "contact.quiet.nights/gift",
        "2026-09-22 00:13",
        "2026-09-22 08:00",
    )
    gift = ZONE_ASKED.rulebook.actions[0]
    assert tell_what_if(change, action=gift, snapshot=ZONE_ASKED, language="en") == (
        "found: explain.local_time: 2026-09-22 00:13 -> 2026-09-22 08:00"
    )


def test_quiet_hours_elsewhere_are_not_told() -> None:
    """A policy for text messages says nothing about the web; one that is not quiet now says that."""
    on_web, _ = told(NIGHTS, state(), GIFT, now_ms=NIGHT_MS, channel="web")
    by_day, _ = told(NIGHTS, state(), GIFT)

    assert on_web == []
    assert [(f.forbids, f.frees_at_ms) for f in by_day] == [(False, None)]


def test_a_budget_without_units_forbids() -> None:
    """Each key has its own; a budget that nobody says is scarce has plenty."""
    spent = Supply(left={"budget.gift": 0, "budget.sms/sms": 0})

    by_sms = decide(SHARED, asked("sms"), state(), now_ms=NOW_MS, supply=spent)
    on_web = decide(SHARED, asked("web"), state(), now_ms=NOW_MS, supply=spent)
    plenty = decide(SHARED, asked("sms"), state(), now_ms=NOW_MS)

    assert returned(by_sms) == [HELP]
    assert fate(by_sms, GIFT) == (Stage.CONTACT, ["budget.gift", "budget.sms"])
    assert returned(on_web) == [REBATE, NEWS, HELP]
    assert returned(plenty) == [GIFT, REBATE, NEWS, HELP]


def test_the_last_unit_goes_to_the_best() -> None:
    """One decision draws on a budget for each action it returns."""
    decision = decide(SHARED, asked(), state(), now_ms=NOW_MS, supply=Supply(left={"budget.sms/sms": 2}))

    assert returned(decision) == [GIFT, REBATE, HELP]
    assert fate(decision, NEWS) == (Stage.ARBITRATION, ["budget.sms"])


def test_a_spent_budget_is_explained() -> None:
    """What was left, and that a unit would do."""
    found, change = told(SHARED, state(), GIFT, supply=Supply(left={"budget.gift": 0, "budget.sms/sms": 7}))

    assert [(f.policy.id, f.forbids, f.left) for f in found] == [
        ("budget.gift", True, 0),
        ("budget.sms", False, 7),
    ]
    assert change.outcome is Outcome.FOUND
    assert change.change is not None
    assert (change.change.input, change.change.before, change.change.after) == (
        "contact.budget.gift/gift",
        0,
        1,
    )


def test_a_reservation_counts_as_long_as_each_policy_says() -> None:
    """Never longer than its own end; half an hour for one cap, two hours for another."""
    half_hour = event(GIFT, RESERVED, 30 * MINUTE_MS, NOW_MS + 90 * MINUTE_MS)
    policies = {policy.id: policy for policy in CAPPED.rulebook.contact}

    ends = {name: contact.ends_ms(policy, half_hour) - NOW_MS for name, policy in policies.items()}
    short = contact.ends_ms(policies["cap.gift"], event(GIFT, RESERVED, 0, NOW_MS + 5))
    shown = contact.ends_ms(policies["cap.gift"], event(GIFT, SHOWN, 0))

    assert ends == {"cap.gift": 90 * MINUTE_MS, "cap.all": 0, "one.retention": 0}
    assert (short, shown) == (NOW_MS + 5, NOW_MS + 7 * DAY_MS)


def test_a_reserved_action_is_explained_with_its_end() -> None:
    """It frees up when enough reservations have ended, be they older or younger than what was shown."""
    contacts = (
        event(GIFT, SHOWN, DAY_MS),
        event(GIFT, RESERVED, 10 * MINUTE_MS, NOW_MS + 20 * MINUTE_MS),
    )

    found, change = told(CAPPED, state(contacts=contacts), GIFT)

    assert (found[0].policy.id, found[0].forbids, len(found[0].counted)) == ("cap.gift", True, 2)
    assert found[0].frees_at_ms == NOW_MS + 20 * MINUTE_MS
    assert change.change is not None
    assert change.change.input == "contact.cap.gift/gift"


def test_what_is_reserved_excludes_the_others_of_its_set() -> None:
    """An exclusion may count on decision too, and so for another channel at the same time."""
    reserved = event(REBATE, RESERVED, 0, NOW_MS + 30 * MINUTE_MS)

    decision = decide(CAPPED, asked(), state(contacts=(reserved,)), now_ms=NOW_MS)

    assert fate(decision, GIFT) == (Stage.CONTACT, ["one.retention"])
    assert REBATE in returned(decision)


def test_actions_of_one_decision_count_against_each_other() -> None:
    """With room for one more contact, one more is returned: the better one."""
    before = (event(GIFT, SHOWN, 2 * DAY_MS), event(NEWS, SHOWN, 2 * DAY_MS))

    decision = decide(CAPPED, asked(), state(contacts=before), now_ms=NOW_MS)

    assert returned(decision) == [GIFT, HELP]
    assert fate(decision, NEWS) == (Stage.ARBITRATION, ["cap.all"])


def test_without_reservations_nothing_is_returned_that_needs_one() -> None:
    """Fail closed, with the reason of the policies that count them, and said in the answer."""
    supply = Supply(reservable=False, degraded_by=("contacts:unreservable",))

    decision = decide(CAPPED, asked(), state(), now_ms=NOW_MS, supply=supply)
    found, change = told(CAPPED, state(), GIFT, supply=supply)

    assert returned(decision) == [HELP]
    assert fate(decision, NEWS) == (Stage.CONTACT, ["cap.all"])
    assert decision.degraded_by == ("contacts:unreservable",)
    assert [f.forbids for f in found] == [True, True, True]
    assert change.outcome is Outcome.NONE


def test_what_is_held_for_an_action_is_what_its_policies_say() -> None:
    """The longest reservation, every budget with what spends it; nothing for actions of no such policy."""
    reserved = holds(CAPPED.limits, [GIFT, NEWS, HELP], channel="sms", now_ms=NOW_MS)
    drawn = holds(SHARED.limits, [GIFT, HELP], channel="sms", now_ms=NOW_MS)

    assert reserved == (
        Held(GIFT, NOW_MS + 2 * HOUR_MS),
        Held(NEWS, NOW_MS + 30 * MINUTE_MS),
    )
    assert drawn == (
        Held(
            GIFT,
            budgets=(
                HeldBudget("budget.gift", 100, 30 * DAY_MS, (ACCEPTED, RESERVED)),
                HeldBudget("budget.sms/sms", 500, DAY_MS, (RESERVED, SHOWN)),
            ),
            budgets_until_ms=NOW_MS + 2 * HOUR_MS,
        ),
    )


EVENTS = st.lists(
    st.builds(
        event,
        st.sampled_from([GIFT, REBATE, NEWS]),
        st.sampled_from([RESERVED, SHOWN, ACCEPTED]),
        st.integers(-MINUTE_MS, 8 * DAY_MS),
        st.none() | st.integers(NOW_MS - HOUR_MS, NOW_MS + HOUR_MS),
    ),
    max_size=8,
)


@given(EVENTS)
def test_a_cap_is_a_count_over_a_list(events: Sequence[ContactEvent]) -> None:
    """Two gifts in seven days, shown or reserved for two hours and not ended: counted one by one."""
    count = 0
    for each in events:
        live = each.at_ms + 2 * HOUR_MS > NOW_MS and (each.until_ms is None or each.until_ms > NOW_MS)
        inside = each.at_ms > NOW_MS - 7 * DAY_MS
        counts = each.outcome is SHOWN or (each.outcome is RESERVED and live)
        count += each.action_id == GIFT and inside and counts

    decision = decide(
        CAPPED, asked(filter=ActionFilter(action_ids=(GIFT,))), state(contacts=tuple(events)), now_ms=NOW_MS
    )

    policies = [] if GIFT in returned(decision) else fate(decision, GIFT)[1]
    assert ("cap.gift" in policies) == (count >= 2)


@given(EVENTS)
def test_what_frees_an_action_frees_it_then_and_not_before(events: Sequence[ContactEvent]) -> None:
    """An explanation's instant is the first at which the policy lets the action be."""
    policy, gift = CAPPED.rulebook.contact[0], CAPPED.rulebook.actions[0]

    def forbids(now_ms: int) -> bool:
        moment = Moment(events, "sms", now_ms)
        return len(contact.counted(policy, gift, actions=CAPPED.limits.actions, moment=moment)) >= 2

    found, _ = told(CAPPED, state(contacts=tuple(events)), GIFT)
    frees = next(f.frees_at_ms for f in found if f.policy.id == "cap.gift") if found else None

    assert (frees is not None) == forbids(NOW_MS)
    assert frees is None or (forbids(frees - 1) and not forbids(frees))


def test_a_changed_pack_is_told_in_the_words_of_its_author() -> None:
    """`rules diff` shows hours, zones and how long is reserved as they are written."""
    before = {"contact.yaml": pack_file(QUIET.format(zone="features.time_zone"))}
    after = {"contact.yaml": before["contact.yaml"].replace("21:00", "20:30").replace("Zurich", "Paris")}
    budget = {"contact.yaml": pack_file(BUDGETS)}
    longer = {"contact.yaml": pack_file(BUDGETS.replace("2h", "90m").replace("limit: 100", "limit: 50"))}

    hours = [(c.noun, c.name, f.field, f.before, f.after) for c in changes(before, after) for f in c.fields]
    reserved = [(f.field, f.before, f.after) for c in changes(budget, longer) for f in c.fields]

    assert sorted(hours) == [
        ("contact pack", "contactpack", "time_zone", "Europe/Zurich", "Europe/Paris"),
        ("contact policy", "quiet.nights", "from", "21:00", "20:30"),
    ]
    assert reserved == [("limit", "100", "50"), ("reserve_for", "2h", "90m")]
