"""Decisions over a Redis: the same as over the embedded store, and honest answers when it fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from arbiter_at_work import (
    AT_RISK,
    LOYAL,
    OBJECTOR,
    REPOSITORY,
    RunningServer,
    connect,
    copy_customers,
    query,
    scene,
    settings_for,
)
from redis_at_work import PASSWORD, RedisServer

from engine._pb.arbiter.v1 import decision_service_pb2, types_pb2
from engine.bootstrap import Application, build_server, open_application
from engine.client import ArbiterClient, CallFailed
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import decision_bytes
from engine.demo.cast import CAST
from engine.demo.company import load_company
from engine.errors import SetupInvalid
from engine.service.decisions import Decisions
from feature_store.embedded import open_embedded
from feature_store.redis.store import open_redis
from feature_store.state import ContactEvent, OutcomeType

PATIENT_MS = 5_000
DEADLINE_S = 0.3
LATE_S = 0.010
"""What the reply may take beyond its deadline."""

RECOVERY_S = 5.0
PEOPLE = (*CAST, *(f"C{number:04d}" for number in range(1, 40)))


def test_decisions_are_the_same_bytes_on_both_stores(
    application: Application, redis_server: RedisServer, data_dir: Path, tmp_path: Path
) -> None:
    """For everybody, before and after a contact: what a store is changes nothing of what is decided."""
    embedded_store = open_embedded(data_dir / "store")
    redis_store = open_redis(redis_server.url_of("server"), timeout_ms=PATIENT_MS)
    copy_customers(embedded_store, redis_store, PEOPLE)
    now_ms = time.time_ns() // 1_000_000
    seen = []
    with ExitStack() as stack:
        makers = [
            Decisions(
                live=application.live,
                store=store,
                log=stack.enter_context(DecisionLog(tmp_path / name, fsync_interval_ms=1000)),
                clock=lambda: now_ms,
                request_id_ttl_ms=60_000,
            )
            for name, store in (("embedded", embedded_store), ("redis", redis_store))
        ]
        for name in PEOPLE:
            for cast_id in (name,) if name in CAST else (AT_RISK, LOYAL):
                decided = [maker.decide(query(cast_id, name)).record.decision for maker in makers]
                seen.append(tuple(map(decision_bytes, decided)))
                for store in (embedded_store, redis_store):
                    for action in decided[0].actions:
                        event = ContactEvent(
                            now_ms, action.action_id, "", "web", "marketing", OutcomeType.SHOWN
                        )
                        store.record_contact(name, event, key=f"{cast_id}:{action.action_id}")
                again = [maker.decide(query(cast_id, name)).record.decision for maker in makers]
                seen.append(tuple(map(decision_bytes, again)))

    redis_store.close()
    embedded_store.close()
    assert all(embedded == redis for embedded, redis in seen)
    assert len({embedded for embedded, _ in seen}) > len(PEOPLE)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A gRPC server in this process, over a Redis to do harm to."""

    redis: RedisServer
    application: Application
    port: int

    def ask(self, customer_id: str) -> decision_service_pb2.DecideResponse:
        """One decision, for a client who waits no longer than the deadline."""
        with connect(f"localhost:{self.port}", timeout_s=DEADLINE_S) as arbiter:
            return arbiter.decide(scene(LOYAL, customer_id))


@pytest.fixture(scope="module")
def deployment(
    application: Application, demo_company: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """The cast in a Redis, and a server with the rights of a server."""
    folder = tmp_path_factory.mktemp("deployment")
    data_dir = Path(shutil.copytree(demo_company, folder / "data"))
    redis = RedisServer(folder / "redis", "--appendonly", "yes", "--appendfsync", "always")
    redis.with_users()
    filler = open_redis(redis.url, timeout_ms=PATIENT_MS)
    copy_customers(application.store, filler, list(CAST))
    filler.close()
    with open_application(settings_for(data_dir, store=redis.url_of("server"))) as opened:
        server = build_server(opened, reuse_port=False)
        server.start()
        yield Deployment(redis, opened, server.port)
        server.drain(1.0)
    redis.kill()


def test_everything_works_with_the_rights_of_a_server(deployment: Deployment) -> None:
    """Decisions, outcomes, consents and request ids, over gRPC and a Redis user with no right to spare."""
    with connect(f"localhost:{deployment.port}", timeout_s=30.0) as arbiter:
        request = scene(AT_RISK)
        request.request_id = "once"
        first, second = arbiter.decide(request), arbiter.decide(request)

    assert first.decision_id == second.decision_id
    assert list(first.degraded_by) == []
    assert first.actions


def paused(deployment: Deployment) -> Callable[[], None]:
    deployment.redis.pause()
    return deployment.redis.resume


def killed(deployment: Deployment) -> Callable[[], None]:
    deployment.redis.kill()

    def heal() -> None:
        deployment.redis.start()
        deployment.redis.with_users()

    return heal


def a_replica(deployment: Deployment) -> Callable[[], None]:
    deployment.redis.do("REPLICAOF", "127.0.0.1", "1")

    def heal() -> None:
        deployment.redis.do("REPLICAOF", "NO", "ONE")

    return heal


def locked_out(deployment: Deployment) -> Callable[[], None]:
    deployment.redis.do("ACL", "SETUSER", "server", "resetpass", ">another one")
    deployment.redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    return deployment.redis.with_users


def slow(deployment: Deployment) -> Callable[[], None]:
    stop = threading.Event()

    def stall() -> None:
        while not stop.is_set():
            deployment.redis.do("DEBUG", "SLEEP", "0.1")

    stalling = threading.Thread(target=stall)
    stalling.start()

    def heal() -> None:
        stop.set()
        stalling.join()

    return heal


@pytest.mark.parametrize("fault", [paused, killed, a_replica, locked_out, slow])
def test_nobody_waits_and_only_service_goes_on(
    deployment: Deployment, fault: Callable[[Deployment], Callable[[], None]]
) -> None:
    """While Redis fails every reply comes in time, for whom it was asked, and proposes no marketing.

    Within 5 seconds of its coming back, decisions are whole again.
    """
    heal = fault(deployment)
    replies, slowest = _ask_for(deployment, seconds=1.5)
    heal()

    assert slowest <= DEADLINE_S + LATE_S
    degraded = [reply for reply in replies if reply.degraded_by]
    assert degraded
    for reply in degraded:
        assert "consents" in reply.degraded_by
        assert {action.purpose for action in reply.actions} == {"service"}
        refused = [s for s in reply.suppressed if s.stage == types_pb2.STAGE_CONSENT]
        assert {reason.code for action in refused for reason in action.reasons} == {"CONSENT_UNREADABLE"}
    assert _seconds_until_whole(deployment) < RECOVERY_S


def _ask_for(
    deployment: Deployment, *, seconds: float
) -> tuple[list[decision_service_pb2.DecideResponse], float]:
    """Asks from four threads; the replies and the time of the slowest, in s."""
    end = time.monotonic() + seconds
    replies: list[decision_service_pb2.DecideResponse] = []
    took: list[float] = []

    def ask(name: str) -> None:
        with connect(f"localhost:{deployment.port}", timeout_s=DEADLINE_S) as arbiter:
            while time.monotonic() < end:
                start = time.perf_counter()
                reply = _reply(arbiter, name)
                took.append(time.perf_counter() - start)
                if reply is not None:
                    assert reply.customer_id == name
                    replies.append(reply)

    threads = [threading.Thread(target=ask, args=(name,)) for name in (AT_RISK, LOYAL, OBJECTOR, LOYAL)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies, max(took)


def _reply(arbiter: ArbiterClient, name: str) -> decision_service_pb2.DecideResponse | None:
    try:
        return arbiter.decide(scene(LOYAL, name))
    except CallFailed as failure:
        if failure.code != "DEADLINE_EXCEEDED":
            raise
        return None


def _seconds_until_whole(deployment: Deployment) -> float:
    start = time.perf_counter()
    while (waited := time.perf_counter() - start) < 2 * RECOVERY_S:
        try:
            if not deployment.ask(LOYAL).degraded_by:
                break
        except CallFailed:
            continue
    return waited


def test_damaged_consents_of_one_customer_are_hers_alone(deployment: Deployment) -> None:
    """A value that cannot be read closes the gate for that customer; all others are decided on as ever."""
    key = f"arbiter:{{{LOYAL}}}:c"
    whole = deployment.redis.do("GET", key)
    assert isinstance(whole, bytes)
    deployment.redis.do("DEL", key)
    deployment.redis.do("LPUSH", key, "not ours")
    wrong_type, other = deployment.ask(LOYAL), deployment.ask(AT_RISK)
    deployment.redis.do("DEL", key)
    deployment.redis.do("SET", key, whole[:-3])
    truncated = deployment.ask(LOYAL)
    deployment.redis.do("SET", key, whole)

    for reply in (wrong_type, truncated):
        assert "consents" in reply.degraded_by
        assert {action.purpose for action in reply.actions} == {"service"}
    assert list(other.degraded_by) == []
    assert list(deployment.ask(LOYAL).degraded_by) == []


def test_full_memory_keeps_deciding(deployment: Deployment) -> None:
    """Reads go on: decisions obey consents as ever, and say what could not be kept."""
    deployment.redis.do("CONFIG", "SET", "maxmemory", "1")
    request = scene(OBJECTOR)
    request.request_id = "when full"
    with connect(f"localhost:{deployment.port}", timeout_s=30.0) as arbiter:
        reply = arbiter.decide(request)
    deployment.redis.do("CONFIG", "SET", "maxmemory", "0")

    assert "request_id:unkept" in reply.degraded_by
    assert "consents" not in reply.degraded_by
    assert "marketing" not in {action.purpose for action in reply.actions}


def test_one_option_is_all_that_changes(
    start_server: Callable[..., RunningServer], application: Application, redis_server: RedisServer
) -> None:
    """`arbiter serve --store redis://...`, and everybody is decided on as before."""
    filler = open_redis(redis_server.url, timeout_ms=PATIENT_MS)
    copy_customers(application.store, filler, list(CAST))
    store = f"redis://server@{redis_server.place}/0"

    server = start_server("--store", store, ARBITER_STORE_PASSWORD=PASSWORD)

    with server.connect() as arbiter:
        replies = [arbiter.decide(scene(name)) for name in CAST]
    filler.close()
    assert [reply.customer_id for reply in replies] == list(CAST)
    assert all(not reply.degraded_by for reply in replies)
    assert PASSWORD not in server.log


def test_server_without_its_redis_does_not_start(data_dir: Path, own_redis: RedisServer) -> None:
    """It says what is missing and what to do, and no secret."""
    own_redis.kill()
    settings = settings_for(data_dir, store=own_redis.url_of("server"))

    with pytest.raises(SetupInvalid, match="see that it runs") as caught, open_application(settings):
        raise AssertionError("it opened")

    assert own_redis.place in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_settings_show_no_password(redis_server: RedisServer) -> None:
    """Neither that of the URL nor the one beside it."""
    shown = subprocess.run(
        [sys.executable, "-m", "engine", "settings"],
        env={"ARBITER_STORE": redis_server.url_of("server"), "ARBITER_STORE_PASSWORD": PASSWORD},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert f"redis://server:***@{redis_server.place}/0" in shown
    assert "s3cret" not in shown


@pytest.mark.slow
def test_demo_is_loaded_into_redis_once(redis_server: RedisServer, tmp_path: Path) -> None:
    """Its customers, consents, identities and signals; and never among customers who are not the demo's."""
    url = redis_server.url_of("operator")
    looked_at = open_redis(redis_server.url, timeout_ms=PATIENT_MS)
    settings = settings_for(tmp_path, store=url, store_timeout_ms=PATIENT_MS)

    load_company(settings)

    state = looked_at.read(OBJECTOR)
    assert state is not None
    assert {(c.purpose, c.channel): c.state for c in state.consents} == CAST[OBJECTOR].consents
    assert len(list(looked_at.customers())) == 7043
    redis_server.do("DEL", f"arbiter:{{{OBJECTOR}}}:f")
    load_company(settings)
    assert looked_at.read(OBJECTOR) is None  # not loaded anew, as it is fresh
    redis_server.do("DEL", f"arbiter:{{{next(iter(CAST))}}}:f")
    (tmp_path / "other").mkdir()
    with pytest.raises(SetupInvalid, match="not the demo's"):
        load_company(settings_for(tmp_path / "other", store=url, store_timeout_ms=PATIENT_MS))
    looked_at.close()
