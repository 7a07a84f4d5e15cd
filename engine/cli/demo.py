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
from types import FrameType
from typing import NoReturn

import typer
from rich.rule import Rule
from rich.text import Text

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, types_pb2
from engine.cli import render
from engine.cli.calls import report
from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    effective_settings,
    err,
    fail,
    out,
    present,
    require_folder,
    setup_errors,
)
from engine.cli.options import DataDir, Rules
from engine.client import ArbiterClient, CallFailed
from engine.demo.cast import CAST, TOLD_APART, Scene
from engine.demo.company import load_company
from engine.settings import Settings

_START_S = 30.0
_KNOCK_S = 0.5
_STOP_S = 15.0
_TIMED_CALLS = 300

app = typer.Typer(add_completion=False)


@app.command()
def demo(data_dir: DataDir = None, rules: Rules = None) -> None:
    """Start a server with the demo company, decide for telling customers, and say why."""
    settings = effective_settings(data_dir=data_dir, rules=rules, port=_free_port(), log_level="warning")
    require_folder(settings)
    with setup_errors():
        load(settings)
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _end)  # so that the server is stopped whatever ends the demo
    with _server(settings) as target, ArbiterClient(target, timeout_s=5.0, channels=1) as arbiter:
        try:
            _play(arbiter, settings)
        except CallFailed as failure:
            report(failure, target)


def load(settings: Settings) -> None:
    """Loads the demo company, unless the data directory is somebody's own. Raises SetupInvalid."""
    if (settings.data_dir / "decisions").is_dir() and not (settings.data_dir / "demo.json").exists():
        fail(
            f"{settings.data_dir}: holds data that is not the demo's, and made-up consents do not belong "
            "there; name another folder with --data-dir",
            EXIT_ERRORS,
        )
    with err.status("loading the 7,043 customers of the demo company"):
        load_company(settings)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _play(arbiter: ArbiterClient, settings: Settings) -> None:
    out.print(
        f"A server on {settings.host}:{settings.port} decides for five customers of a phone company: what to "
        "propose, why, and what was suppressed and why. The customers are IBM's Telco data; consents and "
        "contacts are made up."
    )
    out.print(Text(render.LEGEND, style="dim"))
    for customer_id, scene in CAST.items():
        _announce(f"{customer_id}: {scene.title}")
        _act(arbiter, customer_id, scene)
    _object(arbiter, next(iter(CAST)))
    _ambiguous(arbiter)
    _time(arbiter, next(iter(CAST)))
    out.print(
        f"\nTo go on: arbiter serve --demo --data-dir {settings.data_dir}", markup=False, soft_wrap=True
    )


def _announce(title: str) -> None:
    out.print()
    out.print(Rule(Text(title, style="bold"), align="left"))


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


def _act(arbiter: ArbiterClient, customer_id: str, scene: Scene) -> decision_service_pb2.DecideResponse:
    response = arbiter.decide(scene_request(customer_id, scene))
    facts = "".join(f" --context {name}={value}" for name, value in scene.context.items())
    language = f" --language {scene.language}" if scene.language != "en" else ""
    asked = (
        f"--customer {customer_id} --channel {scene.channel} --placement {scene.placement}{facts}{language}"
    )
    out.print(Text(f"  $ arbiter decide {asked}", style="dim"), soft_wrap=True)
    present(render.decision(response))
    return response


def _object(arbiter: ArbiterClient, customer_id: str) -> None:
    """The next decision after an objection obeys it; the demo then records what held before."""
    held = arbiter.get_consents(consent_service_pb2.GetConsentsRequest(customer_id=customer_id)).consents
    before = [r.state for r in held if (r.purpose, r.channel) == ("marketing", "any")]
    _announce(f"{customer_id} objects to marketing; asked again in the same call")
    _say(arbiter, customer_id, types_pb2.CONSENT_STATE_OBJECTED)
    try:
        response = _act(arbiter, customer_id, CAST[customer_id])
    finally:
        for state in before:
            _say(arbiter, customer_id, state)
    if any(action.purpose == "marketing" for action in response.actions):
        fail("a marketing action was returned after an objection", EXIT_FAILED)


def _say(arbiter: ArbiterClient, customer_id: str, state: types_pb2.ConsentState.ValueType) -> None:
    wish = consent_service_pb2.ConsentRecord(
        purpose="marketing", channel="any", state=state, source="demo", actor="customer"
    )
    arbiter.record_consent(consent_service_pb2.RecordConsentRequest(customer_id=customer_id, consent=wish))


def _ambiguous(arbiter: ArbiterClient) -> None:
    """A phone number of two people is no customer: Arbiter says so and does not guess."""
    request = decision_service_pb2.DecideRequest(channel="call_center")
    request.identity.type = "phone"
    request.identity.value = TOLD_APART.phone
    _announce(f"A call from {TOLD_APART.phone}, a number that two customers share")
    try:
        arbiter.decide(request)
    except CallFailed as failure:
        if failure.unavailable:
            raise
        out.print(f"  {failure.code}: {failure}")
    else:
        fail("an identity of two customers was resolved to one", EXIT_FAILED)


def _time(arbiter: ArbiterClient, customer_id: str) -> None:
    request = scene_request(customer_id, CAST[customer_id])
    took_ms = []
    for _ in range(_TIMED_CALLS):
        start = time.perf_counter()
        arbiter.decide(request)
        took_ms.append((time.perf_counter() - start) * 1000)
    cuts = quantiles(took_ms, n=100)
    _announce(f"{_TIMED_CALLS} decisions, one after the other")
    out.print(
        f"  p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms, seen by the client: gRPC both ways and the "
        "decision log on disk included"
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
    command = [sys.executable, "-m", "engine", "serve", "--host", "127.0.0.1", "--port", str(settings.port)]
    command += ["--data-dir", str(settings.data_dir), "--rules", str(settings.rules)]
    with log_path.open("wb") as log:
        # A session of its own: Ctrl-C is for the demo, which then stops the server itself.
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # noqa: S603  # our own program
    target = f"127.0.0.1:{settings.port}"
    try:
        with err.status("starting the server"):
            _wait_until_serving(process, target, log_path)
        yield target
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except BaseException:  # too slow, or interrupted once more: it must not outlive the demo
            process.kill()
            raise
    if process.returncode:
        fail(f"the server ended with {process.returncode}; see {log_path}", EXIT_UNAVAILABLE)


def _wait_until_serving(process: subprocess.Popen[bytes], target: str, log_path: Path) -> None:
    """Returns when the server answers. Ends the command where it cannot start, with its own words."""
    until = time.monotonic() + _START_S
    with ArbiterClient(target, timeout_s=5.0, channels=1) as arbiter:
        while process.poll() is None and time.monotonic() < until:
            try:
                arbiter.wait_until_serving(_KNOCK_S)
            except CallFailed:
                continue
            return
    words = log_path.read_text(encoding="utf-8", errors="replace").strip().removeprefix("error: ")
    fail(f"the server did not start: {words}", EXIT_UNAVAILABLE if process.poll() is None else EXIT_ERRORS)
