"""The life of a server: one process, or a supervisor with several that share the port.

SIGTERM and SIGINT drain, SIGHUP loads rules and models anew; a supervisor passes both on and replaces
a worker that dies.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
from contextlib import closing
from multiprocessing.connection import wait as wait_any
from multiprocessing.process import BaseProcess
from types import FrameType

import structlog

from engine import logs
from engine.bootstrap import build_server, open_application, watch_rules
from engine.errors import SetupInvalid
from engine.settings import Settings

_log = structlog.get_logger("engine.serving")

_QUICK_DEATHS = 3
"""Workers that may die in a row before being ready; then the supervisor gives up."""
_SETUP_FAILED = 3
"""Exit code of a worker that cannot start; trying again would not help."""


def serve(settings: Settings) -> None:
    """Serves until told to stop. Raises SetupInvalid where it cannot start."""
    if settings.workers == 1:
        serve_one(settings, reuse_port=False)
    else:
        _supervise(settings)


def serve_one(settings: Settings, *, reuse_port: bool) -> None:
    """Serves in this process until SIGTERM or SIGINT, then drains."""
    awaited = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)  # for all threads: only `sigwait` below takes them
    with open_application(settings) as application, watch_rules(application):
        server = build_server(application, reuse_port=reuse_port)
        gc.collect()
        gc.freeze()
        server.start()
        versions = application.live.current.versions
        _log.info("server.ready", host=settings.host, port=server.port, rules=versions.rules)
        while signal.sigwait(awaited) == signal.SIGHUP:
            application.live.reload()
        _log.info("server.draining", grace_seconds=settings.drain_seconds)
        server.drain(settings.drain_seconds)
    _log.info("server.stopped")


def _worker(settings: Settings) -> None:
    logs.configure(settings.log_level)
    try:
        serve_one(settings, reuse_port=True)
    except SetupInvalid as error:
        _log.error("server.setup_failed", cause=str(error))
        raise SystemExit(_SETUP_FAILED) from None


def _supervise(settings: Settings) -> None:
    """Keeps `settings.workers` processes on one port. Raises SetupInvalid where they cannot start."""
    with closing(_hold_port(settings)) as held:
        settings = settings.model_copy(update={"port": held.getsockname()[1]})
        _Supervisor(settings).run()


def _hold_port(settings: Settings) -> socket.socket:
    """Keeps the port for the workers, without listening on it."""
    held = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((settings.host, settings.port))
    except OSError as error:
        held.close()
        raise SetupInvalid(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another --port"
        ) from error
    return held


class _Supervisor:
    """Starts workers, replaces dead ones, passes signals on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._spawn = multiprocessing.get_context("spawn")
        self._workers: list[BaseProcess] = []
        self._stopping = False

    def run(self) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        signal.signal(signal.SIGHUP, lambda number, _frame: self._pass_on(number))
        self._workers = [self._start() for _ in range(self._settings.workers)]
        failures = 0
        while self._workers:
            wait_any([worker.sentinel for worker in self._workers])
            dead = [worker for worker in self._workers if not worker.is_alive()]
            self._workers = [worker for worker in self._workers if worker.is_alive()]
            for worker in dead:
                failures += self._bury(worker)
            if failures >= _QUICK_DEATHS and not self._stopping:
                self._stop(signal.SIGTERM, None)
        if failures >= _QUICK_DEATHS:
            raise SetupInvalid("the workers cannot start; their log above says why")

    def _start(self) -> BaseProcess:
        worker = self._spawn.Process(target=_worker, args=(self._settings,), daemon=False)
        worker.start()
        return worker

    def _bury(self, worker: BaseProcess) -> int:
        """Replaces a dead worker; 1 where it could not even start."""
        if self._stopping:
            return 0
        failed = worker.exitcode == _SETUP_FAILED
        _log.error("worker.died", pid=worker.pid, exit_code=worker.exitcode)
        if failed:
            return _QUICK_DEATHS
        self._workers.append(self._start())
        return 0

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid is not None and worker.is_alive():
                os.kill(worker.pid, number)
