"""`arbiter customer identities`, `link` and `unlink`: by what names a customer is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

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
from engine.settings import EMBEDDED

if TYPE_CHECKING:  # imported when called, so that --help is quick
    from engine.service.identities import IdentityChange, Linking

Named = Annotated[str, typer.Argument(metavar="TYPE=VALUE", help="Identity, such as phone=+41790000001.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `arbiter customer`."""
    app.command()(identities)
    app.command()(link)
    app.command()(unlink)


def identities(
    customer: CustomerId, store: Store = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show what a customer carries, and every link and unlink with who did it and why."""
    from engine.cli.proof import instant

    with _linking(store, data_dir) as linking:
        carried = linking.store.identities(customer)
        history = linking.history(customer)
    if as_json:
        rows = [
            {
                "time": instant(entry.received_at_ms),
                "change": str(entry.change),
                "type": identity.type,
                "value": identity.value,
                "actor": entry.actor,
                "reason": entry.reason,
            }
            for identity, entry in history
        ]
        now = [{"type": identity.type, "value": identity.value} for identity in carried]
        print_document({"identities": now, "history": rows})
        return
    for identity in carried:
        out.print(f"{identity.type}={identity.value}", markup=False, soft_wrap=True)
    if history:
        table = Table("time", "change", "identity", "actor", "reason", box=None)
        for identity, entry in history:
            named = f"{identity.type}={identity.value}"
            at = instant(entry.received_at_ms)
            table.add_row(at, entry.change, named, entry.actor, entry.reason)
        present(table)


def link(
    customer: CustomerId,
    identity: Named,
    reason: Reason,
    actor: Actor,
    store: Store = None,
    data_dir: DataDir = None,
    rules: Rules = None,
) -> None:
    """Add an identity to a customer; says who carries it now, as several may."""
    from engine.service.identities import IdentityChange

    with _linking(store, data_dir, declared_in=rules, declared=True) as linking:
        carriers = _changed(linking, customer, identity, IdentityChange.LINKED, actor, reason)
    shared = "" if len(carriers) == 1 else f"; {len(carriers)} customers carry it, so it names none of them"
    out.print(f"{customer}: linked{shared}", markup=False)


def unlink(
    customer: CustomerId,
    identity: Named,
    reason: Reason,
    actor: Actor,
    store: Store = None,
    data_dir: DataDir = None,
) -> None:
    """Take an identity away from a customer, however it was written."""
    from engine.service.identities import IdentityChange

    with _linking(store, data_dir) as linking:
        carriers = _changed(linking, customer, identity, IdentityChange.UNLINKED, actor, reason)
    out.print(f"{customer}: unlinked; {len(carriers)} customers carry it now", markup=False)


def _changed(
    linking: Linking, customer: str, text: str, change: IdentityChange, actor: str, reason: str
) -> tuple[str, ...]:
    from engine.bootstrap import wall_clock_ms
    from engine.errors import RequestInvalid
    from feature_store.state import Identity

    kind, equals, value = text.partition("=")
    if not (kind and equals and value):
        raise typer.BadParameter(f"{text!r} is not TYPE=VALUE, such as phone=+41790000001")
    try:
        return linking.change(
            customer, Identity(kind, value), change, actor=actor, reason=reason, now_ms=wall_clock_ms()
        )
    except RequestInvalid as error:
        fail("; ".join(f"{v.field} {v.description}" for v in error.violations), EXIT_ERRORS)


@contextmanager
def _linking(
    store: str | None, data_dir: DataDir, *, declared_in: Rules = None, declared: bool = False
) -> Iterator[Linking]:
    """What changes links; it may add those of declared types only if `declared`, as that reads the rules.

    Ends the command where store or log cannot be used.
    """
    from engine.decisionlog.errors import LogCorrupt, LogError
    from engine.logfiles import IDENTITIES, log_directory
    from engine.service.identities import Linking, identity_log
    from engine.snapshots import load_snapshot
    from engine.stores import identity_cipher, open_store
    from feature_store.errors import StoreCorrupt, StoreError, StoreRefused
    from feature_store.identities import IdentityForms, shown_identity

    settings = effective_settings(store=store, data_dir=data_dir, rules=declared_in, log_level="error")
    if settings.store == EMBEDDED:
        require_data(settings)
    try:
        with setup_errors(), ExitStack() as stack:
            cipher = identity_cipher(settings)
            opened = open_store(settings, patient=True)
            stack.callback(opened.close)

            yield Linking(
                store=opened,
                log=stack.enter_context(identity_log(log_directory(settings, IDENTITIES))),
                forms=IdentityForms(settings.phone_region),
                types=load_snapshot(settings).rulebook.vocabulary.identity_types if declared else (),
                sealed=(lambda identity: identity) if cipher is None else cipher.sealed,
                opened=partial(shown_identity, cipher=cipher),
            )
    except (StoreCorrupt, LogCorrupt) as error:
        fail(str(error), EXIT_FAILED)
    except StoreRefused as error:
        fail(str(error), EXIT_ERRORS)
    except (StoreError, LogError) as error:
        fail(str(error), EXIT_UNAVAILABLE)
