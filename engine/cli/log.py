"""`arbiter log`: the record of a decision, and the proof that it can be made again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from engine.bootstrap import open_application
from engine.cli.common import (
    EXIT_DIFFERENT,
    EXIT_ERRORS,
    AsJson,
    DataDir,
    Registry,
    effective_settings,
    fail,
    out,
    setup_errors,
)
from engine.decisionlog.errors import LogError
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import encode_record
from engine.errors import ArbiterError
from engine.service.decisions import read_decision
from engine.service.explanations import Replay

app = typer.Typer(help="Read the decision log and replay decisions.", no_args_is_help=True)

DecisionId = Annotated[str, typer.Argument(help="Id of the decision.")]


@app.command()
def show(decision_id: DecisionId, data_dir: DataDir = None) -> None:
    """Print the logged record of a decision as JSON: request, state as read, decision, versions."""
    settings = effective_settings(data_dir=data_dir, log_level="warning")
    directory: Path = settings.data_dir / "decisions"
    if not directory.is_dir():
        fail(f"{directory}: there is no decision log; name its folder with --data-dir", EXIT_ERRORS)
    try:
        record = read_decision(DecisionLog(directory), decision_id)
    except (ArbiterError, LogError) as error:
        fail(f"{decision_id}: {error}", EXIT_ERRORS)
    sys.stdout.write(json.dumps(json.loads(encode_record(record)), indent=2, ensure_ascii=False) + "\n")


@app.command()
def replay(
    decision_id: DecisionId,
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Decide a logged decision again with its own versions, and compare to the byte."""
    settings = effective_settings(data_dir=data_dir, registry=registry, log_level="warning")
    try:
        with setup_errors(), open_application(settings) as application:
            replayed = application.explanations.replay(decision_id)
    except (ArbiterError, LogError) as error:
        fail(f"{decision_id}: {error}", EXIT_ERRORS)
    if as_json:
        document = {"decisionId": decision_id, "same": replayed.same, "bytes": len(replayed.replayed)}
        sys.stdout.write(json.dumps(document) + "\n")
    elif replayed.same:
        out.print(f"same: {len(replayed.logged)} bytes, rules {replayed.record.decision.versions.rules[:19]}")
    if not replayed.same:
        fail(_difference(replayed), EXIT_DIFFERENT)


def _difference(replayed: Replay) -> str:
    """Where the two decisions part."""
    logged, again = (json.loads(data) for data in (replayed.logged, replayed.replayed))
    parts = [name for name in logged if logged[name] != again.get(name)]
    return f"different: {', '.join(parts) or 'byte order'}; show the record with `arbiter log show`"
