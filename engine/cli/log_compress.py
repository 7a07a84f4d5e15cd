"""`arbiter log compress`: what servers do in the background, now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.console import (
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    effective_settings,
    err,
    fail,
    out,
    print_document,
    require_data,
)
from engine.cli.options import AsJson, DataDir

if TYPE_CHECKING:
    from engine.decisionlog.compressing import Compressed
    from engine.settings import Settings

_MIB = 1 << 20


def compress(
    ended: Annotated[
        int, typer.Option("--ended", help="Only files that nobody wrote for so many minutes.", min=0)
    ] = 0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compress the files of decisions and outcomes that have ended; everything reads as before.

    Servers may go on. Ends with 4 where a damaged file stays as it is; the others are compressed.
    """
    from engine.decisionlog.errors import LogError

    settings = effective_settings(data_dir=data_dir, log_level="error")
    require_data(settings, "decisions")
    try:
        done = list(_told(_each(settings, ended), quiet=as_json))
    except LogError as error:
        fail(str(error), EXIT_UNAVAILABLE)
    if as_json:
        print_document({"segments": [asdict(one) for one in done]})
    else:
        before, after = sum(one.bytes_before for one in done), sum(one.bytes_after for one in done)
        out.print(f"{len(done)} files, {before / _MIB:,.1f} MiB before, {after / _MIB:,.1f} MiB now")
    if any(one.refused for one in done):
        raise typer.Exit(EXIT_FAILED)


def _each(settings: Settings, ended: int) -> Iterator[Compressed]:
    from engine.decisionlog.compressing import compress as compress_log
    from engine.logfiles import COMPRESSED, log_directory

    for log in COMPRESSED:
        directory = log_directory(settings, log)
        if directory.is_dir():
            yield from compress_log(directory, ended_before_s=time.time() - ended * 60)


def _told(each: Iterator[Compressed], *, quiet: bool) -> Iterator[Compressed]:
    """Says what becomes of each file, as it does."""
    for one in each:
        if one.refused:
            err.print(f"stays as it is: {one.refused}", markup=False, soft_wrap=True)
        elif not quiet:
            sizes = f"{one.bytes_before / _MIB:,.1f} MiB, now {one.bytes_after / _MIB:,.1f}"
            out.print(f"{one.path}: {sizes}", markup=False, soft_wrap=True)
        yield one
