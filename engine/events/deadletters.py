"""Events that could not be applied, kept with the reason until somebody replays or drops them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from engine.decisionlog.journal import MAX_SEGMENT_BYTES, Journal
from engine.decisionlog.ledger import Ledger
from engine.decisionlog.segment import sequential_id
from engine.events.stream import EVENT, StreamEntry

_FSYNC_MS: Final = 1_000
"""Not 0, as `put` syncs once for all its letters."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event as it came in, as text, and why it was not applied. The box gives the `id`."""

    event: str
    reason: str
    words: str
    received_ms: int
    refused_ms: int
    id: str = ""


class DeadLetterBox(Protocol):
    """Where dead letters are kept."""

    def letters(self) -> Iterator[DeadLetter]:
        """Every letter kept, the oldest first."""
        ...

    def remove(self, letter_ids: Sequence[str], *, now_ms: int) -> None:
        """Takes letters out; those that are not there are no error."""
        ...


class LetterStream(Protocol):
    """The dead letters of a stream."""

    def letters(self) -> Iterator[StreamEntry]:
        """Every letter, the oldest first."""
        ...

    def remove_letters(self, ids: Sequence[str]) -> None:
        """Takes letters out."""
        ...


class StreamDeadLetters:
    """Dead letters of a Redis Stream; the ingest process puts them there. Raises StoreError."""

    def __init__(self, stream: LetterStream) -> None:
        self._stream = stream

    def letters(self) -> Iterator[DeadLetter]:
        """Every letter, the oldest first."""
        for entry in self._stream.letters():
            said = {name: value.decode(errors="replace") for name, value in entry.fields.items()}
            received, _, _ = said.get(b"entry", entry.id).partition("-")
            yield DeadLetter(
                event=said.get(EVENT, ""),
                reason=said.get(b"reason", ""),
                words=said.get(b"words", ""),
                received_ms=int(received),
                refused_ms=entry.added_ms,
                id=entry.id,
            )

    def remove(self, letter_ids: Sequence[str], *, now_ms: int) -> None:  # noqa: ARG002  # the port's
        """Takes letters out."""
        self._stream.remove_letters(letter_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterEntry:
    """A letter on disk; or, with `removes`, word that an earlier one is out."""

    event: str = ""
    reason: str = ""
    words: str = ""
    event_received_ms: int = 0
    removes: str = ""
    received_at_ms: int


class DiskDeadLetters:
    """Dead letters in a log beside the decision log: appended for good, and taken out by a later entry.

    Several processes may write. The same event refused for the same reason is one letter, however often it
    was sent. Raises LogError.
    """

    def __init__(self, directory: Path) -> None:
        journal = Journal(
            directory, fsync_interval_ms=_FSYNC_MS, max_segment_bytes=MAX_SEGMENT_BYTES, new_id=sequential_id
        )
        self._ledger = Ledger(journal, LetterEntry)

    def __enter__(self) -> Self:
        self._ledger.prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ledger.close()

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps letters; all are on disk when this returns."""
        self._append(
            LetterEntry(
                event=letter.event,
                reason=letter.reason,
                words=letter.words,
                event_received_ms=letter.received_ms,
                received_at_ms=letter.refused_ms,
            )
            for letter in letters
        )

    def letters(self) -> Iterator[DeadLetter]:
        """Every letter that is not out, the oldest first."""
        kept: dict[str, DeadLetter] = {}
        for entry in self._ledger.replay():
            if entry.removes:
                kept.pop(entry.removes, None)
            else:
                letter = _letter(entry)
                kept.setdefault(letter.id, letter)
        yield from kept.values()

    def remove(self, letter_ids: Sequence[str], *, now_ms: int) -> None:
        """Takes letters out."""
        wanted = set(letter_ids)
        out = {letter.id: letter.refused_ms for letter in self.letters() if letter.id in wanted}
        self._append(
            LetterEntry(removes=name, received_at_ms=max(now_ms, refused_ms + 1))  # replays go by time
            for name, refused_ms in out.items()
        )

    def _append(self, entries: Iterator[LetterEntry]) -> None:
        for entry in entries:
            self._ledger.append(entry)
        self._ledger.flush()


def _letter(entry: LetterEntry) -> DeadLetter:
    named = f"{entry.reason}\n{entry.event}".encode(errors="surrogatepass")
    letter = DeadLetter(entry.event, entry.reason, entry.words, entry.event_received_ms, entry.received_at_ms)
    return replace(letter, id=blake2b(named, digest_size=8).hexdigest())
