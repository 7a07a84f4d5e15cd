"""The next request after a withdrawal obeys it, on every worker."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import consent_obedience as obedience
import pytest
from arbiter_at_work import RunningServer, settings_for
from consent_obedience import CHANNEL, FIRST_MS, PURPOSE, Board, Obeyed, Tally, name_of, said
from redis_at_work import PASSWORD, RedisServer

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, types_pb2
from engine.client import ArbiterClient
from engine.settings import Settings
from feature_store.redis.store import open_redis
from feature_store.state import ConsentState

PATIENT_MS = 1_000
SPAWN = multiprocessing.get_context("spawn")
CUSTOMERS = 150
OPERATIONS = int(os.environ.get("CONSENT_OPERATIONS", "1000000"))


def remote_party(arbiter: ArbiterClient) -> tuple[Callable[[int, int], object], Callable[[int], Obeyed]]:
    """A party that is a client of a server."""

    def change(customer: int, version: int) -> object:
        wish = consent_service_pb2.ConsentRecord(
            purpose=PURPOSE,
            channel=obedience.channel_of(customer),
            state=types_pb2.ConsentState.Value(f"CONSENT_STATE_{said(version).name}"),
        )
        wish.record_time.FromMilliseconds(FIRST_MS + version)
        return arbiter.record_consent(
            consent_service_pb2.RecordConsentRequest(customer_id=name_of(customer), consent=wish)
        )

    def decide(customer: int) -> Obeyed:
        request = decision_service_pb2.DecideRequest(customer_id=name_of(customer), channel=CHANNEL, limit=1)
        response = arbiter.decide(request)
        used = next(used for used in response.consents if used.purpose == PURPOSE)
        return Obeyed(
            since_ms=used.since.ToMilliseconds() if used.HasField("since") else None,
            state=ConsentState(
                types_pb2.ConsentState.Name(used.state).removeprefix("CONSENT_STATE_").lower()
            ),
            permitted=used.permitted,
            advertised=any(action.purpose == PURPOSE for action in response.actions),
        )

    return change, decide


def broken(tallies: list[Tally]) -> list[str]:
    return [what for tally in tallies for what in tally.broken]


@pytest.fixture(params=["embedded", "redis"])
def two_workers(
    request: pytest.FixtureRequest, data_dir: Path, start_server: Callable[..., RunningServer]
) -> RunningServer:
    """A server with two worker processes over either store, with customers who have said nothing yet."""
    if request.param == "embedded":
        obedience.populate(data_dir, 12)
        return start_server("--workers", "2")
    redis: RedisServer = request.getfixturevalue("redis_server")
    with closing(open_redis(redis.url, timeout_ms=PATIENT_MS)) as store:
        obedience.populate(data_dir, 12, store)
    return start_server(
        *("--workers", "2", "--store", redis.url_of("server")),
        ARBITER_STORE_PASSWORD=PASSWORD,
        ARBITER_STORE_TIMEOUT_MS=str(PATIENT_MS),
    )


def test_every_worker_obeys_the_last_change(two_workers: RunningServer) -> None:
    """Two worker processes, four clients, thousands of changes and decisions: none is out of date."""
    server = two_workers
    board, tallies = Board([-1] * 12, [-1] * 12), []

    def client(party: int) -> None:
        with server.connect() as arbiter:
            change, decide = remote_party(arbiter)
            tallies.append(
                obedience.take_part(
                    board,
                    party=party,
                    parties=4,
                    operations=500,
                    change_share=0.3,
                    change=change,
                    decide=decide,
                )
            )

    threads = [threading.Thread(target=client, args=(party,)) for party in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert broken(tallies) == []
    assert sum(tally.changes + tally.decisions for tally in tallies) == 2000
    assert all(tally.refused > 50 and tally.decisions - tally.refused > 50 for tally in tallies)


def test_a_stale_decision_would_be_found() -> None:
    """The judge of this test is no yes-man: a decision on a withdrawn consent is told."""
    board = Board([-1], [-1])
    seen: list[int] = []

    def stale(_customer: int) -> Obeyed:
        version = max(0, seen[-1] - 1)
        return Obeyed(FIRST_MS + version, said(version), said(version) is ConsentState.GRANTED, False)

    tally = obedience.take_part(
        board,
        party=0,
        parties=1,
        operations=50,
        change_share=0.5,
        change=lambda _customer, version: seen.append(version),
        decide=stale,
    )

    assert len(tally.broken) > 10


@pytest.fixture(params=["embedded", "redis"])
def store_of_many(request: pytest.FixtureRequest, data_dir: Path) -> Settings:
    """Settings of either store, with customers who have said nothing yet."""
    if request.param == "embedded":
        obedience.populate(data_dir, CUSTOMERS)
        return settings_for(data_dir, log_level="error")
    redis: RedisServer = request.getfixturevalue("redis_server")
    with closing(open_redis(redis.url, timeout_ms=PATIENT_MS)) as store:
        obedience.populate(data_dir, CUSTOMERS, store)
    return settings_for(
        data_dir,
        log_level="error",
        store=redis.url_of("server"),
        store_password=PASSWORD,
        store_timeout_ms=PATIENT_MS,
    )


@pytest.mark.slow
def test_a_million_changes_and_decisions(store_of_many: Settings) -> None:
    """Several processes over either store, by the services that servers use; none breaks the rule."""
    parties, customers, began_s = 3, CUSTOMERS, time.monotonic()
    board, told = Board.shared(customers), SPAWN.Queue()
    share = {"parties": parties, "operations": OPERATIONS // parties + 1, "change_share": 0.5}
    processes = [
        SPAWN.Process(target=obedience.work, args=(store_of_many, board, told), kwargs={"party": n, **share})
        for n in range(parties)
    ]
    for process in processes:
        process.start()
    tallies = [told.get() for _ in processes]
    for process in processes:
        process.join()

    changes, decisions = sum(t.changes for t in tallies), sum(t.decisions for t in tallies)
    print(
        f"{store_of_many.store.partition(':')[0]}: {changes} changes and {decisions} decisions by {parties} "
        f"processes in {time.monotonic() - began_s:.0f} s: {len(broken(tallies))} broken"
    )
    assert broken(tallies) == []
    assert changes + decisions >= OPERATIONS
    assert min(sum(t.refused for t in tallies), decisions - sum(t.refused for t in tallies)) > decisions / 4
