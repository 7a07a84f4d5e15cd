"""`arbiter log forward`: decisions to a Redis Stream, as they are made."""

from __future__ import annotations

import re
import signal
import threading
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_UNAVAILABLE,
    effective_settings,
    fail,
    out,
    print_document,
    require_data,
    setup_errors,
)
from engine.cli.log_export import Masking, mask_of
from engine.cli.options import AsJson, DataDir

if TYPE_CHECKING:
    from engine.settings import Settings

_NAME = re.compile(r"[^A-Za-z0-9_-]+")


def forward(
    to: Annotated[str, typer.Option("--to", help="URL of the Redis that holds the stream.")],
    stream: Annotated[str, typer.Option("--stream", help="Name of the stream.")] = "arbiter:decisions",
    once: Annotated[
        bool, typer.Option("--once", help="End when all is sent that is logged now, instead of following.")
    ] = False,
    batch: Annotated[
        int, typer.Option("--batch", help="Most decisions sent at once.", min=1, max=5000)
    ] = 500,
    max_length: Annotated[
        int | None,
        typer.Option("--max-length", help="Let the stream drop its oldest beyond so many.", min=1),
    ] = None,
    wait_above: Annotated[
        int | None,
        typer.Option("--wait-above", help="Wait while the stream holds so many; nothing is dropped.", min=1),
    ] = None,
    masking: Masking = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Forward decisions to a Redis Stream as they are made, until SIGTERM or Ctrl-C.

    Each comes at least once: it goes on where it stopped, whatever dies. Erased customers are left out.
    """
    from engine.decisionlog.errors import LogCorrupt, LogError
    from engine.decisionlog.forwarding import Forwarder, Pressure
    from engine.logfiles import DECISIONS, ERASED, log_directory
    from engine.service.erased import ErasedCustomers
    from engine.stores import open_outbound
    from feature_store.errors import StoreError

    settings = effective_settings(data_dir=data_dir, log_masking=masking)
    require_data(settings, DECISIONS)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    erased = ErasedCustomers(settings.data_dir / ERASED)
    try:
        with setup_errors():
            opened = open_outbound(settings, to, name=stream)
            forwarder = Forwarder(
                log_directory(settings, DECISIONS),
                opened,
                folder=_folder(settings, opened.place, stream),
                mask=mask_of(settings),
                is_erased=lambda customer_id: erased.entry(customer_id) is not None,
                away=StoreError,
                pressure=Pressure(batch, max_length, wait_above),
                stop=stop,
            )
        forwarder.run(once=once)
    except StoreError as error:
        fail(str(error), EXIT_ERRORS)
    except LogError as error:
        fail(str(error), EXIT_ERRORS if isinstance(error, LogCorrupt) else EXIT_UNAVAILABLE)
    if as_json:
        print_document(asdict(forwarder.done))
    else:
        out.print(
            f"{forwarder.done.sent:,} decisions sent, {forwarder.done.erased:,} of erased customers not"
        )


def _folder(settings: Settings, place: str, stream: str) -> Path:
    """Where it is kept how far this stream has come."""
    digest = blake2b(f"{place} {stream}".encode(), digest_size=6).hexdigest()
    return settings.data_dir / "forwarding" / f"{_NAME.sub('-', stream).strip('-')[:40]}-{digest}"
