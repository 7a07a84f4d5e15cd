"""Events leave exactly the state they must, by gRPC and by a Redis Stream, on both stores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from arbiter_at_work import settings_for
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

from engine._pb.arbiter.v1 import event_service_pb2
from engine.api.event_servicer import EventServicer, event_message
from engine.api.local import LocalArbiter
from engine.api.servicers import ConsentServicer, DecisionServicer, OutcomeServicer
from engine.bootstrap import Application, open_application, wall_clock_ms
from engine.events.raw import RawEvent, write_event
from engine.events.stream import Pace, StreamIntake
from engine.service.refreshing import Refresher
from engine.stores import open_stream

STREAM = "arbiter:{events}"
COUNT = 600


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Application]:
    """An application on an embedded store with the made-up customers."""
    with open_application(settings_for(tmp_path / "data")) as application:
        create_customers(application.store, application.live.current.schema, wall_clock_ms())
        application.events.refresh_all(CUSTOMERS)
        yield application


@pytest.fixture
def shared(tmp_path: Path, redis_server: RedisServer) -> Iterator[Application]:
    """An application on Redis with the made-up customers, as a user with just the documented rights."""
    url = redis_server.url_of("ingest")
    settings = settings_for(tmp_path / "data", store=url, store_timeout_ms=5_000)
    with open_application(settings) as application:
        create_customers(application.store, application.live.current.schema, wall_clock_ms())
        application.events.refresh_all(CUSTOMERS)
        yield application


def by_grpc(application: Application, events: list[RawEvent]) -> list[event_service_pb2.EventResult]:
    """Results of events sent in batches to the servicer."""
    arbiter = LocalArbiter(
        DecisionServicer(application.decisions, application.explanations),
        OutcomeServicer(application.outcomes),
        ConsentServicer(application.consents),
        EventServicer(application.intake),
    )
    results: list[event_service_pb2.EventResult] = []
    for start in range(0, len(events), 70):
        page = [event_message(event) for event in events[start : start + 70]]
        results += arbiter.ingest(event_service_pb2.IngestRequest(events=page)).results
    return results


def assert_exact(application: Application, events: list[RawEvent]) -> None:
    """What is known is what the reference says."""
    known = found(application.store, application.live.current.schema)
    wanted = expected(events, rules=application.settings.rules, now_ms=wall_clock_ms())
    assert comparable(known) == comparable(wanted)


@pytest.mark.parametrize("kind", ["embedded", "shared"])
def test_grpc_leaves_the_exact_state(kind: str, request: pytest.FixtureRequest) -> None:
    """Whatever the order and the batches, and though one in seven events comes twice."""
    application: Application = request.getfixturevalue(kind)
    events = random_events(COUNT, seed=7, now_ms=wall_clock_ms())

    results = by_grpc(application, delivered(events, seed=8))

    assert_exact(application, events)
    wrong = [event for event in events if event.id.startswith(REFUSED)]
    statuses = [result.status for result in results]
    assert statuses.count(event_service_pb2.EVENT_STATUS_APPLIED) == COUNT - len(wrong)
    assert statuses.count(event_service_pb2.EVENT_STATUS_REFUSED) == len(wrong)
    assert len(list(application.letters.letters())) == len(wrong)


@pytest.mark.parametrize("kind", ["embedded", "shared"])
def test_a_stream_leaves_the_exact_state(
    kind: str, request: pytest.FixtureRequest, redis_server: RedisServer
) -> None:
    """The same from a Redis Stream; what is refused is among its dead letters with its reason."""
    application: Application = request.getfixturevalue(kind)
    events = random_events(COUNT, seed=17, now_ms=wall_clock_ms())
    stream, sender = (
        open_stream(application.settings, redis_server.url_of(user), name=STREAM, group="g", consumer=user)
        for user in ("ingest", "operator")
    )
    stop = threading.Event()
    intake = StreamIntake(
        stream,
        application.events.ingest,
        clock=wall_clock_ms,
        pace=Pace(batch=64, block_ms=10),
        stop=stop,
    )
    stream.prepare()
    copies = delivered(events, seed=18)
    sender.add([write_event(event) for event in copies])

    while intake.handled < len(copies):
        intake.turn()

    assert_exact(application, events)
    letters = list(sender.letters())
    assert {letter.fields[b"reason"] for letter in letters} == {
        b"EVENT_TYPE_UNKNOWN", b"EVENT_ATTRIBUTE_INVALID", b"EVENT_EFFECT_INVALID",
    }  # fmt: skip
    assert len(letters) == sum(event.id.startswith(REFUSED) for event in events)
    assert stream.is_settled()
    stream.leave()
    for opened in (stream, sender):
        opened.close()


def test_what_a_dead_consumer_held_is_applied_by_another(
    shared: Application, redis_server: RedisServer
) -> None:
    """Handed out and never settled, events are claimed, and settled ones are trimmed, pending ones not."""
    events = random_events(50, seed=3, now_ms=wall_clock_ms())
    dead, other = (
        open_stream(shared.settings, redis_server.url, name=STREAM, group="g", consumer=name)
        for name in ("dead", "other")
    )
    dead.prepare()
    dead.add([write_event(event) for event in events])
    held = dead.read(count=30, block_ms=10)
    dead.trim(older_than_ms=wall_clock_ms() + 1)
    kept = dead.waiting()

    intake = StreamIntake(
        other,
        shared.events.ingest,
        clock=wall_clock_ms,
        pace=Pace(batch=20, block_ms=10, idle_ms=0),
        stop=threading.Event(),
    )
    while intake.handled < len(events):
        intake.turn()
    other.trim(older_than_ms=wall_clock_ms() + 1)
    shared.store.settle(["none"], key="none", now_ms=wall_clock_ms(), spent=True)
    with Refresher(events=shared.events, store=shared.store, clock=wall_clock_ms) as refresher:
        refresher.look()

    assert (len(held), kept) == (30, (30, 50))
    assert other.waiting()[0] == 0
    assert other.waiting()[1] <= 1  # the last one that was handed out
    assert_exact(shared, events)
    dead.close()
    other.close()
