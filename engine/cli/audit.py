"""`arbiter audit`: who changed what, when and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from engine.cli.console import EXIT_ERRORS, effective_settings, fail, out, print_document, setup_errors
from engine.cli.options import AsJson, DataDir
from engine.cli.proof import Witnessed, instant, prove
from engine.decisionlog.errors import LogError
from engine.logfiles import AUDIT, audit_log, log_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.service.audit import Change

app = typer.Typer(
    help="Show who changed what, and prove that nothing was taken out.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def show(
    limit: Annotated[int, typer.Option("--limit", help="At most so many changes, the latest.", min=1)] = 50,
    who: Annotated[str, typer.Option("--who", help="Only what this person asked for.")] = "",
    act: Annotated[str, typer.Option("--act", help="Only this, such as rules.rollback, or all rules.")] = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List changes, the latest first: when, who, what, why, and how it was before and after."""
    settings = effective_settings(data_dir=data_dir, log_level="error")
    try:
        with setup_errors():
            changes = audit_log(settings).changes()
    except LogError as error:
        fail(str(error), EXIT_ERRORS)
    found = [
        change
        for change in changes
        if who in ("", change.asked.who) and f"{change.asked.act}.".startswith(f"{act}." if act else "")
    ][:limit]
    if as_json:
        print_document([_document(change) for change in found])
        return
    if not found:
        out.print(f"no such change is on record in {settings.data_dir}", markup=False)
        return
    out.print(_table(found))


@app.command()
def verify(data_dir: DataDir = None, witness: Witnessed = None, as_json: AsJson = False) -> None:
    """Prove that no entry of the audit log was changed, moved or removed.

    Ends with 0 where it is whole, 3 where there is nothing to check, 4 with every damage named.
    """
    settings = effective_settings(data_dir=data_dir, log_level="error")
    if not log_directory(settings, AUDIT).is_dir():
        fail(f"{settings.data_dir}: nothing was changed here yet, so there is no audit log", EXIT_ERRORS)
    prove((AUDIT,), data_dir=data_dir, witness=witness, as_json=as_json)


def _table(changes: list[Change]) -> Table:
    table = Table("when", "who", "what", "how it ended", "before", "after", "reason")
    for change in changes:
        asked = change.asked
        ended = change.ended.cause if change.ended and change.ended.cause else _ENDED[change.fate]
        table.add_row(
            instant(asked.received_at_ms) or "",
            f"{asked.who} ({asked.by})",
            asked.act,
            ended,
            _told(change.before),
            _told(change.after),
            asked.reason,
        )
    return table


_ENDED = {"begun": "not known: its process died", "done": "done", "refused": "refused"}


def _told(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _document(change: Change) -> dict[str, object]:
    entry = {name: value for name, value in asdict(change.asked).items() if name not in ("fate", "cause")}
    ended = change.ended
    return {
        **entry,
        "at": instant(change.asked.received_at_ms),
        "fate": str(change.fate),
        "before": dict(change.before),
        "after": dict(change.after),
        "cause": "" if ended is None else ended.cause,
    }
