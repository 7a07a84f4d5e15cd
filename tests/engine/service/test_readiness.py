"""Readiness: a full or lost log, or a lost store, tells exactly those services that need it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import grpc
import pytest
from arbiter_at_work import AT_RISK, connect, scene, settings_for
from grpc_health.v1 import health_pb2, health_pb2_grpc

from engine.bootstrap import build_server, open_application, watch_readiness
from engine.monitor.metrics import Metrics
from engine.service.readiness import is_writable
from feature_store.errors import StoreUnavailable

SERVICES = ("DecisionService", "OutcomeService", "ConsentService", "EventService")


class _Served:
    """A server in this process whose readiness is looked at when the test says so."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.metrics = Metrics()

    def __enter__(self) -> _Served:
        self._opened = open_application(settings_for(self.data_dir), watch=self.metrics)
        self.application = self._opened.__enter__()
        self.server = build_server(self.application, reuse_port=False)
        self.server.start()
        self.readiness = watch_readiness(self.application, self.server.tell_ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.drain(1.0)
        self._opened.__exit__(None, None, None)

    def health(self) -> dict[str, bool]:
        """What health checks say after a look, by name; "" is the whole server."""
        self.readiness.look()
        with grpc.insecure_channel(f"localhost:{self.server.port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            return {
                name: check(health_pb2.HealthCheckRequest(service=full), timeout=10).status
                == health_pb2.HealthCheckResponse.SERVING
                for name, full in {"": "", "live": "live", **{s: f"arbiter.v1.{s}" for s in SERVICES}}.items()
            }

    def gauge(self, service: str) -> float | None:
        """What Prometheus would be told of a service."""
        return self.metrics.registry.get_sample_value("arbiter_ready", {"service": service})


def test_a_lost_decision_log_makes_decisions_not_ready_until_it_is_back(data_dir: Path) -> None:
    """The process lives on: restarting it would not bring a disk back."""
    with _Served(data_dir) as served:
        at_first = served.health()
        (data_dir / "decisions").rename(data_dir / "away")
        lost, lost_gauge = served.health(), served.gauge("DecisionService")
        (data_dir / "away").rename(data_dir / "decisions")
        back = served.health()

    assert all(at_first.values())
    assert [name for name, ready in lost.items() if not ready] == ["", "DecisionService"]
    assert lost_gauge == 0
    assert all(back.values())


def test_a_lost_store_leaves_decisions_ready_and_nothing_that_writes_to_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decisions go on without consents, and deny; what must be kept is sent elsewhere."""
    with _Served(data_dir) as served:

        def away(_customer_id: str) -> None:
            raise StoreUnavailable("store", "it is away")

        monkeypatch.setattr(served.application.store, "read", away)
        health = served.health()
        with connect(f"localhost:{served.server.port}", timeout_s=30.0) as arbiter:
            decided = arbiter.decide(scene(AT_RISK))

    assert health == {
        "": True, "live": True, "DecisionService": True, "OutcomeService": False, "ConsentService": False,
        "EventService": False,
    }  # fmt: skip
    assert "consents" in decided.degraded_by
    assert served.metrics.registry.get_sample_value("arbiter_store_reachable") == 0


def test_a_server_that_drains_stays_so_whatever_is_found(data_dir: Path) -> None:
    """No look makes it ready again."""
    with _Served(data_dir) as served:
        served.server.drain(0.1)
        shutil.rmtree(data_dir / "consents")
        served.readiness.look()
        (data_dir / "consents").mkdir()
        served.readiness.look()

    assert served.gauge("ConsentService") == 1


def test_looking_leaves_nothing_in_a_log(data_dir: Path) -> None:
    """The file that is written to see is gone at once."""
    with _Served(data_dir) as served:
        before = sorted((data_dir / "decisions").iterdir())
        served.health()

        assert sorted((data_dir / "decisions").iterdir()) == before


def test_a_disk_without_room_cannot_be_written(tmp_path: Path) -> None:
    """An empty file could still be made there; a folder that is away cannot hold one either."""
    full = tmp_path / "full"
    full.mkdir()
    (full / f".probe-{os.getpid()}").symlink_to("/dev/full")

    assert is_writable(tmp_path)
    assert not is_writable(full)
    assert not is_writable(tmp_path / "away")
