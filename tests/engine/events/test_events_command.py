"""`arbiter events` and `arbiter ingest`: sent, refused, mended, replayed; by hand as by processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import structlog
from arbiter_at_work import REPOSITORY, settings_for
from eventful_company import CUSTOMERS, create_customers
from redis_at_work import RedisServer
from typer.testing import CliRunner, Result

from engine import logs
from engine.bootstrap import open_application, wall_clock_ms
from engine.cli.app import app
from engine.stores import open_store
from feature_store.schema import load_schema

Run = Callable[..., Result]
CUSTOMER = CUSTOMERS[0]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands must not set up the logging of this process: it would write to a test's closed stream."""
    before = structlog.get_config()
    monkeypatch.setattr(logs, "configure", lambda _level: None)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield
    structlog.configure(**before)


@pytest.fixture
def run() -> Run:
    """Runs `arbiter` in this process."""
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory with the made-up customers, closed."""
    settings = settings_for(tmp_path / "data")
    with open_application(settings) as application:
        create_customers(application.store, application.live.current.schema, wall_clock_ms())
    return settings.data_dir


def lines(*events: Mapping[str, object]) -> str:
    """Events, one to a line."""
    return "".join(json.dumps({"customer_id": CUSTOMER, **event}) + "\n" for event in events)


def calls(settings_dir: Path, store: str = "embedded") -> float:
    """What the store counts of the customer's calls."""
    settings = settings_for(settings_dir, store=store, store_timeout_ms=5_000)
    opened = open_store(settings)
    try:
        state = opened.read(CUSTOMER)
    finally:
        opened.close()
    assert state is not None
    assert state.features is not None
    place = load_schema(settings.feature_schema).index["support_calls_30d"]
    return float(state.features.values[place])


def test_types_are_listed(run: Run) -> None:
    """With what they carry and do."""
    shown = run("events", "types")
    document = json.loads(run("events", "types", "--json").stdout)

    by_name = {kind["type"]: kind for kind in document}
    assert shown.exit_code == 0
    assert "consent_changed" in shown.stdout
    assert by_name["consent_changed"]["effects"] == ["consent"]
    assert by_name["login"]["attributes"]["sessions"] == "int, required"
    assert by_name["data_used"]["maxLatenessHours"] == 72


def test_refused_events_are_mended_and_replayed(run: Run, data_dir: Path, tmp_path: Path) -> None:
    """Sent from a file; the refused one is listed, shown, mended in a file, replayed, and gone."""
    file, mended = tmp_path / "events.jsonl", tmp_path / "letters.json"
    file.write_text(
        lines({"event_id": "a", "type": "call_received"}, {"event_id": "b", "type": "call_recieved"})
    )
    at = ("--data-dir", data_dir)

    sent = run("events", "send", file, "--local", *at)
    again = run("events", "send", file, "--local", *at, "--json")
    listed = run("events", "dlq", "list", *at)
    shown = json.loads(run("events", "dlq", "show", *at, "--json").stdout)
    refused = run("events", "dlq", "replay", "--local", *at)
    shown[0]["event"]["type"] = "call_received"
    mended.write_text(json.dumps(shown))
    replayed = run("events", "dlq", "replay", "--file", mended, "--local", *at)
    left = run("events", "dlq", "list", *at, "--json")

    assert sent.exit_code == 4
    assert "b: EVENT_TYPE_UNKNOWN: no event type `call_recieved` is declared" in sent.stdout
    assert json.loads(again.stdout)["duplicate"] == 1
    assert "1 dead letter" in listed.stdout
    assert (refused.exit_code, refused.stdout) == (4, "0 replayed, 1 refused again\n")
    assert (replayed.exit_code, replayed.stdout) == (0, "1 replayed, 0 refused again\n")
    assert json.loads(left.stdout) == []
    assert calls(data_dir) == 2.0


def test_a_stream_is_fed_read_and_mended(
    run: Run, redis_server: RedisServer, data_dir: Path, tmp_path: Path
) -> None:
    """The same through Redis, with a real ingest process that stops in good order."""
    file, url = tmp_path / "events.jsonl", redis_server.url
    settings = settings_for(data_dir, store=url, store_timeout_ms=5_000)
    with open_application(settings) as application:
        create_customers(application.store, application.live.current.schema, wall_clock_ms())
    file.write_text(lines({"event_id": "a", "type": "call_received"}, {"event_id": "b", "x": 1}))
    wrong = run("events", "send", file, "--stream", url)
    told = [{"event_id": "a", "type": "call_received"}]
    told += [{"event_id": name, "type": "no_type"} for name in ("b", "c")]
    file.write_text(lines(*told))
    added = run("events", "send", file, "--stream", url)
    log = tmp_path / "ingest.log"
    command = [sys.executable, "-m", "engine", "ingest", "--stream", url, "--store", url]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ARBITER_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--data-dir", str(data_dir)],
            cwd=REPOSITORY, stdout=output, stderr=output, env=environment, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + 90
        while not (found := json.loads(run("events", "dlq", "list", "--stream", url, "--json").stdout)):
            assert time.monotonic() < until, log.read_text()
        ids = [letter["id"] for letter in found]
        dropped = run("events", "dlq", "drop", ids[1], "--stream", url)
        found[0]["event"]["type"] = "call_received"
        file.write_text(json.dumps(found[:1]))
        replayed = run("events", "dlq", "replay", "--file", file, "--stream", url)
        while calls(data_dir, url) < 2.0:
            assert time.monotonic() < until, log.read_text()
    finally:
        process.terminate()
        code = process.wait(30)

    assert wrong.exit_code == 3
    assert "jsonl:2: is not the JSON of an event" in wrong.stderr
    assert added.stdout == "3 added\n"
    assert [letter["reason"] for letter in found] == ["EVENT_TYPE_UNKNOWN"] * 2
    assert dropped.stdout == "1 dropped\n"
    assert replayed.stdout == "1 replayed, 0 refused again\n"
    assert code == 0
    assert b"ingest.stopped" in log.read_bytes()


def test_all_customers_are_computed_anew(run: Run, data_dir: Path) -> None:
    """After a load nobody has counted for them yet."""
    refreshed = run("events", "refresh", "--data-dir", data_dir)

    assert refreshed.stdout == f"{len(CUSTOMERS)} customers\n"
    assert calls(data_dir) == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("send", "nowhere.jsonl", "--local"), "cannot be read"),
        (("dlq", "show", "nobody"), "no dead letter nobody"),
        (("dlq", "replay", "--file", "nowhere.json"), "is not what"),
    ],
)
def test_mistakes_are_told(run: Run, data_dir: Path, arguments: tuple[str, ...], words: str) -> None:
    """In words, with the exit code for errors in the input."""
    result = run("events", *arguments, "--data-dir", data_dir)

    assert result.exit_code == 3
    assert words in result.stderr


def test_a_stream_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    """Where, and what to do."""
    file = tmp_path / "events.jsonl"
    file.write_text(lines({"event_id": "a", "type": "call_received"}))

    result = run("events", "send", file, "--stream", "redis://127.0.0.1:1/0")

    assert result.exit_code == 5
    assert "127.0.0.1:1" in result.stderr
