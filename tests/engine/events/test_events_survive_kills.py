"""kill -9 of ingest processes at any moment: nothing is lost, nothing counts twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from arbiter_at_work import REPOSITORY, settings_for
from eventful_company import (
    CUSTOMERS,
    REFUSED,
    comparable,
    create_customers,
    delivered,
    expected,
    found,
    random_events,
)
from redis_at_work import RedisServer

from engine.bootstrap import open_application, wall_clock_ms
from engine.decisionlog.ledger import consent_ledger
from engine.events.raw import RawEvent, write_event
from engine.stores import open_stream
from feature_store.redis.streams import EventStream

STREAM = "arbiter:{events}"
START_S, DONE_S = 90.0, 120.0


class IngestProcess:
    """A real `arbiter ingest`."""

    def __init__(self, server: RedisServer, data_dir: Path, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "engine", "ingest", "--stream", server.url, "--store", server.url]
        command += ["--data-dir", str(data_dir), "--idle", "1", "--batch", "40"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, stdout=output, stderr=output, start_new_session=True
            )

    def wait_until_ready(self) -> None:
        """Returns when it reads."""
        until = time.monotonic() + START_S
        while b"ingest.ready" not in self.log.read_bytes():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """Ends it at once, whatever it does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ends it in good order; its exit code."""
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture
def stream(redis_server: RedisServer, tmp_path: Path) -> Iterator[EventStream]:
    """The stream, as its sender sees it."""
    settings = settings_for(tmp_path / "sender")
    opened = open_stream(settings, redis_server.url, name=STREAM, group="arbiter", consumer="sender")
    opened.prepare()
    yield opened
    opened.close()


def survive(
    kills: int, per_kill: int, *, server: RedisServer, stream: EventStream, folder: Path, seed: int
) -> None:
    """Kills one of two ingest processes again and again while events come in, then compares."""
    dice = random.Random(seed)
    data_dir = folder / "data"
    settings = settings_for(data_dir, store=server.url, store_timeout_ms=5_000)
    with open_application(settings) as application:
        schema, now_ms = application.live.current.schema, wall_clock_ms()
        create_customers(application.store, schema, now_ms)
        application.events.refresh_all(CUSTOMERS)
    events: list[RawEvent] = []
    running = [IngestProcess(server, data_dir, folder / f"first-{n}.log") for n in range(2)]
    try:
        for kill in range(kills):
            chunk = random_events(per_kill, seed=seed * 1_000 + kill, now_ms=now_ms)
            events += chunk
            victim = running.pop(0)
            victim.wait_until_ready()
            stream.add([write_event(event) for event in delivered(chunk, seed=kill)])
            time.sleep(dice.uniform(0.0, 0.25))
            victim.kill()
            running.append(IngestProcess(server, data_dir, folder / f"after-{kill}.log"))
        _wait_until_settled(stream)
        for process in running:
            process.wait_until_ready()
        assert [process.stop() for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    with open_application(settings) as application:
        application.events.refresh()  # what a killed process left due
        known = found(application.store, schema)
    assert comparable(known) == comparable(expected(events, rules=settings.rules, now_ms=wall_clock_ms()))
    assert_nothing_doubled(stream, data_dir, events)


def assert_nothing_doubled(stream: EventStream, data_dir: Path, events: list[RawEvent]) -> None:
    """One dead letter for each wrong event, and in the ledger the consents that were given, none else."""
    letters = [letter.fields[b"event"] for letter in stream.letters()]
    assert len(letters) == len(set(letters)) == sum(event.id.startswith(REFUSED) for event in events)
    given = {f"event {e.id}" for e in events if e.type == "consent_changed" and not e.id.startswith(REFUSED)}
    with consent_ledger(data_dir / "consents") as ledger:
        entries = [entry.consent for entry in ledger.replay()]
    assert {consent.evidence for consent in entries} == given
    assert len({(c.evidence, c.recorded_at_ms, c.state) for c in entries}) == len(given)


def _wait_until_settled(stream: EventStream) -> None:
    """Until every entry was handed out and none is pending."""
    until = time.monotonic() + DONE_S
    while time.monotonic() < until:
        if stream.is_settled():
            return
        time.sleep(0.1)
    raise AssertionError(f"still waiting: {stream.waiting()}")


def test_a_few_kills_lose_and_double_nothing(
    redis_server: RedisServer, stream: EventStream, tmp_path: Path
) -> None:
    """The short form of the next test."""
    survive(5, 150, server=redis_server, stream=stream, folder=tmp_path, seed=1)


@pytest.mark.slow
def test_a_hundred_kills_lose_and_double_nothing(
    redis_server: RedisServer, stream: EventStream, tmp_path: Path
) -> None:
    """A hundred kills at random moments while events come in; the end is exact."""
    survive(100, 150, server=redis_server, stream=stream, folder=tmp_path, seed=2)
