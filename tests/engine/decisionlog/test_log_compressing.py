"""Compressed segments: readers find the same at the same place, and what is cut short changes nothing."""

import io
import os
import random
import shutil
import sys
import time
from dataclasses import astuple

import forging
import pytest
import zstandard
from decision_examples import NOW_MS, decision_record
from hypothesis import given, settings
from hypothesis import strategies as st
from log_examples import open_journal

from engine.decisionlog.compressing import compress
from engine.decisionlog.contents import opened
from engine.decisionlog.erasure import erase, erase_entries
from engine.decisionlog.errors import LogCorrupt, UnreadableRecord
from engine.decisionlog.frame import HEADER_BYTES, Header, pack_header
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.reading import (
    DamageKind,
    find_segment,
    frames,
    list_segments,
    read_frame,
    stored_frames,
)
from engine.decisionlog.replacing import changing
from engine.decisionlog.segment import segment_path
from engine.decisionlog.verifying import FindingKind, verify

LATER_S = time.time() + 1e6
"""Every segment ended before this."""


def texts(count, seed=1):
    """Records of a few customers, 1 byte to 40 kB, so that blocks hold many, one, or part of the file."""
    dice = random.Random(seed)
    sizes = [dice.choice([1, 50, 3_000, 40_000]) for _ in range(count)]
    return [
        b'{"customer_id":"c-%d","n":%d,"t":"%s"}' % (n % 3, n, b"x%d" % n * s) for n, s in enumerate(sizes)
    ]


def written(directory, checkpoints=None, count=60, max_segment_bytes=1 << 30):
    bodies = texts(count)
    with open_journal(directory, checkpoints, max_segment_bytes=max_segment_bytes) as journal:
        for n, body in enumerate(bodies):
            journal.append(body, now_ms=NOW_MS + n)
    return bodies


def logical(directory, segment_id=1):
    with opened(segment_path(directory, segment_id)) as contents:
        return contents.at(0, contents.size)


def compressed(directory):
    return list(compress(directory, ended_before_s=LATER_S))


def test_every_byte_comes_back_at_its_place(directory, checkpoints):
    """Records, offsets, chain and checkpoints are the same; the file is smaller."""
    written(directory, checkpoints, max_segment_bytes=300_000)
    before = {s.segment_id: logical(directory, s.segment_id) for s in list_segments(directory)}
    listed, places = list_segments(directory), {i: forging.offsets(directory, i) for i in before}
    report = verify(directory, checkpoints)

    done = compressed(directory)

    after = verify(directory, checkpoints)
    assert len(done) == len(before) > 2
    assert all(one.bytes_after < one.bytes_before / 5 and not one.refused for one in done)
    assert {i: logical(directory, i) for i in before} == before
    assert list_segments(directory) == listed
    assert {i: forging.offsets(directory, i) for i in before} == places
    assert (after.is_whole, after.records, after.last) == (True, report.records, report.last)
    assert compressed(directory) == []


@given(st.lists(st.binary(min_size=1, max_size=50_000), min_size=1, max_size=20), st.data())
@settings(max_examples=20, deadline=None)
def test_any_place_reads_as_it_did(tmp_path_factory, bodies, data):
    """A record, its neighbour and the space between read alike in the compressed segment."""
    directory = tmp_path_factory.mktemp("log")
    with open_journal(directory) as journal:
        places = [journal.append(body, now_ms=NOW_MS).offset for body in bodies]
    raw = logical(directory)
    offset = data.draw(st.integers(0, len(raw) + 5))
    expected = [read_frame(directory, segment_id=1, offset=at) for at in (*places, offset)]

    compressed(directory)

    assert [read_frame(directory, segment_id=1, offset=at) for at in (*places, offset)] == expected
    with opened(segment_path(directory, 1)) as contents:
        length = data.draw(st.integers(0, len(raw)))
        assert contents.at(offset, length) == raw[offset : offset + length]


def test_a_decision_is_found_by_its_id(tmp_path):
    """Ids that were given out before still name their record, and a scan finds the same."""
    with DecisionLog(tmp_path, max_segment_bytes=200_000) as log:
        for n in range(60):
            with log.next(now_ms=NOW_MS + n) as slot:
                slot.write(decision_record(slot.decision_id, now_ms=NOW_MS + n, request_id=str(n)))
    before = [record.decision_id for record in log.scan()]

    done = compressed(tmp_path)

    assert len(done) > 2
    assert [log.read(decision_id).request_id for decision_id in before] == [str(n) for n in range(60)]
    assert [record.decision_id for record in log.scan()] == before


def test_other_tools_unpack_it(directory):
    """Behind the header the file is plain Zstandard: its own tool gives the segment as it was written."""
    written(directory)
    before = segment_path(directory, 1).read_bytes()

    compressed(directory)

    packed = io.BytesIO(segment_path(directory, 1).read_bytes()[HEADER_BYTES:])
    unpacked = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read()
    assert unpacked == before


def test_segments_without_a_chain_are_compressed_too(directory, checkpoints):
    """What an earlier engine wrote reads as before."""
    written(directory)
    forging.as_first_format(directory)
    before = forging.contents(directory)

    compressed(directory)

    assert forging.contents(directory) == before
    assert verify(directory, checkpoints).unchained_records == len(before)


def test_erasing_from_a_compressed_segment_leaves_the_same_bytes(tmp_path, directory, checkpoints):
    """As in a segment that is not: the person is gone, the chain holds, all else stays as it was."""
    written(directory, checkpoints)
    plain = tmp_path / "plain"
    shutil.copytree(directory, plain)
    compressed(directory)
    path = segment_path(directory, 1)
    before = path.stat()

    counts = [
        erase_entries(each, "c-1", actor="dpo", reason="r", now_ms=NOW_MS, checkpoints=noted)
        for each, noted in ((directory, checkpoints), (plain, None))
    ]

    report = verify(directory, checkpoints)
    assert counts == [20, 20]
    assert logical(directory) == logical(plain)
    assert (report.is_whole, report.erased) == (True, 20)
    assert (path.stat().st_size < before.st_size, path.stat().st_ino != before.st_ino) == (True, True)
    assert erase(directory, lambda _: False, actor="a", reason="r", now_ms=NOW_MS) == 0


def test_erasing_again_writes_no_file_anew(directory):
    """Every erasure looks whether earlier ones were finished; those that are cost no copy."""
    written(directory)
    compressed(directory)
    erase_entries(directory, "c-1", actor="dpo", reason="r", now_ms=NOW_MS)
    before = segment_path(directory, 1).stat().st_ino

    erase_entries(directory, "c-1", actor="dpo", reason="r", now_ms=NOW_MS)

    assert segment_path(directory, 1).stat().st_ino == before


def test_what_is_written_or_young_stays(directory):
    """A segment with a writer, and one that was written a moment ago, are left alone."""
    with open_journal(directory) as journal:
        journal.append(b"x" * 10_000, now_ms=NOW_MS)
        live = compressed(directory)
    young = list(compress(directory, ended_before_s=time.time() - 60))

    assert (live, young) == ([], [])


def test_a_torn_segment_stays_as_evidence(directory):
    """Neither the torn end nor a corrupt record is packed away; the error says where."""
    written(directory)
    path = segment_path(directory, 1)
    os.truncate(path, path.stat().st_size - 3)
    torn = compressed(directory)
    data = bytearray(path.read_bytes())
    data[forging.offsets(directory)[3] + 100] ^= 1
    path.write_bytes(data)

    corrupt = compressed(directory)

    assert "its writer died while writing" in torn[0].refused
    assert "bytes are not what was written" in corrupt[0].refused
    assert path.read_bytes() == data
    assert not list(directory.glob("*.replacing"))


def test_another_process_that_changes_segments_is_not_waited_for(directory):
    """The step in the background leaves the lock to whoever holds it, such as an erasure."""
    written(directory)

    with changing(directory):
        done = list(compress(directory, ended_before_s=LATER_S, patient=False))

    assert done == []


@given(st.floats(0, 1, exclude_max=True), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_damage_goes_unseen(packed_log, share, cut):
    """Whatever byte is changed or cut off, verifying says so, and no record reads as another."""
    path, whole, bodies = packed_log.path, packed_log.whole, packed_log.bodies
    at = max(1, int(share * len(whole)))  # one cut to nothing is as a new one: only checkpoints tell
    path.write_bytes(whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
    damages = []

    try:
        read = [f.body for s in list_segments(path.parent) for f in stored_frames(s, report=damages.append)]
    except (LogCorrupt, UnreadableRecord):
        return

    # What lies between the last block and the end says only where blocks are, which they also say themselves.
    assert damages or read == list(bodies)
    if at > HEADER_BYTES + 3:  # before that, the file does not even begin as one that is compressed
        assert {damage.kind for damage in damages} <= {DamageKind.CORRUPT}
    assert set(read) <= set(bodies)


class PackedLog:
    """A compressed segment as a file and as bytes, with what is in it; named shortly in reports."""

    def __init__(self, path, bodies):
        self.path, self.bodies, self.whole = path, bodies, path.read_bytes()


@pytest.fixture(scope="module")
def packed_log(tmp_path_factory):
    directory = tmp_path_factory.mktemp("packed")
    bodies = written(directory, count=25)
    compressed(directory)
    return PackedLog(segment_path(directory, 1), bodies)


def test_a_damaged_block_is_found_by_verifying(directory, checkpoints):
    """The records of the other blocks can still be read, and the one that cannot says that it is damaged."""
    written(directory, checkpoints)
    compressed(directory)
    places, path = forging.offsets(directory), segment_path(directory, 1)
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + 200] ^= 0xFF
    path.write_bytes(data)
    kept = []

    report = verify(directory, checkpoints)

    for place in places:
        try:
            kept.append(read_frame(directory, segment_id=1, offset=place))
        except LogCorrupt:
            continue
    assert FindingKind.CORRUPT in {finding.kind for finding in report.findings}
    assert 0 < len(kept) < len(places)
    with pytest.raises(LogCorrupt):
        list(frames(find_segment(directory, 1)))


def test_a_cut_file_is_read_as_far_as_it_goes(directory, checkpoints):
    """Without its seek table the blocks are found one by one; what is gone is told, and an id of it too."""
    written(directory, checkpoints)
    compressed(directory)
    places, path = forging.offsets(directory), segment_path(directory, 1)
    os.truncate(path, path.stat().st_size * 2 // 3)
    damages = []

    read = [frame.offset for frame in stored_frames(find_segment(directory, 1), report=damages.append)]

    kinds = {finding.kind for finding in verify(directory, checkpoints).findings}
    assert read == places[: len(read)] != places
    assert read
    assert [damage.kind for damage in damages] == [DamageKind.CORRUPT]
    assert kinds == {FindingKind.CORRUPT, FindingKind.CUT}
    with pytest.raises(LogCorrupt):
        read_frame(directory, segment_id=1, offset=places[-1])


def test_an_engine_that_cannot_read_it_says_so():
    """The format in the header is none that engines before this one knew."""
    version = int.from_bytes(pack_header(Header(1, NOW_MS, compressed=True))[6:8], "little")

    assert version not in (1, 2)


def test_a_reader_goes_on_in_the_file_it_opened(directory):
    """Compressing in the middle of a scan changes nothing for who scans."""
    bodies = written(directory)
    scan = frames(find_segment(directory, 1))
    first = next(scan).payload

    compressed(directory)

    assert [first, *(frame.payload for frame in scan)] == bodies


def dies_at(step, act):
    """Runs `act` in a process that ends at once, like killed, at a call of the system; whether it ended."""
    child = os.fork()
    if child == 0:
        calls = 0

        def count(_frame, event, function):
            nonlocal calls
            if event == "c_call" and getattr(function, "__module__", "") in ("posix", "fcntl", "_io", None):
                calls += 1
                if calls == step:
                    os._exit(9)

        sys.setprofile(count)
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 9


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the child only calls the system
@pytest.mark.parametrize(("act", "stride"), [("compress", 9), ("erase", 61)])
def test_killed_at_any_step_nothing_is_lost(tmp_path, directory, checkpoints, act, stride):
    """The old file or the new one, whole; the next run finishes, and no scratch file stays."""
    written(directory, checkpoints, count=12)
    if act == "erase":
        compressed(directory)
    expected = logical(directory)
    work = tmp_path / "work"

    def change():
        if act == "compress":
            compressed(work)
        else:
            erase_entries(work, "c-1", actor="dpo", reason="r", now_ms=NOW_MS)

    steps = range(1, 4_000, stride)
    for step in steps:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(directory, work)

        if not dies_at(step, change):
            break

        if act == "compress":
            assert logical(work) == expected
        change()
        assert not list(work.glob("*.replacing"))
        report = verify(work, checkpoints)
        assert (report.is_whole, report.records) == (True, 12)
        assert act == "compress" or report.erased == 4
    assert step > 5 * stride
    assert step != steps[-1]
    with opened(segment_path(work, 1)) as contents:
        assert contents.compressed


def test_what_came_of_a_segment_is_told(directory):
    """Path and sizes, for the one who looks whether it was worth it."""
    written(directory)
    path = segment_path(directory, 1)
    before = path.stat().st_size

    (one,) = compressed(directory)

    assert astuple(one) == (str(path), before, path.stat().st_size, "")
