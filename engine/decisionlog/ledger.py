"""The consent ledger and the outcome log: small typed entries, appended for good, replayed in order.

The ledger is the system of record of consent; what stores hold is a projection that `replay` rebuilds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

import msgspec

from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.frame import MAX_OFFSET
from engine.decisionlog.journal import MAX_SEGMENT_BYTES, NO_AGE_MS, Journal
from engine.decisionlog.reading import (
    Report,
    Segment,
    frames,
    list_segments,
    merge,
    read_frame,
    refuse_corruption,
)
from engine.decisionlog.record import decode_payload, encode_payload
from engine.decisionlog.segment import sequential_id
from engine.domain import ConsentUsed
from feature_store.state import ConsentRecord, OutcomeType

ENTRY_FORMAT: Final = 1
_SHADOW_FSYNC_MS: Final = 1000
"""Not 0: nothing waits for the shadow's entries to be on the platter, which closing the log sees to."""
_MAX_LEDGER_SEGMENT: Final = (1 << 23) - 1
"""So that a position, segment and offset together, fits a signed 64-bit integer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentTerms:
    """What the customer was told when they said it; no decision needs it, so only the ledger holds it."""

    notice: str = ""
    notice_language: str = ""
    legal_basis: str = ""
    jurisdiction: str = ""
    recipients: tuple[str, ...] = ()
    data_categories: tuple[str, ...] = ()
    collection_method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentEntry:
    """One recorded will of one customer, as received.

    `recorded_by` is who proved to be the caller, whatever `consent.actor` claims; None where nobody had to.
    """

    customer_id: str
    consent: ConsentRecord
    received_at_ms: int
    terms: ConsentTerms | None = None
    recorded_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentUse:
    """What a contact rested on: the action's purpose and, where models or behaviour were used, profiling.

    Each of `relied_on` names the record in the ledger by its position.
    """

    customer_id: str
    channel: str
    purpose: str
    relied_on: tuple[ConsentUsed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeEntry:
    """What happened to one returned action; `outcome_id` is the client's key of idempotency.

    Whatever happened, the customer was contacted: `use` says on which consents, None in older entries.
    `reason` is a code of the client's own for why.
    """

    outcome_id: str
    decision_id: str
    action_id: str
    type: OutcomeType
    at_ms: int
    received_at_ms: int
    use: ConsentUse | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowEntry:
    """One decision that a shadow version of the rules would have answered otherwise; actions best first."""

    decision_id: str
    customer_id: str
    rules: str
    shadow: str
    returned: tuple[str, ...]
    shadow_returned: tuple[str, ...]
    received_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShadowEntry:
    """What another version of a model said in one decision, beside the version that scored it.

    `scores` are by action, `churn` of the customer: what scored first, then the shadow. Actions are best
    first.
    """

    decision_id: str
    customer_id: str
    model: str
    version: int
    shadow: int
    scores: dict[str, tuple[float, float]]
    churn: tuple[float, float] | None
    returned: tuple[str, ...]
    shadow_returned: tuple[str, ...]
    received_at_ms: int


class Received(Protocol):
    """What every entry knows: when it came in. Replays are in this order."""

    @property
    def received_at_ms(self) -> int:
        """When the server received it."""
        ...


Entry = TypeVar("Entry", bound=Received)


class Ledger(Generic[Entry]):
    """Entries of one type. A position names an entry for good and grows within one server process."""

    def __init__(self, journal: Journal, entry_type: type[Entry]) -> None:
        self._journal = journal
        self._decoder = msgspec.json.Decoder(entry_type)

    def __enter__(self) -> Self:
        self.prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prepare(self) -> None:
        """Makes the directory and checks that it can be written. Raises LogUnavailable."""
        self._journal.prepare()

    def append(self, entry: Entry) -> int:
        """Records the entry and returns its position. Raises LogFull or LogUnavailable.

        After an error of the fsync the entry may or may not be there; to append it again is harmless.
        """
        payload = encode_payload(entry, format=ENTRY_FORMAT)
        with self._journal.reserve(now_ms=entry.received_at_ms) as slot:
            if slot.segment_id > _MAX_LEDGER_SEGMENT:
                raise LogUnavailable(self._journal.directory, "positions are used up", "start a new ledger")
            slot.write(payload)
        return slot.segment_id << 40 | slot.offset

    def read(self, position: int) -> Entry | None:
        """The entry at a position; None where there is none. Raises LogCorrupt and UnreadableRecord."""
        payload = read_frame(self._journal.directory, segment_id=position >> 40, offset=position & MAX_OFFSET)
        return None if payload is None else self._decode(payload)

    def replay(self, *, report: Report = refuse_corruption) -> Iterator[Entry]:
        """Every entry of every process in the order received.

        Raises LogCorrupt rather than leave out an acknowledged entry, unless `report` lets it pass.
        """
        return (entry for _, entry in self.replay_places(report=report))

    def replay_places(self, *, report: Report = refuse_corruption) -> Iterator[tuple[int, Entry]]:
        """`replay`, each entry with its position."""

        def entries(segment: Segment) -> Iterator[tuple[int, Entry]]:
            for frame in frames(segment, report=report):
                yield frame.segment_id << 40 | frame.offset, self._decode(frame.payload)

        return merge(list_segments(self._journal.directory), entries, lambda item: item[1].received_at_ms)

    @property
    def directory(self) -> Path:
        """Where the segments lie."""
        return self._journal.directory

    @property
    def has_ended_segments(self) -> bool:
        """Whether a segment ended since the last checkpoint."""
        return self._journal.has_ended_segments

    def checkpoint(self) -> None:
        """Notes outside the ledger how far it is on the platter. Raises LogUnavailable."""
        self._journal.checkpoint()

    def vouch(self) -> None:
        """Notes what writers that died left without a checkpoint. Raises LogUnavailable."""
        self._journal.vouch()

    def flush(self) -> None:
        """Makes every entry survive a power cut. Raises LogUnavailable."""
        self._journal.flush()

    def close(self) -> None:
        """Flushes and gives up the files; later appends raise LogUnavailable."""
        self._journal.close()

    def _decode(self, payload: bytes) -> Entry:
        return decode_payload(payload, decoder=self._decoder, format=ENTRY_FORMAT, what="a ledger entry")


ConsentLedger = Ledger[ConsentEntry]
OutcomeLog = Ledger[OutcomeEntry]
ShadowLog = Ledger[ShadowEntry]
ModelShadowLog = Ledger[ModelShadowEntry]


def consent_ledger(
    directory: Path,
    *,
    fsync_interval_ms: int = 0,
    max_segment_bytes: int = MAX_SEGMENT_BYTES,
    checkpoints: Checkpoints | None = None,
) -> ConsentLedger:
    """The ledger of consents: an entry is on the platter before `append` returns.

    A bulk load may set `fsync_interval_ms` and call `flush` once at its end.
    """
    return Ledger(journal_of(directory, fsync_interval_ms, max_segment_bytes, checkpoints), ConsentEntry)


def outcome_log(
    directory: Path,
    *,
    fsync_interval_ms: int | None = 100,
    max_segment_bytes: int = MAX_SEGMENT_BYTES,
    max_segment_age_ms: int = NO_AGE_MS,
    checkpoints: Checkpoints | None = None,
) -> OutcomeLog:
    """The log of outcomes; synced like decisions, by a `Flusher` at `fsync_interval_ms`."""
    journal = journal_of(directory, fsync_interval_ms, max_segment_bytes, checkpoints, max_segment_age_ms)
    return Ledger(journal, OutcomeEntry)


def shadow_log(directory: Path, *, max_segment_bytes: int = MAX_SEGMENT_BYTES) -> ShadowLog:
    """The log of what a shadow version would have answered; a power cut may lose its end."""
    return Ledger(journal_of(directory, _SHADOW_FSYNC_MS, max_segment_bytes, None), ShadowEntry)


def model_shadow_log(directory: Path, *, max_segment_bytes: int = MAX_SEGMENT_BYTES) -> ModelShadowLog:
    """The log of what shadow versions of models said; a power cut may lose its end."""
    return Ledger(journal_of(directory, _SHADOW_FSYNC_MS, max_segment_bytes, None), ModelShadowEntry)


def journal_of(
    directory: Path,
    fsync_interval_ms: int | None,
    max_segment_bytes: int,
    checkpoints: Checkpoints | None,
    max_segment_age_ms: int = NO_AGE_MS,
) -> Journal:
    """A journal whose positions are small and grow."""
    return Journal(
        directory,
        fsync_interval_ms=fsync_interval_ms,
        max_segment_bytes=max_segment_bytes,
        max_segment_age_ms=max_segment_age_ms,
        new_id=sequential_id,
        checkpoints=checkpoints,
    )
