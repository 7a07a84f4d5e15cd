"""Erasing records of a log: they are gone, the chain holds, and whatever is cut short is finished."""

import os
import shutil

import forging
import pytest
from decision_examples import NOW_MS
from log_examples import BODIES, found, open_journal, write

from engine.decisionlog.chain import CHAIN_BYTES
from engine.decisionlog.erasure import ERASURES, erase, erase_entries, erasure_journal
from engine.decisionlog.errors import LogCorrupt
from engine.decisionlog.frame import FRAME_BYTES
from engine.decisionlog.ledger import ConsentEntry, consent_ledger
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.reading import find_segment, frames
from engine.decisionlog.segment import segment_path
from engine.decisionlog.verifying import FindingKind, verify
from feature_store.state import ConsentRecord, ConsentState


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
