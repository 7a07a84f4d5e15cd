"""The life of a server: one process, or several that share the port under a supervisor.

The supervisor passes SIGTERM, SIGINT and SIGHUP on and replaces a worker that dies. Workers end with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_any
from multiprocessing.process import BaseProcess, parent_process
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import structlog

from engine import logs
from engine.errors import SetupInvalid
from engine.logfiles import (
    identity_key,
)
from engine.monitor.exposition import shared_values
from engine.ports import held_port
from engine.pseudonyms import pseudonymise
from engine.running import announced
from engine.serving import AWAITED, metrics_served, serve_one, serve_web
from engine.settings import Settings

if TYPE_CHECKING:
    pass

_log = structlog.get_logger("engine.supervising")

_EARLY_DEATHS = 3
"""Workers that may die in a row before they serve, while none serves; then the supervisor gives up."""
_PAUSE_S = 2.0
"""Time before a worker that could not start is tried again."""
_SETUP_FAILED = 3
"""Exit code of a worker whose files or settings do not work."""


def serve(settings: Settings) -> None:
    """Serves until told to stop. Raises SetupInvalid where it cannot start."""
    alone = settings.workers == 1 and settings.web_address is None and settings.tls_certificate is None
    if alone:  # else the port is shared, be it with the listener of the next certificate
        serve_one(settings, reuse_port=False)
    else:
        _supervise(settings)


def _worker(settings: Settings, ready: Connection) -> None:
    _serve_as_told(partial(serve_one, reuse_port=True), settings, ready)


def _web(settings: Settings, ready: Connection) -> None:
    _serve_as_told(serve_web, settings, ready)


def _serve_as_told(serving: Serving, settings: Settings, ready: Connection) -> None:
    threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    logs.configure(settings.log_level)
    pseudonymise(identity_key(settings))

    def tell_ready() -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, which the thread above deals with
            ready.send_bytes(b"ready")

    try:
        serving(settings, tell_ready=tell_ready)
    except SetupInvalid as error:
        _log.error("server.setup_failed", cause=str(error))
        raise SystemExit(_SETUP_FAILED) from None


def _end_with_supervisor() -> None:
    """Drains when the supervisor has died: nobody would replace, reload or stop this worker any more."""
    supervisor = parent_process()
    if supervisor is not None:
        wait_any([supervisor.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _supervise(settings: Settings) -> None:
    """Keeps `settings.workers` processes on one port, and one for HTTP where that is on.

    Raises SetupInvalid where they cannot start.
    """
    with ExitStack() as held:
        address = (settings.host, settings.port)
        port = held.enter_context(closing(held_port(address, "--port"))).getsockname()[1]
        settings = settings.model_copy(update={"port": port, "web": _hold_web(settings, held)})
        ended, metrics = held.enter_context(_shared_metrics(settings))
        with announced(settings, port=settings.port, metrics=metrics):
            _Supervisor(settings, ended).run()


def _hold_web(settings: Settings, held: ExitStack) -> str:
    """Keeps the port for HTTP likewise; gives the setting with that port, or off."""
    if settings.web_address is None:
        return settings.web
    port = held.enter_context(closing(held_port(settings.web_address, "--web"))).getsockname()[1]
    return f"{settings.web.rpartition(':')[0]}:{port}"


@contextmanager
def _shared_metrics(settings: Settings) -> Iterator[tuple[Callable[[int], None], str]]:
    """Serves the metrics of all workers; gives what must be told of each one that has ended, and where."""
    if settings.metrics_address is None:
        yield lambda _pid: None, ""
        return
    with ExitStack() as stack:
        try:
            shared = stack.enter_context(shared_values())
        except OSError as error:
            raise SetupInvalid(f"no room for the metrics of the workers: {error.strerror}") from error
        address = stack.enter_context(metrics_served(settings, shared))
        yield shared.forget, address


@contextmanager
def _held_back() -> Iterator[None]:
    """Signals wait until the block ends; a process started in it keeps them waiting until `_signals`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, AWAITED)


class Serving(Protocol):
    """What a process of the supervisor's does until it is told to stop."""

    def __call__(self, settings: Settings, *, tell_ready: Callable[[], None]) -> None:
        """Raises SetupInvalid where it cannot."""
        ...


Task = Callable[[Settings, Connection], None]


@dataclass(slots=True, eq=False)
class _Worker:
    """A process that serves, and the pipe on which it says so."""

    task: Task
    process: BaseProcess
    ready: Connection
    served: bool = False

    def has_served(self) -> bool:
        """Whether it got as far as serving."""
        if not self.served and self.ready.poll():
            with contextlib.suppress(EOFError, OSError):  # it ended without a word
                self.served = bool(self.ready.recv_bytes())
        return self.served


class _Supervisor:
    """Starts workers, replaces dead ones, passes signals on."""

    def __init__(self, settings: Settings, ended: Callable[[int], None]) -> None:
        self._settings = settings
        self._ended = ended
        self._spawn = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._vacant: list[Task] = []
        self._early_deaths = 0
        self._stopping = False
        self._failed = False

    def run(self) -> None:
        """Returns when all workers have ended. Raises SetupInvalid where none can serve."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        signal.signal(signal.SIGHUP, lambda number, _frame: self._pass_on(number))
        resource_tracker.ensure_running()  # now, as starting it lets held back signals through
        self._vacant = [_worker] * self._settings.workers
        if self._settings.web_address is not None:
            self._vacant.append(_web)
        self._fill()
        while self._workers or self._vacant:
            sentinels = [worker.process.sentinel for worker in self._workers]
            wait_any(sentinels, timeout=_PAUSE_S if self._vacant else None)
            self._fill()
            for worker in [w for w in self._workers if not w.process.is_alive()]:
                self._bury(worker)
        if self._failed:
            raise SetupInvalid("the workers cannot start; their log above says why")

    def _fill(self) -> None:
        """Starts a worker for every vacancy; there is none once stopping."""
        while self._vacant:
            self._start(self._vacant.pop(0))

    def _start(self, task: Task) -> None:
        ready, tell = self._spawn.Pipe(duplex=False)
        process = self._spawn.Process(target=task, args=(self._settings, tell), daemon=False)
        with _held_back():
            process.start()
            self._workers.append(_Worker(task, process, ready))
        tell.close()
        _log.info("worker.started", pid=process.pid)
        if self._stopping:  # since before it was on the list
            self._pass_on(signal.SIGTERM)

    def _bury(self, worker: _Worker) -> None:
        """Replaces a dead worker, after a pause where it never served; gives up where none can."""
        self._workers.remove(worker)
        served = worker.has_served()
        worker.ready.close()
        if worker.process.pid is not None:
            self._ended(worker.process.pid)
        if self._stopping:
            return
        code = worker.process.exitcode
        _log.error("worker.died", pid=worker.process.pid, exit_code=code, served=served)
        if served:
            self._early_deaths = 0
            self._start(worker.task)
            return
        self._early_deaths += 1
        self._vacant.append(worker.task)
        if any(other.has_served() for other in self._workers):
            self._early_deaths = 0
        elif code == _SETUP_FAILED or self._early_deaths >= _EARLY_DEATHS:
            self._failed = True
            self._stop(signal.SIGTERM, None)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping, self._vacant = True, []
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: int) -> None:
        for worker in self._workers:
            if worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, number)
