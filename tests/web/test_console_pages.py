"""The console in a browser: what those see and do who answer for decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, DemoCompany, published_again, query
from console_at_work import Company, company_at
from pages_at_work import PANEL, Complaints, accessibility
from playwright.sync_api import Page, expect

from engine.logfiles import audit_log
from model_registry import promote
from model_registry.aliases import read_aliases

Desk = Callable[..., Page]


@pytest.fixture(scope="module")
def company(demo_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """A company whose rules and customers these tests change."""
    with company_at(tmp_path_factory.mktemp("console"), demo_company) as opened:
        yield opened


def changes(company: Company) -> list[tuple[str, str, str]]:
    """What the audit log says: act, how it ended, and why; the latest first."""
    log = audit_log(company.application.settings)
    return [(change.asked.act, change.fate, change.asked.reason) for change in log.changes()]


def test_rules_go_back_with_a_confirmation_and_a_reason(company: Company, desk: Desk) -> None:
    """What changes is shown first; afterwards customers get proposals again, and it is on record why."""
    company.activate_later()
    page = desk()
    page.goto(company.site.at("/console/rules"))
    expect(page.locator(".tile", has_text="Active").locator("dd")).to_have_text(company.later[7:19])

    page.get_by_role("link", name="Go back to").click()
    expect(page.get_by_text("threshold:")).to_be_visible()
    page.get_by_label("Reason").fill("nobody gets anything")
    page.get_by_role("button", name="Go back to").click()

    expect(page.get_by_text("serves again")).to_be_visible()
    assert changes(company)[0] == ("rules.rollback", "done", "nobody gets anything")
    expect(page.locator(".tile", has_text="Active").locator("dd")).to_have_text(company.first[7:19])
    company.wait_until_serving(company.first)
    assert company.application.decisions.decide(query(AT_RISK)).record.decision.actions


def test_rules_stay_where_no_reason_is_given(company: Company, desk: Desk) -> None:
    """The server asks for it too, whatever the browser lets through."""
    company.activate_later()
    before = len(changes(company))
    page = desk()
    page.goto(company.site.at("/console/rules/rollback"))
    page.evaluate("document.querySelector('textarea').required = false")

    page.get_by_role("button", name="Go back to").click()

    expect(page.get_by_text("Say why")).to_be_visible()
    assert len(changes(company)) == before


def test_comparison_says_who_loses(company: Company, desk: Desk) -> None:
    """The change in words, and on logged decisions how many change and which actions are lost."""
    page = desk()
    first, later = company.first[7:19], company.later[7:19]
    page.goto(company.site.at(f"/console/rules/difference?before={first}&after={later}"))

    page.get_by_role("button", name="Who gains and loses").click()

    expect(page.get_by_text("decisions change.").first).to_be_visible()
    expect(page.get_by_role("heading", name="By segment")).to_be_visible()


def test_decision_tells_its_way_and_is_made_again(company: Company, desk: Desk) -> None:
    """Every candidate's fate with the place of its rule, a waterfall with its table, the same bytes."""
    record = company.decision
    page = desk()
    page.goto(company.site.at("/console/decisions"))
    page.get_by_label("Customer number").fill(AT_RISK)
    page.get_by_role("button", name="Search").click()
    assert AT_RISK not in page.url
    page.get_by_role("link", name=f"Open {record.decision_id}").click()

    expect(page.locator(".fates > li")).to_have_count(len(record.decision.suppressed))
    expect(page.get_by_text("business/retention.yaml:").first).to_be_attached()
    drawn = page.get_by_role("img", name="What drives the risk of leaving: high")
    expect(drawn).to_be_visible()
    assert drawn.evaluate("canvas => Chart.getChart(canvas).data.datasets[0].data.length") >= 4
    page.get_by_text("As a table").last.click()
    expect(page.get_by_role("cell", name="typical:").first).to_be_visible()
    page.get_by_role("button", name="Decide again").click()
    expect(page.get_by_text("the same to the byte")).to_be_visible()


def test_candidate_tells_what_would_change_its_fate(company: Company, desk: Desk) -> None:
    """Rule by rule with the values seen, and the smallest change that would put it elsewhere."""
    fate = next(f for f in company.decision.decision.suppressed if f.stage == "eligibility")
    page = desk()
    page.goto(company.site.at(f"/console/decisions/{company.decision.decision_id}/{fate.action_id}"))

    expect(page.get_by_text("takes it out").first).to_be_visible()
    expect(page.locator(".parts .value").first).to_be_visible()
    expect(page.locator(".whatif").first).to_be_visible()


def test_customer_is_erased_with_a_reason_and_the_number_typed(
    company: Company, desk: Desk, complaints: Complaints
) -> None:
    """Wrong words change nothing; afterwards nothing is held, and the audit log names nobody."""
    complaints.expect("422")
    DemoCompany(company.application.store).copy_customer(AT_RISK, "E0001")
    company.application.decisions.decide(query(AT_RISK, "E0001"))
    page = desk()
    page.goto(company.site.at("/console/consents"))
    page.get_by_label("Customer number").fill("E0001")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("button", name="Look at what would be erased").click()

    page.get_by_label("Reason").fill("E0001 asked")
    page.get_by_label("Type E0001 to confirm").fill("E0001")
    page.get_by_role("button", name="Erase for good").click()
    expect(page.get_by_text("Nothing was erased")).to_be_visible()
    page.get_by_label("Reason").fill("ticket 7")
    page.get_by_label("Type E0001 to confirm").fill("E0001")
    page.get_by_role("button", name="Erase for good").click()

    expect(page.get_by_role("heading", name="E0001 is erased")).to_be_visible()
    assert company.application.store.read("E0001") is None
    assert changes(company)[0] == ("customer.erase", "done", "ticket 7")
    assert "E0001" not in str(audit_log(company.application.settings).changes())
    page.goto(company.site.at("/console/decisions"))
    expect(page.get_by_role("cell", name="E0001")).to_have_count(0)


def test_ledger_is_verified_and_exported(company: Company, desk: Desk) -> None:
    """One click proves the chain; the export is a file, and that it was made is on record."""
    page = desk()
    page.goto(company.site.at("/console/consents"))
    page.get_by_label("Customer number").fill(AT_RISK)
    page.get_by_role("button", name="Search").click()

    page.get_by_role("button", name="Verify the whole ledger").click()
    expect(page.get_by_text("Whole: the ledger of consents")).to_be_visible()
    page.get_by_label("Reason").fill("request 3")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as a file").click()

    assert '"consent_ledger"' in Path(download.value.path()).read_text()
    assert changes(company)[0] == ("customer.export", "done", "request 3")


def test_model_goes_back_with_a_reason(company: Company, desk: Desk) -> None:
    """The version that served before is champion again, in the registry and on record."""
    registry = company.application.settings.registry
    later = published_again(registry, "churn")
    promote(registry, "churn", later, reason="trial", actor="ben")
    page = desk()
    page.goto(company.site.at("/console/models/churn"))

    page.get_by_role("link", name="Go back to version 1").click()
    page.get_by_label("Reason").fill("worse in the evening")
    page.get_by_role("button", name="Go back to version 1").click()

    expect(page.get_by_text("champion again")).to_be_visible()
    assert read_aliases(registry, "churn").aliases["champion"] == 1
    assert changes(company)[0] == ("models.rollback", "done", "worse in the evening")


def test_role_sees_its_parts_and_no_others(company: Company, desk: Desk, complaints: Complaints) -> None:
    """The others are not in sight, and who comes by an address is told calmly."""
    complaints.expect("403")
    page = desk()
    page.goto(company.site.at("/"))
    page.get_by_label("You are").select_option("sre")
    page.get_by_role("link", name="Console").first.click()

    expect(page.locator(".areas a")).to_have_text(["Overview", "Rules", "Models"])
    for closed in ("/console/consents", "/console/rules/activate"):
        page.goto(company.site.at(closed))
        expect(page.get_by_role("heading", name="Not open to your role")).to_be_visible()


def test_agents_see_no_console(company: Company, desk: Desk, complaints: Complaints) -> None:
    """Their page is the call."""
    complaints.expect("403")
    page = desk()
    page.goto(company.site.at("/"))
    page.get_by_label("You are").select_option("agent")

    expect(page.get_by_role("link", name="Console")).to_have_count(0)
    page.goto(company.site.at("/console"))
    expect(page.get_by_role("heading", name="Not open to your role")).to_be_visible()


def barriers(page: Page, company: Company, paths: Sequence[str]) -> dict[str, list[str]]:
    """What axe-core finds on each page, and whether it has to be scrolled sideways."""
    found = {}
    for path in paths:
        page.goto(company.site.at(f"/console{path}"))
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        found[path] = [*accessibility(page), *(["it is wider than the panel"] if wide else [])]
    return {path: wrong for path, wrong in found.items() if wrong}


def test_pages_are_for_everybody(company: Company, desk: Desk) -> None:
    """No barrier where people are most, and in a narrow panel nothing to scroll sideways but tables."""
    page = desk(color_scheme="dark", viewport=PANEL)

    paths = ["/overview", f"/decisions/{company.decision.decision_id}", "/rules", "/consents"]

    assert barriers(page, company, paths) == {}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_other_pages_are_for_everybody(company: Company, desk: Desk, scheme: str) -> None:
    """Nor on any other page, in either theme."""
    action = company.decision.decision.actions[0].action_id
    first, later = company.first[7:19], company.later[7:19]
    page = desk(color_scheme=scheme, viewport=PANEL)

    paths = [
        "/overview", "/decisions", f"/decisions/{company.decision.decision_id}/{action}", "/consents",
        f"/rules/difference?before={first}&after={later}&impact=yes", f"/rules/activate?version={later}",
        "/rules/coverage", "/models", "/models/churn", "/models/churn/promote?version=1", "/audit", "/rules",
    ]  # fmt: skip

    assert barriers(page, company, paths) == {}


def test_console_speaks_french(company: Company, desk: Desk) -> None:
    """Pages, reasons and pictures alike."""
    page = desk(locale="fr-CH")

    page.goto(company.site.at(f"/console/decisions/{company.decision.decision_id}"))

    expect(page.get_by_role("heading", name="Le parcours par étapes")).to_be_visible()
    expect(page.get_by_role("img", name="Ce qui détermine le risque de départ")).to_be_visible()
