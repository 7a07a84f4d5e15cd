"""Metrics of a real server: what its processes did adds up, and a version they refuse is seen."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arbiter_at_work import AT_RISK, RunningServer, copied_rules, failure_of, scene, set_threshold
from prometheus_client.parser import text_string_to_metric_families

from engine import publishing
from engine.settings import Settings
from engine.snapshots import rule_versions

Start = Callable[..., RunningServer]
DECIDE = "arbiter.v1.DecisionService/Decide"
ANY_PORT = "127.0.0.1:0"
COUNTED = (
    "arbiter_rpc_calls_total", "arbiter_rpc_seconds_count", "arbiter_decisions_total", "arbiter_rules_info",
)  # fmt: skip
_READY = "server.ready"


@dataclass(frozen=True)
class Standing:
    """What the endpoint says of the rules."""

    versions: dict[str, float]
    reloads: float
    failures: float
    successful: float


def logged(server: RunningServer, event: str) -> list[dict[str, Any]]:
    """The log's entries of an event."""
    entries = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry["event"] == event]


def metrics_files(server: RunningServer) -> list[Path]:
    """Files below a folder of metrics that the process which was started holds open."""
    opened = [fd.readlink() for fd in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    return [path for path in opened if "arbiter-metrics-" in str(path)]


def scraped(server: RunningServer) -> str:
    """The text that Prometheus would get."""
    server.wait_for_log("metrics.ready")
    (entry,) = logged(server, "metrics.ready")
    with urllib.request.urlopen(f"http://127.0.0.1:{entry['port']}/metrics", timeout=10) as reply:
        return str(reply.read().decode())


def values(server: RunningServer, name: str) -> dict[str, float]:
    """The series of one name: values of its labels, in the order of their names, to the number."""
    return {
        " ".join(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(scraped(server))
        for sample in family.samples
        if sample.name == name
    }


def standing(server: RunningServer, *, once: Standing | None = None) -> Standing:
    """What the endpoint says of the rules: now, or `once` it is as expected or has had all its time."""
    names = ("reloads_total", "reload_failures_total", "last_reload_successful")
    deadline = time.monotonic() + 30.0
    while True:
        told = [values(server, f"arbiter_rules_{name}")[""] for name in names]
        found = Standing(values(server, "arbiter_rules_info"), *told)
        if once in (None, found) or time.monotonic() > deadline:
            return found


def published(data_dir: Path, folder: Path, threshold: float) -> str:
    """Publishes the demo's rules with a threshold; gives the version."""
    folder.mkdir()
    rules = copied_rules(folder)
    set_threshold(rules, threshold)
    settings = Settings(data_dir=data_dir, rules=rules)
    return publishing.publish(settings, author="ada", message=folder.name)[0].rules


def activate_without_its_files(data_dir: Path, rules: str) -> None:
    """Makes a version the one to serve whose files are lost, which no command would do."""
    for stored in (data_dir / "rulesets").glob(f"{rules.removeprefix('sha256:')[:32]}-*.json"):
        stored.unlink()
    versions = rule_versions(Settings(data_dir=data_dir))
    versions.activate(versions.find(rules), at_ms=1, author="ada", reason="")


def decide(server: RunningServer, times: int) -> None:
    """Decides over a connection each, which may reach any process."""
    for _ in range(times):
        with server.connect() as arbiter:
            arbiter.decide(scene(AT_RISK))


def test_versions_are_named_while_they_serve_and_a_broken_one_is_counted(
    data_dir: Path, tmp_path: Path, start_server: Start
) -> None:
    """Of two processes: first both switch, then both refuse what is broken and go on with what they have."""
    folders = {"low": 0.5, "high": 2.0, "bad": 4.0}
    low, high, bad = (published(data_dir, tmp_path / name, folders[name]) for name in folders)
    settings = Settings(data_dir=data_dir)
    publishing.activate(settings, low, author="ada", reason="")
    server = start_server("--workers", "2", "--metrics", ANY_PORT)
    server.wait_for_log(_READY, times=2)
    at_first = standing(server)

    publishing.activate(settings, high, author="ada", reason="")
    switched = standing(server, once=Standing({high: 1}, reloads=2, failures=0, successful=1))
    activate_without_its_files(data_dir, bad)
    refused = standing(server, once=Standing({high: 1}, reloads=2, failures=2, successful=0))
    decide(server, 2)
    decided = sum(values(server, "arbiter_decisions_total").values())
    server.send(signal.SIGTERM)  # so that its folder in memory goes
    server.wait()

    assert at_first == Standing({low: 1}, reloads=0, failures=0, successful=1)
    assert switched == Standing({high: 1}, reloads=2, failures=0, successful=1)
    assert refused == Standing({high: 1}, reloads=2, failures=2, successful=0)
    assert decided == 2


def test_calls_of_all_workers_add_up_and_outlive_them(data_dir: Path, start_server: Start) -> None:
    """What a killed worker counted still counts, and when the server ends nothing is left in memory."""
    server = start_server("--workers", "2", "--metrics", ANY_PORT)
    server.wait_for_log(_READY, times=2)
    held = metrics_files(server)
    decide(server, 12)
    before = values(server, "arbiter_rpc_calls_total")[f"OK {DECIDE}"]

    for pid in [entry["pid"] for entry in logged(server, "worker.started")]:
        os.kill(pid, signal.SIGKILL)
    server.wait_for_log(_READY, times=4)
    decide(server, 4)
    after = {name: values(server, name) for name in COUNTED}
    ended = values(server, "arbiter_workers_ended_total")
    alive = values(server, "arbiter_process_start_time_seconds")
    server.send(signal.SIGTERM)
    server.wait()

    assert ended == {"": 2}
    assert len(alive) == 2
    assert before == 12
    assert after["arbiter_rpc_calls_total"][f"OK {DECIDE}"] == 16
    assert after["arbiter_rpc_seconds_count"][DECIDE] == 16
    assert sum(after["arbiter_decisions_total"].values()) == 16
    assert len(after["arbiter_rules_info"]) == 1
    assert [lock.parent.exists() for lock in held] == [False]


def test_one_process_counts_refusals_and_names_nobody(
    data_dir: Path, tmp_path: Path, start_server: Start
) -> None:
    """Labels are methods, codes and channels: no customer is to be found in what is served."""
    good, bad = (published(data_dir, tmp_path / name, t) for name, t in (("good", 0.5), ("bad", 2.0)))
    publishing.activate(Settings(data_dir=data_dir), good, author="ada", reason="")
    server = start_server("--metrics", ANY_PORT)
    with server.connect() as arbiter:
        failure_of(lambda: arbiter.decide(scene(AT_RISK, "somebody-unknown")))
        failure_of(lambda: arbiter.decide(scene(AT_RISK, channel="carrier_pigeon")))
        arbiter.decide(scene(AT_RISK))

    activate_without_its_files(data_dir, bad)
    refused = standing(server, once=Standing({good: 1}, reloads=0, failures=1, successful=0))
    decide(server, 1)
    calls, text = values(server, "arbiter_rpc_calls_total"), scraped(server)

    assert refused == Standing({good: 1}, reloads=0, failures=1, successful=0)
    assert [calls[f"{code} {DECIDE}"] for code in ("NOT_FOUND", "INVALID_ARGUMENT", "OK")] == [1, 1, 2]
    assert not any(word in text for word in (AT_RISK, "somebody-unknown", "carrier_pigeon"))


def test_a_taken_address_ends_the_server_with_what_to_do(start_server: Start) -> None:
    """Before it serves anything."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        server = start_server("--workers", "2", "--metrics", address, ready=False)
        code = server.wait()

    assert code == 3
    assert f"cannot serve metrics at {address}" in server.log
    assert "choose another --metrics" in server.log
    assert logged(server, "worker.started") == []
