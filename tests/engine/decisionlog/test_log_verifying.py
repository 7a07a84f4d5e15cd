"""Verifying a log: what is proven, and that every way to tamper with it is found and named."""

import shutil

import forging
import pytest
from decision_examples import NOW_MS
from log_examples import BODIES, found, open_journal, write

from engine.decisionlog.chain import unseal
from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.reading import frames, list_segments
from engine.decisionlog.segment import segment_path
from engine.decisionlog.verifying import FindingKind, Witness, verify


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


def test_links_do_not_repeat(directory):
    """Equal records have different commitments, so nobody can guess a record from its commitment."""
    write(directory, bodies=[b"same", b"same"])

    first, second = (unseal(content) for content in forging.contents(directory))

    assert first.body == second.body
    assert first.commitment != second.commitment
    assert first.salt != second.salt
