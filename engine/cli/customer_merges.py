"""`arbiter customer merge`, `unmerge` and `merges`: who is one person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    effective_settings,
    fail,
    out,
    present,
    print_document,
    require_data,
    setup_errors,
)
from engine.cli.options import Actor, AsJson, CustomerId, DataDir, Reason, Rules, Store

if TYPE_CHECKING:  # imported when called, so that --help is quick
    from engine.service.merges import Merge
    from engine.service.merging import Merging

Into = Annotated[str, typer.Argument(metavar="INTO", help="Customer who answers for both from then on.")]
Whose = Annotated[str | None, typer.Argument(metavar="ID", help="Only merges of this customer, or into it.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `arbiter customer`."""
    app.command()(merge)
    app.command()(unmerge)
    app.command()(merges)


def merge(
    customer: CustomerId,
    into: Into,
    reason: Reason,
    actor: Actor,
    store: Store = None,
    data_dir: DataDir = None,
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Make two customers one person: INTO answers for both, with both histories and the stricter will.

    Servers may go on meanwhile. A merge that was interrupted is finished by giving it again.
    """
    from engine.bootstrap import wall_clock_ms

    with _merging(store, data_dir, rules) as merging:
        made = merging.merge(customer, into, actor=actor, reason=reason, now_ms=wall_clock_ms())
    if as_json:
        print_document(_document(made))
        return
    out.print(f"{customer}: merged into {into}, who answers for both", markup=False, soft_wrap=True)


def unmerge(
    customer: CustomerId,
    reason: Reason,
    actor: Actor,
    store: Store = None,
    data_dir: DataDir = None,
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Part a merged customer again: each has its history back; what was refused meanwhile holds for both.

    Servers may go on meanwhile. One that was interrupted is finished by giving it again.
    """
    from engine.bootstrap import wall_clock_ms

    with _merging(store, data_dir, rules) as merging:
        undone = merging.unmerge(customer, actor=actor, reason=reason, now_ms=wall_clock_ms())
    if as_json:
        print_document(_document(undone))
        return
    out.print(f"{customer}: a customer of its own again, parted from {undone.into}", markup=False)


def merges(customer: Whose = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show every merge, and what became of it, with who did it and why. Ends with 3 where there is none."""
    from engine.decisionlog.errors import LogError
    from engine.logfiles import IDENTITIES, log_directory
    from engine.service.identities import identity_log
    from engine.service.merges import merges_in

    settings = effective_settings(data_dir=data_dir, log_level="error")
    try:
        found = merges_in(identity_log(log_directory(settings, IDENTITIES)).replay())
    except LogError as error:
        fail(str(error), EXIT_FAILED)
    shown = [each for each in found if customer in (None, each.customer_id, each.into)]
    if as_json:
        print_document({"merges": [_document(each) for each in shown]})
    elif shown:
        present(_table(shown))
    if not shown:
        fail("no merge is noted" + (f" of {customer}" if customer else ""), EXIT_ERRORS)


def _table(shown: list[Merge]) -> Table:
    from engine.cli.proof import instant

    table = Table("time", "customer", "into", "actor", "reason", "undone", box=None)
    for each in shown:
        undone = (
            ""
            if each.undone is None
            else f"{instant(each.undone.received_at_ms)} {each.undone.actor}: {each.undone.reason}"
        )
        table.add_row(instant(each.at_ms), each.customer_id, each.into, each.actor, each.reason, undone)
    return table


def _document(merge: Merge) -> dict[str, object]:
    from engine.cli.proof import instant

    undone = merge.undone
    return {
        "customer": merge.customer_id,
        "into": merge.into,
        "time": instant(merge.at_ms),
        "actor": merge.actor,
        "reason": merge.reason,
        "undone": None
        if undone is None
        else {"time": instant(undone.received_at_ms), "actor": undone.actor, "reason": undone.reason},
    }


@contextmanager
def _merging(store: str | None, data_dir: DataDir, rules: Rules) -> Iterator[Merging]:
    """What merges customers. Ends the command where it is refused, or store or log cannot be used."""
    from engine.bootstrap import open_application
    from engine.decisionlog.errors import LogCorrupt, LogError
    from engine.errors import StateUnavailable
    from engine.logfiles import ERASED, IDENTITIES, log_directory
    from engine.service.erased import ErasedCustomers
    from engine.service.identities import identity_log
    from engine.service.merging import MergeRefused, Merging
    from feature_store.errors import StoreCorrupt, StoreError
    from feature_store.merged import MergingStore

    settings = effective_settings(store=store, data_dir=data_dir, rules=rules, log_level="error")
    require_data(settings, "rulesets")
    try:
        with (
            setup_errors(),
            open_application(settings) as application,
            identity_log(log_directory(settings, IDENTITIES)) as log,
        ):
            yield Merging(
                store=cast(MergingStore, application.store),  # as open_store makes them
                log=log,
                ledger=application.ledger,
                is_erased=ErasedCustomers(log_directory(settings, ERASED)).entry,
                refreshed=application.events.refresh_all,
            )
    except MergeRefused as error:
        fail(str(error), EXIT_ERRORS)
    except (StoreCorrupt, LogCorrupt) as error:
        fail(str(error), EXIT_FAILED)
    except (StoreError, LogError, StateUnavailable) as error:
        fail(f"{error}; begin again: what was done is kept", EXIT_UNAVAILABLE)
