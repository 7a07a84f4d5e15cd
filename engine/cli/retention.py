"""`arbiter retention`: what is kept no longer than the settings say."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    effective_settings,
    fail,
    out,
    print_document,
    require_data,
    setup_errors,
)
from engine.cli.options import AsJson, DataDir, Rules, Store, Stream, StreamName
from engine.settings import EMBEDDED, Settings

_STREAM_NAME = "arbiter:{events}"

app = typer.Typer(
    help="Erase what is older than the settings keep it.", no_args_is_help=True, add_completion=False
)


@app.callback()
def retention() -> None:
    """Erase what is older than the settings keep it."""


@app.command()
def run(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; count what is too old.")
    ] = False,
    store: Store = None,
    data_dir: DataDir = None,
    rules: Rules = None,
    stream: Stream = None,
    name: StreamName = _STREAM_NAME,
    as_json: AsJson = False,
) -> None:
    """Erase what is older than the ARBITER_KEEP_ settings keep it, and what events left beyond its time.

    Logs still verify, and servers may go on.
    """
    settings = effective_settings(store=store, data_dir=data_dir, rules=rules, log_level="error")
    require_data(settings, "store" if settings.store == EMBEDDED else "decisions")
    gone = _enforced(settings, stream, name, write=not dry_run)
    if as_json:
        print_document({"erased": not dry_run, "classes": gone})
        return
    done = "would be erased" if dry_run else "erased"
    for kind, count in gone.items():
        out.print(f"{kind}: {count:,} {done}", markup=False)
    if len(gone) == 1:
        out.print("all else is kept for good; `arbiter settings` lists what ARBITER_KEEP_ settings there are")


def _enforced(settings: Settings, stream: str | None, name: str, *, write: bool) -> dict[str, int]:
    from engine.bootstrap import wall_clock_ms
    from engine.cli.deadletters import open_named
    from engine.decisionlog.errors import LogCorrupt, LogError
    from engine.events.deadletters import StreamDeadLetters
    from engine.logfiles import DECISIONS, OUTCOMES, PROVEN, checkpoints_of, log_directory
    from engine.schemas_kept import event_rules
    from engine.service.retention import (
        AGED_LOGS,
        CONSENTS,
        CONTACTS,
        EVENTS,
        IDENTITIES,
        Ageing,
        Retention,
        enforce,
        tidy,
    )
    from engine.snapshots import load_snapshot
    from engine.stores import open_store
    from feature_store.errors import StoreCorrupt, StoreError

    retention = Retention(
        days={
            DECISIONS: settings.keep_decisions_days,
            "shadow": settings.keep_decisions_days,
            "model-shadow": settings.keep_decisions_days,
            OUTCOMES: settings.keep_outcomes_days,
            "dead-letters": settings.keep_dead_letters_days,
            CONSENTS: settings.keep_superseded_consents_days,
            CONTACTS: settings.keep_contacts_days,
        }
    )
    try:
        with setup_errors(), ExitStack() as stack:
            if settings.keep_contacts_days is not None:
                policy = retention.too_short_for(load_snapshot(settings).rulebook)
                if policy is not None:
                    fail(f"ARBITER_KEEP_CONTACTS_DAYS: contact policy {policy} counts longer", EXIT_ERRORS)
            opened = open_store(settings, patient=True)
            stack.callback(opened.close)
            streams = () if stream is None else (stack.enter_context(open_named(stream, name)),)
            places = Ageing(
                store=opened,
                log_directories={
                    log: log_directory(settings, log) for log in (*AGED_LOGS, CONSENTS, IDENTITIES)
                },
                checkpoints_of=lambda log: checkpoints_of(settings, log) if log in PROVEN else None,
                streams=tuple(StreamDeadLetters(each) for each in streams),
            )
            now_ms = wall_clock_ms()
            gone = enforce(places, retention, now_ms=now_ms, write=write)
            rules = event_rules(settings, load_snapshot(settings))  # last: the rest needs no good rules
            gone[EVENTS] = tidy(opened, rules, now_ms=now_ms, write=write)
            return gone
    except (StoreCorrupt, LogCorrupt) as error:
        fail(str(error), EXIT_FAILED)
    except (StoreError, LogError) as error:
        fail(f"{error}; begin again: what was erased stays erased", EXIT_UNAVAILABLE)
