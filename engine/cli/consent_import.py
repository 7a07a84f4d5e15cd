"""`arbiter consent import`: what other systems recorded, through the ledger."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_UNAVAILABLE,
    effective_settings,
    err,
    fail,
    out,
    print_document,
    require_data,
    setup_errors,
)
from engine.cli.options import AsJson, DataDir, Rules, Store
from engine.decisionlog.errors import LogError
from engine.decisionlog.ledger import consent_ledger
from engine.logfiles import CONSENTS, ERASED, checkpoints_of, log_directory
from engine.service.consent_files import FileFormat, FileInvalid, read_mapping, read_rows
from feature_store.errors import StoreError

if TYPE_CHECKING:
    from engine.service.importing import Import

_SHOWN_PROBLEMS = 50
_SYNC_MS = 1000


def register(app: typer.Typer) -> None:
    """Adds the command to `arbiter consent`."""
    app.command("import")(import_file)


def import_file(
    file: Annotated[Path, typer.Argument(help="File of consents.", exists=True, dir_okay=False)],
    form: Annotated[FileFormat, typer.Option("--format", help="How the file is written.")],
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="TOML file that says what its words mean here.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row; record nothing.")] = False,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Also keep what customers said who are not known yet.")
    ] = False,
    data_dir: DataDir = None,
    store: Store = None,
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Record what customers said elsewhere. All rows are checked first; an error in one imports none.

    The same content is not recorded twice, so a file may be imported again. Ends with 3 where rows are wrong.
    """
    settings = effective_settings(data_dir=data_dir, store=store, rules=rules, log_level="error")
    require_data(settings, CONSENTS)
    from engine.bootstrap import late_writes, wall_clock_ms
    from engine.service.erased import ErasedCustomers
    from engine.service.importing import ConsentImport, Import
    from engine.snapshots import load_snapshot
    from engine.stores import consent_cipher, open_store

    found = Import()
    try:
        read_as = read_mapping(mapping, form)
        with (
            setup_errors(),
            closing(open_store(settings, patient=True)) as opened,
            consent_ledger(
                log_directory(settings, CONSENTS),
                fsync_interval_ms=_SYNC_MS,
                checkpoints=checkpoints_of(settings, CONSENTS),
            ) as ledger,
        ):
            importing = ConsentImport(
                rulebook=load_snapshot(settings).rulebook,
                store=opened,
                ledger=ledger,
                now_ms=wall_clock_ms(),
                allow_unknown=allow_unknown,
                cipher=consent_cipher(settings),
                late=late_writes(settings, opened, ErasedCustomers(log_directory(settings, ERASED))),
            )
            importing.check(read_rows(file, form, read_as, found.passed_over), found)
            if not (found.problems or dry_run):
                importing.append(found)
    except (FileInvalid, LogError) as error:
        fail(str(error), EXIT_ERRORS)
    except StoreError as error:
        fail(f"{error}; {found.imported} consents are recorded and online", EXIT_UNAVAILABLE)
    if as_json:
        print_document(_document(found, file))
    else:
        _tell(found, file, dry_run=dry_run)
    if found.problems:
        raise typer.Exit(EXIT_ERRORS)


def _document(found: Import, file: Path) -> dict[str, object]:
    return {
        "rows": found.rows,
        "new": len(found.entries),
        "known": found.known,
        "imported": found.imported,
        "passedOver": found.passed_over.counts,
        "problems": [{"file": str(file), "line": p.line, "what": p.what} for p in found.problems],
    }


def _tell(found: Import, file: Path, *, dry_run: bool) -> None:
    for problem in found.problems[:_SHOWN_PROBLEMS]:
        err.print(f"{file}:{problem.line}: {problem.what}", markup=False, soft_wrap=True)
    if len(found.problems) > _SHOWN_PROBLEMS:
        err.print(f"and {len(found.problems) - _SHOWN_PROBLEMS} more; --json lists all", markup=False)
    done = f"{found.imported} recorded"
    if found.problems:
        done = "nothing recorded, as rows are wrong"
    elif dry_run:
        done = f"nothing recorded; {len(found.entries)} would be"
    passed = "".join(f", {n} times {value!r} passed over" for value, n in found.passed_over.counts.items())
    told = f"{file}: {found.rows} rows, {found.known} known already{passed}; {done}"
    out.print(told, markup=False, soft_wrap=True)
