"""Compressing in the background of a server: another process does it, and one at a time."""

import os
import subprocess
import sys
import time

from decision_examples import NOW_MS
from log_examples import open_journal
from structlog.testing import capture_logs

from engine.decisionlog.compressing import compressible
from engine.decisionlog.compressor import Compressor, compress_all
from engine.decisionlog.reading import frames, list_segments
from engine.decisionlog.replacing import changing
from engine.decisionlog.segment import segment_path

BODY = b"x" * 20_000


def write(directory, count=4):
    with open_journal(directory, max_segment_bytes=25_000) as journal:
        for n in range(count):
            journal.append(BODY, now_ms=NOW_MS + n)


def waiting(directory):
    return list(compressible(directory, ended_before_s=time.time() + 60))


def test_a_process_of_its_own_compresses_what_has_ended(tmp_path):
    """It tells what it did; what cannot be compressed it tells once."""
    write(tmp_path / "log")
    torn = segment_path(tmp_path / "log", 1)
    os.truncate(torn, torn.stat().st_size - 1)
    compressor = Compressor([tmp_path / "log", tmp_path / "none"], after_s=-60)

    with capture_logs() as told:
        compressor.turn()
        compressor.turn()

    events = [event["event"] for event in told]
    assert events == ["log.segment_not_compressed", "log.segment_compressed"]
    assert waiting(tmp_path / "log") == [torn]
    assert sum(1 for s in list_segments(tmp_path / "log")[1:] for _ in frames(s)) == 2


def test_what_another_process_changes_is_left_to_it(tmp_path):
    """Several servers may have a compressor for one log."""
    write(tmp_path)

    with changing(tmp_path):
        code = compress_all([tmp_path], ended_before_s=time.time() + 60)

    assert code == 0
    assert len(waiting(tmp_path)) == 2


def test_a_log_that_cannot_be_changed_is_told(tmp_path, capsysbinary):
    """The exit code says so, and other logs are compressed all the same."""
    write(tmp_path / "first")
    write(tmp_path / "second")
    (tmp_path / "first" / "changing.lock").mkdir()

    code = compress_all([tmp_path / "first", tmp_path / "second"], ended_before_s=time.time() + 60)

    assert code == 1
    assert waiting(tmp_path / "second") == []
    assert capsysbinary.readouterr().out.count(b"\n") == 2


def test_it_works_until_it_is_closed(tmp_path):
    """At the interval of its age, and not a moment after the server stops."""
    write(tmp_path)
    compressor = Compressor([tmp_path], after_s=0.01)
    with compressor:
        while waiting(tmp_path):
            os.sched_yield()

    write(tmp_path)
    compressor.turn()

    assert len(waiting(tmp_path)) == 2


def test_the_process_says_what_it_did_with_each(tmp_path):
    """A line of JSON for each segment."""
    write(tmp_path)

    command = [sys.executable, "-m", "engine.decisionlog.compressor", "-60", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=True)

    assert done.stdout.count(b'"refused":""') == 2
    assert waiting(tmp_path) == []
