"""One server process until it is told to stop: gRPC, or HTTP beside it.

SIGTERM and SIGINT drain, SIGHUP loads rules, models and certificates anew.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

import structlog

from engine.bootstrap import (
    Application,
    build_server,
    open_application,
    open_tracing,
    refresh_customers,
    watch_models,
    watch_readiness,
    watch_rules,
)
from engine.errors import SetupInvalid
from engine.logfiles import (
    DRIFT,
    MODEL_SHADOW,
    PROVEN,
    SHADOW,
    WEBHOOKS,
    checkpoints_of,
    compressing,
    log_directory,
)
from engine.monitor.datadir import DataDirectory
from engine.monitor.drift.exposing import DriftAlarms
from engine.monitor.exposition import Collected, Together, exposed
from engine.monitor.metrics import Metrics
from engine.monitor.vitals import Vitals
from engine.monitor.webhooks import WebhookMetrics
from engine.outgoing.progress import look
from engine.protection import protection_of
from engine.running import announced
from engine.service.watching import UNWATCHED
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.monitor.tracing import Tracing

_log = structlog.get_logger("engine.serving")

AWAITED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that servers and their supervisor wait for."""


def serve_one(settings: Settings, *, reuse_port: bool, tell_ready: Callable[[], None] = lambda: None) -> None:
    """Serves in this process until SIGTERM or SIGINT, then drains."""
    next_signal = _signals()
    with (
        open_tracing(settings) as tracing,
        nullcontext(_metrics(settings, tracing)) as metrics,
        _at_work(settings, metrics) as application,
        refresh_customers(application),
        Vitals(metrics, unsynced_bytes=lambda: application.log.unsynced_bytes) if metrics else nullcontext(),
        compressing(settings),
        metrics_served(settings, None if metrics is None or reuse_port else metrics.registry) as told,
    ):
        protection = protection_of(settings, metrics or UNWATCHED)
        server = build_server(application, reuse_port=reuse_port, tracing=tracing, protection=protection)
        gc.collect()
        gc.freeze()
        server.start()
        tell_ready()
        versions = application.live.current.versions
        _log.info("server.ready", host=settings.host, port=server.port, rules=versions.rules)
        with (
            nullcontext() if reuse_port else announced(settings, port=server.port, metrics=told),
            watch_readiness(application, server.tell_ready),
        ):
            while next_signal() == signal.SIGHUP:
                application.live.reload()
                protection.reread()
                server.follow_certificates()
        _log.info("server.draining", grace_seconds=settings.drain_seconds)
        server.drain(settings.drain_seconds)
    _log.info("server.stopped")


def _metrics(settings: Settings, tracing: Tracing | None) -> Metrics | None:
    """What counts and looks, where anybody wants to know."""
    if settings.metrics_address is None and tracing is None:
        return None
    return Metrics(timed_every=settings.timed_every, traced=None if tracing is None else tracing.current)


def serve_web(settings: Settings, *, tell_ready: Callable[[], None]) -> None:
    """Serves HTTP in this process until SIGTERM or SIGINT, then lets requests in flight finish."""
    address = settings.web_address
    if address is None:
        raise SetupInvalid("there is no address to serve HTTP at; give --web HOST:PORT")
    from engine.web.app import create_app  # here, as only this process needs an HTTP server
    from engine.web.authorising import by_token
    from engine.web.serving import http_served

    next_signal = _signals()
    metrics = None if settings.metrics_address is None else Metrics()
    protection = protection_of(settings, metrics or UNWATCHED)
    authorise = None if protection.authoriser is None else by_token(protection.authoriser)
    with (
        _at_work(settings, metrics) as application,
        nullcontext(create_app(application, authorise)) as pages,
        http_served(
            pages, address, drain_seconds=settings.drain_seconds, ending=pages.state.calls.close
        ) as port,
    ):
        tell_ready()
        _log.info("web.ready", host=address[0], port=port)
        while next_signal() == signal.SIGHUP:
            application.live.reload()
            protection.reread()
        _log.info("web.draining", grace_seconds=settings.drain_seconds)
    _log.info("web.stopped")


@contextmanager
def _at_work(settings: Settings, metrics: Metrics | None) -> Iterator[Application]:
    """An application that follows its rules and models while the block runs. Raises SetupInvalid."""
    with (
        open_application(settings, watch=metrics or UNWATCHED) as application,
        watch_rules(application),
        watch_models(application),
        application.drift if settings.drift else nullcontext(),
    ):
        yield application


@contextmanager
def metrics_served(settings: Settings, counted: Collected | None) -> Iterator[str]:
    """Serves what is counted where the settings say while the block runs; gives the address, "" for none.

    Raises SetupInvalid where it cannot.
    """
    with ExitStack() as stack:
        address = settings.metrics_address
        if address is None or counted is None:
            yield ""
            return
        host, port = address
        try:
            told = Together(
                (
                    counted,
                    DriftAlarms(settings.data_dir / DRIFT),
                    _data_directory(settings),
                    WebhookMetrics(lambda: look(settings.data_dir / WEBHOOKS)),
                )
            )
            port = stack.enter_context(exposed(told, host=host, port=port))
        except OSError as error:
            raise SetupInvalid(
                f"cannot serve metrics at {settings.metrics}: {error.strerror}; choose another --metrics"
            ) from error
        _log.info("metrics.ready", host=host, port=port)
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _data_directory(settings: Settings) -> DataDirectory:
    """What is told of the files."""
    return DataDirectory(
        settings.data_dir,
        logs={log: log_directory(settings, log) for log in (*PROVEN, SHADOW, MODEL_SHADOW)},
        checkpoints={log: checkpoints_of(settings, log).path for log in PROVEN},
    )


def _signals() -> Callable[[], int]:
    """Catches signals from now on; gives a function that waits for the next one.

    Through a pipe rather than `sigwait`: libraries start threads when imported, before a mask could reach
    them, and a signal that such a thread gets while this one is busy would end the process.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in AWAITED:
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, AWAITED)
    return lambda: os.read(reader, 1)[0]
