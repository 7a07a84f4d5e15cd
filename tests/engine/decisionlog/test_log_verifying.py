"""Verifying a log: what is proven, and that every way to tamper with it is found and named."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import forging
import pytest
from decision_examples import NOW_MS

from engine.decisionlog.chain import CHAIN_BYTES, unseal
from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.erasure import ERASURES, erase, erase_entries, erasure_journal
from engine.decisionlog.errors import LogCorrupt
from engine.decisionlog.frame import FRAME_BYTES
from engine.decisionlog.journal import Journal
from engine.decisionlog.ledger import ConsentEntry, consent_ledger
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.reading import find_segment, frames, list_segments
from engine.decisionlog.segment import segment_path, sequential_id
from engine.decisionlog.verifying import FindingKind, Witness, verify
from feature_store.state import ConsentRecord, ConsentState

BODIES = [b'{"customer_id":"c-%d","n":%d}' % (n % 3, n) for n in range(6)]
HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class Clock:
    """Tells a time that moves only when told."""

    def __init__(self):
        self.now_ms = NOW_MS

    def __call__(self):
        return self.now_ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def checkpoints(tmp_path, clock):
    """Checkpoints in a directory outside the log."""
    return Checkpoints(tmp_path / "elsewhere", "log", clock=clock)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "log"


def open_journal(directory, checkpoints=None, *, max_segment_bytes=1 << 20):
    return Journal(
        directory,
        fsync_interval_ms=0,
        max_segment_bytes=max_segment_bytes,
        new_id=sequential_id,
        checkpoints=checkpoints,
    )


def write(directory, checkpoints=None, bodies=BODIES, **options):
    with open_journal(directory, checkpoints, **options) as journal:
        for n, body in enumerate(bodies):
            journal.append(body, now_ms=NOW_MS + n)


def found(directory, checkpoints):
    """Kind and offset of everything that is wrong."""
    return [(finding.kind, finding.offset) for finding in verify(directory, checkpoints).all_findings]


def test_whole_log_is_proven(directory, checkpoints, clock):
    """What nobody touched is whole, over segments, and proven until its last checkpoint."""
    write(directory, checkpoints, max_segment_bytes=200)
    clock.now_ms += 1000

    report = verify(directory, checkpoints)

    assert report.is_whole
    assert (report.segments, report.records, report.unproven_records) == (3, 6, 0)
    assert report.proven_until_ms == NOW_MS
    assert report.last.number == report.checkpoints


def test_log_without_checkpoints_is_whole_but_proves_less(directory, checkpoints):
    """Without a checkpoint the chain fits, yet nothing says that its end is still there."""
    write(directory)

    report = verify(directory, checkpoints)

    assert report.is_whole
    assert (report.unproven_records, report.proven_until_ms) == (6, None)


@pytest.mark.parametrize("n", range(6))
def test_edited_record_is_found(directory, checkpoints, n):
    """A record that was changed, its checksum put right, does not fit its commitment."""
    write(directory, checkpoints)
    contents, places = forging.contents(directory), forging.offsets(directory)
    contents[n] = forging.with_body(contents[n], BODIES[n].replace(b"c-", b"x-"))

    forging.rewrite(directory, contents)

    assert found(directory, checkpoints) == [(FindingKind.EDITED, places[n])]


def test_record_with_a_new_commitment_is_found(directory, checkpoints):
    """Who changes the commitment, too, breaks the link."""
    write(directory)
    contents, places = forging.contents(directory), forging.offsets(directory)
    contents[2] = forging.with_new_commitment(contents[2], b"x" * len(BODIES[2]))

    forging.rewrite(directory, contents)

    assert found(directory, checkpoints) == [(FindingKind.BROKEN, places[2])]


@pytest.mark.parametrize("n", range(5))
def test_removed_record_is_found(directory, checkpoints, n):
    """A record that was left out is missed by the one after it, with or without checkpoints."""
    write(directory)
    contents, places = forging.contents(directory), forging.offsets(directory)
    del contents[n]

    forging.rewrite(directory, contents)

    assert found(directory, checkpoints)[0] == (FindingKind.BROKEN, places[n])


def test_reordered_records_are_found(directory, checkpoints):
    """Records that changed places follow the wrong ones."""
    write(directory, checkpoints)
    contents, places = forging.contents(directory), forging.offsets(directory)
    contents[1], contents[2] = contents[2], contents[1]

    forging.rewrite(directory, contents)

    broken = [offset for kind, offset in found(directory, checkpoints) if kind is FindingKind.BROKEN]
    assert broken == places[1:4]


@pytest.mark.parametrize(
    "change",
    [
        lambda bodies: [bodies[0].replace(b"c-", b"x-"), *bodies[1:]],
        lambda bodies: [*bodies[:2], *bodies[3:], b'{"customer_id":"c-2","n":7}'],
        lambda bodies: [bodies[1], bodies[0], *bodies[2:]],
    ],
    ids=["edited", "removed", "reordered"],
)
def test_chain_made_anew_is_found(directory, checkpoints, change):
    """Who makes the whole chain anew is found by the checkpoint outside, and only by it."""
    write(directory, checkpoints)
    end = directory.joinpath("0000000001.seg").stat().st_size

    forging.relink(directory, change(BODIES))

    assert found(directory, checkpoints) == [(FindingKind.REWRITTEN, end)]
    assert found(directory, Checkpoints(directory / "none", "log")) == []


@pytest.mark.parametrize("kept", range(6))
def test_cut_tail_is_found(directory, checkpoints, kept):
    """An end that was cut off between records is known from the checkpoint, and only from it."""
    write(directory, checkpoints)
    places = forging.offsets(directory)
    path = segment_path(directory, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: places[kept]])

    (finding,) = verify(directory, checkpoints).findings

    assert (finding.kind, finding.offset) == (FindingKind.CUT, places[kept])
    assert finding.at_ms == NOW_MS
    assert finding.detail == f"{len(whole) - places[kept]} bytes are gone"
    assert found(directory, Checkpoints(directory / "none", "log")) == []


def test_cut_behind_the_last_checkpoint_does_not_show(directory, checkpoints, clock):
    """What came after the last checkpoint is not proven, and the report says since when and how much."""
    with open_journal(directory, checkpoints) as journal:
        journal.append(BODIES[0], now_ms=NOW_MS)
        journal.checkpoint()
        clock.now_ms += 5000
        for body in BODIES[1:]:
            journal.append(body, now_ms=NOW_MS)
        before = verify(directory, checkpoints)
        with segment_path(directory, 1).open("r+b") as file:
            file.truncate(forging.offsets(directory)[3])

        after = verify(directory, checkpoints)
        assert before.is_whole
        assert after.is_whole
        assert (before.unproven_records, after.unproven_records) == (5, 2)
        assert before.proven_until_ms == NOW_MS


def test_removed_segment_is_found(directory, checkpoints):
    """A file that is gone is known from the checkpoint."""
    write(directory, checkpoints, max_segment_bytes=200)
    gone = segment_path(directory, 2)

    gone.unlink()

    (finding,) = verify(directory, checkpoints).findings
    assert (finding.kind, finding.path) == (FindingKind.MISSING, gone)


def test_removed_log_is_found(directory, checkpoints):
    """Where nothing is left of a log, every segment is missed."""
    write(directory, checkpoints, max_segment_bytes=200)

    shutil.rmtree(directory)

    assert [kind for kind, _ in found(directory, checkpoints)] == [FindingKind.MISSING] * 3


def test_record_added_to_an_ended_segment_is_found(directory, checkpoints):
    """Nothing is ever written to a segment that ended, so whoever adds a consent to it is found."""
    write(directory, checkpoints)
    end = segment_path(directory, 1).stat().st_size

    forging.add(directory, b'{"customer_id":"c-9"}')

    assert found(directory, checkpoints) == [(FindingKind.ADDED, end)]


def test_renamed_segment_is_found(directory, checkpoints):
    """A segment under another name is not believed, and is missed where it was."""
    write(directory, checkpoints)

    segment_path(directory, 1).rename(segment_path(directory, 7))

    assert {kind for kind, _ in found(directory, checkpoints)} == {
        FindingKind.UNREADABLE,
        FindingKind.MISSING,
    }


def test_disk_error_is_told_from_an_edit(directory, checkpoints):
    """Bytes that changed by themselves do not match their checksum; the other records still fit."""
    write(directory, checkpoints)
    places = forging.offsets(directory)
    path = segment_path(directory, 1)
    data = bytearray(path.read_bytes())
    data[places[2] + 50] ^= 1
    path.write_bytes(data)

    assert found(directory, checkpoints) == [(FindingKind.CORRUPT, places[2])]


def test_replaced_checkpoints_are_found_by_a_witness(directory, checkpoints, tmp_path):
    """Who makes log and checkpoints anew is found by a head that was written down elsewhere."""
    write(directory, checkpoints)
    last = checkpoints.history().last
    noted = Witness(last.number, last.digest[:12])
    whole = verify(directory, checkpoints, witness=noted)
    shutil.rmtree(directory)
    shutil.rmtree(tmp_path / "elsewhere")
    write(directory, checkpoints, BODIES[:-1])

    forged = verify(directory, checkpoints, witness=noted)

    assert whole.is_whole
    assert [finding.kind for finding in forged.findings] == [FindingKind.UNWITNESSED]


def test_first_format_is_read_and_told(directory, checkpoints):
    """Segments of earlier engines are read as before and reported as not chained; new ones are chained."""
    write(directory)
    forging.as_first_format(directory)
    write(directory, checkpoints, BODIES[:2])

    report = verify(directory, checkpoints)

    payloads = [frame.payload for segment in list_segments(directory) for frame in frames(segment)]
    assert payloads == [*BODIES, *BODIES[:2]]
    assert report.is_whole
    assert (report.unchained_segments, report.unchained_records, report.records) == (1, 6, 8)


def test_erased_records_are_gone_and_the_chain_holds(directory, checkpoints):
    """Of an erased record neither text nor salt is left; the rest reads and verifies as before."""
    write(directory, checkpoints)
    before = forging.contents(directory)

    count = erase_entries(
        directory, "c-1", actor="dpo", reason="request 7", now_ms=NOW_MS, checkpoints=checkpoints
    )

    data = segment_path(directory, 1).read_bytes()
    report = verify(directory, checkpoints)
    left = [frame.payload for frame in frames(find_segment(directory, 1))]
    assert count == 2
    assert b"c-1" not in data
    assert all(content[64:CHAIN_BYTES] not in data for content in (before[1], before[4]))
    assert left == [body for body in BODIES if b"c-1" not in body]
    assert report.is_whole
    assert (report.erased, report.records) == (2, 6)
    assert b"c-1" not in (directory / ERASURES).joinpath("0000000001.seg").read_bytes()


def test_erasing_again_finds_nothing(directory, checkpoints):
    """An erasure that is repeated does nothing, and adds nothing to the journal."""
    write(directory, checkpoints)
    for expected in (2, 0):
        assert expected == erase_entries(directory, "c-2", actor="dpo", reason="r", now_ms=NOW_MS)

    assert len(list(erasure_journal(directory).replay())) == 1


def test_blanked_record_without_an_entry_is_found(directory, checkpoints):
    """A record that somebody blanked out by hand is told from one that was erased by right."""
    write(directory, checkpoints)
    erase_entries(directory, "c-0", actor="dpo", reason="r", now_ms=NOW_MS)
    contents, places = forging.contents(directory), forging.offsets(directory)
    contents[4] = contents[4][:64].ljust(len(contents[4]), b"\0")

    forging.rewrite(directory, contents)

    assert found(directory, checkpoints) == [(FindingKind.GONE, places[4])]


def test_removed_erasure_journal_is_found(directory, checkpoints):
    """Without the journal no erasure is one by right, and its checkpoints miss it."""
    write(directory, checkpoints)
    erase_entries(directory, "c-0", actor="dpo", reason="r", now_ms=NOW_MS, checkpoints=checkpoints)

    shutil.rmtree(directory / ERASURES)

    kinds = [kind for kind, _ in found(directory, checkpoints)]
    assert sorted(kinds) == [FindingKind.GONE, FindingKind.GONE, FindingKind.MISSING]


@pytest.mark.parametrize("written", [0, 4, 8, 90, 100])
def test_erasure_cut_short_is_finished(directory, checkpoints, written):
    """Wherever an erasure was interrupted, verify says so, and the next erasure of anything finishes it."""
    write(directory, checkpoints)
    whole = segment_path(directory, 1).read_bytes()
    place = forging.offsets(directory)[1]
    erase_entries(directory, "c-1", actor="dpo", reason="r", now_ms=NOW_MS, checkpoints=checkpoints)
    blank = segment_path(directory, 1).read_bytes()
    segment_path(directory, 1).write_bytes(
        whole[:place] + blank[place : place + written] + whole[place + written :]
    )

    interrupted = found(directory, checkpoints)
    erase(directory, lambda body: False, actor="dpo", reason="r", now_ms=NOW_MS, checkpoints=checkpoints)

    assert (FindingKind.UNFINISHED, place) in interrupted
    assert {kind for kind, _ in interrupted} == {FindingKind.UNFINISHED}
    assert verify(directory, checkpoints).is_whole
    assert segment_path(directory, 1).read_bytes() == blank


def test_erasure_that_cannot_see_everything_is_refused(directory, checkpoints):
    """Behind damage a record of the person may hide, so nothing is called erased."""
    write(directory, checkpoints)
    path = segment_path(directory, 1)
    data = bytearray(path.read_bytes())
    data[forging.offsets(directory)[0] + FRAME_BYTES] ^= 1
    path.write_bytes(data)

    with pytest.raises(LogCorrupt):
        erase_entries(directory, "c-1", actor="dpo", reason="r", now_ms=NOW_MS)


def test_first_format_can_be_erased(directory, checkpoints):
    """Records of earlier engines can be forgotten, too."""
    write(directory)
    forging.as_first_format(directory)

    count = erase_entries(directory, "c-1", actor="dpo", reason="r", now_ms=NOW_MS)

    assert count == 2
    assert b"c-1" not in segment_path(directory, 1).read_bytes()
    assert verify(directory, checkpoints).is_whole


def test_erasing_while_a_writer_goes_on(directory, checkpoints):
    """A server keeps appending to the segment that another process erases from."""
    with open_journal(directory, checkpoints) as journal:
        for body in BODIES:
            journal.append(body, now_ms=NOW_MS)
        erase_entries(directory, "c-1", actor="dpo", reason="r", now_ms=NOW_MS, checkpoints=checkpoints)
        journal.append(BODIES[0], now_ms=NOW_MS)

    report = verify(directory, checkpoints)
    assert report.is_whole
    assert (report.records, report.erased, report.unproven_records) == (7, 2, 0)


def test_logs_forget_a_customer(tmp_path):
    """Decisions and consents of a customer are erased by the same call; reading them finds nothing."""
    from decision_examples import decision_record

    record = ConsentRecord("marketing", "email", ConsentState.GRANTED, NOW_MS)
    with consent_ledger(tmp_path / "consents") as ledger, DecisionLog(tmp_path / "decisions") as log:
        positions = [
            ledger.append(ConsentEntry(customer_id=customer, consent=record, received_at_ms=NOW_MS))
            for customer in ("c-1", "c-2")
        ]
        ids = []
        for customer in ("c-1", "c-2"):
            with log.next(now_ms=NOW_MS) as slot:
                slot.write(decision_record(slot.decision_id, customer_id=customer))
            ids.append(slot.decision_id)

        for part in ("consents", "decisions"):
            erase_entries(tmp_path / part, "c-1", actor="dpo", reason="r", now_ms=NOW_MS)

        assert [entry.customer_id for entry in ledger.replay()] == ["c-2"]
        assert [ledger.read(position) is None for position in positions] == [True, False]
        assert [log.read(decision_id) is None for decision_id in ids] == [True, False]
        assert [found.decision_id for found in log.scan()] == ids[1:]


def test_killed_writers_leave_a_whole_log(directory, checkpoints):
    """After kill -9 the log verifies; the next process vouches for what lay behind the last checkpoint."""
    moment = random.Random(3)
    command = [sys.executable, str(HERE / "log_writer_process.py"), str(directory)]
    for _ in range(3):
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})
        for _ in range(moment.randrange(1, 30)):
            writer.stdout.readline()
        writer.kill()
        writer.communicate()
    before = verify(directory, checkpoints)

    with DecisionLog(directory, checkpoints=checkpoints) as log:
        log.vouch()

    after = verify(directory, checkpoints)
    assert before.is_whole
    assert before.unproven_records == before.records > 0
    assert after.is_whole
    assert (after.unproven_records, after.records) == (0, before.records)


def left_behind(directory, checkpoints, target):
    """A log as a killed process leaves it: three records noted by a checkpoint, three behind it."""
    with open_journal(directory, checkpoints) as journal:
        for body in BODIES[:3]:
            journal.append(body, now_ms=NOW_MS)
        journal.checkpoint()
        for body in BODIES[3:]:
            journal.append(body, now_ms=NOW_MS)
        shutil.copytree(directory, target)
        noted = checkpoints.path.read_bytes()
    checkpoints.path.write_bytes(noted)


def test_what_a_killed_process_left_is_vouched_for(directory, checkpoints, tmp_path):
    """The next process notes the end of the segment, once."""
    left = tmp_path / "left"
    left_behind(directory, checkpoints, left)
    before = verify(left, checkpoints)

    with open_journal(left, checkpoints) as journal:
        journal.vouch()
        journal.vouch()

    after = verify(left, checkpoints)
    assert (before.unproven_records, after.unproven_records) == (3, 0)
    assert (before.is_whole, after.is_whole) == (True, True)
    assert [head.ended for _, head in checkpoints.history().heads_of(1)] == [False, True]


def edit(directory):
    contents = forging.contents(directory)
    contents[4] = forging.with_body(contents[4], b"x" * len(BODIES[4]))
    forging.rewrite(directory, contents)


def leave_out(directory):
    contents = forging.contents(directory)
    forging.rewrite(directory, [*contents[:3], *contents[4:]])


def cut(directory):
    os.truncate(segment_path(directory, 1), forging.offsets(directory)[2])


def spoil(directory):
    path = segment_path(directory, 1)
    data = bytearray(path.read_bytes())
    data[forging.offsets(directory)[4] + 20] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("change", [edit, leave_out, cut, spoil, forging.as_first_format])
def test_nobody_vouches_for_what_does_not_fit(directory, checkpoints, tmp_path, change):
    """A segment that was changed or shortened behind or before its checkpoint is not noted again as whole."""
    left = tmp_path / "left"
    left_behind(directory, checkpoints, left)
    noted = checkpoints.history().last
    change(left)

    with open_journal(left, checkpoints) as journal:
        journal.vouch()

    assert checkpoints.history().last == noted


def test_an_erasure_in_a_segment_that_is_gone_does_no_harm(directory, checkpoints):
    """What was erased cannot come back; the missing file is told by verify, not by the next erasure."""
    write(directory, checkpoints)
    erase_entries(directory, "c-1", actor="dpo", reason="r", now_ms=NOW_MS, checkpoints=checkpoints)
    segment_path(directory, 1).unlink()

    count = erase_entries(directory, "c-2", actor="dpo", reason="r", now_ms=NOW_MS, checkpoints=checkpoints)

    assert count == 0
    assert found(directory, checkpoints) == [(FindingKind.MISSING, 0)]


def test_an_erasure_of_a_record_that_was_cut_off_is_told(directory, checkpoints):
    """A place of the journal that holds no record any more is damage, not a finished erasure."""
    write(directory, checkpoints)
    erase_entries(directory, "c-2", actor="dpo", reason="r", now_ms=NOW_MS, checkpoints=checkpoints)
    os.truncate(segment_path(directory, 1), forging.offsets(directory)[4])

    with pytest.raises(LogCorrupt, match="a record that is to be erased is not there"):
        erase_entries(directory, "c-1", actor="dpo", reason="r", now_ms=NOW_MS, checkpoints=checkpoints)


def test_damaged_erasure_journal_is_told(directory, checkpoints):
    """A journal whose entry cannot be read proves no erasure: the record is gone without a right."""
    write(directory, checkpoints)
    for customer in ("c-1", "c-2"):
        erase_entries(directory, customer, actor="dpo", reason="r", now_ms=NOW_MS, checkpoints=checkpoints)
    first = segment_path(directory / ERASURES, 1)
    contents = forging.contents(directory / ERASURES)
    forging.rewrite(directory / ERASURES, [*contents, contents[0]])
    data = bytearray(first.read_bytes())
    data[forging.offsets(directory / ERASURES)[0] + 20] ^= 1
    first.write_bytes(data)

    kinds = {kind for kind, _ in found(directory, checkpoints)}

    assert {FindingKind.CORRUPT, FindingKind.UNREADABLE, FindingKind.GONE} <= kinds


def test_links_do_not_repeat(directory):
    """Equal records have different commitments, so nobody can guess a record from its commitment."""
    write(directory, bodies=[b"same", b"same"])

    first, second = (unseal(content) for content in forging.contents(directory))

    assert first.body == second.body
    assert first.commitment != second.commitment
    assert first.salt != second.salt
