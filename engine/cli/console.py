"""How commands speak: results on stdout, errors on stderr, exit codes, settings from options."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console, RenderableType

from engine import logs
from engine.errors import SetupInvalid
from engine.logfiles import identity_key
from engine.pseudonyms import pseudonymise
from engine.settings import Settings, load_settings

EXIT_ERRORS = 3
"""The input is wrong: a refused request, bad rules, a damaged model, an unknown id."""
EXIT_FAILED = 4
"""A check ran and failed: a replay with other bytes, an objection not obeyed."""
EXIT_UNAVAILABLE = 5
"""The server was not reached or cannot answer now."""

_PADDING = re.compile(r" +$", re.MULTILINE)
_WIDEST = 120
"""Columns beyond which lines are hard to read; also the width where there is no terminal to ask."""


def _console(*, stderr: bool) -> Console:
    columns, lines = shutil.get_terminal_size(fallback=(_WIDEST, 50))
    return Console(stderr=stderr, highlight=False, width=min(columns, _WIDEST), height=lines)


out = _console(stderr=False)
err = _console(stderr=True)


def fail(message: str, code: int) -> NoReturn:
    """Prints an error and ends the command."""
    err.print("[bold red]error[/]:", end=" ")
    err.print(message, markup=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def setup_errors() -> Iterator[None]:
    """Ends the command with the operator's text where files or settings do not work."""
    try:
        yield
    except SetupInvalid as error:
        fail(str(error), EXIT_ERRORS)


def effective_settings(**overrides: object) -> Settings:
    """Settings with options on top, and logging set up. Ends the command where they are wrong."""
    with setup_errors():
        settings = load_settings(overrides)
    logs.configure(settings.log_level)
    with setup_errors():
        pseudonymise(identity_key(settings))
    return settings


def require_data(settings: Settings, what: str = "store") -> Path:
    """Part of the data directory. Ends the command where it is not there: reading makes no folders."""
    path = settings.data_dir / what
    if not path.is_dir():
        fail(
            f"{settings.data_dir}: holds no data of Arbiter; name its folder with --data-dir, or make the "
            f"demo's with `arbiter demo --data-dir {settings.data_dir}`",
            EXIT_ERRORS,
        )
    return path


def require_folder(settings: Settings) -> None:
    """Ends the command where the data directory cannot be made because a file is in its place."""
    if settings.data_dir.exists() and not settings.data_dir.is_dir():
        fail(f"{settings.data_dir}: is a file; name a folder with --data-dir", EXIT_ERRORS)


def present(*parts: RenderableType) -> None:
    """Prints parts on stdout, one below the other, without the blanks rich pads lines with."""
    with out.capture() as captured:
        out.print(*parts, sep="\n")
    out.file.write(_PADDING.sub("", captured.get()))


def print_document(document: object) -> None:
    """A JSON document, alone on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
