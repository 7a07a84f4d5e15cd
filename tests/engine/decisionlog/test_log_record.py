"""Records of decisions and their bytes."""

import dataclasses
import json
import math
from types import MappingProxyType

import msgspec
import pytest
from decision_examples import decision_record
from decision_strategies import as_comparable, decision_records, decisions
from hypothesis import given, settings
from msgspec import structs

from engine.decisionlog.errors import UnreadableRecord
from engine.decisionlog.record import decision_bytes, decode_head, decode_record, encode_record
from engine.domain import Decision


@given(record=decision_records)
@settings(max_examples=150, deadline=None)
def test_record_comes_back_bit_for_bit(record):
    """Whatever is encoded is decoded to the same types, values and float32 bits, NaN included."""
    data = encode_record(record)

    decoded = decode_record(data)

    assert as_comparable(decoded) == as_comparable(record)
    assert encode_record(decoded) == data


@given(decision=decisions)
@settings(max_examples=50, deadline=None)
def test_canonical_bytes_do_not_depend_on_mapping_order(decision):
    """Equal decisions have equal bytes, whatever order or kind their mappings have."""
    reversed_models = MappingProxyType(dict(reversed(list(decision.versions.models.items()))))
    other = dataclasses.replace(
        decision, versions=dataclasses.replace(decision.versions, models=reversed_models)
    )

    assert decision_bytes(other) == decision_bytes(decision)


def test_different_decisions_have_different_bytes():
    """Replay sees a change in the last bit of one number."""
    decision = decision_record().decision
    risk = dataclasses.replace(decision.churn, probability=math.nextafter(decision.churn.probability, 1))

    changed = dataclasses.replace(decision, churn=risk)

    assert decision_bytes(changed) != decision_bytes(decision)


def test_a_person_can_read_a_record():
    """Logged bytes are JSON that begins with the format and names its parts."""
    data = encode_record(decision_record("X" * 26, customer_id="c-9"))

    document = json.loads(data)

    assert list(document)[:3] == ["format", "decision_id", "now_ms"]
    assert document["request"]["customer_id"] == "c-9"
    assert document["decision"]["suppressed"][0]["stage"] == "eligibility"


def test_head_of_a_record():
    """Scans learn id, time and customer without decoding the rest."""
    head = decode_head(encode_record(decision_record("X" * 26, now_ms=7, customer_id="c-9")))

    assert (head.decision_id, head.now_ms, head.customer_id) == ("X" * 26, 7, "c-9")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_json_cannot_hold_are_refused(number):
    """A decision that could not be read again is not logged."""
    record = decision_record()
    best = record.decision.actions[0]
    best = structs.replace(best, priority=structs.replace(best.priority, propensity=number))
    broken = dataclasses.replace(record.decision, actions=(best,))

    with pytest.raises(ValueError, match="NaN or an infinity"):
        encode_record(dataclasses.replace(record, decision=broken))
    with pytest.raises(ValueError, match="NaN or an infinity"):
        decision_bytes(broken)


def test_a_newer_format_is_named():
    """A record of a format this engine does not know is an error that says which."""
    data = encode_record(decision_record()).replace(b'{"format":1,', b'{"format":2,')

    with pytest.raises(UnreadableRecord, match="format 2 where this engine reads 1"):
        decode_record(data)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"format":1,"decision_id":3}', b"\xff\xfe", b"null"])
def test_bytes_that_are_no_record(data):
    """Bytes of another kind are an error of the log's own, not of the JSON library."""
    with pytest.raises(UnreadableRecord, match="a decision record cannot be decoded"):
        decode_record(data)


def test_records_of_older_engines_are_read():
    """A part that has a default may be missing; a part that is unknown is passed over."""
    document = json.loads(encode_record(decision_record()))
    del document["decision"]["shadow_rules"]
    document["later"] = 1
    data = msgspec.json.encode(document)

    decoded = decode_record(data)

    assert decoded.decision == decision_record().decision
    assert isinstance(decoded.decision, Decision)
