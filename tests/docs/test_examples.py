"""The examples run against a real server, and do what their words say."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from types import ModuleType
from typing import Any

import pytest
from arbiter_at_work import AT_RISK, LOYAL, REPOSITORY, scene
from pydantic import SecretStr
from starlette.testclient import TestClient

from engine.bootstrap import Application, wall_clock_ms
from engine.client import ArbiterClient
from engine.decisionlog.masking import Handling, Mask, MaskingPolicy
from engine.ports import held_port
from engine.sending import send

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def example(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "docs" / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shop(server_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The shop before the demo company's server, with as much time as a busy test machine needs."""
    monkeypatch.setenv("SHOP_ARBITER", f"localhost:{server_port}")
    module = example("shop")
    monkeypatch.setattr(module, "DEADLINE_S", 30.0)
    with TestClient(module.app) as client:
        yield client


def test_code_of_the_page_runs(server_port: int, like: Callable[[str], str]) -> None:
    """The first thing that a reader copies."""
    page = (REPOSITORY / "docs" / "clients.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    assert "timeout_s=0.05" in code
    code = code.replace("localhost:50051", f"localhost:{server_port}").replace("C0131", like(AT_RISK))
    names: dict[str, Any] = {}

    exec(code.replace("timeout_s=0.05", "timeout_s=30.0"), names)  # our own page

    names["client"].close()
    assert names["decision"].decision_id


def test_shop_shows_the_best_action_and_reports_what_came_of_it(
    shop: TestClient, arbiter: ArbiterClient, like: Callable[[str], str]
) -> None:
    """Shown and clicked are counted once, whatever the browser sends."""
    customer = like(LOYAL)

    page = shop.get(f"/home/{customer}").json()
    replies = [shop.post("/clicked", json=page).status_code for _ in range(2)]

    counted = [
        arbiter.record_outcome(
            page["decision"],
            page["action"],
            outcome,
            outcome_id=f"{page['decision']}-{page['action']}-{outcome}"[:128],
        ).duplicate
        for outcome in ("shown", "clicked")
    ]
    assert page["headline"]
    assert replies == [202, 202]
    assert counted == [True, True]


def test_shop_shows_the_default_for_whom_arbiter_does_not_know(shop: TestClient) -> None:
    """A refusal costs the action and not the page."""
    page = shop.get("/home/C9999").json()

    assert page == {"headline": "Welcome back", "decision": None, "action": None}


def test_shop_shows_the_default_where_arbiter_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """And within the time that the page has."""
    with closing(held_port(("127.0.0.1", 0), "--port")) as nobody:
        monkeypatch.setenv("SHOP_ARBITER", f"127.0.0.1:{nobody.getsockname()[1]}")
        with TestClient(example("shop").app) as client:
            client.get("/home/C0131")
            began = time.perf_counter()
            page = client.get("/home/C0131").json()
            took_s = time.perf_counter() - began

    assert page["headline"] == "Welcome back"
    assert took_s < 5


def test_many_customers_are_decided_for_in_their_order(
    server_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each, a refusal as well."""
    asyncio.run(example("many").main(f"localhost:{server_port}", [AT_RISK, "C9999", LOYAL]))

    printed = capsys.readouterr().out.splitlines()  # the server in this process logs there too
    lines = [line for line in printed if line.startswith((AT_RISK, "C9999", LOYAL))]
    assert [line.partition(":")[0] for line in lines] == [AT_RISK, "C9999", LOYAL]
    assert lines[1] == "C9999: CUSTOMER_UNKNOWN"


def test_verifier_of_the_page_takes_the_message_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing that was changed on the way, or that is old."""
    page = (REPOSITORY / "docs" / "integrations.md").read_text(encoding="utf-8")
    head, _, body = page.partition("```http\n")[2].partition("\n```")[0].partition("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)  # our own page
    is_ours, sent_s = names["is_ours"], float(headers["webhook-timestamp"])
    monkeypatch.setattr(time, "time", lambda: sent_s + 60)

    found = [
        is_ours(SECRET, headers, body.encode()),
        is_ours(SECRET, headers, body.replace("accepted", "declined").encode()),
        is_ours(SECRET, headers | {"webhook-timestamp": "1"}, body.encode()),
    ]

    assert SECRET in page
    assert found == [True, False, False]


def test_crm_prints_what_came_of_a_decision(
    application: Application,
    arbiter: ArbiterClient,
    like: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Verified, and told apart from what it had; what is not signed by us is refused."""
    since_ms, customer = wall_clock_ms(), like(LOYAL)
    made = arbiter.decide(scene(LOYAL, customer))
    action = made.actions[0].action_id
    arbiter.record_outcome(made.decision_id, action, "accepted", outcome_id=made.decision_id)
    mask = Mask(MaskingPolicy(customer_id=Handling.KEEP), key=b"key", feature_names=lambda _versions: ())
    crm = example("cti/crm").Crm(("127.0.0.1", 0), [SECRET])
    work = threading.Thread(target=crm.serve_forever, kwargs={"poll_interval": 0.02})
    work.start()
    address = f"http://127.0.0.1:{crm.server_address[1]}/outcomes"
    settings = application.settings.model_copy(
        update={"webhook_url": SecretStr(address), "webhook_secret": SecretStr(SECRET)}
    )

    send(settings, mask, once=True, since_ms=since_ms)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(urllib.request.Request(address, b"{}"), timeout=10)

    crm.shutdown()
    work.join()
    crm.server_close()
    told = capsys.readouterr()
    assert f"accepted {action} on web by {customer}" in told.out
    assert "not signed by Arbiter" in told.err
