"""`arbiter customer seal`: everything that may be rewritten goes under the present identity key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

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
from engine.cli.options import AsJson, DataDir, Store, Stream, StreamName
from engine.settings import EMBEDDED, Settings

if TYPE_CHECKING:  # imported when called, so that --help is quick
    from engine.events.deadletters import DeadLetterBox
    from engine.service.resealing import Resealed, Sealable

_STREAM_NAME = "arbiter:{events}"


def register(app: typer.Typer) -> None:
    """Adds the command to `arbiter customer`."""
    app.command()(seal)


def seal(
    store: Store = None,
    data_dir: DataDir = None,
    stream: Stream = None,
    name: StreamName = _STREAM_NAME,
    as_json: AsJson = False,
) -> None:
    """Write identities, texts of consents and dead letters anew, under the identity key of today.

    For what was kept before there was a key, or under a former one. Servers may go on meanwhile; a command
    that was interrupted is given again. Says what stays in logs, which are proof and never rewritten.
    """
    from engine.bootstrap import wall_clock_ms
    from engine.service.resealing import reseal

    with _sealable(store, data_dir, stream, name) as places, err.status("sealing"):
        done = reseal(places, now_ms=wall_clock_ms())
    if as_json:
        print_document(_document(done))
    else:
        _tell(done)
    if done.unread:
        raise typer.Exit(EXIT_FAILED)


def _document(done: Resealed) -> dict[str, object]:
    return {
        "identities": done.identities,
        "consents": done.consents,
        "deadLetters": done.letters,
        "unreadDeadLetters": done.unread,
        "inConsentLedger": dict(done.in_consent_log),
        "inIdentityLog": dict(done.in_identity_log),
    }


def _tell(done: Resealed) -> None:
    out.print(f"{done.identities:,} customers' identities written anew")
    out.print(f"{done.consents:,} customers' consents written anew")
    out.print(f"{done.letters:,} dead letters written anew")
    for log, left in (("consent ledger", done.in_consent_log), ("identity log", done.in_identity_log)):
        if left:
            out.print(f"{log}: stays as it was written: {_by_key(left)}", markup=False, soft_wrap=True)
    if done.unread:
        err.print(
            f"{done.unread:,} dead letters cannot be read; `arbiter events dlq list` names the key of each",
            markup=False,
            soft_wrap=True,
        )


def _by_key(left: Mapping[str, int]) -> str:
    """As in "12 in the clear, 3 under key 1f3a9c02"."""
    return ", ".join(
        f"{count:,} under key {key}" if key else f"{count:,} in the clear"
        for key, count in sorted(left.items())
    )


@contextmanager
def _sealable(store: str | None, data_dir: DataDir, stream: str | None, name: str) -> Iterator[Sealable]:
    """Every place in which something is sealed. Ends the command where one cannot be used."""
    from engine.decisionlog.errors import LogCorrupt, LogError
    from engine.decisionlog.ledger import consent_ledger
    from engine.logfiles import CONSENTS, IDENTITIES, log_directory
    from engine.service.identities import identity_log
    from engine.service.resealing import Sealable, SealingStore
    from engine.stores import consent_cipher, open_store
    from feature_store.errors import StoreCorrupt, StoreError, StoreRefused

    settings = effective_settings(store=store, data_dir=data_dir, log_level="error")
    if settings.store == EMBEDDED:
        require_data(settings)
    try:
        with setup_errors(), ExitStack() as stack:
            opened = open_store(settings, patient=True)
            stack.callback(opened.close)
            yield Sealable(
                store=cast(SealingStore, opened),  # as open_store makes them
                ledger=stack.enter_context(consent_ledger(log_directory(settings, CONSENTS))),
                identity_log=stack.enter_context(identity_log(log_directory(settings, IDENTITIES))),
                letters=_letters(settings, stream, name, stack),
                texts=consent_cipher(settings),
            )
    except (StoreCorrupt, LogCorrupt) as error:
        fail(str(error), EXIT_FAILED)
    except StoreRefused as error:
        fail(str(error), EXIT_ERRORS)
    except (StoreError, LogError) as error:
        fail(f"{error}; begin again: what was written anew stays so", EXIT_UNAVAILABLE)


def _letters(settings: Settings, stream: str | None, name: str, stack: ExitStack) -> list[DeadLetterBox]:
    from engine.cli.deadletters import open_named
    from engine.events.deadletters import DiskDeadLetters, StreamDeadLetters
    from engine.logfiles import DEAD_LETTERS, log_directory
    from engine.stores import letter_cipher

    cipher = letter_cipher(settings)
    boxes: list[DeadLetterBox] = [
        stack.enter_context(DiskDeadLetters(log_directory(settings, DEAD_LETTERS), cipher))
    ]
    if stream is not None:
        boxes.append(StreamDeadLetters(stack.enter_context(open_named(stream, name)), cipher))
    return boxes
