"""The consent ledger and the outcome log."""

import os

import pytest
from decision_examples import NOW_MS

from engine.decisionlog.errors import LogCorrupt, LogError, LogUnavailable, UnreadableRecord
from engine.decisionlog.journal import Journal
from engine.decisionlog.ledger import ConsentEntry, OutcomeEntry, consent_ledger, outcome_log
from engine.decisionlog.segment import segment_path, sequential_id
from feature_store.state import ConsentRecord, ConsentState, OutcomeType


def consent_entry(customer_id="c-1", *, received_at_ms=NOW_MS, state=ConsentState.GRANTED):
    record = ConsentRecord("marketing", "email", state, NOW_MS - 5, None, "web:preferences", "v3", "customer")
    return ConsentEntry(customer_id=customer_id, consent=record, received_at_ms=received_at_ms)


def outcome_entry(outcome_id="o-1", *, received_at_ms=NOW_MS):
    return OutcomeEntry(
        outcome_id=outcome_id,
        decision_id="0" * 26,
        action_id="security_addon",
        type=OutcomeType.ACCEPTED,
        at_ms=NOW_MS - 100,
        received_at_ms=received_at_ms,
    )


def test_consents_are_replayed(tmp_path):
    """What was recorded is replayed to the same values after a restart, oldest first."""
    entries = [consent_entry(f"c-{i}", received_at_ms=i, state=state) for i, state in enumerate(ConsentState)]
    for half in (entries[:3], entries[3:]):
        with consent_ledger(tmp_path) as ledger:
            for entry in half:
                ledger.append(entry)

    replayed = list(consent_ledger(tmp_path).replay())

    assert replayed == entries


def test_consent_is_durable_when_recorded(tmp_path, monkeypatch):
    """Recording a consent returns only after its fsync."""
    synced = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (sync(fd), synced.append(os.fstat(fd).st_size))[0])

    with consent_ledger(tmp_path) as ledger:
        ledger.append(consent_entry())
        first = list(synced)
        ledger.append(consent_entry())

    size = segment_path(tmp_path, 1).stat().st_size
    assert len(first) == 1
    assert synced[1] == size


def test_positions_name_entries(tmp_path):
    """A position grows with each entry of a process, leads back to the entry and fits 64 bits."""
    with consent_ledger(tmp_path, max_segment_bytes=600) as ledger:
        positions = [ledger.append(consent_entry(f"c-{i}")) for i in range(10)]

        found = [ledger.read(position).customer_id for position in positions]

        assert found == [f"c-{i}" for i in range(10)]
        assert positions == sorted(set(positions))
        assert positions[0] == 1 << 40 | 28
        assert [ledger.read(made_up) for made_up in (-1, 0, positions[0] + 1, 99 << 40)] == [None] * 4


def test_positions_end_before_64_bits_do(tmp_path):
    """Where a position would not fit a signed 64-bit integer any more, nothing is recorded."""
    segment_path(tmp_path, (1 << 23) - 1).touch()

    with consent_ledger(tmp_path) as ledger, pytest.raises(LogUnavailable, match="positions are used up"):
        ledger.append(consent_entry())

    assert list(consent_ledger(tmp_path).replay()) == []


def test_processes_are_replayed_by_time(tmp_path):
    """Entries of several writers are replayed in the order in which they were received."""
    with consent_ledger(tmp_path) as one, consent_ledger(tmp_path) as other:
        for at in range(0, 20, 2):
            one.append(consent_entry(received_at_ms=at))
            other.append(consent_entry(received_at_ms=at + 1))

        replayed = [entry.received_at_ms for entry in one.replay()]

    assert replayed == list(range(20))


def test_replay_never_leaves_out_a_consent(tmp_path):
    """A ledger with a damaged entry is not replayed in part as if it were whole."""
    with consent_ledger(tmp_path) as ledger:
        for i in range(3):
            ledger.append(consent_entry(f"c-{i}"))
        path = segment_path(tmp_path, 1)
        data = bytearray(path.read_bytes())
        data[60] ^= 1
        path.write_bytes(data)

        with pytest.raises(LogCorrupt, match="corrupt at byte 28"):
            list(ledger.replay())
        passed = []
        assert [entry.customer_id for entry in ledger.replay(report=passed.append)] == ["c-1", "c-2"]
        assert len(passed) == 1


def test_entries_of_another_kind_are_refused(tmp_path):
    """An outcome is not taken for a consent."""
    with outcome_log(tmp_path) as outcomes:
        outcomes.append(outcome_entry())

        with pytest.raises(UnreadableRecord, match="a ledger entry cannot be decoded"):
            list(consent_ledger(tmp_path).replay())


def test_newer_entries_are_named(tmp_path):
    """An entry of a later format is an error that says which."""
    with Journal(tmp_path, fsync_interval_ms=0, new_id=sequential_id) as journal:
        journal.append(b'{"format":2,"customer_id":"c-1","previous":"00"}', now_ms=1)

        with pytest.raises(UnreadableRecord, match="format 2 where this engine reads 1"):
            list(consent_ledger(tmp_path).replay())


def test_outcomes_are_replayed(tmp_path):
    """Outcomes come back as recorded; they are synced in groups."""
    entries = [outcome_entry(f"o-{i}", received_at_ms=i) for i in range(5)]

    with outcome_log(tmp_path) as outcomes:
        for entry in entries:
            outcomes.append(entry)
        replayed = list(outcomes.replay())
        outcomes.flush()

    assert replayed == entries


def test_closed_ledger_refuses(tmp_path):
    """After close nothing is recorded, and the error is one of the log's own."""
    ledger = consent_ledger(tmp_path)
    ledger.close()

    with pytest.raises(LogError, match="closed"):
        ledger.append(consent_entry())
