"""`arbiter consent verify`, `rebuild` and `uses`: that the ledger is whole, that what decisions see follows
from it, and what every contact rested on.
"""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    effective_settings,
    err,
    fail,
    out,
    print_document,
    require_data,
    setup_errors,
)
from engine.cli.options import AsJson, Customer, DataDir, Store
from engine.cli.proof import Witnessed, instant, prove
from engine.decisionlog.errors import LogError
from engine.decisionlog.ledger import consent_ledger, outcome_log
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.verifying import verify as verify_records
from engine.domain import ConsentUsed
from engine.logfiles import CONSENTS, DECISIONS, IDENTITIES, OUTCOMES, checkpoints_of, log_directory
from engine.service.projecting import Difference, Projection, Rebuilt
from engine.service.uses import RecordedUse, uses_of
from engine.settings import Settings
from feature_store.errors import StoreError

_SHOWN_DIFFERENCES = 20


def register(app: typer.Typer) -> None:
    """Adds the commands to `arbiter consent`."""
    app.command()(verify)
    app.command()(rebuild)
    app.command()(uses)


def verify(data_dir: DataDir = None, witness: Witnessed = None, as_json: AsJson = False) -> None:
    """Prove that no consent and no use of one was changed, moved or removed.

    Ends with 0 where both logs are whole, 3 where there is nothing to check, 4 with every damage named.
    """
    settings = effective_settings(data_dir=data_dir, log_level="error")
    require_data(settings, CONSENTS)
    prove((CONSENTS, OUTCOMES), data_dir=data_dir, witness=witness, as_json=as_json)


def rebuild(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; show what differs.")] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Go on although the ledger is not whole.")
    ] = False,
    data_dir: DataDir = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Make the consents that decisions see anew from the ledger; servers may go on meanwhile.

    With --check, ends with 4 where what decisions see is not what the ledger says.
    """
    settings = effective_settings(data_dir=data_dir, store=store, log_level="error")
    require_data(settings, CONSENTS)
    if not unverified:
        _require_whole(settings)
    found = _rebuilt(settings, write=not check)
    wrong = [difference for difference in found.differences if difference.kind != "unplaced"]
    if as_json:
        print_document(_document(found))
    else:
        _tell(found, wrong, checked_only=check)
    if found.unsettled or (check and wrong):
        raise typer.Exit(EXIT_FAILED)


def _require_whole(settings: Settings) -> None:
    with setup_errors():
        found = verify_records(log_directory(settings, CONSENTS), checkpoints_of(settings, CONSENTS))
    if not found.is_whole:
        fail(
            "the ledger is not whole; `arbiter consent verify` says what is wrong. Restore it from a copy, "
            "or go on with --unverified",
            EXIT_FAILED,
        )


def _rebuilt(settings: Settings, *, write: bool) -> Rebuilt:
    from engine.service.identities import identity_log
    from engine.service.merges import merges_in
    from engine.service.projecting import rebuild as project_anew  # here, as --help needs none of it
    from engine.stores import open_store

    try:
        with setup_errors(), closing(open_store(settings, patient=True)) as store:
            ledger = consent_ledger(log_directory(settings, CONSENTS))
            identities = identity_log(log_directory(settings, IDENTITIES))
            return project_anew(store, ledger, write=write, merges=lambda: merges_in(identities.replay()))
    except LogError as error:
        fail(str(error), EXIT_ERRORS)
    except StoreError as error:
        fail(str(error), EXIT_UNAVAILABLE)


def _document(found: Rebuilt) -> dict[str, object]:
    return {
        "customers": found.customers,
        "differences": [
            {"customer": d.customer_id, "kind": d.kind, "stored": _said(d.stored), "ledger": _said(d.ledger)}
            for d in found.differences
        ],
        "replaced": found.replaced,
        "unsettled": list(found.unsettled),
    }


def _said(records: Projection) -> list[str]:
    return [f"{record.purpose}/{record.channel} {record.state}" for record in records]


def _tell(found: Rebuilt, wrong: list[Difference], *, checked_only: bool) -> None:
    for difference in wrong[:_SHOWN_DIFFERENCES]:
        stored, ledger = ", ".join(_said(difference.stored)), ", ".join(_said(difference.ledger))
        err.print(
            f"{difference.customer_id}: {difference.kind}: decisions see {stored or 'nothing'}; the ledger "
            f"says {ledger or 'nothing'}",
            markup=False,
            soft_wrap=True,
        )
    if len(wrong) > _SHOWN_DIFFERENCES:
        err.print(f"and {len(wrong) - _SHOWN_DIFFERENCES} more; --json lists all", markup=False)
    done = "nothing was changed" if checked_only else f"{found.replaced} replaced"
    out.print(f"{found.customers} customers compared, {len(wrong)} differ; {done}", markup=False)
    if found.unsettled:
        err.print(f"{len(found.unsettled)} changed all the time; run it again", markup=False)


def uses(customer: Customer, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show every contact of a customer with the consent records it rested on.

    Reads the logs of this data directory only: where several machines serve, run it on each of them.
    """
    settings = effective_settings(data_dir=data_dir, log_level="error")
    outcomes = outcome_log(require_data(settings, OUTCOMES))
    decisions = DecisionLog(log_directory(settings, DECISIONS))
    try:
        found = list(uses_of(outcomes, decisions, customer))
    except LogError as error:
        fail(str(error), EXIT_ERRORS)
    if as_json:
        print_document([_use_document(use) for use in found])
        return
    for use in found:
        _tell_use(use)
    if not found:
        out.print(f"no contact of {customer} is on record in {settings.data_dir}", markup=False)


def _use_document(found: RecordedUse) -> dict[str, object]:
    outcome = found.outcome
    return {
        "time": instant(outcome.at_ms),
        "outcome": str(outcome.type),
        "actionId": outcome.action_id,
        "channel": found.use.channel,
        "purpose": found.use.purpose,
        "decisionId": outcome.decision_id,
        "position": found.position,
        "reliedOn": [
            {
                "purpose": used.purpose,
                "legalBasis": str(used.legal_basis),
                "state": str(used.state),
                "channel": used.channel,
                "since": instant(used.since_ms),
                "ledgerPosition": used.position,
            }
            for used in found.use.relied_on
        ],
    }


def _tell_use(found: RecordedUse) -> None:
    """The contact on a line, and below it what it rested on."""
    outcome = found.outcome
    out.print(
        f"{instant(outcome.at_ms)} {outcome.type} {outcome.action_id} on {found.use.channel}, decision "
        f"{outcome.decision_id}",
        markup=False,
        soft_wrap=True,
    )
    for used in found.use.relied_on:
        out.print(f"    {_relied(used)}", markup=False, soft_wrap=True)


def _relied(used: ConsentUsed) -> str:
    """Purpose, legal basis and the record, as in "marketing: consent, granted on any, ledger 28"."""
    record = f", ledger {used.position}" if used.position else ""
    said = "nothing recorded" if used.since_ms is None else f"{used.state} on {used.channel}{record}"
    return f"{used.purpose}: {used.legal_basis}, {said}"
