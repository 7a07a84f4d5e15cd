"""Batches: every item stands for itself."""

from __future__ import annotations

import pytest
from arbiter_at_work import AT_RISK, LOYAL, OBJECTOR, failure_of, scene
from google.rpc import code_pb2, error_details_pb2
from structlog.testing import capture_logs

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.api.servicers import DecisionServicer
from engine.api.status import DOMAIN
from engine.bootstrap import Application, wall_clock_ms
from engine.client import ArbiterClient, CallFailed
from engine.service.decisions import Decisions

Item = decision_service_pb2.DecideBatchItem
Request = decision_service_pb2.DecideRequest
Result = decision_service_pb2.DecideBatchResult


class _BatchClient:
    """DecideBatch over a channel."""

    def __init__(self, client: ArbiterClient) -> None:
        self._client = client

    def decide(self, *items: Item) -> list[decision_service_pb2.DecideBatchResult]:
        response = self._client.decide_batch(decision_service_pb2.DecideBatchRequest(items=items))
        return list(response.results)

    def refused(self, *items: Item) -> CallFailed:
        return failure_of(lambda: self.decide(*items))


@pytest.fixture
def batch(arbiter: ArbiterClient) -> _BatchClient:
    """A client of DecideBatch."""
    return _BatchClient(arbiter)


def test_answers_come_in_order_under_their_names(batch: _BatchClient) -> None:
    """One result for each item, with the item's correlation id."""
    results = batch.decide(
        *(Item(correlation_id=name, request=scene(name)) for name in (LOYAL, AT_RISK, OBJECTOR))
    )

    assert [r.correlation_id for r in results] == [LOYAL, AT_RISK, OBJECTOR]
    assert [r.response.customer_id for r in results] == [LOYAL, AT_RISK, OBJECTOR]


def test_bad_items_do_not_harm_the_others(batch: _BatchClient) -> None:
    """An unknown customer and a broken request get the codes of Decide; the rest is decided."""
    results = batch.decide(
        Item(correlation_id="good", request=scene(AT_RISK)),
        Item(correlation_id="nobody", request=scene(AT_RISK, "C9999")),
        Item(correlation_id="broken", request=scene(AT_RISK, limit=0)),
        Item(correlation_id="empty"),
        Item(correlation_id="last", request=scene(LOYAL)),
    )

    codes = [r.error.code if r.WhichOneof("result") == "error" else 0 for r in results]
    assert codes == [0, code_pb2.NOT_FOUND, code_pb2.INVALID_ARGUMENT, code_pb2.INVALID_ARGUMENT, 0]
    info = error_details_pb2.ErrorInfo()
    assert results[1].error.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("CUSTOMER_UNKNOWN", DOMAIN)


def test_every_item_has_a_decision_of_its_own(batch: _BatchClient) -> None:
    """The same customer twice is two decisions."""
    results = batch.decide(*(Item(correlation_id=str(n), request=scene(LOYAL)) for n in range(100)))

    assert len({r.response.decision_id for r in results}) == 100


@pytest.mark.parametrize("count", [0, 101])
def test_batch_has_one_to_a_hundred_items(batch: _BatchClient, count: int) -> None:
    """An empty and an oversized batch are refused as a whole."""
    failure = batch.refused(*(Item(correlation_id=str(n), request=scene(LOYAL)) for n in range(count)))

    assert failure.code == "INVALID_ARGUMENT"
    assert failure.violations == [("items", f"has {count} items; give 1 to 100")]


def test_correlation_ids_are_unique_and_short(batch: _BatchClient) -> None:
    """Missing, long and repeated names are all told by position."""
    failure = batch.refused(
        Item(correlation_id="a", request=scene(LOYAL)),
        Item(correlation_id="a", request=scene(LOYAL)),
        Item(request=scene(LOYAL)),
        Item(correlation_id="x" * 129, request=scene(LOYAL)),
    )

    assert [field for field, _ in failure.violations] == [
        "items[1].correlation_id",
        "items[2].correlation_id",
        "items[3].correlation_id",
    ]


def test_items_may_repeat_a_request_id(batch: _BatchClient) -> None:
    """Within a batch as well, one request id is one decision."""
    request = scene(LOYAL, request_id="batch-twice")

    results = batch.decide(
        Item(correlation_id="1", request=request), Item(correlation_id="2", request=request)
    )

    assert results[0].response == results[1].response


def test_bug_in_one_item_does_not_harm_the_others(application: Application) -> None:
    """An unexpected failure is that item's INTERNAL, and is logged."""
    times = iter((wall_clock_ms(), None, wall_clock_ms()))
    decisions = Decisions(
        live=application.live,
        store=application.store,
        log=application.log,
        clock=lambda: next(times),  # type: ignore[arg-type, return-value]  # a broken clock
        request_id_ttl_ms=1000,
    )
    servicer = DecisionServicer(decisions, application.explanations)
    items = [Item(correlation_id=name, request=scene(LOYAL)) for name in ("1", "2", "3")]

    with capture_logs() as logged:
        results = [Result.FromString(servicer._decide_item(item, None)) for item in items]

    assert [r.error.code for r in results] == [0, code_pb2.INTERNAL, 0]
    assert [entry["event"] for entry in logged] == ["call.failed"]
