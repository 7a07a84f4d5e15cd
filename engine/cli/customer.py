"""`arbiter customer`: what is held of one person, told and erased."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli import customer_identities, customer_merges, customer_seal
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
from engine.cli.options import Actor, AsJson, CustomerId, DataDir, Reason, Store, Stream, StreamName
from engine.settings import EMBEDDED, Settings

if TYPE_CHECKING:  # imported when called, so that --help is quick
    from engine.events.deadletters import DeadLetterBox
    from engine.service.privacy import Held, Holdings
    from feature_store.store import OnlineStore

_STREAM_NAME = "arbiter:{events}"

app = typer.Typer(
    help="Export and erase what is held of a customer; link identities.",
    no_args_is_help=True,
    add_completion=False,
)
customer_identities.register(app)
customer_merges.register(app)
customer_seal.register(app)


@app.command()
def export(
    customer: CustomerId,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write, readable by you only; stdout by default.")
    ] = None,
    store: Store = None,
    data_dir: DataDir = None,
    stream: Stream = None,
    name: StreamName = _STREAM_NAME,
) -> None:
    """Write all that is held of a customer as one JSON document, with what it is and how long it is kept.

    Of who is merged into another, the document is of that one, with all histories. Ends with 3 where nothing
    is held.
    """
    from engine.bootstrap import wall_clock_ms
    from engine.service import privacy
    from engine.service.persons import person
    from feature_store.schema import load_schema

    with _holdings(store, data_dir, stream, name) as (holdings, settings):
        while into := person(holdings, customer).into:
            customer = into
        found = privacy.held(holdings, customer)
        schema = load_schema(settings.feature_schema)
        document = privacy.export(holdings, customer, schema=schema, now_ms=wall_clock_ms())
    if output is None:
        print_document(document)
    else:
        _write(output, document)
    if found.nothing:
        fail(f"nothing is held of {customer}", EXIT_ERRORS)


@app.command()
def erase(
    customer: CustomerId,
    reason: Reason,
    actor: Actor,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what there is.")] = False,
    store: Store = None,
    data_dir: DataDir = None,
    stream: Stream = None,
    name: StreamName = _STREAM_NAME,
    as_json: AsJson = False,
) -> None:
    """Erase a customer everywhere; consents, outcomes and decisions still verify, and events stay out.

    Whoever was merged into the customer is erased, too. Servers may go on meanwhile. To do it again is
    harmless, and finds what was under way the first time.
    """
    from engine.personal import erase_person
    from engine.service.audit import COMMAND
    from engine.service.persons import held_of_person, person

    _require_nameless(customer, reason, actor)
    with _holdings(store, data_dir, stream, name) as (holdings, settings):
        whole = person(holdings, customer)
        if whole.into:
            fail(
                f"{customer}: is merged into {whole.into}; erase that one, and both go, or unmerge first",
                EXIT_ERRORS,
            )
        for merged in whole.merged:
            _require_nameless(merged, reason, actor)
        found = held_of_person(holdings, whole)
        if found[customer].nothing and found[customer].erased_before is None and not whole.merged:
            fail(f"nothing is held of {customer}; no erasure was noted", EXIT_ERRORS)
        if not dry_run:
            if not (yes or all(each.nothing for each in found.values())):
                _ask(customer, found)
            found = erase_person(settings, holdings, whole, who=actor, reason=reason, by=COMMAND)
    if as_json:
        print_document(_held_document(customer, found, erased=not dry_run))
        return
    for each in found:
        _tell(each, found[each], erased=not dry_run, into="" if each == customer else customer)


@app.command()
def readmit(
    customer: CustomerId,
    reason: Reason,
    actor: Actor,
    data_dir: DataDir = None,
) -> None:
    """Let events of an erased customer in again, such as of a person who came back. Nothing is restored."""
    from engine.bootstrap import wall_clock_ms
    from engine.decisionlog.errors import LogError
    from engine.logfiles import ERASED, log_directory
    from engine.service.erased import ErasedCustomers

    settings = effective_settings(data_dir=data_dir, log_level="error")
    require_data(settings, ERASED)
    register = ErasedCustomers(log_directory(settings, ERASED))
    try:
        if register.entry(customer) is None:
            fail(f"{customer}: no erasure is noted that still holds", EXIT_ERRORS)
        register.add(customer, actor=actor, reason=reason, now_ms=wall_clock_ms(), readmitted=True)
    except LogError as error:
        fail(str(error), EXIT_UNAVAILABLE)
    out.print(f"{customer}: events are taken in again", markup=False)


@contextmanager
def _holdings(
    store: str | None, data_dir: Path | None, stream: str | None, name: str
) -> Iterator[tuple[Holdings, Settings]]:
    """Every place of the settings that holds something. Ends the command where one cannot be used."""
    from engine.decisionlog.errors import LogCorrupt, LogError
    from engine.events.deadletters import DiskDeadLetters
    from engine.logfiles import DEAD_LETTERS, DECISIONS, log_directory
    from engine.personal import holdings_of
    from engine.stores import letter_cipher
    from feature_store.errors import FeatureStoreError, StoreCorrupt, StoreUnavailable

    settings = effective_settings(store=store, data_dir=data_dir, log_level="error")
    require_data(settings, "store" if settings.store == EMBEDDED else DECISIONS)
    try:
        with setup_errors(), ExitStack() as stack:
            opened = _opened_store(settings, stack)
            letters = DiskDeadLetters(log_directory(settings, DEAD_LETTERS), letter_cipher(settings))
            streams = _stream_letters(settings, stream, name, stack)
            letters = stack.enter_context(letters)
            yield holdings_of(settings, store=opened, letters=letters, streams=streams), settings
    except (LogCorrupt, StoreCorrupt) as error:
        fail(str(error), EXIT_FAILED)
    except (LogError, StoreUnavailable) as error:
        fail(f"{error}; begin again: what was erased stays erased", EXIT_UNAVAILABLE)
    except FeatureStoreError as error:
        fail(str(error), EXIT_ERRORS)


def _opened_store(settings: Settings, stack: ExitStack) -> OnlineStore:
    from engine.stores import open_store

    opened = open_store(settings, patient=True)
    stack.callback(opened.close)
    return opened


def _stream_letters(
    settings: Settings, stream: str | None, name: str, stack: ExitStack
) -> list[DeadLetterBox]:
    if stream is None:
        return []
    from engine.cli.deadletters import open_named
    from engine.events.deadletters import StreamDeadLetters
    from engine.stores import letter_cipher

    opened = stack.enter_context(open_named(stream, name))
    return [StreamDeadLetters(opened, letter_cipher(settings))]


def _write(path: Path, document: object) -> None:
    """Writes a document for its owner only. Ends the command where it cannot be written."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2, ensure_ascii=False)
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}", EXIT_ERRORS)


def _require_nameless(customer: str, reason: str, actor: str) -> None:
    for given, option in ((reason, "--reason"), (actor, "--actor")):
        if not given.strip():
            raise typer.BadParameter(f"{option} is empty; it is kept as the proof of the erasure")
        if customer in given:
            raise typer.BadParameter(f"{option} names the customer, and is kept for good; say it otherwise")


def _ask(customer: str, found: Mapping[str, Held]) -> None:
    for name, each in found.items():
        err.print(
            f"{name}, merged into it: " if name != customer else "", _counted(each), markup=False, sep=""
        )
    if not typer.confirm(f"Erase all of it of {customer}? It cannot be brought back", err=True):
        fail("nothing was changed", EXIT_ERRORS)


def _counted(found: Held) -> str:
    parts = ["state in the store"] if found.state else []
    parts += [f"{found.identities} identities"] if found.identities else []
    parts += [f"{count} entries of {log}" for log, count in found.entries.items() if count]
    parts += [f"{found.letters} dead letters"] if found.letters else []
    return ", ".join(parts) or "nothing"


def _tell(customer: str, found: Held, *, erased: bool, into: str) -> None:
    done = ("erased" if erased else "would be erased") + (
        f" with {into}, as it is merged into it" if into else ""
    )
    out.print(f"{customer}: {done}: {_counted(found)}", markup=False, soft_wrap=True)
    if found.erased_before is not None:
        from engine.cli.proof import instant

        since = instant(found.erased_before.received_at_ms)
        out.print(f"  first erased {since}; events are refused since", markup=False)


def _held_document(customer: str, found: Mapping[str, Held], *, erased: bool) -> dict[str, object]:
    merged = {name: _document_of(each, erased=erased) for name, each in found.items() if name != customer}
    return _document_of(found[customer], erased=erased) | ({"merged": merged} if merged else {})


def _document_of(found: Held, *, erased: bool) -> dict[str, object]:
    return {
        "erased": erased,
        "state": found.state,
        "identities": found.identities,
        "entries": dict(found.entries),
        "deadLetters": found.letters,
        "erasedBeforeMs": None if found.erased_before is None else found.erased_before.received_at_ms,
    }
