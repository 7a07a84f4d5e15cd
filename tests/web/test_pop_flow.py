"""The agent's work at the page of a call, in a browser: from the ring to what the customer said."""

from __future__ import annotations

import re

import pytest
from arbiter_at_work import AT_RISK, LOYAL, UNPROFILED
from callers import Ringing, Telephony, first_action, proposed
from pages_at_work import DESK, PANEL, Complaints, Desk, Site, accessibility, sideways
from playwright.sync_api import Page, Route, expect

from engine.bootstrap import Application
from engine.service.consents import ConsentSubmission
from feature_store.state import ConsentState


def opened(page: Page, site: Site, ringing: Ringing) -> Page:
    """The page of a call, open."""
    page.goto(site.at(f"/pop/{ringing.call}"))
    return page


def purposes(application: Application, actions: list[str]) -> set[str]:
    """Purposes of actions."""
    known = {action.id: action.purpose for action in application.live.current.rulebook.actions}
    return {known[each] for each in actions}


def test_agent_hears_proposes_and_records(site: Site, desk: Desk, telephony: Telephony) -> None:
    """The waiting page becomes the customer's at the ring; a slip is undone; the end hides everything."""
    page = desk()
    page.goto(site.at("/pop"))
    ringing = telephony.ring(AT_RISK, name="Anna Keller")

    expect(page.get_by_role("heading", name="Anna Keller")).to_be_visible()
    expect(page.get_by_text("One match by phone number")).to_be_visible()
    expect(page.locator(".glance")).to_contain_text("13 months")
    expect(page.locator(".glance")).to_contain_text("monthly contract")
    expect(page.locator(".primary blockquote")).not_to_be_empty()
    assert 1 <= page.locator(".primary .reasons li").count() <= 4
    assert len(proposed(page)) == 3
    action = first_action(page)

    page.locator(".primary").get_by_role("button", name="Not now").click()
    page.get_by_role("button", name="Undo").click()
    page.locator(".primary").get_by_role("button", name="Accepted").click()
    expect(page.locator(".primary .said")).to_have_text(re.compile("Accepted"))
    telephony.hang_up(ringing)

    expect(page.get_by_role("heading", name="The call has ended")).to_be_visible()
    expect(page.get_by_text("Anna Keller")).to_have_count(0)
    assert telephony.heard(ringing.customers[0]) == [(action, "shown"), (action, "accepted")]


def test_objection_is_one_click_and_counts_at_once(
    site: Site, desk: Desk, telephony: Telephony, application: Application
) -> None:
    """Marketing is gone from the page, the badge says since when, and the ledger has the agent's note."""
    ringing = telephony.ring(AT_RISK)
    page = opened(desk(), site, ringing)
    assert "marketing" in purposes(application, proposed(page))
    page.get_by_label("Note").fill("does not want calls <b>ever</b>")
    page.get_by_label("Note").press("Enter")

    page.get_by_role("button", name="Customer objects to marketing").click()

    expect(page.get_by_text("Objection recorded")).to_be_visible()
    expect(page.locator(".consents")).to_contain_text("all channels: objected")
    assert "marketing" not in purposes(application, proposed(page))
    held = application.consents.get(ringing.customers[0]).records
    (will,) = [each for each in held if each.record.source == "pop:call"]
    assert will.record.state is ConsentState.OBJECTED
    assert will.record.evidence == "does not want calls <b>ever</b>"
    assert page.locator("b").count() == 0


def test_keyboard_alone_does_it_all(site: Site, desk: Desk, telephony: Telephony) -> None:
    """A letter a deed; the focus is where the next deed is; letters in a note are letters."""
    ringing = telephony.ring(AT_RISK)
    page = opened(desk(), site, ringing)
    action = first_action(page)

    page.keyboard.press("d")
    expect(page.get_by_role("button", name="Too expensive")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Too expensive")).to_be_hidden()
    page.keyboard.press("d")
    page.keyboard.press("2")
    expect(page.locator(".primary .said")).to_contain_text("Declined, does not need it")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("u")
    expect(page.locator(".primary").get_by_role("button", name="Accepted")).to_be_focused()
    page.get_by_label("Note").focus()
    page.keyboard.type("an unsaid word")
    expect(page.locator(".said")).to_have_count(0)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Customer objects to marketing")).to_be_focused()
    page.keyboard.press("n")
    expect(page.locator(".primary .said")).to_contain_text("Not now")
    telephony.hang_up(ringing)

    expect(page.get_by_role("heading", name="The call has ended")).to_be_visible()
    assert telephony.heard(ringing.customers[0]) == [(action, "shown"), (action, "snoozed")]


def test_keys_can_be_turned_off(site: Site, desk: Desk, telephony: Telephony) -> None:
    """Who speaks to the machine, or presses by accident, turns single letters off (WCAG 2.1.4)."""
    page = opened(desk(), site, telephony.ring(AT_RISK))

    page.get_by_role("button", name="Keys: on").click()
    page.keyboard.press("a")

    expect(page.get_by_role("button", name="Keys: off")).to_be_visible()
    expect(page.locator(".said")).to_have_count(0)


def test_french_is_french(site: Site, desk: Desk, telephony: Telephony) -> None:
    """By the browser's wish: page, talk track and reasons; switching shows the same decision in English."""
    page = opened(desk(locale="fr-CH"), site, telephony.ring(LOYAL))

    expect(page.locator("html")).to_have_attribute("lang", "fr")
    expect(page.get_by_text("À proposer")).to_be_visible()
    expect(page.locator(".primary > h2")).to_contain_text("Sécurité en ligne")
    expect(page.get_by_text("Suggéré par un modèle").first).to_be_visible()
    expect(page.locator(".primary .reasons")).to_contain_text("contrat de deux ans")
    decided = page.locator("input[name=decision]").first.input_value()
    page.get_by_role("button", name="EN", exact=True).click()

    expect(page.get_by_text("Propose this")).to_be_visible()
    assert page.locator("input[name=decision]").first.input_value() == decided


def test_nothing_is_proposed_before_it_is_settled_who_calls(
    site: Site, desk: Desk, telephony: Telephony
) -> None:
    """Two share the number: the agent asks and picks; until then nothing of a customer is shown."""
    ringing = telephony.ring(AT_RISK, LOYAL)
    page = opened(desk(), site, ringing)

    expect(page.get_by_text("2 customers match")).to_be_visible()
    expect(page.locator(".primary, .consents, .objection")).to_have_count(0)
    assert accessibility(page) == []
    page.get_by_role("button", name=ringing.customers[1]).click()

    expect(page.get_by_text("Chosen by you among 2")).to_be_visible()
    expect(page.locator(".primary > h2")).to_contain_text("Online Security")


@pytest.mark.parametrize(
    ("identity", "told"),
    [("phone:+41799999999", "Nobody is known by that"), ("phone:anonymous", "withheld or mistyped")],
)
def test_unknown_caller_and_malformed_number_lead_to_a_search(
    site: Site, desk: Desk, telephony: Telephony, identity: str, told: str
) -> None:
    """Calmly, without proposals; the agent looks by what the caller says, and goes on."""
    ringing = telephony.ring(phone=identity.removeprefix("phone:"))
    page = opened(desk(), site, ringing)

    expect(page.get_by_text(told)).to_be_visible()
    expect(page.locator(".primary")).to_have_count(0)
    page.get_by_label("By").select_option("loyalty_number")
    page.get_by_label("Number or address").fill("L700133")
    page.get_by_role("button", name="Look").click()

    expect(page.get_by_text("One match by loyalty number")).to_be_visible()
    expect(page.get_by_role("heading", name="Customer C0133")).to_be_visible()


def test_script_in_a_name_or_a_note_is_text(site: Site, desk: Desk, telephony: Telephony) -> None:
    """Whatever telephony or an agent write is shown as it is written and runs nowhere."""
    evil = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
    page = opened(desk(), site, telephony.ring(AT_RISK, name=evil[:80]))

    page.get_by_label("Note").fill(evil)
    with page.expect_response("**/note"):
        page.get_by_label("Note").press("Enter")
    page.reload()

    expect(page.locator("h1")).to_have_text(evil[:80])
    expect(page.get_by_label("Note")).to_have_value(evil)
    assert page.locator("main script, main img").count() == 0
    assert page.title() == "Call · Arbiter"


def test_reason_of_the_call_decides_anew(site: Site, desk: Desk, telephony: Telephony) -> None:
    """Who calls to cancel gets another answer, in which what was said before counts."""
    ringing = telephony.ring(LOYAL)
    page = opened(desk(), site, ringing)
    before = proposed(page)
    page.locator(".primary").get_by_role("button", name="Accepted").click()
    expect(page.get_by_role("button", name="Undo")).to_be_focused()  # else it would be yet to come

    page.get_by_label("Reason of the call").focus()
    page.get_by_label("Reason of the call").select_option("cancel")

    expect(page.locator(".primary > h2")).to_contain_text("10% off")
    assert telephony.heard(ringing.customers[0]) == [(before[0], "shown"), (before[0], "accepted")]
    assert before[0] not in proposed(page)
    expect(page.get_by_label("Reason of the call")).to_be_focused()


def test_why_not_is_answered_for_any_action(site: Site, desk: Desk, telephony: Telephony) -> None:
    """In words: the stage that removed it, its reasons, and what would have changed it."""
    page = opened(desk(), site, telephony.ring(AT_RISK))

    page.get_by_text("Why not something else?").click()
    page.get_by_role("button", name="Why not “10% off for 12 months”?").click()

    told = page.get_by_role("dialog")
    expect(told.get_by_role("heading", name="10% off for 12 months")).to_be_focused()
    expect(told).to_contain_text("It would be possible, but others are better.")
    expect(told).to_contain_text("Cannot go together with 20% off for 6 months")
    expect(told).to_contain_text("this action would come first")
    page.keyboard.press("Escape")
    expect(told).to_be_hidden()


def test_without_profiling_nothing_of_behaviour_is_shown(
    site: Site, desk: Desk, telephony: Telephony
) -> None:
    """No risk, no signals, no model; and the page says why."""
    page = opened(desk(), site, telephony.ring(UNPROFILED))

    expect(page.get_by_text("Not shown: the customer has not agreed to profiling.")).to_be_visible()
    expect(page.get_by_text("No model was asked")).to_be_visible()
    expect(page.get_by_text("Risk of leaving")).to_have_count(0)
    expect(page.get_by_text("Suggested by a model")).to_have_count(0)


def test_news_never_move_what_one_is_about_to_click(
    site: Site, desk: Desk, telephony: Telephony, application: Application
) -> None:
    """A change from elsewhere is a quiet note over the page; asked for, it is shown."""
    ringing = telephony.ring(AT_RISK)
    page = opened(desk(), site, ringing)
    accept = page.locator(".primary").get_by_role("button", name="Accepted")
    before = accept.bounding_box()

    application.consents.record(
        ConsentSubmission(
            ringing.customers[0], "marketing", "any", ConsentState.OBJECTED, source="web:center"
        )
    )
    show = page.get_by_role("button", name="Show it")
    expect(show).to_be_visible()

    assert accept.bounding_box() == before
    show.click()
    expect(page.locator(".consents")).to_contain_text("all channels: objected")
    expect(show).to_have_count(0)
    assert "marketing" not in purposes(application, proposed(page))


def test_two_pages_of_a_call_say_things_once(site: Site, desk: Desk, telephony: Telephony) -> None:
    """The second page learns of it, and an answer to proposals that stand no more records nothing."""
    ringing = telephony.ring(AT_RISK)
    first, second = opened(desk(), site, ringing), opened(desk(), site, ringing)
    first.get_by_label("Reason of the call").select_option("cancel")
    expect(first.locator(".primary > h2")).to_be_visible()

    expect(second.get_by_role("button", name="Show it")).to_be_visible()
    second.locator(".primary").get_by_role("button", name="Accepted").click()

    expect(second.get_by_text("The proposals had changed meanwhile")).to_be_visible()
    expect(second.get_by_label("Reason of the call")).to_have_value("cancel")
    telephony.hang_up(ringing)
    expect(second.get_by_role("heading", name="The call has ended")).to_be_visible()
    assert telephony.heard(ringing.customers[0]) == []


def test_call_that_ends_while_one_decides_records_nothing_more(
    site: Site, desk: Desk, telephony: Telephony, complaints: Complaints
) -> None:
    """The page did not hear of the end, as its stream was cut; the click leads to the calm page."""
    ringing = telephony.ring(AT_RISK)
    page = desk()
    page.route("**/events*", lambda route: route.abort())
    complaints.expect("ERR_FAILED")
    opened(page, site, ringing)
    telephony.hang_up(ringing)

    page.locator(".primary").get_by_role("button", name="Accepted").click()

    expect(page.get_by_role("heading", name="The call has ended")).to_be_visible()
    assert telephony.heard(ringing.customers[0]) == []


def test_end_that_came_before_the_stream_hides_the_customer_too(
    site: Site, desk: Desk, telephony: Telephony
) -> None:
    """A call so short that the page had not begun to listen: it hears of the end as soon as it does."""
    ringing = telephony.ring(AT_RISK)
    page = desk()

    def too_late(route: Route) -> None:
        telephony.hang_up(ringing)
        route.continue_()

    page.route("**/events", too_late)
    opened(page, site, ringing)

    expect(page.get_by_role("heading", name="The call has ended")).to_be_visible()


@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESK), ("dark", PANEL)], ids=["light", "dark"])
def test_page_of_a_call_is_for_everybody(
    site: Site, desk: Desk, telephony: Telephony, scheme: str, viewport: dict[str, int]
) -> None:
    """No barrier that axe-core knows, as it comes, with an answer, and with a dialog; nothing sideways."""
    ringing = telephony.ring(LOYAL, name="Anna Keller")
    page = opened(desk(color_scheme=scheme, viewport=viewport, reduced_motion="reduce"), site, ringing)

    as_it_comes = accessibility(page)
    page.locator(".alternatives").get_by_role("button", name="Accepted").first.click()
    page.get_by_text("Why not something else?").click()
    page.keyboard.press("d")
    expect(page.get_by_role("button", name="Too expensive")).to_be_visible()

    assert (as_it_comes, accessibility(page), sideways(page)) == ([], [], False)


def test_zoom_of_200_percent_loses_nothing(site: Site, desk: Desk, telephony: Telephony) -> None:
    """What a desk shows at 200 % is a page of half the width: all there, and nothing to scroll sideways."""
    page = opened(
        desk(viewport={"width": 640, "height": 400}, device_scale_factor=2), site, telephony.ring(AT_RISK)
    )

    assert not sideways(page)
    expect(page.locator(".primary").get_by_role("button", name="Accepted")).to_be_visible()
