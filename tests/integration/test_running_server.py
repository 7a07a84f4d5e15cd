"""The real server in processes of its own: start, reload, crash, full disk, drain."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from arbiter_at_work import (
    AT_RISK,
    LOYAL,
    RunningServer,
    copied_registry,
    copied_rules,
    failure_of,
    in_threads,
    query,
    reason_of,
    scene,
    set_threshold,
    settings_for,
)

from engine._pb.arbiter.v1 import consent_service_pb2, types_pb2
from engine.bootstrap import open_application
from engine.client import ArbiterClient, CallFailed
from engine.decisionlog.log import DecisionLog

RETENTION = "business/retention.yaml"
Start = Callable[..., RunningServer]
ASK_CONSENTS = consent_service_pb2.GetConsentsRequest(customer_id=LOYAL)


def spoil(rules: Path) -> None:
    """Breaks a rule file."""
    (rules / RETENTION).write_text("rules: [}", encoding="utf-8")


def marketing(state: types_pb2.ConsentState) -> consent_service_pb2.RecordConsentRequest:
    """What the customer at risk says about marketing."""
    record = consent_service_pb2.ConsentRecord(purpose="marketing", channel="any", state=state)
    return consent_service_pb2.RecordConsentRequest(customer_id=AT_RISK, consent=record)


@dataclass(frozen=True)
class _Place:
    """A running server and what it works on."""

    server: RunningServer
    rules: Path
    data_dir: Path


def settled(demo_company: Path, folder: Path, *options: str) -> Iterator[_Place]:
    """A server over copies of its own, for several tests that each leave it as it was."""
    rules, data_dir = copied_rules(folder), folder / "data"
    shutil.copytree(demo_company, data_dir)
    server = RunningServer(data_dir, ("--rules", str(rules), *options), {})
    server.wait_until_serving()
    yield _Place(server, rules, data_dir)
    outcome = server.process.poll()
    server.kill()
    assert outcome is None, f"the server ended by itself with {outcome}:\n{server.log}"


@pytest.fixture(scope="module")
def alone(demo_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Place]:
    """A server of one process."""
    yield from settled(demo_company, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def pair(demo_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Place]:
    """A server of two workers, both serving."""
    for place in settled(demo_company, tmp_path_factory.mktemp("pair"), "--workers", "2"):
        place.server.wait_for_log("server.ready", times=2)
        yield place


@contextmanager
def full_disk(server: RunningServer) -> Iterator[None]:
    """No file of the server's may grow in the block."""
    limit = resource.RLIMIT_FSIZE
    soft, hard = resource.prlimit(server.process.pid, limit)
    resource.prlimit(server.process.pid, limit, (64, hard))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, limit, (soft, hard))


def test_objection_recorded_by_one_process_binds_the_next_decision_of_another(alone: _Place) -> None:
    """What one process records on a data directory holds in the others at once."""
    with open_application(settings_for(alone.data_dir)) as here, alone.server.connect() as there:
        for _ in range(10):
            there.record_consent(marketing(types_pb2.CONSENT_STATE_GRANTED))
            granted = here.decisions.decide(query(AT_RISK, limit=100)).record.decision
            there.record_consent(marketing(types_pb2.CONSENT_STATE_OBJECTED))
            objected = here.decisions.decide(query(AT_RISK, limit=100)).record.decision
            there.record_consent(marketing(types_pb2.CONSENT_STATE_GRANTED))

            consents = [{c.purpose: c.permitted for c in d.consents} for d in (granted, objected)]
            assert [c["marketing"] for c in consents] == [True, False]
            assert "retention_price_lock" not in {a.action_id for a in objected.actions}


def test_workers_on_one_port_obey_an_objection_at_once(pair: _Place) -> None:
    """Over many channels, and so on both workers, no decision after an objection sells anything."""
    for _ in range(3):
        with pair.server.connect() as recording:
            recording.record_consent(marketing(types_pb2.CONSENT_STATE_OBJECTED))
        purposes: set[str] = set()
        for _ in range(6):
            with pair.server.connect() as arbiter:
                purposes |= {a.purpose for a in arbiter.decide(scene(AT_RISK, limit=100)).actions}
        with pair.server.connect() as recording:
            recording.record_consent(marketing(types_pb2.CONSENT_STATE_GRANTED))

        assert "marketing" not in purposes


def test_acknowledged_decisions_survive_kill_9(start_server: Start, data_dir: Path) -> None:
    """Every decision that a client got is in the log, whole, and can be made again."""
    server = start_server()
    acknowledged: list[str] = []
    failures: list[CallFailed] = []

    def decide_until_it_dies(number: int) -> None:
        with server.connect() as arbiter:
            for count in range(10_000):
                if (number, count) == (0, 100):
                    server.kill()
                try:
                    acknowledged.append(arbiter.decide(scene(AT_RISK)).decision_id)
                except CallFailed as failure:
                    failures.append(failure)
                    return

    in_threads(3, decide_until_it_dies)

    with open_application(settings_for(data_dir)) as application:
        assert len(acknowledged) >= 100
        assert all(failure.unavailable for failure in failures)
        assert all(application.explanations.replay(i).same for i in acknowledged[:20])
        assert all(application.log.read(i) is not None for i in acknowledged)


def test_full_disk_stops_marketing_only_and_only_while_it_lasts(alone: _Place) -> None:
    """No record, nothing that must be proven; consents can still be asked for; space brings all back."""
    with alone.server.connect() as arbiter:
        with full_disk(alone.server):
            unlogged = arbiter.decide(scene(AT_RISK, limit=100))
            objection = marketing(types_pb2.CONSENT_STATE_OBJECTED)
            unrecorded = failure_of(lambda: arbiter.record_consent(objection))
            consents = arbiter.get_consents(ASK_CONSENTS)
        decided = arbiter.decide(scene(LOYAL))
        unchanged = arbiter.decide(scene(AT_RISK, limit=100))

    assert unlogged.decision_id == ""
    assert {a.purpose for a in unlogged.actions} <= {"service"}
    assert "log" in unlogged.degraded_by
    assert not unlogged.profiled
    assert (unrecorded.code, reason_of(unrecorded)[0]) == ("UNAVAILABLE", "CONSENT_NOT_RECORDED")
    assert consents.effective
    assert decided.decision_id
    assert "marketing" in {a.purpose for a in unchanged.actions}
    assert unchanged.degraded_by == []
    alone.server.wait_for_log("free or add space")
    alone.server.wait_for_log("decisions.recorded_again")


def test_full_disk_leaves_no_request_id_taken(alone: _Place) -> None:
    """A request that could not be logged may be sent again with its id, and is decided again."""
    request = scene(LOYAL, request_id="when-full")

    with alone.server.connect() as arbiter:
        with full_disk(alone.server):
            unlogged = arbiter.decide(request)
        decided = arbiter.decide(request)

    assert unlogged.decision_id == ""
    assert "request_id:unkept" in unlogged.degraded_by
    assert decided.decision_id


def test_hangup_serves_a_good_change_and_refuses_a_bad_one(alone: _Place) -> None:
    """SIGHUP swaps whole rule sets; a broken one is logged and the last good one serves."""
    server, rules, mark = alone.server, alone.rules, alone.server.mark
    good = {name: (rules / name).read_text(encoding="utf-8") for name in (RETENTION, "arbitration.yaml")}

    with server.connect() as arbiter:
        first = arbiter.decide(scene(AT_RISK))
        set_threshold(rules, 1e6)
        server.send(signal.SIGHUP)
        server.wait_for_log("snapshot.reloaded", since=mark)
        second = arbiter.decide(scene(AT_RISK))
        spoil(rules)
        server.send(signal.SIGHUP)
        server.wait_for_log("snapshot.reload.failed", since=mark)
        third = arbiter.decide(scene(AT_RISK))
        for name, text in good.items():
            (rules / name).write_text(text, encoding="utf-8")
        server.send(signal.SIGHUP)
        server.wait_for_log("snapshot.reloaded", times=2, since=mark)
        fourth = arbiter.decide(scene(AT_RISK))

    assert second.HasField("no_action")
    assert second.versions.rules != first.versions.rules
    assert third.versions.rules == second.versions.rules
    assert fourth.versions.rules == first.versions.rules
    assert [a.action_id for a in fourth.actions] == [a.action_id for a in first.actions]
    assert RETENTION in server.log


def test_hangups_in_a_burst_do_no_harm_and_the_next_one_reloads(alone: _Place) -> None:
    """The system may merge signals of a burst; one of them at least reloads, and so does a later one."""
    mark = alone.server.mark
    for _ in range(3):
        alone.server.send(signal.SIGHUP)
    alone.server.wait_for_log("snapshot.reloaded", since=mark)

    after_burst = alone.server.mark
    alone.server.send(signal.SIGHUP)

    alone.server.wait_for_log("snapshot.reloaded", since=after_burst)
    assert decide_on_new_channels(alone.server, 2) == []


@pytest.mark.parametrize(("broken", "workers"), [("rules", "1"), ("model", "1"), ("rules", "2")])
def test_server_with_broken_files_ends_with_3_and_says_why(
    start_server: Start, tmp_path: Path, broken: str, workers: str
) -> None:
    """File, what is wrong and no traceback."""
    rules, registry = copied_rules(tmp_path), copied_registry(tmp_path)
    if broken == "rules":
        spoil(rules)
    else:
        (registry / "churn" / "1" / "model.onnx").write_bytes(b"damaged")

    server = start_server(
        "--rules", str(rules), "--registry", str(registry), "--workers", workers, ready=False
    )

    assert server.wait() == 3
    assert {"rules": RETENTION, "model": "model.onnx"}[broken] in server.log
    assert "Traceback" not in server.log


def decide_until_refused(server: RunningServer, decided: list[str], refusals: list[str]) -> None:
    """Decides over a channel of its own until the server takes no more."""
    with server.connect() as arbiter:
        while True:
            try:
                decided.append(arbiter.decide(scene(LOYAL)).decision_id)
            except CallFailed as failure:
                refusals.append(failure.code)
                return


@pytest.mark.parametrize(("workers", "number"), [("1", signal.SIGTERM), ("2", signal.SIGINT)])
def test_stopped_server_finishes_what_it_accepted(
    start_server: Start, data_dir: Path, workers: str, number: signal.Signals
) -> None:
    """Under load, calls in flight finish; only new ones are refused, as UNAVAILABLE."""
    server = start_server("--workers", workers)
    server.wait_for_log("server.ready", times=int(workers))
    decided: list[str] = []
    refusals: list[str] = []

    def work(thread: int) -> None:
        if thread:
            decide_until_refused(server, decided, refusals)
        else:
            with server.connect() as arbiter:
                for _ in range(100):
                    arbiter.decide(scene(AT_RISK))
            server.send(number)

    in_threads(7, work)

    log = DecisionLog(data_dir / "decisions")
    assert server.wait() == 0
    assert refusals == ["UNAVAILABLE"] * 6
    assert decided
    assert all(log.read(decision_id) is not None for decision_id in decided)
    assert server.log.count("server.stopped") == int(workers)


def serving_workers(server: RunningServer) -> set[int]:
    """Process ids of the children that serve."""
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    children = {int(pid) for pid in path.read_text(encoding="utf-8").split()}
    return {p for p in children if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()}


def decide_on_new_channels(server: RunningServer, count: int) -> list[CallFailed]:
    """Decides over channels of their own, which spread over the workers; gives the failures."""
    failures = []
    for _ in range(count):
        with server.connect() as arbiter:
            try:
                arbiter.decide(scene(LOYAL))
            except CallFailed as failure:
                failures.append(failure)
    return failures


def test_killed_worker_is_replaced_and_the_service_goes_on(pair: _Place) -> None:
    """kill -9 of one of two workers costs nothing but its calls in flight."""
    server, mark, before = pair.server, pair.server.mark, serving_workers(pair.server)

    os.kill(min(before), signal.SIGKILL)
    server.wait_for_log("worker.died", since=mark)
    server.wait_for_log("server.ready", since=mark)

    after = serving_workers(server)
    assert decide_on_new_channels(server, 10) == []
    assert len(before) == len(after) == 2
    assert max(before) in after
    assert min(before) not in after


def test_worker_that_cannot_be_replaced_does_not_take_the_others_down(pair: _Place) -> None:
    """With rules broken meanwhile, the rest serves on, and the place is filled once they are mended."""
    server, mark = pair.server, pair.server.mark
    good = (pair.rules / RETENTION).read_text(encoding="utf-8")

    spoil(pair.rules)
    os.kill(min(serving_workers(server)), signal.SIGKILL)
    server.wait_for_log("server.setup_failed", since=mark)
    meanwhile = decide_on_new_channels(server, 3)
    (pair.rules / RETENTION).write_text(good, encoding="utf-8")
    server.wait_for_log("server.ready", since=mark)

    assert meanwhile == []
    assert decide_on_new_channels(server, 3) == []


def test_supervisor_passes_a_reload_on_to_every_worker(pair: _Place) -> None:
    """SIGHUP to the supervisor reloads all workers."""
    mark = pair.server.mark

    pair.server.send(signal.SIGHUP)

    pair.server.wait_for_log("snapshot.reloaded", times=2, since=mark)
    assert decide_on_new_channels(pair.server, 4) == []


def test_supervisor_told_to_stop_while_workers_start_stops_them(start_server: Start) -> None:
    """A SIGTERM that comes before any worker serves is not lost."""
    server = start_server("--workers", "2", ready=False)
    server.wait_for_log("worker.started")

    server.send(signal.SIGTERM)

    assert server.wait() == 0
    assert "worker.died" not in server.log


def test_workers_end_with_their_supervisor(start_server: Start) -> None:
    """A supervisor that is killed leaves nobody behind on the port."""
    server = start_server("--workers", "2")
    server.wait_for_log("server.ready", times=2)

    server.process.kill()

    server.wait_for_log("server.stopped", times=2)
    assert server.log.count("server.stopped") == 2


def test_workers_share_request_ids(pair: _Place) -> None:
    """A retry that lands on the other worker gets the first decision."""
    ids: list[str] = []
    lock = threading.Lock()

    def ask(_: int) -> None:
        with pair.server.connect() as arbiter:
            reply = ask_until_decided(arbiter)
        with lock:
            ids.append(reply)

    in_threads(8, ask)

    assert len(ids) == 8
    assert len(set(ids)) == 1


def ask_until_decided(arbiter: ArbiterClient) -> str:
    """Sends one request with one id, again where another worker is at it right now."""
    for _ in range(1000):
        try:
            return arbiter.decide(scene(LOYAL, request_id="across-workers")).decision_id
        except CallFailed as failure:
            assert failure.code == "ABORTED"  # noqa: PT017  # the retry is the point
    raise AssertionError("never decided")
