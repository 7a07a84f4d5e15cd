"""Events that could not be applied, kept with the reason until somebody replays or drops them.

Where there is an identity key, the event as sent and the words about it are sealed: they may name anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec

from engine.decisionlog.erasure import erase
from engine.decisionlog.journal import MAX_SEGMENT_BYTES, Journal
from engine.decisionlog.ledger import Ledger
from engine.decisionlog.segment import sequential_id
from engine.events.stream import EVENT, SEALED_LETTER, StreamEntry, seal_letter
from feature_store.errors import StoreCorrupt
from feature_store.sealing import TextCipher, key_id_of

_FSYNC_MS: Final = 1_000
"""Not 0, as `put` syncs once for all its letters."""
_AS_SENT: Final = TextCipher("dead letter")
"""Seals nothing."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event as it came in, as text, and why it was not applied. The box gives the `id`.

    `unread` says why event and words cannot be told: they are sealed under a key that is not here. They are
    empty then.
    """

    event: str
    reason: str
    words: str
    received_ms: int
    refused_ms: int
    id: str = ""
    unread: str = ""


class DeadLetterBox(Protocol):
    """Where dead letters are kept."""

    def letters(self) -> Iterator[DeadLetter]:
        """Every letter kept, the oldest first."""
        ...

    def remove(self, letter_ids: Sequence[str], *, now_ms: int) -> None:
        """Takes letters out; those that are not there are no error."""
        ...

    def reseal(self, *, now_ms: int) -> int:
        """Keeps letters under the present key that are not under it; how many."""
        ...


class LetterStream(Protocol):
    """The dead letters of a stream."""

    def letters(self) -> Iterator[StreamEntry]:
        """Every letter, the oldest first."""
        ...

    def remove_letters(self, ids: Sequence[str]) -> None:
        """Takes letters out."""
        ...

    def replace_letters(self, letters: Mapping[str, Mapping[bytes, bytes]]) -> None:
        """Keeps others in the place of letters, by id: all of it or nothing."""
        ...


class StreamDeadLetters:
    """Dead letters of a Redis Stream; the ingest process puts them there. Raises StoreError."""

    def __init__(self, stream: LetterStream, cipher: TextCipher = _AS_SENT) -> None:
        self._stream = stream
        self._cipher = cipher

    def letters(self) -> Iterator[DeadLetter]:
        """Every letter, the oldest first."""
        for entry in self._stream.letters():
            said = {name: value.decode(errors="replace") for name, value in entry.fields.items()}
            received, _, _ = said.get(b"entry", entry.id).partition("-")
            refused = said.get(b"refused_ms", "")
            letter = DeadLetter(
                event=said.get(EVENT, ""),
                reason=said.get(b"reason", ""),
                words=said.get(b"words", ""),
                received_ms=int(received),
                refused_ms=int(refused) if refused.isdecimal() else entry.added_ms,
                id=entry.id,
            )
            yield _opened(letter, said.get(SEALED_LETTER, ""), self._cipher)

    def reseal(self, *, now_ms: int) -> int:  # noqa: ARG002  # the port's
        """Keeps letters under the present key that are not under it, at the stream's end; how many."""
        if self._cipher.current is None:
            return 0
        anew: dict[str, Mapping[bytes, bytes]] = {}
        for entry in self._stream.letters():
            sealed = entry.fields.get(SEALED_LETTER, b"").decode(errors="replace")
            again = self._cipher.resealed(sealed)
            if not sealed:
                anew[entry.id] = seal_letter(entry.fields, self._cipher)
            elif again != sealed:
                anew[entry.id] = {**entry.fields, SEALED_LETTER: again.encode()}
        self._stream.replace_letters(anew)
        return len(anew)

    def remove(self, letter_ids: Sequence[str], *, now_ms: int) -> None:  # noqa: ARG002  # the port's
        """Takes letters out."""
        self._stream.remove_letters(letter_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterEntry:
    """A letter on disk; or, with `removes`, word that an earlier one is out.

    `sealed` holds event and words where there is a key, and `id` names such a letter: what it holds cannot.
    """

    event: str = ""
    reason: str = ""
    words: str = ""
    sealed: str = ""
    id: str = ""
    event_received_ms: int = 0
    removes: str = ""
    received_at_ms: int


class DiskDeadLetters:
    """Dead letters in a log beside the decision log: appended for good, and taken out by a later entry.

    Several processes may write. The same event refused for the same reason is one letter, however often it
    was sent. Raises LogError.
    """

    def __init__(self, directory: Path, cipher: TextCipher = _AS_SENT) -> None:
        journal = Journal(
            directory, fsync_interval_ms=_FSYNC_MS, max_segment_bytes=MAX_SEGMENT_BYTES, new_id=sequential_id
        )
        self._directory = directory
        self._ledger = Ledger(journal, LetterEntry)
        self._cipher = cipher

    def __enter__(self) -> Self:
        self._ledger.prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ledger.close()

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps letters; all are on disk when this returns."""
        self._append(self._entry(letter) for letter in letters)

    def letters(self) -> Iterator[DeadLetter]:
        """Every letter that is not out, the oldest first."""
        kept: dict[str, DeadLetter] = {}
        for entry in self._ledger.replay():
            if entry.removes:
                kept.pop(entry.removes, None)
            else:
                letter = _letter(entry, self._cipher)
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

    def erase(self, wanted: Callable[[DeadLetter], bool], *, actor: str, reason: str, now_ms: int) -> int:
        """Erases letters for good, those that are out too; how many entries held them.

        `wanted` may raise for a letter that cannot be read. One that is out and cannot be read goes unasked:
        nobody could find or drop it any more.
        """
        kept = {letter.id for letter in self.letters()}

        def is_wanted(body: bytes) -> bool:
            entry = _decoder.decode(body)
            if entry.removes:
                return False
            letter = _letter(entry, self._cipher)
            return bool(letter.unread and letter.id not in kept) or wanted(letter)

        return erase(self._directory, is_wanted, actor=actor, reason=reason, now_ms=now_ms)

    def reseal(self, *, now_ms: int) -> int:
        """Keeps letters under the present key that are not under it; how many.

        They are written anew, then what was written before is erased, with what is out: nothing of it is left
        that the present key does not read. What no key opens stays.
        """
        if self._cipher.current is None:
            return 0
        old = [entry for entry in self._ledger.replay() if self._is_old(entry)]
        others = {_letter(entry, self._cipher).id for entry in old}
        anew = [letter for letter in self.letters() if letter.id in others and not letter.unread]
        self._append(replace(self._entry(letter), id=letter.id) for letter in anew)
        erase(
            self._directory,
            lambda body: self._is_old(_decoder.decode(body)),
            actor="arbiter customer seal",
            reason="sealed anew",
            now_ms=now_ms,
        )
        return len(anew)

    def _is_old(self, entry: LetterEntry) -> bool:
        """Whether an entry holds what the present key does not read, and another, or none, is needed for."""
        if entry.removes or key_id_of(entry.sealed) == self._cipher.current:
            return False
        return not _letter(entry, self._cipher).unread

    def _entry(self, letter: DeadLetter) -> LetterEntry:
        about = LetterEntry(
            reason=letter.reason, event_received_ms=letter.received_ms, received_at_ms=letter.refused_ms
        )
        if self._cipher.current is None:
            return replace(about, event=letter.event, words=letter.words)
        sealed = self._cipher.sealed(msgspec.json.encode((letter.event, letter.words)).decode())
        return replace(about, sealed=sealed, id=self._cipher.name_of(_naming(letter.reason, letter.event)))

    def _append(self, entries: Iterator[LetterEntry]) -> None:
        for entry in entries:
            self._ledger.append(entry)
        self._ledger.flush()


def _letter(entry: LetterEntry, cipher: TextCipher) -> DeadLetter:
    name = entry.id or blake2b(_naming(entry.reason, entry.event), digest_size=8).hexdigest()
    letter = DeadLetter(
        entry.event, entry.reason, entry.words, entry.event_received_ms, entry.received_at_ms, name
    )
    return _opened(letter, entry.sealed, cipher)


def _opened(letter: DeadLetter, sealed: str, cipher: TextCipher) -> DeadLetter:
    """The letter with what is sealed of it."""
    if not sealed:
        return letter
    try:
        event, words = msgspec.json.decode(cipher.opened(sealed), type=tuple[str, str])
    except StoreCorrupt as error:
        return replace(letter, unread=str(error))
    return replace(letter, event=event, words=words)


def _naming(reason: str, event: str) -> bytes:
    """What names a letter: the same event refused for the same reason is one."""
    return f"{reason}\n{event}".encode(errors="surrogatepass")


_decoder: Final = msgspec.json.Decoder(LetterEntry)
