"""Verifies a log: that every record is the one committed to, in its place, and none has gone.

What each check proves, and what none can, is told in docs/consent.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from engine.decisionlog.chain import Head, first_link, next_link
from engine.decisionlog.checkpoints import Checkpoint, CheckpointHistory, Checkpoints
from engine.decisionlog.erasure import ERASURES, ErasedRecord, erasures
from engine.decisionlog.errors import LogError
from engine.decisionlog.frame import FORMAT, HEADER_BYTES, UNCHAINED
from engine.decisionlog.reading import (
    Damage,
    DamageKind,
    Segment,
    StoredFrame,
    find_segment,
    header_of,
    stored_frames,
)
from engine.decisionlog.segment import segment_ids, segment_path


class FindingKind(StrEnum):
    """What is wrong."""

    EDITED = "edited"
    BROKEN = "broken"
    REWRITTEN = "rewritten"
    CUT = "cut"
    MISSING = "missing"
    ADDED = "added"
    CORRUPT = "corrupt"
    UNREADABLE = "unreadable"
    GONE = "gone"
    UNFINISHED = "unfinished"
    CHECKPOINT = "checkpoint"
    UNWITNESSED = "unwitnessed"


MEANINGS: Mapping[FindingKind, str] = {
    FindingKind.EDITED: "the record is not the one that was committed to: it was changed later",
    FindingKind.BROKEN: "the record does not follow the one before: records were removed, moved or inserted",
    FindingKind.REWRITTEN: "the records up to here differ from those a checkpoint saw: they were made anew",
    FindingKind.CUT: "a checkpoint saw records after this place: the end of the file was cut off",
    FindingKind.MISSING: "a checkpoint saw this file: it was removed, with every record in it",
    FindingKind.ADDED: "a checkpoint saw the file end before this place: records were added later",
    FindingKind.CORRUPT: "the bytes do not match their checksum: a disk error or a clumsy change",
    FindingKind.UNREADABLE: "the file does not say what it is, or was renamed: its records cannot be placed",
    FindingKind.GONE: "the record was blanked out, and no erasure of it is on record",
    FindingKind.UNFINISHED: "the erasure of the record is on record, but was not done; erase again",
    FindingKind.CHECKPOINT: "the checkpoints are not as written: they prove less than they say",
    FindingKind.UNWITNESSED: "the checkpoint that was written down is not there: they were replaced",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    kind: FindingKind
    path: Path
    offset: int
    detail: str = ""
    at_ms: int | None = None
    """When the checkpoint or erasure was made that it contradicts."""

    @property
    def meaning(self) -> str:
        """What it means, in one sentence."""
        return MEANINGS[self.kind]


@dataclass(frozen=True, slots=True)
class Witness:
    """A checkpoint somebody wrote down elsewhere: its number and the start of its digest."""

    number: int
    digest: str


@dataclass(slots=True)
class Verification:
    """What was checked, until when it is proven, and everything that is wrong.

    `unproven_records` came after the last checkpoint of their segment: they are chained, but if more of them
    had been cut off nothing would show it. `proven_until_ms` is None where no checkpoint proves anything.
    """

    directory: Path
    checkpoints_path: Path
    segments: int = 0
    records: int = 0
    erased: int = 0
    unchained_segments: int = 0
    unchained_records: int = 0
    torn_bytes: int = 0
    unproven_records: int = 0
    checkpoints: int = 0
    authenticated: bool | None = None
    last: Checkpoint | None = None
    proven_until_ms: int | None = None
    findings: list[Finding] = field(default_factory=list)
    blank: list[tuple[int, int]] = field(default_factory=list)  # segment and offset of bodies that are zeros
    erasures: Verification | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong, here and in the journal of erasures."""
        return not self.findings and (self.erasures is None or self.erasures.is_whole)

    @property
    def all_findings(self) -> list[Finding]:
        """Those of the journal of erasures too."""
        return [*self.findings, *(self.erasures.findings if self.erasures is not None else ())]


def verify(directory: Path, checkpoints: Checkpoints, *, witness: Witness | None = None) -> Verification:
    """Checks a log and the journal of its erasures; servers may go on writing meanwhile."""
    found = _verify_records(directory, checkpoints)
    if witness is not None:
        _check_witness(found, checkpoints.earlier(witness.number), witness)
    listed: Mapping[tuple[int, int], ErasedRecord] = {}
    # The journal is read after the records: an erasure is listed before it is done.
    if (directory / ERASURES).is_dir() or checkpoints.of_erasures.path.exists():
        found.erasures = _verify_records(directory / ERASURES, checkpoints.of_erasures)
        try:
            listed = erasures(directory)
        except LogError as error:
            found.findings.append(Finding(FindingKind.UNREADABLE, directory / ERASURES, 0, str(error)))
    _settle(found, listed)
    return found


def _verify_records(directory: Path, checkpoints: Checkpoints) -> Verification:
    history = checkpoints.history()  # before the segments, which only grow
    found = Verification(directory, history.path, checkpoints=len(history.checkpoints), last=history.last)
    found.authenticated = history.authenticated
    found.findings += [
        Finding(FindingKind.CHECKPOINT, history.path, broken.line, f"line {broken.line}: {broken.cause}")
        for broken in history.broken
    ]
    unproven_since: list[int] = []
    present = sorted(segment_ids(directory))
    for segment_id in present:
        try:
            segment = find_segment(directory, segment_id)
        except LogError as error:
            path = segment_path(directory, segment_id)
            found.findings.append(Finding(FindingKind.UNREADABLE, path, 0, str(error)))
            continue
        _SegmentCheck(segment, history.heads_of(segment_id), found, unproven_since).run()
    for segment_id in sorted(set(history.by_segment).difference(present)):
        at_ms, head = history.heads_of(segment_id)[-1]
        path = segment_path(directory, segment_id)
        found.findings.append(Finding(FindingKind.MISSING, path, 0, f"{head.size} bytes", at_ms))
    if history.last is not None:
        found.proven_until_ms = min([history.last.at_ms, *unproven_since])
    return found


class _SegmentCheck:
    """Walks one segment and notes what is wrong with it."""

    def __init__(
        self,
        segment: Segment,
        noted: Sequence[tuple[int, Head]],
        found: Verification,
        unproven_since: list[int],
    ) -> None:
        self._segment = segment
        self._marks = {head.size: (at_ms, head) for at_ms, head in noted}
        self._noted = noted
        self._found = found
        self._unproven_since = unproven_since
        self._link: bytes | None = None
        self._contradicted = False
        self._end = HEADER_BYTES
        self._behind = 0

    def run(self) -> None:
        """Checks every record, then what the checkpoints say of the end."""
        found, segment = self._found, self._segment
        found.segments += 1
        found.unchained_segments += segment.format == UNCHAINED
        if segment.format == FORMAT:
            self._link = first_link(header_of(segment))
        self._compare_to_mark(HEADER_BYTES)
        for frame in stored_frames(segment, report=self._note_damage):
            found.records += 1
            self._check(frame)
            self._end = frame.end
            self._behind += 1
            self._compare_to_mark(frame.end)
        self._check_end()

    def _note_damage(self, damage: Damage) -> None:
        if damage.kind is DamageKind.TORN:  # a writer died here; what it had acknowledged lies before
            self._found.torn_bytes += damage.length
            return
        kind = FindingKind.CORRUPT if damage.offset else FindingKind.UNREADABLE
        self._note(kind, damage.offset, f"{damage.length} bytes")
        self._link = None  # the next record says what it follows; that cannot be checked

    def _note(self, kind: FindingKind, offset: int, detail: str = "", at_ms: int | None = None) -> None:
        self._found.findings.append(Finding(kind, self._segment.path, offset, detail, at_ms))

    def _check(self, frame: StoredFrame) -> None:
        if frame.body is None:
            self._found.blank.append((self._segment.segment_id, frame.offset))
        chained = frame.chained
        if chained is None:
            self._found.unchained_records += 1
            return
        if not chained.is_committed:
            self._note(FindingKind.EDITED, frame.offset)
        if self._link is not None:
            expected = next_link(
                self._link,
                segment_id=self._segment.segment_id,
                offset=frame.offset,
                commitment=chained.commitment,
            )
            if expected != chained.link:
                self._note(FindingKind.BROKEN, frame.offset)
        self._link = chained.link

    def _compare_to_mark(self, end: int) -> None:
        """Compares the link here to that of a checkpoint that saw the segment end here."""
        mark = self._marks.pop(end, None)
        if mark is None or self._contradicted:
            return
        at_ms, head = mark
        self._behind = 0
        if self._link is not None and self._link != head.link:
            self._contradicted = True
            self._note(FindingKind.REWRITTEN, end, at_ms=at_ms)

    def _check_end(self) -> None:
        beyond = [(at_ms, head) for at_ms, head in self._marks.values() if head.size > self._end]
        if beyond:
            at_ms, head = beyond[-1]
            self._note(FindingKind.CUT, self._end, f"{head.size - self._end} bytes are gone", at_ms)
        elif self._marks and not self._contradicted:  # a checkpoint saw a record end where none ends now
            size, (at_ms, _) = min(self._marks.items())
            self._note(FindingKind.REWRITTEN, size, at_ms=at_ms)
        if self._behind and self._segment.format == FORMAT:
            self._found.unproven_records += self._behind
            last = self._noted[-1] if self._noted else None
            if last is not None and last[1].ended and last[1].size < self._end:
                self._note(FindingKind.ADDED, last[1].size, f"{self._behind} records", last[0])
            self._unproven_since.append(last[0] if last else self._segment.created_ms or 0)


def _settle(found: Verification, listed: Mapping[tuple[int, int], ErasedRecord]) -> None:
    """Tells records that were erased by right from those that are just gone."""
    for segment_id, offset in found.blank:
        if (segment_id, offset) in listed:
            found.erased += 1
        else:
            path = segment_path(found.directory, segment_id)
            found.findings.append(Finding(FindingKind.GONE, path, offset))
    half_done = {
        (finding.path, finding.offset) for finding in found.findings if finding.kind is FindingKind.CORRUPT
    }
    blank = set(found.blank)
    for (segment_id, offset), erasure in listed.items():
        path = segment_path(found.directory, segment_id)
        if (segment_id, offset) in blank or not path.exists():  # a file that is gone is told of already
            continue
        if (path, offset) in half_done:
            found.findings = [f for f in found.findings if (f.path, f.offset) != (path, offset)]
        detail = f"by {erasure.actor}, {erasure.reason}"
        found.findings.append(Finding(FindingKind.UNFINISHED, path, offset, detail, erasure.at_ms))


def _check_witness(found: Verification, history: CheckpointHistory, witness: Witness) -> None:
    known = {checkpoint.number: checkpoint.digest for checkpoint in history.checkpoints}
    if not known.get(witness.number, "").startswith(witness.digest):
        detail = f"checkpoint {witness.number} with digest {witness.digest}"
        found.findings.append(Finding(FindingKind.UNWITNESSED, history.path, 0, detail))
