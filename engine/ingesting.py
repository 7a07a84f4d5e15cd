"""The life of an ingest process: reads a stream of events until SIGTERM or SIGINT, and looks at the due."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import threading
import uuid
from dataclasses import dataclass

import structlog

from engine.bootstrap import open_application, refresh_customers, wall_clock_ms, watch_rules
from engine.errors import SetupInvalid, StateUnavailable
from engine.events.stream import Pace, StreamIntake
from engine.settings import Settings
from engine.stores import letter_cipher, open_stream
from feature_store.errors import StoreError

_log = structlog.get_logger("engine.ingesting")

STORE_TIMEOUT_MS = 1_000
"""Where the settings do not say: no decision waits for an ingest process, and its batches are large."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which stream to read, and as part of which group."""

    url: str
    name: str
    group: str
    pace: Pace


def ingest(settings: Settings, source: Source) -> None:
    """Reads until told to stop. Raises SetupInvalid where it cannot start."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    if "store_timeout_ms" not in settings.model_fields_set:
        settings = settings.model_copy(update={"store_timeout_ms": STORE_TIMEOUT_MS})
    consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        stream = open_stream(settings, source.url, name=source.name, group=source.group, consumer=consumer)
    except StoreError as error:
        raise SetupInvalid(str(error)) from error
    with open_application(settings) as application, watch_rules(application), refresh_customers(application):
        with contextlib.suppress(StateUnavailable):  # the store is away; the first batch waits for it
            application.events.prepare()
        gc.collect()
        gc.freeze()
        intake = StreamIntake(
            stream,
            application.events.ingest,
            clock=wall_clock_ms,
            pace=source.pace,
            stop=stop,
            cipher=letter_cipher(settings),
        )
        _log.info("ingest.ready", stream=source.name, group=source.group, consumer=consumer)
        intake.run()
        try:
            stream.leave()
        except StoreError as error:
            _log.warning("ingest.not_left", cause=str(error))
        finally:
            stream.close()
        _log.info("ingest.stopped", handled=intake.handled)
