"""The console without a browser: what each address answers, to whom, and what it refuses."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from arbiter_at_work import AT_RISK, LOYAL, copied_registry, published_again, query, settings_for
from starlette.testclient import TestClient

from engine import publishing
from engine.bootstrap import Application, open_application
from engine.decisionlog.ledger import ModelShadowEntry, model_shadow_log
from engine.logfiles import DRIFT, MODEL_SHADOW, audit_log, log_directory
from engine.monitor.drift.counts import WindowCounts
from engine.monitor.drift.windows import WindowFolder
from engine.ruleset.versions import short
from engine.snapshots import rule_versions
from engine.web.app import create_app
from model_registry.aliases import read_aliases
from model_registry.rollout import Step, start

Send = Callable[..., str]
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def company(demo_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """An application of these tests' own: they change its rules and models."""
    folder = tmp_path_factory.mktemp("console")
    shutil.copytree(demo_company, folder / "data")
    settings = settings_for(folder / "data", registry=copied_registry(folder))
    publishing.publish(settings, author="ada", message="as shipped")
    publishing.activate(settings, "latest", author="ada", reason="begin")
    with open_application(settings) as application:
        yield application


@pytest.fixture(scope="module")
def browser(company: Application) -> Iterator[TestClient]:
    """Somebody on this machine, where access is open."""
    with TestClient(create_app(company), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def send(browser: TestClient) -> Send:
    """Sends a form as the page would and gives what it led to."""
    form = browser.get("/console/consents").text
    found = re.search(r'name="csrf" value="([^"]+)"', form)
    assert found is not None
    token = found[1]

    def post(path: str, *, status: int = 200, **fields: str) -> str:
        reply = browser.post(f"/console{path}", data={"csrf": token, **fields})
        assert reply.status_code == status, reply.text
        return reply.text

    return post


def latest(company: Application) -> tuple[str, str, str]:
    """The last change of the audit log: act, how it ended, why."""
    change = audit_log(company.settings).changes()[0]
    return change.asked.act, change.fate, change.asked.reason


@pytest.mark.parametrize(
    "path",
    [
        "/overview", "/overview?live=off", "/live", "/decisions", "/decisions?since=2026-01-01T00:00",
        "/rules", "/rules/shadow?version=off", "/models", "/models/propensity",
        "/models/churn/promote?version=1", "/consents/verify", "/audit?act=rules.activate&who=ada",
    ],
)  # fmt: skip
def test_page_is_there(browser: TestClient, path: str) -> None:
    """Each answers, in both languages."""
    english = browser.get(f"/console{path}")
    french = browser.get(f"/console{path}", headers={"Accept-Language": "fr"})

    assert (english.status_code, french.status_code) == (200, 200)
    assert english.text != french.text


def test_coverage_of_the_suites_is_told(browser: TestClient) -> None:
    """They are run when the page is asked for, on the rules folder that serves here."""
    told = browser.get("/console/rules/coverage").text

    assert "Branches seen" in told
    assert "What serves is another version" not in told


def test_entrance_leads_to_the_first_part(browser: TestClient) -> None:
    """Who sees all begins with the overview."""
    assert browser.get("/console").url.path == "/console/overview"


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("/rules/difference?before=/etc&after=current", "compare published versions"),
        ("/rules/difference?before=git:HEAD&after=current", "compare published versions"),
        ("/rules/activate?version=0000", "no published version begins with"),
        ("/models/..%2f..%2fetc", ""),
        ("/models/nobody", "there is no such model"),
        ("/models/churn/promote?version=one", "a version of a model is a number"),
        ("/models/churn/rollback", "no version served before this one"),
    ],
)
def test_what_cannot_be_done_says_why(browser: TestClient, path: str, cause: str) -> None:
    """Calmly, in the words of the command; what lies outside the data directory stays there."""
    reply = browser.get(f"/console{path}")

    assert reply.status_code in (404, 409)
    assert cause in reply.text


def test_changes_need_a_form_of_ours(browser: TestClient, company: Application) -> None:
    """A stranger's form changes nothing."""
    version = rule_versions(company.settings).pointers().current

    reply = browser.post("/console/rules/shadow", data={"version": version, "reason": "x"})

    assert reply.status_code == 403
    assert rule_versions(company.settings).pointers().shadow is None


def test_version_is_put_into_the_shadow_and_taken_out(send: Send, company: Application) -> None:
    """Both with a reason, and both on record."""
    version = rule_versions(company.settings).pointers().current or ""

    send("/rules/shadow", version=version, reason="look first")
    assert rule_versions(company.settings).pointers().shadow == version
    send("/rules/shadow", version="off", reason="seen enough")

    assert rule_versions(company.settings).pointers().shadow is None
    assert latest(company) == ("rules.shadow", "done", "seen enough")


def test_version_is_activated(send: Send, company: Application) -> None:
    """The one that serves may be named again; that it was asked for is on record."""
    version = rule_versions(company.settings).pointers().current or ""

    told = send("/rules/activate", version=version, reason="to be sure")

    assert "The version serves" in told
    assert latest(company) == ("rules.activate", "done", "to be sure")


def test_rollback_is_of_what_was_shown(send: Send, company: Application) -> None:
    """Where another version would be gone back to than the page said, nothing happens."""
    current = rule_versions(company.settings).pointers().current or ""

    told = send("/rules/rollback", status=409, version="sha256:other", reason="why not")

    assert "has changed meanwhile" in told
    assert short(current) in short(rule_versions(company.settings).pointers().current or "")


def test_gates_refuse_a_version_by_name(send: Send, company: Application) -> None:
    """What does not pass is not promoted; that somebody tried is on record."""
    told = send("/models/churn/promote", status=409, version="1", reason="again")

    assert "is not promoted" in told
    assert latest(company) == ("models.promote", "refused", "again")
    assert read_aliases(company.settings.registry, "churn").aliases["champion"] == 1


@pytest.mark.parametrize("path", ["/models/churn/promote", "/models/churn/rollback", "/rules/activate"])
def test_nothing_changes_without_a_reason(send: Send, company: Application, path: str) -> None:
    """Nor with one that is too long to be read."""
    before = audit_log(company.settings).changes()

    send(path, version="1", reason=" ", status=409 if "activate" in path or "rollback" in path else 200)
    send(path, version="1", reason="x" * 501, status=409 if "activate" in path or "rollback" in path else 200)

    assert audit_log(company.settings).changes() == before


def test_model_tells_what_drifts_and_what_is_tried(browser: TestClient, company: Application) -> None:
    """Alarms with their thresholds, the share of a canary, and what a shadow would say."""
    drifted(company)
    registry = company.settings.registry
    tried = published_again(registry, "churn")
    start(registry, "churn", tried, steps=[Step(percent=5)], reason="trial", actor="ben")
    with model_shadow_log(log_directory(company.settings, MODEL_SHADOW)) as shadow:
        shadow.append(in_the_shadow(tried))

    listed = browser.get("/console/models").text
    told = browser.get("/console/models/churn").text

    assert "paperless_billing" in listed
    assert "How paperless_billing is spread, in percent: alarm." in told
    assert f"Version {tried} has 5 % of customers, beside champion 1." in told
    assert "Of the latest 1 decisions 1 would have another first action" in told


def drifted(company: Application) -> None:
    """Counts an hour in which all customers are billed on paper."""
    with company.drift:
        for name in (AT_RISK, LOYAL) * 15:
            company.decisions.decide(query(name))
    folder = WindowFolder(log_directory(company.settings, DRIFT))
    found = folder.windows()[-1]
    churn = found.models["churn/1"]
    many = WindowCounts(found.from_ms - HOUR_MS, found.from_ms)
    inputs = {name: type(tally)(tally.bins * 0 + 500, 0, 0) for name, tally in churn.inputs.items()}
    inputs["paperless_billing"].bins[:] = (1_000, 0)
    scores = type(churn.scores["churn"])(np.full(100, 10, dtype=np.int64), 500.0)
    customers = np.full(1024, 1, dtype=np.int64)
    many.models["churn/1"] = type(churn)(1_000, customers, inputs, {"churn": scores})
    folder.keep(many, writer="1-a")


def in_the_shadow(version: int) -> ModelShadowEntry:
    """One decision that the version would have made otherwise."""
    return ModelShadowEntry(
        decision_id="d",
        customer_id=AT_RISK,
        model="churn",
        version=1,
        shadow=version,
        scores={},
        churn=(0.8, 0.4),
        returned=("a",),
        shadow_returned=("b",),
        received_at_ms=1_795_000_000_000,
    )


def test_export_needs_a_reason_that_names_nobody(send: Send, company: Application) -> None:
    """It is kept for good."""
    told = send("/consents/export", status=409, customer=AT_RISK, reason=f"{AT_RISK} asked")

    assert "without the customer" in told


def test_unknown_customer_is_told_calmly(send: Send) -> None:
    """A number that was mistyped is no error of the house."""
    assert "There is no such customer" in send("/consents", status=404, customer="nobody")


def test_text_of_a_stranger_stays_text(send: Send) -> None:
    """What looks like a script is shown, not run."""
    told = send("/decisions", customer="<script>alert(1)</script>")

    assert "<script>alert(1)" not in told
    assert "&lt;script&gt;alert(1)" in told


def test_decision_of_an_action_that_it_does_not_know(browser: TestClient, company: Application) -> None:
    """No page, and no guess."""
    made = company.decisions.decide(query(AT_RISK)).record

    assert browser.get(f"/console/decisions/{made.decision_id}/nothing").status_code == 404
    assert "same to the byte" in browser.get(f"/console/decisions/{made.decision_id}/replay").text
