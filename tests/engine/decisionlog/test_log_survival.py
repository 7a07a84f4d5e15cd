"""What the log keeps when its process is killed or its disk is full. Real processes, real file systems."""

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from decision_examples import NOW_MS, decision_record

from engine.decisionlog.errors import LogFull
from engine.decisionlog.journal import Journal
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.reading import DamageKind, frames, is_live, list_segments, read_frame

HERE = Path(__file__).parent
ROUNDS = 5
WRITERS = 4


def endlessly(act):
    """Goes on until it raises."""
    while True:
        act()


def kill_at(process, records):
    """Reads acknowledgements up to `records`, kills the process while it writes, reads the rest."""
    lines = [process.stdout.readline() for _ in range(records)]
    process.kill()
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    complete = (b"".join(lines) + rest).rpartition(b"\n")[0]
    return dict(line.split() for line in complete.decode().splitlines())


def test_kill_9_loses_no_acknowledged_record(tmp_path):
    """20 writers, four at a time in one directory, die at random moments: every answer can be explained."""
    moment = random.Random(20)
    acknowledged = {}
    for _ in range(ROUNDS):
        command = [sys.executable, str(HERE / "log_writer_process.py"), str(tmp_path)]
        writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(WRITERS)]
        moments = [moment.randrange(1, 60) for _ in writers]
        with ThreadPoolExecutor(WRITERS) as readers:  # so that no writer waits for its reader
            for told in readers.map(kill_at, writers, moments):
                acknowledged |= told
    damages = []

    log = DecisionLog(tmp_path)
    found = {decision_id: log.read(decision_id).request_id for decision_id in acknowledged}
    scanned = {record.decision_id for record in log.scan(report=damages.append)}

    assert len(acknowledged) > ROUNDS * WRITERS
    assert found == acknowledged
    assert scanned >= set(acknowledged)
    assert {damage.kind for damage in damages} <= {DamageKind.TORN}
    assert len(scanned) - len(acknowledged) <= ROUNDS * WRITERS  # at most the one in flight of each
    assert not any(is_live(segment.path) for segment in list_segments(tmp_path))


def test_file_size_limit_refuses_and_recovers(tmp_path):
    """Where a file may not grow, appends are refused with what to do; with room they go on by themselves."""
    command = [sys.executable, str(HERE / "log_file_limit_process.py"), str(tmp_path)]

    result = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    written = [n for n, _, _ in result["acknowledged"]]
    assert written == [*range(18), *range(25, 30)]
    assert len(result["refusals"]) == 7
    assert "File too large" in result["refusals"][0]
    assert "file size limit; recording then goes on by itself" in result["refusals"][0]
    for n, segment_id, offset in result["acknowledged"]:
        assert read_frame(tmp_path, segment_id=segment_id, offset=offset)[:4] == b"%04d" % n
    stored = [frame for segment in list_segments(tmp_path) for frame in frames(segment)]
    assert len(stored) == len(written)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB; the test is skipped where one may not be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk_refuses_and_recovers(small_disk):
    """On a full disk no decision is logged in part; once there is space, the same log goes on."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    ids = []

    def decide(log):
        with log.next(now_ms=NOW_MS) as slot:
            slot.write(decision_record(slot.decision_id))
        ids.append(slot.decision_id)

    with DecisionLog(small_disk / "decisions") as log:
        with pytest.raises(LogFull) as refusal:
            endlessly(lambda: decide(log))
        before = len(ids)
        with pytest.raises(LogFull):
            decide(log)
        ballast.unlink()
        for _ in range(3):
            decide(log)

        scanned = [record.decision_id for record in log.scan(report=lambda damage: pytest.fail(str(damage)))]

    assert before > 3
    assert scanned == ids
    assert "No space left on device" in str(refusal.value)
    assert refusal.value.free_bytes < 20_000
    assert len(list_segments(small_disk / "decisions")) == 1


def test_disk_that_is_full_from_the_start(small_disk):
    """A log that cannot even begin a segment says so, leaves nothing behind, and begins when it can."""
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        endlessly(lambda: file.write(b"x" * 4096))
    journal = Journal(small_disk, fsync_interval_ms=0)

    with pytest.raises(LogFull, match="No space left"):
        journal.append(b"first", now_ms=1)
    left_behind = list_segments(small_disk)
    ballast.unlink()
    journal.append(b"first", now_ms=2)
    journal.close()

    assert left_behind == []
    assert [frame.payload for segment in list_segments(small_disk) for frame in frames(segment)] == [b"first"]
