"""Faults under load on real servers: what is answered meanwhile, how soon, and when all is well again.

`make chaos` prints a line for each.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
import pytest
from arbiter_at_work import (
    AT_RISK,
    LOYAL,
    RunningServer,
    copied_registry,
    copied_rules,
    copy_customers,
    scene,
)
from redis_at_work import Forwarder, RedisServer
from test_redis_serving import PATIENT_MS
from test_running_server import RETENTION, full_disk, serving_workers, spoil

from engine._pb.arbiter.v1 import decision_service_pb2, decision_service_pb2_grpc
from engine.bootstrap import Application
from engine.demo.cast import CAST
from feature_store.redis.store import open_redis

Start = Callable[..., RunningServer]
THREADS = 3
BEFORE, DURING, AFTER = "before", "during", "after"
RETRY_UNAVAILABLE = (
    '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.05s", '
    '"maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}'
)
"""What clients are told to do, and do by themselves."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one call ended, and in which phase it began."""

    phase: str
    code: str
    took_ms: float
    degraded_by: tuple[str, ...] = ()
    purposes: frozenset[str] = frozenset()
    rules: str = ""


@dataclass
class Load:
    """Clients that decide without a pause until told to stop, each over a channel of its own."""

    target: str
    timeout_s: float = 5.0
    phase: str = BEFORE
    ended: list[Ended] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopped: bool = False
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(THREADS)]
        for thread in self._threads:
            thread.start()
        self.until(lambda ended: len(ended) >= 10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", RETRY_UNAVAILABLE)]
        with grpc.insecure_channel(self.target, options=options) as channel:
            decide = decision_service_pb2_grpc.DecisionServiceStub(channel).Decide
            for request in iter(lambda: scene((AT_RISK, LOYAL)[number % 2], limit=100), None):
                if self._stopped:
                    return
                ended = self._call(decide, request)
                with self._changed:
                    self.ended.append(ended)
                    self._changed.notify_all()

    def _call(
        self,
        decide: Callable[..., decision_service_pb2.DecideResponse],
        request: decision_service_pb2.DecideRequest,
    ) -> Ended:
        phase, began = self.phase, time.perf_counter()
        try:
            reply = decide(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            return Ended(phase, error.code().name, (time.perf_counter() - began) * 1000)
        took_ms = (time.perf_counter() - began) * 1000
        purposes = frozenset(action.purpose for action in reply.actions)
        return Ended(phase, "OK", took_ms, tuple(reply.degraded_by), purposes, reply.versions.rules)

    def of(self, phase: str) -> list[Ended]:
        """Calls that began in a phase and have ended."""
        with self._changed:
            return [ended for ended in self.ended if ended.phase == phase]

    def until(self, enough: Callable[[list[Ended]], bool], seconds: float = 60.0) -> None:
        """Returns once the calls of the present phase are enough."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: enough([ended for ended in self.ended if ended.phase == self.phase]), seconds
            ), Counter((ended.phase, ended.code, ended.degraded_by) for ended in self.ended)

    @contextmanager
    def fault(self) -> Iterator[None]:
        """The block is the fault: calls that begin in it are told apart."""
        self.phase = DURING
        yield
        self.phase = AFTER

    def whole_again(self) -> float:
        """Seconds until ten calls in a row were answered with all there is."""
        began = time.perf_counter()
        self.until(lambda ended: len(ended) >= 10 and all(map(is_whole, ended[-10:])))
        return time.perf_counter() - began

    def tell(self, fault: str, recovered_s: float) -> None:
        """Prints the line of the table."""
        during = self.of(DURING)
        took = sorted(ended.took_ms for ended in during)
        codes = dict(Counter(ended.code for ended in during))
        lacking = dict(Counter(by for ended in during for by in ended.degraded_by))
        usual = sorted(ended.took_ms for ended in self.of(BEFORE))[-1]
        print(
            f"\n{fault}: {codes}, without {lacking or 'nothing'}; median {took[len(took) // 2]:.1f} ms, "
            f"worst {took[-1]:.1f} ms (before: {usual:.1f}); whole again after {recovered_s:.2f} s"
        )


def is_whole(ended: Ended) -> bool:
    """Whether a call was answered with all there is."""
    return ended.code == "OK" and not ended.degraded_by


def is_told(by: str) -> Callable[[list[Ended]], bool]:
    """Whether ten calls said that they did without something."""
    return lambda ended: sum(by in each.degraded_by for each in ended) >= 10


@dataclass(frozen=True)
class _Place:
    server: RunningServer
    rules: Path
    registry: Path


@pytest.fixture(scope="module")
def place(demo_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Place]:
    """One server over files of its own, for faults it survives."""
    folder = tmp_path_factory.mktemp("chaos")
    rules, registry = copied_rules(folder), copied_registry(folder)
    shutil.copytree(demo_company, folder / "data")
    server = RunningServer(folder / "data", ("--rules", str(rules), "--registry", str(registry)), {})
    server.wait_until_serving()
    yield _Place(server, rules, registry)
    server.kill()


def test_full_disk(place: _Place) -> None:
    """Every call is answered, with nothing that would have to be proven; all is well with the first space."""
    with Load(place.server.target) as load:
        with load.fault(), full_disk(place.server):
            load.until(is_told("log"))
        recovered_s = load.whole_again()

    load.tell("log's disk full", recovered_s)
    during = load.of(DURING)
    assert {ended.code for ended in load.ended} == {"OK"}
    assert all(ended.purposes <= {"service"} for ended in during if "log" in ended.degraded_by)
    assert any("marketing" in ended.purposes for ended in load.of(AFTER))
    place.server.wait_for_log("decisions.recorded_again")


@pytest.mark.parametrize("broken", ["rules", "model"])
def test_bad_files_at_a_reload(place: _Place, broken: str) -> None:
    """No call fails, lacks anything or sees another version; mended files are served."""
    file = place.rules / RETENTION if broken == "rules" else place.registry / "churn" / "1" / "model.onnx"
    good, mark = file.read_bytes(), place.server.mark
    with Load(place.server.target) as load:
        with load.fault():
            if broken == "rules":
                spoil(place.rules)
            else:
                file.unlink()
            place.server.send(signal.SIGHUP)
            place.server.wait_for_log("snapshot.reload.failed", since=mark)
            load.until(lambda ended: len(ended) >= 10)
        file.write_bytes(good)
        place.server.send(signal.SIGHUP)
        place.server.wait_for_log("snapshot.reloaded", since=mark)
        recovered_s = load.whole_again()

    load.tell(f"SIGHUP with bad {broken}", recovered_s)
    assert all(map(is_whole, load.ended))
    assert len({ended.rules for ended in load.ended}) == 1


def test_deadline_nearly_spent(place: _Place) -> None:
    """Who hardly waits any longer gets the answer without model reasons, or learns that it is too late."""
    with Load(place.server.target) as load:
        with load.fault():
            load.timeout_s = 0.004
            load.until(lambda ended: len(ended) >= 200 or is_told("deadline")(ended))
        load.timeout_s = 5.0
        recovered_s = load.whole_again()

    load.tell("4 ms to answer", recovered_s)
    during = load.of(DURING)
    assert {ended.code for ended in during} <= {"OK", "DEADLINE_EXCEEDED"}
    assert {ended.degraded_by for ended in during if ended.code == "OK"} <= {("deadline",), ()}


@pytest.mark.slow
def test_killed_worker(start_server: Start) -> None:
    """A worker that dies costs its clients a retry and no answer; another takes its place."""
    server = start_server("--workers", "2")
    server.wait_for_log("server.ready", times=2)
    with Load(server.target) as load:
        with load.fault():
            os.kill(min(serving_workers(server)), signal.SIGKILL)
            server.wait_for_log("worker.died")
            load.until(lambda ended: len(ended) >= 10)
            server.wait_for_log("server.ready", times=3)
        recovered_s = load.whole_again()

    load.tell("worker killed with -9", recovered_s)
    codes = Counter(ended.code for ended in load.ended)
    assert set(codes) <= {"OK", "UNAVAILABLE"}
    assert codes["UNAVAILABLE"] <= THREADS  # what was read already is not sent twice by the library itself
    assert len(serving_workers(server)) == 2


@pytest.mark.slow
def test_connections_that_come_of_age_and_a_stop_fail_no_call(start_server: Start) -> None:
    """With two workers and connections that last a second, neither the end of one nor SIGTERM is seen."""
    server = start_server("--workers", "2", ARBITER_MAX_CONNECTION_AGE_S="1")
    server.wait_for_log("server.ready", times=2)
    with Load(server.target) as load:
        began = time.monotonic()
        load.until(lambda _: time.monotonic() - began > 3.0)
        served = load.of(BEFORE)
        load.phase = DURING
        server.send(signal.SIGTERM)
        code = server.wait()

    load.tell("connections of 1 s, then SIGTERM", 0.0)
    assert code == 0
    assert {ended.code for ended in served} == {"OK"}
    assert {ended.code for ended in load.ended} <= {"OK", "UNAVAILABLE"}
    assert server.log.count("server.stopped") == 2


@pytest.fixture
def redis_place(
    own_redis: RedisServer, application: Application, start_server: Start
) -> Iterator[tuple[RunningServer, RedisServer, Forwarder]]:
    """A server whose store is a Redis behind a line that can be made slow."""
    filler = open_redis(own_redis.url, timeout_ms=PATIENT_MS)
    copy_customers(application.store, filler, list(CAST))
    filler.close()
    line = Forwarder(own_redis.port)
    server = start_server("--store", f"redis://127.0.0.1:{line.port}/0")
    yield server, own_redis, line
    line.close()


@pytest.mark.parametrize("fault", ["paused", "slow", "killed"])
@pytest.mark.slow
def test_store(redis_place: tuple[RunningServer, RedisServer, Forwarder], fault: str) -> None:
    """Decisions go on with what contracts need, none waits long, and all is back with the store."""
    server, redis, line = redis_place
    with Load(server.target) as load:
        with load.fault():
            if fault == "paused":
                redis.pause()
            elif fault == "slow":
                line.delay_s = 0.2
            else:
                redis.kill()
            load.until(is_told("consents"))
        if fault == "paused":
            redis.resume()
        elif fault == "slow":
            line.delay_s = 0.0
        else:
            redis.start()
            filler = open_redis(redis.url, timeout_ms=PATIENT_MS)
            filler.close()
        if fault == "killed":  # it kept nothing on disk, so nobody is known
            load.until(lambda ended: any(each.code == "NOT_FOUND" for each in ended))
            recovered_s = 0.0
        else:
            recovered_s = load.whole_again()

    load.tell(f"store {fault}", recovered_s)
    during = [ended for ended in load.of(DURING) if "consents" in ended.degraded_by]
    assert {ended.code for ended in load.of(DURING)} == {"OK"}
    assert all(ended.purposes <= {"service"} for ended in during)
