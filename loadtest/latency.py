"""Latency of Decide, one call at a time: how long a client waits when nobody else does.

This is the floor, not a load test: a closed loop says nothing about queues.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from engine._pb.arbiter.v1 import decision_service_pb2, decision_service_pb2_grpc, types_pb2

CUSTOMERS = 7043
"""Customers of the demo company, C0001 to C7043."""
_PRIME = 2477
"""Steps through all customers without a pattern, the same in every run."""
_CHANNELS = (("web", "account_banner"), ("app", "home_card"), ("call_center", "screen_pop"))


@dataclass(frozen=True, slots=True)
class Latencies:
    """Calls in the order made, in milliseconds, and how many failed."""

    took_ms: Sequence[float]
    failed: int

    def at(self, percentile: float) -> float:
        """The latency that `percentile` percent of the calls did not exceed, ms."""
        ordered = sorted(self.took_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percentile / 100))]


def requests(count: int) -> list[decision_service_pb2.DecideRequest]:
    """Requests over all customers and three channels, every second call with a reason to call."""
    return [_request(number) for number in range(count)]


def _request(number: int) -> decision_service_pb2.DecideRequest:
    channel, placement = _CHANNELS[number % len(_CHANNELS)]
    request = decision_service_pb2.DecideRequest(
        customer_id=f"C{number * _PRIME % CUSTOMERS + 1:04d}", channel=channel, placement=placement
    )
    if channel == "call_center" and number % 2:
        request.context["call_reason"].CopyFrom(types_pb2.ContextValue(string_value="cancel"))
    return request


def measure(target: str, *, calls: int, warm_up: int) -> Latencies:
    """Calls Decide `calls` times, one after the other, after `warm_up` calls that do not count."""
    with grpc.insecure_channel(target) as channel:
        decide = decision_service_pb2_grpc.DecisionServiceStub(channel).Decide
        for request in requests(warm_up):
            decide(request, timeout=30, wait_for_ready=True)
        took_ms, failed = [], 0
        for request in requests(calls):
            start = time.perf_counter()
            try:
                decide(request, timeout=5)
            except grpc.RpcError:
                failed += 1
            took_ms.append((time.perf_counter() - start) * 1000)
    return Latencies(took_ms, failed)


def stay_on(core: int) -> None:
    """Keeps this process on one core, so that it does not run on the server's."""
    os.sched_setaffinity(0, {core})
