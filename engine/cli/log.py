"""`arbiter log`: the record of a decision, and the proof that it can be made again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_FAILED,
    effective_settings,
    fail,
    out,
    print_document,
    require_data,
    setup_errors,
)
from engine.cli.options import AsJson, DataDir, DecisionId, Registry
from engine.cli.proof import Witnessed, prove
from engine.decisionlog.errors import LogError
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import encode_record
from engine.errors import ArbiterError
from engine.logfiles import DECISIONS
from engine.service.decisions import read_decision

if TYPE_CHECKING:
    from engine.service.explanations import Replay

app = typer.Typer(
    help="Read and prove the decision log, and replay decisions.", no_args_is_help=True, add_completion=False
)


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
def replay(
    decision_id: DecisionId,
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Decide a logged decision again with its own versions, and compare to the byte.

    Needs neither a server nor today's rules: the data directory holds every rule set that served.
    """
    from engine.service.explanations import replay as decide_again
    from engine.snapshots import past_snapshot

    settings = effective_settings(data_dir=data_dir, registry=registry, log_level="warning")
    log = DecisionLog(require_data(settings, "decisions"))
    try:
        record = read_decision(log, decision_id)
        with setup_errors():
            replayed = decide_again(record, past_snapshot(settings, record.decision.versions))
    except (ArbiterError, LogError) as error:
        fail(f"{decision_id}: {error}", EXIT_ERRORS)
    if as_json:
        size = len(replayed.replayed)
        print_document({"decisionId": decision_id, "same": replayed.same, "bytes": size})
    elif replayed.same:
        versions = replayed.record.decision.versions
        models = ", ".join(f"{name}/{number}" for name, number in sorted(versions.models.items()))
        out.print(f"same to the byte: {len(replayed.logged)} bytes; rules {versions.rules[:19]}, {models}")
    if not replayed.same:
        fail(_difference(replayed), EXIT_FAILED)


@app.command()
def verify(data_dir: DataDir = None, witness: Witnessed = None, as_json: AsJson = False) -> None:
    """Prove that no decision was changed, moved or removed since it was logged.

    Ends with 0 where the log is whole, 3 where there is nothing to check, 4 with every damage named.
    """
    require_data(effective_settings(data_dir=data_dir, log_level="error"), DECISIONS)
    prove((DECISIONS,), data_dir=data_dir, witness=witness, as_json=as_json)


def _difference(replayed: Replay) -> str:
    """Where the two decisions part."""
    logged, again = (json.loads(data) for data in (replayed.logged, replayed.replayed))
    parts = [name for name in logged if logged[name] != again.get(name)]
    return f"different: {', '.join(parts) or 'byte order'}; show the record with `arbiter log show`"
