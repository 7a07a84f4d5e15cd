"""Replies put together from bytes equal the messages filled field by field, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import grpc
import pytest
from arbiter_at_work import AT_RISK, FRENCH, LOYAL, OBJECTOR, UNPROFILED, query, scene
from decision_strategies import decision_records
from google.rpc import code_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from plain_reply import plain_item, plain_reply

from engine._pb.arbiter.v1 import decision_service_pb2 as messages
from engine.api.parts import Kept
from engine.api.replies import batch_reply, decide_reply, item_answered, item_refused
from engine.api.status import status_of
from engine.api.wire import varint
from engine.bootstrap import Application
from engine.core.rulebook import Rulebook
from engine.decisionlog.record import DecisionRecord
from engine.domain import Detail, RankedAction, Reason, SuppressedAction
from engine.errors import CustomerUnknown

SERVICE = messages.DESCRIPTOR.services_by_name["DecisionService"]
EVERY_WAY = [(detail, language) for detail in Detail for language in ("en", "fr")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=decision_records, seed=st.integers(0, 999))
def test_any_decision_reads_the_same(application: Application, record: DecisionRecord, seed: int) -> None:
    """Whatever a record holds: zeros of both signs, empty texts, unknown codes, negative instants."""
    snapshot = application.live.current
    record = _of_this_company(record, snapshot.rulebook, Random(seed))

    for detail, language in EVERY_WAY:
        expected = plain_reply(record, snapshot.rulebook, detail=detail, language=language)
        assert expected == _in_order(decide_reply(record, snapshot, detail=detail, language=language))


@pytest.mark.parametrize("cast_id", [AT_RISK, LOYAL, OBJECTOR, UNPROFILED, FRENCH])
def test_decisions_of_the_cast_read_the_same(application: Application, cast_id: str) -> None:
    """Real decisions, each told twice, as the second time its parts are kept."""
    answer = application.decisions.decide(query(cast_id))

    for detail, language in [*EVERY_WAY, *EVERY_WAY]:
        expected = plain_reply(answer.record, answer.snapshot.rulebook, detail=detail, language=language)
        told = decide_reply(answer.record, answer.snapshot, detail=detail, language=language)
        assert expected == _in_order(told)


def test_degraded_decisions_read_the_same(application: Application) -> None:
    """What a decision lacked is told in the same bytes."""
    answer = application.decisions.decide(query(AT_RISK))
    lacking = replace(answer.record.decision, degraded_by=("consents", ""), churn=None, profiled=False)
    record = replace(answer.record, decision=lacking)

    assert plain_reply(record, answer.snapshot.rulebook) == _in_order(decide_reply(record, answer.snapshot))


def test_batches_read_the_same(application: Application) -> None:
    """Answers and refusals stand under their names."""
    answer = application.decisions.decide(query(LOYAL))
    reply, status = decide_reply(answer.record, answer.snapshot), status_of(CustomerUnknown("nobody"))

    told = batch_reply([item_answered("a", reply), item_refused("b", status), item_refused("", status)])

    results = [plain_item("a", reply), plain_item("b", status), plain_item("", status)]
    expected = messages.DecideBatchResponse(results=results)
    assert expected.SerializeToString(deterministic=True) == told


@given(number=st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5000))
def test_whole_numbers_are_varints(number: int) -> None:
    """As protobuf writes an int64 field."""
    message = messages.ContactTrace(window_seconds=number)

    expected = message.SerializeToString()[1:] if number else b"\0"
    assert expected == varint(number)


def test_kept_parts_are_few() -> None:
    """Beyond the most that are kept, they are made anew; none is ever wrong."""
    made: list[int] = []
    kept: Kept[int, int] = Kept(lambda number: made.append(number) or -number, most=3)

    found = [kept[number] for number in (1, 2, 3, 1, 4, 1)]

    assert found == [-1, -2, -3, -1, -4, -1]
    assert made == [1, 2, 3, 4, 1]


def test_served_replies_are_these_bytes(application: Application, server_port: int) -> None:
    """What leaves over gRPC, for one call and for a batch, is what the log says in plain messages."""
    batch = messages.DecideBatchRequest(items=[{"correlation_id": "1", "request": scene(AT_RISK)}])

    with grpc.insecure_channel(f"localhost:{server_port}") as channel:
        one = _raw(channel, "Decide")(scene(LOYAL).SerializeToString())
        several = _raw(channel, "DecideBatch")(batch.SerializeToString())

    (item,) = messages.DecideBatchResponse.FromString(several).results
    assert _as_logged(application, messages.DecideResponse.FromString(one).decision_id) == _in_order(one)
    assert _as_logged(application, item.response.decision_id) == item.response.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("method", [method.name for method in SERVICE.methods])
def test_every_method_of_the_contract_is_served(server_port: int, method: str) -> None:
    """An empty request is refused in the words of the contract, not as unimplemented."""
    with grpc.insecure_channel(f"localhost:{server_port}") as channel:
        failure = _refusal(lambda: _raw(channel, method)(b""))

    assert failure.code in {code_pb2.INVALID_ARGUMENT, code_pb2.NOT_FOUND}
    assert failure.details


def test_calls_that_come_too_late_are_not_decided(application: Application, server_port: int) -> None:
    """A deadline that has passed ends the call as such, with replies that are bytes as well."""
    with grpc.insecure_channel(f"localhost:{server_port}") as channel, pytest.raises(grpc.RpcError) as failed:
        _raw(channel, "Decide")(scene(LOYAL).SerializeToString(), timeout=0.0)

    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def _in_order(reply: bytes) -> bytes:
    """The same bytes with the entries of maps as protobuf orders them: of two names that begin alike, the
    longer first.
    """
    ordered = messages.DecideResponse.FromString(reply).SerializeToString(deterministic=True)
    assert len(ordered) == len(reply)
    return ordered


def _of_this_company(record: DecisionRecord, rulebook: Rulebook, dice: Random) -> DecisionRecord:
    """The record with numbers that the contract can hold, and some ids and codes that are known here."""

    def reason(given: Reason, *, of_models: bool) -> Reason:
        model = given.model if of_models else ""
        code = dice.choice([given.code, *rulebook.reasons])
        values = dict(given.values) | dict.fromkeys(dice.sample(["threshold", "channel", "rule"], 2), "5 CHF")
        contribution = given.contribution if model else 0.0
        return structs.replace(given, code=code, model=model, contribution=contribution, values=values)

    def told(reasons, *, of_models: bool = True):
        return tuple(reason(each, of_models=of_models) for each in reasons)

    def ranked(given: RankedAction) -> RankedAction:
        action = dice.choice(rulebook.actions)
        treatment = dice.choice([given.treatment_id, *(t.id for t in action.treatments)])
        return structs.replace(
            given,
            action_id=dice.choice([given.action_id, action.id]),
            treatment_id=treatment,
            rank=given.rank % 2**31,
            reasons=told(given.reasons),
        )

    def suppressed(given: SuppressedAction) -> SuppressedAction:
        return structs.replace(given, reasons=told(given.reasons, of_models=False))

    decision, churn = record.decision, record.decision.churn
    decision = replace(
        decision,
        actions=tuple(map(ranked, decision.actions)),
        suppressed=tuple(map(suppressed, decision.suppressed)),
        no_action=None if decision.no_action is None else told(decision.no_action),
        churn=None if churn is None else replace(churn, reasons=told(churn.reasons)),
    )
    return replace(record, decision=decision)


def _raw(channel: grpc.Channel, method: str) -> Callable[..., bytes]:
    """A method of the service from bytes to bytes."""
    return channel.unary_unary(f"/{SERVICE.full_name}/{method}")


def _as_logged(application: Application, decision_id: str) -> bytes:
    record = application.log.read(decision_id)
    assert record is not None
    return plain_reply(record, application.live.current.rulebook)


def _refusal(call: Callable[[], object]):
    with pytest.raises(grpc.RpcError) as failed:
        call()
    return rpc_status.from_call(failed.value)
