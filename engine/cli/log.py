"""`arbiter log`: the record of a decision, and the proof that it can be made again."""

from __future__ import annotations

import json

import typer

from engine.cli.console import (
    EXIT_ERRORS,
    effective_settings,
    fail,
    print_document,
    require_data,
)
from engine.cli.log_compress import compress
from engine.cli.log_export import export, query
from engine.cli.log_forward import forward
from engine.cli.log_replay import replay
from engine.cli.options import AsJson, DataDir, DecisionId
from engine.cli.proof import Witnessed, prove
from engine.decisionlog.errors import LogError
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import encode_record
from engine.errors import ArbiterError
from engine.logfiles import DECISIONS
from engine.service.decisions import read_decision

app = typer.Typer(
    help="Read and prove the decision log, and replay decisions.", no_args_is_help=True, add_completion=False
)

app.command()(compress)
app.command()(export)
app.command()(query)
app.command()(forward)
app.command()(replay)


@app.command()
def show(decision_id: DecisionId, data_dir: DataDir = None) -> None:
    """Print the logged record of a decision as JSON: request, state as read, decision, versions."""
    settings = effective_settings(data_dir=data_dir, log_level="warning")
    log = DecisionLog(require_data(settings, "decisions"))
    try:
        record = read_decision(log, decision_id)
    except (ArbiterError, LogError) as error:
        fail(f"{decision_id}: {error}", EXIT_ERRORS)
    print_document(json.loads(encode_record(record)))


@app.command()
def verify(data_dir: DataDir = None, witness: Witnessed = None, as_json: AsJson = False) -> None:
    """Prove that no decision was changed, moved or removed since it was logged.

    Ends with 0 where the log is whole, 3 where there is nothing to check, 4 with every damage named.
    """
    require_data(effective_settings(data_dir=data_dir, log_level="error"), DECISIONS)
    prove((DECISIONS,), data_dir=data_dir, witness=witness, as_json=as_json)
