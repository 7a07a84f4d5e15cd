"""`arbiter demo`: a real server, real requests, and the answers in plain words."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

from rich.panel import Panel

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, types_pb2
from engine.api.client import CallFailed, RemoteArbiter, connect
from engine.cli import render
from engine.cli.common import EXIT_UNAVAILABLE, DataDir, Rules, effective_settings, fail, out, report, setup_errors
from engine.demo.cast import CAST, TOLD_APART, Scene
from engine.demo.company import load_company
from engine.settings import Settings

_START_S = 30.0
_STOP_S = 15.0
_TIMED_CALLS = 300


def demo(data_dir: DataDir = None, rules: Rules = None) -> None:
    """Start a server with the demo company, decide for a few telling customers, and say why."""
    settings = effective_settings(data_dir=data_dir, rules=rules, port=_free_port(), log_level="warning")
    with setup_errors(), out.status("loading 7,043 customers of the demo company"):
        load_company(settings)
    with _server(settings) as target, connect(target) as arbiter:
        try:
            arbiter.wait_until_serving(_START_S)
            _play(arbiter, target)
        except CallFailed as failure:
            report(failure, target)


def _play(arbiter: RemoteArbiter, target: str) -> None:
    out.print(f"server on {target}: embedded store, no Redis\n")
    for customer_id, scene in CAST.items():
        _act(arbiter, customer_id, scene)
    _object(arbiter, next(iter(CAST)))
    _ambiguous(arbiter)
    _time(arbiter, next(iter(CAST)))


def scene_request(customer_id: str, scene: Scene) -> decision_service_pb2.DecideRequest:
    """The request a channel would send in this scene."""
    context = {name: types_pb2.ContextValue(string_value=value) for name, value in scene.context.items()}
    return decision_service_pb2.DecideRequest(
        customer_id=customer_id,
        channel=scene.channel,
        placement=scene.placement,
        context=context,
        language=scene.language,
    )


def _act(arbiter: RemoteArbiter, customer_id: str, scene: Scene) -> None:
    response = arbiter.decide(scene_request(customer_id, scene))
    said = ", ".join(f"{purpose} {state}" for (purpose, _), state in scene.consents.items())
    out.print(
        Panel(
            render.decision(response),
            title=f"{customer_id} on {scene.channel} · {scene.title}",
            subtitle=said,
            title_align="left",
            subtitle_align="left",
        )
    )


def _object(arbiter: RemoteArbiter, customer_id: str) -> None:
    """The next decision after an objection obeys it; the demo then takes the customer's yes again."""
    scene = CAST[customer_id]
    _say(arbiter, customer_id, types_pb2.CONSENT_STATE_OBJECTED)
    response = arbiter.decide(scene_request(customer_id, scene))
    _say(arbiter, customer_id, types_pb2.CONSENT_STATE_GRANTED)
    left = {action.purpose for action in response.actions}
    out.print(
        Panel(
            render.decision(response, suppressed=False),
            title=f"{customer_id} objects to marketing; asked again in the same call",
            subtitle=f"purposes left: {', '.join(sorted(left)) or 'none'}",
            title_align="left",
            subtitle_align="left",
        )
    )
    if "marketing" in left:
        fail("a marketing action was returned after an objection", 1)


def _say(arbiter: RemoteArbiter, customer_id: str, state: types_pb2.ConsentState.ValueType) -> None:
    wish = consent_service_pb2.ConsentRecord(
        purpose="marketing", channel="any", state=state, source="demo", actor="customer"
    )
    arbiter.record_consent(
        consent_service_pb2.RecordConsentRequest(customer_id=customer_id, consent=wish)
    )


def _ambiguous(arbiter: RemoteArbiter) -> None:
    """A phone number of two people is no customer: Arbiter says so and does not guess."""
    request = decision_service_pb2.DecideRequest(channel="call_center")
    request.identity.type = "phone"
    request.identity.value = TOLD_APART.phone
    try:
        arbiter.decide(request)
    except CallFailed as failure:
        out.print(f"a call from {TOLD_APART.phone}, a number of two customers: {failure.code}: {failure}\n")
    else:
        fail("an identity of two customers was resolved to one", 1)


def _time(arbiter: RemoteArbiter, customer_id: str) -> None:
    request = scene_request(customer_id, CAST[customer_id])
    took_ms = []
    for _ in range(_TIMED_CALLS):
        start = time.perf_counter()
        arbiter.decide(request)
        took_ms.append((time.perf_counter() - start) * 1000)
    cuts = quantiles(took_ms, n=100)
    out.print(
        f"{_TIMED_CALLS} decisions one after the other, client, gRPC and decision log on disk included: "
        f"p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _server(settings: Settings) -> Iterator[str]:
    """A server process of its own; its log goes to a file beside the data."""
    log_path = settings.data_dir / "server.log"
    command = [sys.executable, "-m", "engine", "serve", "--port", str(settings.port)]
    command += ["--data-dir", str(settings.data_dir), "--rules", str(settings.rules)]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603  # our own program
    try:
        _check_alive(process, log_path)
        yield f"{settings.host}:{settings.port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _check_alive(process: subprocess.Popen[bytes], log_path: Path) -> None:
    """Ends the command where the server could not even start, with its own words."""
    try:
        code = process.wait(0.2)
    except subprocess.TimeoutExpired:
        return
    fail(f"the server ended with {code}:\n{log_path.read_text()}", EXIT_UNAVAILABLE)


