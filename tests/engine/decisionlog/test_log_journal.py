"""Journals: rotation, slots, group fsync."""

import errno
import os
import threading

import pytest

from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.flusher import Flusher
from engine.decisionlog.journal import Journal
from engine.decisionlog.reading import frames, is_live, list_segments, read_frame


def read_payloads(directory):
    return [frame.payload for segment in list_segments(directory) for frame in frames(segment)]


@pytest.fixture
def journal(tmp_path):
    """A journal that syncs when told."""
    with Journal(tmp_path / "log", fsync_interval_ms=100, max_segment_bytes=1000) as made:
        yield made


class FsyncCounter:
    """Counts real fsyncs, and can hold the first until told."""

    def __init__(self, monkeypatch):
        self.count = 0
        self.entered = threading.Event()
        self.proceed = threading.Event()
        self.proceed.set()
        self._sync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._counted)

    def _counted(self, fd):
        self.count += 1
        self.entered.set()
        assert self.proceed.wait(10)
        self._sync(fd)


def test_slot_knows_the_place_before_the_payload(journal):
    """The place of a payload is known while it is made, and it is found there."""
    journal.append(b"earlier", now_ms=1)

    with journal.reserve(now_ms=2) as slot:
        place = (slot.segment_id, slot.offset)
        slot.write(b"at %x/%d" % place)

    found = read_frame(journal.directory, segment_id=place[0], offset=place[1])
    assert found == b"at %x/%d" % place


def test_unwritten_slot_leaves_nothing(journal):
    """A block that fails or changes its mind gives its place to the next."""
    with journal.reserve(now_ms=1) as unused:
        pass
    with pytest.raises(KeyError), journal.reserve(now_ms=1):
        raise KeyError

    slot = journal.append(b"first", now_ms=1)

    assert slot.offset == unused.offset
    assert read_payloads(journal.directory) == [b"first"]


def test_slot_is_written_once(journal):
    """Two payloads never share a place."""
    with journal.reserve(now_ms=1) as slot:
        slot.write(b"one")
        with pytest.raises(RuntimeError, match="ask for the next"):
            slot.write(b"two")

    assert read_payloads(journal.directory) == [b"one"]


def test_rotation(journal):
    """Segments end at the limit; nothing is lost, and only the last is still held."""
    payloads = [b"%03d" % i + b"x" * 100 for i in range(40)]

    for i, payload in enumerate(payloads):
        journal.append(payload, now_ms=i)
    journal.flush()

    segments = list_segments(journal.directory)
    assert read_payloads(journal.directory) == payloads
    assert [is_live(segment.path) for segment in segments] == [False] * 6 + [True]
    assert all(1000 <= segment.path.stat().st_size < 1000 + 191 for segment in segments[:6])


def test_rotation_by_age(tmp_path):
    """A segment ends with the first payload that comes so long after it began, however small it is."""
    with Journal(tmp_path, fsync_interval_ms=100, max_segment_age_ms=1_000) as journal:
        for now_ms in (5_000, 5_999, 6_000, 6_500, 9_000):
            journal.append(b"%d" % now_ms, now_ms=now_ms)

    kept = [[frame.payload for frame in frames(segment)] for segment in list_segments(tmp_path)]
    assert kept == [[b"5000", b"5999"], [b"6000", b"6500"], [b"9000"]]


def test_without_an_interval_nobody_waits_for_the_platter(tmp_path, monkeypatch):
    """It is left to checkpoints and to the system, and still done when the log is closed."""
    syncs = FsyncCounter(monkeypatch)

    with Journal(tmp_path, fsync_interval_ms=None) as journal:
        for n in range(5):
            journal.append(b"x", now_ms=n)
        while_open = syncs.count

    assert (while_open, syncs.count) == (0, 1)


def test_flush_makes_everything_durable(journal):
    """After a flush a power cut loses nothing, whatever segments were written."""
    for i in range(25):
        journal.append(b"x" * 100, now_ms=i)
    before = journal.unsynced_bytes

    journal.flush()

    assert before > 2500
    assert journal.unsynced_bytes == 0


def test_threads_share_a_journal(tmp_path):
    """Payloads of many threads are all there, each whole and in its thread's order."""
    journal = Journal(tmp_path, fsync_interval_ms=100)

    def write(name):
        for i in range(50):
            journal.append(b"%d:%d" % (name, i), now_ms=i)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = [tuple(map(int, payload.split(b":"))) for payload in read_payloads(journal.directory)]
    by_thread = [[i for name, i in found if name == wanted] for wanted in range(6)]
    journal.close()
    assert by_thread == [list(range(50))] * 6


def test_threads_share_an_fsync(tmp_path, monkeypatch):
    """While one fsync runs, all who come wait for one more together, and none returns before it."""
    counter = FsyncCounter(monkeypatch)
    counter.proceed.clear()
    with Journal(tmp_path, fsync_interval_ms=0) as journal:
        returned = []

        def write(name):
            journal.append(b"%d" % name, now_ms=1)
            returned.append(name)

        threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
        threads[0].start()
        assert counter.entered.wait(10)
        for thread in threads[1:]:
            thread.start()
        while len(read_payloads(tmp_path)) < 8:
            os.sched_yield()
        assert journal.unsynced_bytes  # waits for the eighth, who is to be counted before the next fsync
        early = list(returned)
        counter.proceed.set()
        for thread in threads:
            thread.join()

        assert early == []
        assert sorted(returned) == list(range(8))
        assert counter.count == 2
        assert journal.unsynced_bytes == 0


def test_interval_zero_syncs_each_append(tmp_path, monkeypatch):
    """With interval 0 an append that returned is durable, across rotation too."""
    counter = FsyncCounter(monkeypatch)
    with Journal(tmp_path, fsync_interval_ms=0, max_segment_bytes=200) as journal:
        unsynced = []
        for i in range(10):
            journal.append(b"x" * 60, now_ms=i)
            unsynced.append(journal.unsynced_bytes)

        assert unsynced == [0] * 10
        assert counter.count == 10
        assert [is_live(s.path) for s in list_segments(tmp_path)] == [False] * 4 + [True]


def test_failed_fsync_is_told_and_left_behind(tmp_path, monkeypatch):
    """An append whose fsync fails raises; the next one goes to a new segment and succeeds."""

    def broken(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Journal(tmp_path, fsync_interval_ms=0) as journal:
        journal.append(b"before", now_ms=1)
        monkeypatch.setattr(os, "fdatasync", broken)
        with pytest.raises(LogUnavailable, match="Input/output error"):
            journal.append(b"in doubt", now_ms=2)
        monkeypatch.undo()

        journal.append(b"after", now_ms=3)

        assert read_payloads(tmp_path) == [b"before", b"in doubt", b"after"]
        assert len(list_segments(tmp_path)) == 2


def test_flusher_makes_appends_durable(journal):
    """What is appended becomes durable without anyone asking, and at the latest when the flusher ends."""
    flushed = threading.Event()

    class Observed:
        def flush(self):
            journal.flush()
            flushed.set()

    with Flusher([Observed()], interval_ms=1) as flusher:
        journal.append(b"x", now_ms=1)
        flushed.clear()
        assert flushed.wait(10)
        by_itself = journal.unsynced_bytes
        journal.append(b"y", now_ms=1)

    assert by_itself == 0
    assert journal.unsynced_bytes == 0
    assert flusher.failure is None


def test_flusher_outlives_a_failure(journal, monkeypatch):
    """A failed fsync is kept for health checks until a flush succeeds again."""
    flusher = Flusher([journal], interval_ms=60_000)
    journal.append(b"x", now_ms=1)

    def broken(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        flusher.start()
        flusher.close()

    assert isinstance(flusher.failure, LogUnavailable)
    journal.append(b"y", now_ms=2)
    journal.flush()
    assert read_payloads(journal.directory) == [b"x", b"y"]


def test_flusher_needs_an_interval(journal):
    """Interval 0 means that logs sync by themselves, so a flusher for it is a mistake."""
    with pytest.raises(ValueError, match="must be positive"):
        Flusher([journal], interval_ms=0)


def test_closed_journal_refuses(journal):
    """After close, which may be called twice, nothing is appended."""
    journal.append(b"x", now_ms=1)
    journal.close()
    journal.close()

    with pytest.raises(LogUnavailable, match="the log is closed"):
        journal.append(b"y", now_ms=1)
    assert read_payloads(journal.directory) == [b"x"]


def test_directory_that_cannot_be(tmp_path):
    """A journal whose directory cannot be made says so before the first append."""
    (tmp_path / "file").write_text("in the way")
    journal = Journal(tmp_path / "file" / "log", fsync_interval_ms=0)

    with pytest.raises(LogUnavailable, match="log: not recorded: Not a directory; check that"):
        journal.prepare()
    with pytest.raises(LogUnavailable, match="Not a directory"):
        journal.append(b"x", now_ms=1)
