"""What killed writers left: the next process vouches for it where it fits what was noted."""

import os
import random
import shutil
import subprocess
import sys

import forging
import pytest
from decision_examples import NOW_MS
from log_examples import BODIES, HERE, ROOT, open_journal

from engine.decisionlog.log import DecisionLog
from engine.decisionlog.segment import segment_path
from engine.decisionlog.verifying import verify


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
