"""The decision log as the service and the command line use it."""

import threading

import pytest
from decision_examples import NOW_MS, decision_record
from decision_strategies import as_comparable

from engine.decisionlog.errors import InvalidDecisionId, LogCorrupt, LogUnavailable
from engine.decisionlog.identifiers import DecisionPlace, decode_id, encode_id
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.reading import list_segments


@pytest.fixture
def log(tmp_path):
    """A decision log with small segments, in `tmp_path`."""
    with DecisionLog(tmp_path, max_segment_bytes=50_000) as made:
        yield made


def decide(log, *, now_ms=NOW_MS, customer_id="c-1"):
    with log.next(now_ms=now_ms) as slot:
        slot.write(decision_record(slot.decision_id, now_ms=now_ms, customer_id=customer_id))
    return slot.decision_id


def test_decision_is_found_by_its_id(log):
    """Every decision is read back by its id alone, over segments."""
    ids = [decide(log, customer_id=f"c-{i}") for i in range(12)]

    found = {decision_id: log.read(decision_id) for decision_id in ids}

    expected = decision_record(ids[7], customer_id="c-7")
    assert as_comparable(found[ids[7]]) == as_comparable(expected)
    assert [found[decision_id].request.customer_id for decision_id in ids] == [f"c-{i}" for i in range(12)]
    assert len({decode_id(decision_id).segment_id for decision_id in ids}) > 1


def test_id_is_known_before_the_record_is_written(log):
    """The service can claim a request id for a decision and, where it is taken, write nothing."""
    with log.next(now_ms=NOW_MS) as refused:
        claimed = log.read(refused.decision_id)

    decision_id = decide(log)

    assert claimed is None
    assert decision_id == refused.decision_id


def test_made_up_ids_hold_nothing(log):
    """A right place with a wrong time, a wrong place, and no place at all are not found."""
    decision_id = decide(log)
    place = decode_id(decision_id)
    made_up = [
        DecisionPlace(place.time_ms + 1, place.segment_id, place.offset),
        DecisionPlace(place.time_ms, place.segment_id, place.offset + 1),
        DecisionPlace(place.time_ms, place.segment_id ^ 1, place.offset),
        DecisionPlace(place.time_ms, place.segment_id, 0),
    ]

    found = [log.read(encode_id(other)) for other in made_up]

    assert found == [None] * 4
    with pytest.raises(InvalidDecisionId):
        log.read("decision-1")


def test_record_of_another_slot_is_refused(log):
    """A record that would not be found by its own id is never written."""
    with log.next(now_ms=NOW_MS) as slot:
        for record in (
            decision_record("0" * 26, now_ms=NOW_MS),
            decision_record(slot.decision_id, now_ms=NOW_MS + 1),
        ):
            with pytest.raises(ValueError, match="the record is of"):
                slot.write(record)

    assert list(log.scan()) == []


def test_processes_read_each_other(tmp_path):
    """Two writers share a directory; each reads what the other wrote, at once and without a flush."""
    with DecisionLog(tmp_path) as one, DecisionLog(tmp_path) as other:
        ids = [decide(one, now_ms=10), decide(other, now_ms=20), decide(one, now_ms=30)]

        found = [reader.read(i).decision_id for reader in (one, other) for i in ids]
        scanned = [record.decision_id for record in one.scan()]

    assert found == ids * 2
    assert scanned == ids
    assert len(list_segments(tmp_path)) == 2


def test_scan_narrows_by_time_and_customer(log):
    """A scan returns the half-open range of time and the one customer that were asked for."""
    for now_ms in range(100, 120):
        decide(log, now_ms=now_ms, customer_id=f"c-{now_ms % 2}")

    found = [record.now_ms for record in log.scan(since_ms=103, until_ms=110, customer_id="c-1")]

    assert found == [103, 105, 107, 109]
    assert [record.now_ms for record in log.scan(until_ms=102)] == [100, 101]
    assert len(list(log.scan())) == 20
    assert list(log.scan(customer_id="c-2")) == []


def test_scan_passes_segments_of_later_days(log, tmp_path):
    """Segments that began after the range are not read, so their damage does not matter to it."""
    decide(log, now_ms=NOW_MS)
    log.close()
    with DecisionLog(tmp_path) as later:
        for _ in range(2):
            decide(later, now_ms=NOW_MS + 86_400_000)
    damage(list_segments(tmp_path)[1].path, at=100)

    found = list(log.scan(until_ms=NOW_MS + 1))

    assert len(found) == 1
    with pytest.raises(LogCorrupt):
        list(log.scan())


def test_damaged_decision_is_corrupt_and_others_are_read(log, tmp_path):
    """Damage to one record is told for that record only."""
    ids = [decide(log, now_ms=NOW_MS + i) for i in range(3)]
    path = list_segments(tmp_path)[0].path
    damage(path, at=decode_id(ids[1]).offset + 500)
    passed = []

    found = [record.decision_id for record in log.scan(report=passed.append)]

    with pytest.raises(LogCorrupt, match=f"corrupt at byte {decode_id(ids[1]).offset}"):
        log.read(ids[1])
    assert log.read(ids[2]).decision_id == ids[2]
    assert found == [ids[0], ids[2]]
    assert [damaged.offset for damaged in passed] == [decode_id(ids[1]).offset]


def test_threads_never_share_an_id(log):
    """Threads that decide at the same instant get different ids, and each finds its own record."""
    made = {}

    def work(name):
        made[name] = [decide(log, customer_id=name) for _ in range(15)]

    threads = [threading.Thread(target=work, args=(f"c-{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    owners = {decision_id: name for name, ids in made.items() for decision_id in ids}
    assert len(owners) == 60
    assert {i: log.read(i).request.customer_id for i in owners} == owners


def test_durability_is_counted(log):
    """What a power cut could lose is known, and a flush brings it to nothing."""
    decide(log)
    before = log.unsynced_bytes

    log.flush()

    assert before > 5000
    assert log.unsynced_bytes == 0


def test_closed_log_refuses(log):
    """A server that is shutting down gives no decision it cannot log."""
    log.close()

    with pytest.raises(LogUnavailable, match="closed"), log.next(now_ms=NOW_MS):
        pass


def damage(path, *, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
