"""Segment files: what is written is read, and what was not written whole is told."""

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decisionlog.chain import CHAIN_BYTES, MAX_BODY_BYTES
from engine.decisionlog.errors import LogCorrupt, LogFull, LogUnavailable, UnreadableRecord
from engine.decisionlog.frame import FRAME_BYTES, HEADER_BYTES, Header, pack_header
from engine.decisionlog.reading import Damage, DamageKind, frames, is_live, list_segments, merge, read_frame
from engine.decisionlog.segment import SegmentWriter, random_id, segment_path, sequential_id

PAYLOADS = (b'{"n":1}', b'{"n":22}', b'{"n":333}')


def write_segment(directory, payloads=PAYLOADS, *, created_ms=1, new_id=sequential_id):
    writer = SegmentWriter.create(directory, created_ms=created_ms, new_id=new_id)
    offsets = [writer.append(payload) for payload in payloads]
    writer.close()
    return writer.path, offsets


def read_payloads(directory, report=None):
    damages = []
    found = [
        frame.payload
        for segment in list_segments(directory)
        for frame in frames(segment, report=report or damages.append)
    ]
    return found, damages


@given(payloads=st.lists(st.binary(min_size=1, max_size=300), max_size=12))
@settings(deadline=None, max_examples=60)
def test_frames_come_back(tmp_path_factory, payloads):
    """Any payloads are read back in order, and each one alone by its place."""
    directory = tmp_path_factory.mktemp("segments")

    _, offsets = write_segment(directory, payloads)

    assert read_payloads(directory) == (payloads, [])
    assert [read_frame(directory, segment_id=1, offset=offset) for offset in offsets] == payloads


def test_large_frames_come_back(tmp_path):
    """A frame larger than one read ahead is read whole; one beyond the limit is refused."""
    writer = SegmentWriter.create(tmp_path, created_ms=1, new_id=sequential_id)

    offset = writer.append(b"x" * 200_000)

    assert read_frame(tmp_path, segment_id=1, offset=offset) == b"x" * 200_000
    for payload in (b"", b"x" * (MAX_BODY_BYTES + 1)):
        with pytest.raises(ValueError, match="cannot be logged"):
            writer.append(payload)
    writer.close()


def test_tail_torn_at_every_byte(tmp_path):
    """Wherever a file is cut, all whole frames are read and the rest is told as torn, never as corrupt."""
    path, offsets = write_segment(tmp_path)
    data = path.read_bytes()
    ends = [*offsets[1:], len(data)]

    for size in range(len(data)):
        path.write_bytes(data[:size])
        whole = sum(end <= size for end in ends)
        good = ends[whole - 1] if whole else (HEADER_BYTES if size >= HEADER_BYTES else 0)
        torn = [Damage(DamageKind.TORN, path, good, size - good)] if size > good else []
        assert read_payloads(tmp_path) == (list(PAYLOADS[:whole]), torn), size


def test_torn_tail_is_let_pass_by_default(tmp_path):
    """Without a wish of the reader a torn tail does not stop it."""
    path, _ = write_segment(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    (segment,) = list_segments(tmp_path)

    found = [frame.payload for frame in frames(segment)]

    assert found == list(PAYLOADS[:2])


def test_zeros_at_the_end_are_torn(tmp_path):
    """Zeros, as file systems leave them after a power cut, are no frames."""
    path, _ = write_segment(tmp_path)
    size = path.stat().st_size
    os.truncate(path, size + 5000)

    assert read_payloads(tmp_path) == (list(PAYLOADS), [Damage(DamageKind.TORN, path, size, 5000)])


def test_damage_at_every_byte_of_a_middle_frame(tmp_path):
    """A changed byte before a whole frame is corruption; a tolerant reader gets the frames around it."""
    path, offsets = write_segment(tmp_path)
    data = path.read_bytes()

    for position in range(offsets[1], offsets[2]):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        corrupt = Damage(DamageKind.CORRUPT, path, offsets[1], offsets[2] - offsets[1])
        assert read_payloads(tmp_path) == ([PAYLOADS[0], PAYLOADS[2]], [corrupt]), position
        with pytest.raises(LogCorrupt, match=f"1.seg: corrupt at byte {offsets[1]}"):
            list(frames(list_segments(tmp_path)[0]))
        with pytest.raises(LogCorrupt, match=f"corrupt at byte {offsets[1]}"):
            read_frame(tmp_path, segment_id=1, offset=offsets[1])
        assert read_frame(tmp_path, segment_id=1, offset=offsets[0]) == PAYLOADS[0]
        assert read_frame(tmp_path, segment_id=1, offset=offsets[2]) == PAYLOADS[2]


def test_damage_at_every_byte_of_the_header(tmp_path):
    """A changed header is corruption, and the frames behind it can still be read."""
    path, _ = write_segment(tmp_path)
    data = path.read_bytes()

    for position in range(HEADER_BYTES):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        corrupt = Damage(DamageKind.CORRUPT, path, 0, HEADER_BYTES)
        assert read_payloads(tmp_path) == (list(PAYLOADS), [corrupt]), position


def test_frames_of_another_place_are_not_believed(tmp_path):
    """A whole frame copied to another offset or file does not pass for a record."""
    path, offsets = write_segment(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data + data[offsets[0] : offsets[1]])
    path.with_name(segment_path(tmp_path, 9).name).write_bytes(data)

    assert read_frame(tmp_path, segment_id=1, offset=len(data)) is None
    assert read_frame(tmp_path, segment_id=9, offset=offsets[0]) is None
    with pytest.raises(LogCorrupt, match="written as segment 0000000001 and renamed"):
        list_segments(tmp_path)


def test_places_where_no_frame_begins(tmp_path):
    """A made-up place is nothing, not an error: segments, offsets inside frames, offsets beyond the end."""
    path, offsets = write_segment(tmp_path)
    size = path.stat().st_size
    made_up = [offset for offset in range(size + 20) if offset not in offsets]

    found = [read_frame(tmp_path, segment_id=1, offset=offset) for offset in made_up]

    assert found == [None] * len(made_up)
    assert read_frame(tmp_path, segment_id=2, offset=offsets[0]) is None
    assert read_frame(tmp_path / "nowhere", segment_id=1, offset=offsets[0]) is None


def test_places_that_cannot_be_told(tmp_path):
    """Behind a frame whose length is lost an offset may be a lost record: corruption, not absence."""
    path, offsets = write_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[offsets[0] : offsets[0] + 4] = bytes(4)
    path.write_bytes(data)

    with pytest.raises(LogCorrupt, match=f"corrupt at byte {offsets[0] + 9}"):
        read_frame(tmp_path, segment_id=1, offset=offsets[0] + 9)
    assert read_frame(tmp_path, segment_id=1, offset=offsets[1]) == PAYLOADS[1]


def test_newer_segment_format_is_named(tmp_path):
    """A segment of a later engine is neither torn nor corrupt but unreadable, and says so."""
    path, _ = write_segment(tmp_path)
    later = pack_header(Header(segment_id=1, created_ms=1, format=3))
    path.write_bytes(later + path.read_bytes()[HEADER_BYTES:])

    with pytest.raises(UnreadableRecord, match=r"1\.seg: segment format 3 is not known.*reads 1 and 2"):
        list_segments(tmp_path)


def test_tail_of_a_live_writer_is_not_torn(tmp_path):
    """While its writer lives, an unfinished frame is work in progress; once it is gone, it is torn."""
    writer = SegmentWriter.create(tmp_path, created_ms=1, new_id=sequential_id)
    offset = writer.append(b"whole")
    end = writer.size
    with writer.path.open("r+b") as file:
        file.seek(end)
        file.write(b"\x20\x00\x00\x00half a frame")

    live, while_live = is_live(writer.path), read_payloads(tmp_path)
    writer.close()

    assert live
    assert while_live == ([b"whole"], [])
    assert not is_live(writer.path)
    assert read_payloads(tmp_path)[1] == [Damage(DamageKind.TORN, writer.path, end, 16)]
    assert read_frame(tmp_path, segment_id=1, offset=offset) == b"whole"


def test_segment_ids_are_never_shared(tmp_path):
    """Where an id is taken, the next writer gets another."""
    ids = iter([5, 5, 6])
    first, _ = write_segment(tmp_path, new_id=lambda directory: next(ids))

    second, _ = write_segment(tmp_path, new_id=lambda directory: next(ids))

    assert (first.stem, second.stem) == ("0000000005", "0000000006")
    assert sequential_id(tmp_path) == 7
    assert 0 <= random_id(tmp_path) < 2**40


def test_segments_are_listed_by_creation(tmp_path):
    """Segments come oldest first; files that are not segments are passed over."""
    write_segment(tmp_path, created_ms=30)
    write_segment(tmp_path, created_ms=10)
    write_segment(tmp_path, created_ms=20)
    (tmp_path / "notes.seg").write_text("not ours")

    listed = [(segment.created_ms, segment.segment_id) for segment in list_segments(tmp_path)]

    assert listed == [(10, 2), (20, 3), (30, 1)]


@given(
    times=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6).map(sorted), max_size=6),
)
@settings(deadline=None, max_examples=40)
def test_merge_is_in_order_of_time(tmp_path_factory, times):
    """Items of segments that overlap in time come in order of time, none twice and none missing."""
    directory = tmp_path_factory.mktemp("segments")
    for instants in times:
        write_segment(directory, [b"%d" % t for t in instants], created_ms=instants[0])

    merged = list(
        merge(
            list_segments(directory), lambda s: (int(f.payload) for f in frames(s)), lambda instant: instant
        )
    )

    assert merged == sorted(t for instants in times for t in instants)


def test_short_writes_are_completed(tmp_path, monkeypatch):
    """A system that takes a frame in pieces still gets all of it."""
    whole = os.pwrite
    writer = SegmentWriter.create(tmp_path, created_ms=1, new_id=sequential_id)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, data[:7], offset))

    writer.append(b"a payload of some length")
    writer.close()

    assert read_payloads(tmp_path) == ([b"a payload of some length"], [])


def test_half_a_frame_is_cut_back(tmp_path, monkeypatch):
    """Where space ends inside a frame, the file ends after the last whole one, and goes on later."""
    whole = os.pwrite
    writer = SegmentWriter.create(tmp_path, created_ms=1, new_id=sequential_id)
    writer.append(b"before")
    size = writer.size

    def until_full(fd, data, offset):
        if offset > size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(fd, data[:10], offset)

    monkeypatch.setattr(os, "pwrite", until_full)
    with pytest.raises(LogFull, match=r"1\.seg: not recorded: No space left .*\d+ bytes free.*free or add"):
        writer.append(b"too much")
    cut_back = writer.path.stat().st_size
    monkeypatch.undo()
    writer.append(b"after")
    writer.close()

    assert cut_back == size == HEADER_BYTES + FRAME_BYTES + CHAIN_BYTES + len(b"before")
    assert read_payloads(tmp_path) == ([b"before", b"after"], [])


def test_segment_that_cannot_be_cut_back_is_left(tmp_path, monkeypatch):
    """A file that can neither be written nor cut is not written to again."""
    writer = SegmentWriter.create(tmp_path, created_ms=1, new_id=sequential_id)

    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pwrite", broken)
    monkeypatch.setattr(os, "ftruncate", broken)
    with pytest.raises(LogUnavailable, match="Input/output error"):
        writer.append(b"lost")
    monkeypatch.undo()

    assert writer.damaged
    with pytest.raises(LogUnavailable, match="at its end"):
        writer.append(b"more")
    writer.close()
