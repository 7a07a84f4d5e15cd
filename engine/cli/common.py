"""What the commands share: settings from options, whom to call, errors in words, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console

from engine import logs
from engine.api.client import Arbiter, CallFailed, LocalArbiter, connect
from engine.api.servicers import ConsentServicer, DecisionServicer, OutcomeServicer
from engine.bootstrap import load_settings, open_application
from engine.errors import SetupInvalid
from engine.settings import Settings

EXIT_ERRORS = 3
"""The input is wrong: a refused request, bad rules, a damaged model, an unknown id."""
EXIT_DIFFERENT = 4
"""A check ran and failed: a replay with other bytes."""
EXIT_UNAVAILABLE = 5
"""The server was not reached or cannot answer now."""

DEFAULT_TARGET = "localhost:50051"

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of state, decision log and consent ledger.")
]
Rules = Annotated[Path | None, typer.Option("--rules", help="Folder of the rule set.")]
Registry = Annotated[Path | None, typer.Option("--registry", help="Folder of published models.")]
Target = Annotated[str, typer.Option("--target", help="Address of a running server.")]
Local = Annotated[bool, typer.Option("--local", help="Work in this process on --data-dir, without a server.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]

_PIPE_WIDTH = 120
"""Columns where there is no terminal to ask: wide enough that lines stay whole."""


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _PIPE_WIDTH)


out = _console(stderr=False)
err = _console(stderr=True)


def effective_settings(**overrides: object) -> Settings:
    """Settings with options on top, and logging set up. Ends the command where they are wrong."""
    with setup_errors():
        settings = load_settings(overrides)
    logs.configure(settings.log_level)
    return settings


@contextmanager
def setup_errors() -> Iterator[None]:
    """Ends the command with the operator's text where files or settings do not work."""
    try:
        yield
    except SetupInvalid as error:
        fail(str(error), EXIT_ERRORS)


def fail(message: str, code: int) -> NoReturn:
    """Prints an error and ends the command."""
    err.print("[bold red]error[/]:", end=" ")
    err.print(message, markup=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def arbiter(target: str, *, local: bool, data_dir: Path | None, rules: Path | None) -> Iterator[Arbiter]:
    """Whom to call: the server at `target`, or this process. Failed calls end the command in words."""
    try:
        if local:
            settings = effective_settings(data_dir=data_dir, rules=rules, log_level="warning")
            with setup_errors(), open_application(settings) as application:
                yield LocalArbiter(
                    DecisionServicer(application.decisions, application.explanations),
                    OutcomeServicer(application.outcomes),
                    ConsentServicer(application.consents),
                )
        else:
            with connect(target) as remote:
                yield remote
    except CallFailed as failure:
        report(failure, "" if local else target)


def report(failure: CallFailed, target: str) -> NoReturn:
    """Says what a failed call means and ends the command."""
    if failure.unavailable and target:
        advice = "Is it running? `arbiter serve --demo` starts one; --local needs none."
        fail(f"no answer from {target}: {failure}. {advice}", EXIT_UNAVAILABLE)
    lines = [f"{failure.code}: {failure}", *(f"  {field}: {text}" for field, text in failure.violations)]
    fail("\n".join(lines), EXIT_UNAVAILABLE if failure.unavailable else EXIT_ERRORS)


def print_json(message: Message) -> None:
    """The protobuf JSON form of a message, alone on stdout."""
    sys.stdout.write(json_format.MessageToJson(message, ensure_ascii=False) + "\n")
