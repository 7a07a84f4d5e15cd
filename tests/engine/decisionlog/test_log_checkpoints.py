"""Checkpoints outside a log: written in time, chained, sealed with a key, and never in the way."""

import threading

import pytest

from engine.decisionlog.chain import Head
from engine.decisionlog.checkpointer import Checkpointer
from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.journal import Journal
from engine.decisionlog.segment import sequential_id

KEY = b"a key of the privacy office"


def head(segment_id, size=100, **options):
    return Head(segment_id, size, bytes([segment_id % 256]) * 32, **options)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "elsewhere", "consents", clock=lambda: 1000)


@pytest.fixture
def journal(tmp_path, checkpoints):
    """A journal with checkpoints; a segment holds two records."""
    with Journal(
        tmp_path / "log",
        fsync_interval_ms=100,
        max_segment_bytes=200,
        new_id=sequential_id,
        checkpoints=checkpoints,
    ) as made:
        yield made


def noted(checkpoints):
    return [
        (head.segment_id, head.size, head.ended)
        for c in checkpoints.history().checkpoints
        for head in c.heads
    ]


def lines_of(checkpoints):
    return checkpoints.path.read_bytes().splitlines(keepends=True)


def test_checkpoints_come_back(checkpoints):
    """What was noted is read again, in order, by segment and as a whole."""
    checkpoints.append([head(1), head(2)])
    checkpoints.append([head(1, 200, ended=True)])

    history = checkpoints.history()

    assert history.broken == ()
    assert history.authenticated is None
    assert [(c.number, c.at_ms, c.heads) for c in history.checkpoints] == [
        (1, 1000, (head(1), head(2))),
        (2, 1000, (head(1, 200, ended=True),)),
    ]
    assert history.heads_of(1) == [(1000, head(1)), (1000, head(1, 200, ended=True))]
    assert history.heads_of(3) == []


def test_many_heads_take_several_lines(checkpoints):
    """However many segments were left by writers that died, no line becomes too long to be read back."""
    heads = [head(n) for n in range(1, 251)]

    checkpoints.append(heads)
    checkpoints.append([head(251)])

    history = checkpoints.history()
    assert [h for c in history.checkpoints for h in c.heads] == [*heads, head(251)]
    assert (len(history.checkpoints), history.broken) == (4, ())


def test_processes_share_the_file(tmp_path):
    """Checkpoints of many writers form one chain."""
    writers = [Checkpoints(tmp_path, "log") for _ in range(4)]

    def work(n):
        for size in range(20):
            writers[n].append([head(n, size)])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    history = writers[0].history()
    assert [c.number for c in history.checkpoints] == list(range(1, 81))
    assert history.broken == ()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: [lines[0].replace(b'"at_ms":1000', b'"at_ms":999'), *lines[1:]], 1),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[1], lines[0], lines[2]], 1),
        (lambda lines: [lines[0], b"not json\n", lines[2]], 2),
        (lambda lines: lines[1:], 1),
    ],
    ids=["edited", "removed", "reordered", "garbled", "first removed"],
)
def test_changed_checkpoints_are_found(checkpoints, change, line):
    """A line that was changed, moved or removed is named."""
    for n in range(1, 4):
        checkpoints.append([head(n)])

    checkpoints.path.write_bytes(b"".join(change(lines_of(checkpoints))))

    assert checkpoints.history().broken[0].line == line


def test_line_cut_short_is_no_damage(checkpoints):
    """What a writer that died left behind is passed over, and the next line takes its place."""
    checkpoints.append([head(1)])
    checkpoints.append([head(2)])
    data = checkpoints.path.read_bytes()
    checkpoints.path.write_bytes(data[:-10])

    while_torn = checkpoints.history()
    checkpoints.append([head(3)])

    assert [c.number for c in while_torn.checkpoints] == [1]
    assert while_torn.broken == ()
    assert noted(checkpoints) == [(1, 100, False), (3, 100, False)]
    assert checkpoints.history().broken == ()


def test_key_shows_forged_checkpoints(tmp_path):
    """With a key, a chain of checkpoints that was made anew without it is found; without, it cannot be."""
    keyed = Checkpoints(tmp_path, "log", key=KEY)
    keyed.append([head(1)])
    keyed.append([head(2)])
    genuine = keyed.history()
    keyed.path.unlink()
    Checkpoints(tmp_path, "log", key=b"guessed").append([head(1, 50)])

    forged = keyed.history()

    assert genuine.authenticated is True
    assert genuine.broken == ()
    assert forged.authenticated is False
    assert "HMAC does not match" in forged.broken[0].cause
    assert Checkpoints(tmp_path, "log").history().broken == ()


def test_lines_without_the_key_are_found(tmp_path):
    """Once lines are sealed with the key, one that is not is no genuine one."""
    keyed, plain = Checkpoints(tmp_path, "log", key=KEY), Checkpoints(tmp_path, "log")
    plain.append([head(1)])
    keyed.append([head(2)])
    introduced = keyed.history()
    plain.append([head(3)])

    forged = keyed.history()

    assert introduced.authenticated is True
    assert forged.authenticated is False
    assert [broken.line for broken in forged.broken] == [3]


def test_directory_that_cannot_be(tmp_path):
    """Checkpoints that could never be kept are told of when the log is opened."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(LogUnavailable, match=r"log\.checkpoints: not recorded"):
        Journal(
            tmp_path / "log", fsync_interval_ms=0, checkpoints=Checkpoints(tmp_path / "file", "log")
        ).prepare()


def test_only_what_moved_is_noted(journal, checkpoints):
    """A log at rest adds nothing to its checkpoints."""
    journal.append(b"x" * 20, now_ms=1)

    journal.checkpoint()
    journal.checkpoint()

    assert noted(checkpoints) == [(1, 136, False)]


def test_ended_segments_are_noted_with_their_end(journal, checkpoints):
    """The last word on a segment says that it ended; closing says it of the last one."""
    for _ in range(5):
        journal.append(b"x" * 20, now_ms=1)
    journal.flush()
    waiting = journal.has_ended_segments

    journal.checkpoint()
    journal.close()

    assert waiting
    assert not journal.has_ended_segments
    assert noted(checkpoints) == [(1, 244, True), (2, 244, True), (3, 136, False), (3, 136, True)]


def test_checkpoints_hold_only_what_is_on_the_platter(journal, checkpoints):
    """A checkpoint never says more than a power cut would leave: it syncs first."""
    journal.append(b"x" * 20, now_ms=1)
    before = journal.unsynced_bytes

    journal.checkpoint()

    assert before > 0
    assert journal.unsynced_bytes == 0


class Log:
    """A log that says when it was asked."""

    def __init__(self):
        self.asked = threading.Semaphore(0)
        self.vouched = threading.Event()
        self.has_ended_segments = False
        self.fails = False

    def vouch(self):
        self.vouched.set()

    def checkpoint(self):
        self.asked.release()
        if self.fails:
            raise LogUnavailable("elsewhere", "the other disk is away", "mount it")


def test_checkpointer_writes_at_its_interval_and_at_the_end():
    """Logs are vouched for at the start, asked at the interval, and once more at the end."""
    log = Log()

    with Checkpointer([log], interval_s=0.01):
        assert log.vouched.wait(10)
        assert all(log.asked.acquire(timeout=10) for _ in range(3))
    while log.asked.acquire(blocking=False):
        pass

    last = Log()
    with Checkpointer([last], interval_s=3600):
        assert last.vouched.wait(10)
    assert last.asked.acquire(blocking=False)


def test_checkpointer_does_not_wait_with_an_ended_segment():
    """The end of a segment is noted at once, whatever the interval."""
    log = Log()
    log.has_ended_segments = True

    with Checkpointer([log], interval_s=3600):
        assert log.asked.acquire(timeout=10)


def test_checkpointer_outlives_a_failure(capsys):
    """Where checkpoints cannot be written, the log goes on; the failure is kept until one succeeds."""
    log = Log()
    log.fails = True
    checkpointer = Checkpointer([log], interval_s=3600)
    checkpointer.start()
    checkpointer.close()

    assert isinstance(checkpointer.failure, LogUnavailable)


def test_checkpointer_tells_of_each_time_whether_all_went_well():
    """Whoever counts failures hears of them, and of the first success after them."""
    log, heard = Log(), []
    often = threading.Semaphore(0)

    def told(well):
        heard.append(well)
        log.fails = len(heard) < 3
        often.release()

    with Checkpointer([log, Log()], interval_s=0.01, told=told):
        assert all(often.acquire(timeout=10) for _ in range(4))

    assert heard[:4] == [True, False, False, True]


def test_journal_closes_where_the_checkpoint_cannot_be_written(journal, checkpoints, monkeypatch):
    """A disk of checkpoints that is away does not keep a server from stopping; the next one vouches."""

    def away(_):
        raise LogUnavailable(checkpoints.path, "the other disk is away", "mount it")

    journal.append(b"x" * 20, now_ms=1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "append", away)
        journal.close()
    left = noted(checkpoints)

    journal.vouch()

    assert left == []
    assert noted(checkpoints) == [(1, 136, True)]


def test_grown_file_is_put_aside(tmp_path):
    """A new file begins with what is known of every segment, follows the old one, and old heads are found."""
    checkpoints = Checkpoints(tmp_path, "log", key=KEY, max_file_bytes=2000)
    numbers = {}
    for size in range(40):
        checkpoints.append([head(size % 5, size)])
        last = checkpoints.history().last
        numbers[last.number] = last.digest

    history = checkpoints.history()

    aside = sorted(path.name for path in tmp_path.iterdir())
    assert len(aside) > 3
    assert history.broken == ()
    assert history.authenticated is True
    assert {segment_id: marks[-1][1].size for segment_id, marks in history.by_segment.items()} == {
        n: 35 + n for n in range(5)
    }
    for number, digest in numbers.items():
        held = checkpoints.earlier(number)
        assert held.broken == ()
        assert {c.number: c.digest for c in held.checkpoints}[number] == digest


@pytest.mark.parametrize("left", ["new file", "new file and old one under both names"])
def test_writer_killed_while_a_file_is_put_aside_loses_nothing(tmp_path, left):
    """The next one does it again, and the chain goes on from the same line."""
    checkpoints = Checkpoints(tmp_path, "log", key=KEY, max_file_bytes=2000)
    while not checkpoints.path.exists() or checkpoints.path.stat().st_size < 2000:
        checkpoints.append([head(len(checkpoints.history().checkpoints), 1)])
    before = checkpoints.history()
    (tmp_path / "log.new").write_bytes(b'{"number":')
    if left != "new file":
        (tmp_path / f"log-{before.last.number}.checkpoints").hardlink_to(checkpoints.path)

    checkpoints.append([head(99, 1)])

    after = checkpoints.history()
    assert after.broken == ()
    assert after.authenticated is True
    assert set(after.by_segment) == {*before.by_segment, 99}
    assert after.checkpoints[0].number == before.last.number + 1
    assert checkpoints.earlier(before.last.number).last == before.last


def test_processes_put_a_grown_file_aside_once(tmp_path):
    """Writers that meet while the file is put aside lose no checkpoint and break no chain."""
    writers = [Checkpoints(tmp_path, "log", max_file_bytes=1500) for _ in range(4)]

    def work(n):
        for size in range(30):
            writers[n].append([head(n, size)])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    history = writers[0].history()
    assert history.broken == ()
    assert {
        segment_id: marks[-1][1].size for segment_id, marks in history.by_segment.items()
    } == dict.fromkeys(range(4), 29)
