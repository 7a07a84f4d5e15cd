"""`arbiter webhooks` as one uses it: outcomes of a running application to a receiver, and what went wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from arbiter_at_work import LOYAL, REPOSITORY, scene
from receiver_at_work import SECRET, Receiver, log_outcomes, receiving
from standardwebhooks import Webhook
from starlette.responses import Response
from typer.testing import Result

from engine.bootstrap import Application, wall_clock_ms
from engine.cli.values import instant_ms
from engine.client import ArbiterClient
from engine.logfiles import ERASED
from engine.service.erased import ErasedCustomers
from engine.settings import Settings, load_settings

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def at_work() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def receiver(at_work: Receiver) -> Receiver:
    at_work.begin_anew()
    return at_work


@pytest.fixture
def webhooks(run: Run, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `arbiter webhooks` for a data directory of the test's own."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    monkeypatch.setenv("ARBITER_WEBHOOK_SECRET_FILE", str(secret))
    monkeypatch.setenv("ARBITER_WEBHOOK_URL", receiver.url)
    monkeypatch.setenv("ARBITER_DATA_DIR", str(tmp_path / "data"))

    def invoke(*arguments: object) -> Result:
        return run("webhooks", *arguments)

    return invoke


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def status(webhooks: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(webhooks("status", "--json").stdout)
    return found


def test_an_outcome_that_a_client_reports_reaches_the_receiver(
    webhooks: Run,
    application: Application,
    arbiter: ArbiterClient,
    like: Callable[[str], str],
    receiver: Receiver,
) -> None:
    """Beside the server, on its data directory, with the contact's channel and purpose; the erased are not
    sent.
    """
    since_ms = wall_clock_ms()
    customers = [like(LOYAL), like(LOYAL)]
    made = [arbiter.decide(scene(LOYAL, customer_id)) for customer_id in customers]
    for decision in made:
        arbiter.record_outcome(
            decision.decision_id, decision.actions[0].action_id, "accepted", outcome_id=decision.decision_id
        )
    folder = application.settings.data_dir
    ErasedCustomers(folder / ERASED).add(customers[1], actor="dpo", reason="r", now_ms=wall_clock_ms())

    sent = webhooks("send", "--once", "--data-dir", folder, "--since", _iso(since_ms))

    assert sent.exit_code == 0, sent.output
    (arrival,) = receiver.taken
    event = Webhook(SECRET).verify(arrival.body, arrival.headers)
    assert event["type"] == "outcome.recorded"
    assert event["data"]["decisionId"] == made[0].decision_id
    assert (event["data"]["outcome"], event["data"]["channel"]) == ("accepted", "web")
    assert event["data"]["purpose"]
    assert customers[0].encode() not in arrival.body


def _iso(at_ms: int) -> str:
    from datetime import UTC, datetime

    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    assert instant_ms(text) == at_ms
    return text


def test_dead_letters_are_listed_sent_again_and_dropped(
    webhooks: Run, data_dir: Path, receiver: Receiver
) -> None:
    """From what went wrong to nothing left, with exit codes for scripts."""
    log_outcomes(data_dir, 4, customers=4)
    receiver.answer = lambda _arrival: Response(status_code=422)
    sent = webhooks("send", "--once", "--json")
    after = status(webhooks)
    told = webhooks("status")
    dead = json.loads(webhooks("dead", "--json").stdout)
    again = webhooks("retry", dead[0]["id"])
    receiver.answer = lambda _arrival: Response(status_code=200)
    dropped = webhooks("drop", dead[0]["id"])
    mended = webhooks("retry")

    assert json.loads(sent.stdout) == {"delivered": 0, "waiting": 0, "dead": 4, "erased": 0}
    assert (after["deadLetters"], after["attempts"], after["unread"]) == (4, {"refused": 4}, 0)
    assert told.exit_code == 4
    assert "4 dead letters" in told.stdout
    assert sorted((row["decisionId"], row["outcome"], row["attempts"]) for row in dead) == [
        (f"d-{n}", "accepted", 1) for n in range(4)
    ]  # of different customers, whose outcomes go side by side
    assert dead[0]["cause"] == "answered 422 Unprocessable Entity"
    assert (again.exit_code, again.stdout) == (4, "0 sent, 0 of erased customers dropped, 1 not taken\n")
    assert dropped.stdout == "1 dropped\n"
    assert (mended.exit_code, mended.stdout) == (0, "3 sent, 0 of erased customers dropped, 0 not taken\n")
    assert webhooks("dead").stdout.endswith("0 dead letters\n")
    assert webhooks("status").exit_code == 0


def test_a_dead_letter_of_an_erased_customer_is_not_sent(
    webhooks: Run, data_dir: Path, receiver: Receiver
) -> None:
    """It goes without having been seen by anybody."""
    log_outcomes(data_dir, 2, customers=2)
    receiver.answer = lambda _arrival: Response(status_code=422)
    webhooks("send", "--once")
    ErasedCustomers(data_dir / ERASED).add("c-1", actor="dpo", reason="r", now_ms=1)
    receiver.begin_anew()

    retried = webhooks("retry")

    assert retried.stdout == "1 sent, 1 of erased customers dropped, 0 not taken\n"
    assert len(receiver.arrivals) == 1
    assert webhooks("dead").stdout.endswith("0 dead letters\n")


def test_what_is_not_sent_is_seen(webhooks: Run, data_dir: Path) -> None:
    """Also before anybody sent."""
    log_outcomes(data_dir, 3)

    shown = webhooks("status")

    assert shown.exit_code == 4
    assert "nobody sends" in shown.stdout
    assert "3 not taken up, 0 waiting" in shown.stdout


def test_a_receiver_that_is_gone_ends_the_command(webhooks: Run, data_dir: Path, receiver: Receiver) -> None:
    """With what to do; what may be secret of its address is not told."""
    log_outcomes(data_dir, 1)
    receiver.answer = lambda _arrival: Response(status_code=410)

    ended = webhooks("send")

    assert ended.exit_code == 5
    assert "answered 410 Gone: it wants no more webhooks; nothing is lost" in ended.output
    assert "/hook" not in ended.output


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://crm.example.com/planted", "write https://"),
        ("https://planted:planted@crm.example.com", "write no user"),
        ("https://crm.example.com/#planted", "write no user, password or fragment"),
        ("ftp://planted", "write the address of a receiver"),
        ("planted", "write the address of a receiver"),
    ],
)
def test_an_address_that_may_not_be_sent_to_is_refused_and_not_quoted(
    webhooks: Run, url: str, told: str
) -> None:
    """Whoever gives it, and before anything is sent."""
    refused = webhooks("send", "--to", url)

    assert refused.exit_code == 3
    assert told in refused.output
    assert "planted" not in refused.output


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[::1]:1/x", "http://localhost", "https://a.b"])
def test_an_address_of_this_machine_needs_no_tls(url: str) -> None:
    """So that a receiver can be tried out, or be behind a proxy that does TLS."""
    assert Settings(webhook_url=url).webhook_url is not None  # type: ignore[arg-type]  # pydantic takes texts


def test_without_a_receiver_or_a_secret_nothing_begins(
    webhooks: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent unsigned."""
    log_outcomes(data_dir, 1)
    both = webhooks("send", "--once")
    monkeypatch.setenv("ARBITER_WEBHOOK_SECRET", SECRET)
    twice = webhooks("send", "--once")
    monkeypatch.delenv("ARBITER_WEBHOOK_SECRET")
    monkeypatch.delenv("ARBITER_WEBHOOK_SECRET_FILE")
    unsigned = webhooks("send", "--once")
    monkeypatch.delenv("ARBITER_WEBHOOK_URL")
    nowhere = webhooks("send", "--once")

    assert [each.exit_code for each in (both, twice, unsigned, nowhere)] == [0, 3, 3, 3]
    assert "not both" in twice.output
    assert "there is no secret; make one with" in unsigned.output
    assert "there is no receiver; give ARBITER_WEBHOOK_URL" in nowhere.output


def test_an_id_that_is_no_dead_letter_is_refused(webhooks: Run, data_dir: Path) -> None:
    """Rather than nothing be done in silence."""
    log_outcomes(data_dir, 1)

    refused = webhooks("drop", "out_1")

    assert refused.exit_code == 3
    assert "no dead letter out_1" in refused.output


def test_a_kill_leaves_no_outcome_unsent(webhooks: Run, data_dir: Path, receiver: Receiver) -> None:
    """What was on its way comes again, by its name and to the byte."""
    ids = log_outcomes(data_dir, 400, customers=40)
    settings = load_settings({})
    policy = data_dir / "policy.toml"
    policy.write_text('customer_id = "drop"\nrequest_id = "keep"\n')
    killed = subprocess.Popen(
        [sys.executable, "-m", "engine", "webhooks", "send", "--masking", str(policy)],
        env=os.environ | {"ARBITER_DATA_DIR": str(settings.data_dir)},
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    receiver.enough = 150
    assert receiver.stop.wait(60)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = len(receiver.taken)

    sent = webhooks("send", "--once", "--masking", policy)

    assert sent.exit_code == 0, sent.output
    assert before < len(ids)
    assert sorted(set(receiver.outcome_ids)) == sorted(ids)
    assert len(receiver.taken) - len(ids) <= 104
    assert len({(arrival.webhook_id, arrival.body) for arrival in receiver.taken}) == len(ids)
    for customer in range(40):
        first_come = [each for each in dict.fromkeys(receiver.outcome_ids) if int(each[2:]) % 40 == customer]
        assert first_come == ids[customer::40]
