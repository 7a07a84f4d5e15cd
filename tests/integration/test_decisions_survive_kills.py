"""kill -9 of a server under load, at any moment: whatever was answered is in the log, whole and chained."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, FRENCH, LOYAL, OBJECTOR, UNPROFILED, RunningServer, scene, settings_for

from engine.client import ArbiterClient, CallFailed
from engine.decisionlog.compressing import compress
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.reading import DamageKind
from engine.decisionlog.verifying import Verification, verify
from engine.logfiles import checkpoints_of
from engine.service.explanations import replay
from engine.snapshots import past_snapshot

Start = Callable[..., RunningServer]

CLIENTS = 4
LONGEST_LIFE_S = 0.5
AGAIN = 30
"""Decisions that are made again at the end, of all that were answered."""


class Load:
    """Clients that decide one after the other until their server is gone, and keep what was answered."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self._under_way = threading.Semaphore(0)

    def until_killed(self, server: RunningServer, life_s: float) -> None:
        """Kills the server so long after each client had its first answer."""
        with ExitStack() as stack:
            remotes = [stack.enter_context(server.connect()) for _ in range(CLIENTS)]
            clients = [threading.Thread(target=self._decide, args=(remote,)) for remote in remotes]
            for client in clients:
                client.start()
            for _ in clients:
                assert self._under_way.acquire(timeout=60), server.log
            time.sleep(life_s)
            server.kill()
            for client in clients:
                client.join()

    def _decide(self, remote: ArbiterClient) -> None:
        for number, customer in enumerate(itertools.cycle((AT_RISK, LOYAL, OBJECTOR, UNPROFILED, FRENCH))):
            try:
                reply = remote.decide(scene(customer))
            except CallFailed as failure:
                assert failure.unavailable, failure  # noqa: PT017  # what else fails is no kill
                if not number:
                    self._under_way.release()
                return
            self.answered.append(reply.decision_id)
            if not number:
                self._under_way.release()


def survive(kills: int, *, data_dir: Path, start_server: Start, seed: int) -> tuple[Load, Verification]:
    """Kills servers one after the other, compresses between some, then reads everything back."""
    dice, load = random.Random(seed), Load()
    settings = settings_for(data_dir)
    for _ in range(kills):
        server = start_server(ARBITER_SEGMENT_MB="1", ARBITER_CHECKPOINT_INTERVAL_S="0.1")
        server.wait_until_serving()
        load.until_killed(server, dice.uniform(0, LONGEST_LIFE_S))
        if dice.random() < 0.2:
            list(compress(data_dir / "decisions", ended_before_s=time.time() + 60))
    damages = []
    log = DecisionLog(data_dir / "decisions")
    scanned = {record.decision_id for record in log.scan(report=damages.append)}
    records = [log.read(decision_id) for decision_id in load.answered]
    assert None not in records
    assert len(set(load.answered)) == len(load.answered) > kills
    assert scanned >= set(load.answered)
    assert len(scanned) - len(load.answered) <= kills * CLIENTS  # at most those in flight
    assert {damage.kind for damage in damages} <= {DamageKind.TORN}
    for record in dice.sample(records, min(AGAIN, len(records))):
        assert record is not None
        assert replay(record, past_snapshot(settings, record.decision.versions)).same
    return load, verify(data_dir / "decisions", checkpoints_of(settings, "decisions"))


@pytest.fixture
def figures(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line past the capturing, for the one who measures."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}")

    return tell


def test_a_few_kills_lose_no_answered_decision(data_dir: Path, start_server: Start) -> None:
    """The short form of the next test."""
    _, found = survive(2, data_dir=data_dir, start_server=start_server, seed=1)

    assert found.findings == []


@pytest.mark.slow
def test_a_hundred_kills_lose_no_answered_decision(
    data_dir: Path, start_server: Start, figures: Callable[[str], None]
) -> None:
    """A hundred kills at random moments under load: every answer reads back, and the chain verifies."""
    load, found = survive(100, data_dir=data_dir, start_server=start_server, seed=2)

    figures(
        f"100 kills: {len(load.answered):,} answered, {found.records:,} records, {found.segments} segments, "
        f"{found.torn_bytes} torn bytes, {found.checkpoints} checkpoints, {len(found.findings)} findings"
    )
    assert found.findings == []
