"""`arbiter events dlq`: events that could not be applied: why, mended, and replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from engine.cli.access import AccessFiles
from engine.cli.calls import arbiter
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
from engine.cli.options import (
    AsJson,
    DataDir,
    Local,
    Stream,
    StreamName,
    Target,
    TlsCa,
    TlsCert,
    TlsKey,
    TokenFile,
)

if TYPE_CHECKING:
    from engine._pb.arbiter.v1 import event_service_pb2
    from engine.events.deadletters import DeadLetter, DeadLetterBox
    from engine.events.raw import RawEvent
    from feature_store.redis.streams import EventStream

_STREAM_NAME = "arbiter:{events}"
_BATCH = 500

LetterIds = Annotated[
    list[str] | None, typer.Argument(help="Ids of letters, as `list` shows them; all where none is given.")
]

app = typer.Typer(
    help="List, show, replay and drop events that could not be applied.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("list")
def list_letters(
    data_dir: DataDir = None, stream: Stream = None, name: StreamName = _STREAM_NAME, as_json: AsJson = False
) -> None:
    """List the dead letters: id, reason, and what is wrong."""
    with _box(data_dir, stream, name) as box:
        found = list(box.letters())
    if as_json:
        print_document([_plain(letter) for letter in found])
        return
    table = Table("id", "reason", "what is wrong", box=None)
    for letter in found:
        table.add_row(letter.id, letter.reason, letter.words or letter.unread)
    present(table)
    out.print(f"{len(found)} dead letters" if len(found) != 1 else "1 dead letter")


@app.command()
def show(
    letters: LetterIds = None,
    data_dir: DataDir = None,
    stream: Stream = None,
    name: StreamName = _STREAM_NAME,
    as_json: AsJson = False,
) -> None:
    """Show dead letters with their events; with --json as a file that `replay --file` takes, mended."""
    with _box(data_dir, stream, name) as box:
        found = _chosen(box, letters)
    if as_json:
        print_document([_plain(letter) for letter in found])
        return
    for letter in found:
        said = letter.unread or letter.words
        out.print(f"{letter.id}  {letter.reason}: {said}", markup=False, soft_wrap=True)
        if not letter.unread:
            out.print(f"    {letter.event}", markup=False, soft_wrap=True)


@app.command()
def replay(
    letters: LetterIds = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Mended letters, as `show --json` wrote them.")
    ] = None,
    target: Target = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    token_file: TokenFile = None,
    local: Local = False,
    data_dir: DataDir = None,
    stream: Stream = None,
    name: StreamName = _STREAM_NAME,
) -> None:
    """Send the events of dead letters again, however late they are, and take out those that are applied.

    Ends with 4 where one is refused again; it stays, with its reason. Letters of a stream go to the stream.
    """
    given = None if file is None else _mended(file)
    with _box(data_dir, stream, name) as box:
        events = given if given is not None else _readable(_chosen(box, letters))
        raw = [(letter_id, _event(letter_id, text)) for letter_id, text in events]
        if stream is not None:
            done, refused = _to_stream(raw, stream, name), 0
        else:
            access = AccessFiles(tls_ca, tls_cert, tls_key, token_file)
            done, refused = _to_server(raw, target, local=local, data_dir=data_dir, access=access)
        from engine.bootstrap import wall_clock_ms

        box.remove(done, now_ms=wall_clock_ms())
    out.print(f"{len(done)} replayed, {refused} refused again")
    if refused:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def drop(
    letters: Annotated[list[str], typer.Argument(help="Ids of letters, as `list` shows them.")],
    data_dir: DataDir = None,
    stream: Stream = None,
    name: StreamName = _STREAM_NAME,
) -> None:
    """Take dead letters out without replaying them."""
    from engine.bootstrap import wall_clock_ms

    with _box(data_dir, stream, name) as box:
        found = _chosen(box, letters)
        box.remove([letter.id for letter in found], now_ms=wall_clock_ms())
    out.print(f"{len(found)} dropped")


@contextmanager
def open_named(url: str, name: str) -> Iterator[EventStream]:
    """A stream by its URL, without reading from it as a consumer. Raises StoreError."""
    from engine.stores import open_stream

    settings = effective_settings(log_level="warning")
    opened = open_stream(settings, url, name=name, group="arbiter", consumer="cli")
    try:
        yield opened
    finally:
        opened.close()


def request_of(events: Sequence[RawEvent]) -> event_service_pb2.IngestRequest:
    """The request that sends events."""
    from engine._pb.arbiter.v1 import event_service_pb2
    from engine.api.event_servicer import event_message

    return event_service_pb2.IngestRequest(events=[event_message(event) for event in events])


@contextmanager
def _box(data_dir: Path | None, stream: str | None, name: str) -> Iterator[DeadLetterBox]:
    """The letters of a stream, else of a data directory. Ends the command where they cannot be reached."""
    from engine.decisionlog.errors import LogError
    from engine.events.deadletters import DiskDeadLetters, StreamDeadLetters
    from engine.stores import letter_cipher
    from feature_store.errors import StoreError

    settings = effective_settings(data_dir=data_dir, log_level="warning")
    with setup_errors():
        cipher = letter_cipher(settings)
    try:
        if stream is not None:
            with open_named(stream, name) as opened:
                yield StreamDeadLetters(opened, cipher)
        else:
            with DiskDeadLetters(require_data(settings, "dead-letters"), cipher) as letters:
                yield letters
    except (StoreError, LogError) as error:
        fail(str(error), EXIT_UNAVAILABLE)


def _chosen(box: DeadLetterBox, ids: Sequence[str] | None) -> list[DeadLetter]:
    found = list(box.letters())
    if not ids:
        return found
    unknown = sorted(set(ids) - {letter.id for letter in found})
    if unknown:
        fail(f"no dead letter {', '.join(unknown)}; `arbiter events dlq list` shows all", EXIT_ERRORS)
    return [letter for letter in found if letter.id in ids]


def _readable(letters: Sequence[DeadLetter]) -> list[tuple[str, str]]:
    """Ids and events of letters. Ends the command where one cannot be read."""
    for letter in letters:
        if letter.unread:
            fail(f"{letter.id}: {letter.unread}", EXIT_ERRORS)
    return [(letter.id, letter.event) for letter in letters]


def _plain(letter: DeadLetter) -> dict[str, Any]:
    if letter.unread:
        return {"id": letter.id, "reason": letter.reason, "unread": letter.unread}
    try:
        event: Any = json.loads(letter.event)
    except ValueError:
        event = letter.event
    return {"id": letter.id, "reason": letter.reason, "words": letter.words, "event": event}


def _mended(file: Path) -> list[tuple[str, str]]:
    """Letter ids and events of a file. Ends the command where it does not have the form of `show --json`."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return [(str(entry["id"]), json.dumps(entry["event"])) for entry in document]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fail(f"{file}: is not what `arbiter events dlq show --json` writes: {error!r}", EXIT_ERRORS)


def _event(letter_id: str, text: str) -> RawEvent:
    from engine.events.raw import read_event
    from engine.events.types import EventRefused

    try:
        return read_event(text, received_ms=0, late=True)
    except EventRefused as error:
        fail(f"{letter_id}: {error}; mend it with `show --json` and `replay --file`", EXIT_ERRORS)


def _to_stream(events: Sequence[tuple[str, RawEvent]], url: str, name: str) -> list[str]:
    from engine.events.raw import write_event

    with open_named(url, name) as opened:
        opened.add([write_event(event) for _, event in events], late=True)
    return [letter_id for letter_id, _ in events]


def _to_server(
    events: Sequence[tuple[str, RawEvent]],
    target: str | None,
    *,
    local: bool,
    data_dir: Path | None,
    access: AccessFiles,
) -> tuple[list[str], int]:
    """Ids of the letters whose events are applied now, and how many are not."""
    done: list[str] = []
    with arbiter(
        target, local=local, data_dir=data_dir if local else None, rules=None, access=access
    ) as callee:
        for start in range(0, len(events), _BATCH):
            page = events[start : start + _BATCH]
            response = callee.ingest(request_of([event for _, event in page]))
            for (letter_id, _), result in zip(page, response.results, strict=True):
                if not result.HasField("error"):
                    done.append(letter_id)
    return done, len(events) - len(done)
