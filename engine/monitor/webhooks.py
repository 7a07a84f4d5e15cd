"""Tells Prometheus how outcomes are sent, by what the process that sends them leaves on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric


@dataclass(frozen=True, slots=True)
class Sending:
    """What was done and is to be done, and how many processes do it.

    `waiting_since_ms` is when the first of those that wait failed first; both times are 0 for never.
    """

    senders: int
    attempts: Mapping[str, int]
    dead: int
    waiting: int
    waiting_since_ms: int
    done_ms: int


@dataclass(frozen=True, slots=True)
class WebhookMetrics:
    """It as Prometheus reads it; no series where nothing was ever sent."""

    look: Callable[[], Sending | None]

    def collect(self) -> Iterator[Metric]:
        """The metrics of webhooks."""
        sending = self.look()
        if sending is None:
            return
        attempts = CounterMetricFamily(
            "arbiter_webhook_attempts",
            "Attempts to send an outcome, by what came of them.",
            labels=("result",),
        )
        for result, count in sorted(sending.attempts.items()):
            attempts.add_metric((result,), count)
        yield attempts
        yield CounterMetricFamily(
            "arbiter_webhook_dead_letters", "Webhooks that were given up.", value=sending.dead
        )
        yield GaugeMetricFamily("arbiter_webhook_waiting", "Webhooks to send.", value=sending.waiting)
        yield GaugeMetricFamily("arbiter_webhook_senders", "Processes that send.", value=sending.senders)
        yield from _instant(
            "arbiter_webhook_waiting_since_seconds",
            "When the webhook that waits longest failed first, in seconds since the epoch.",
            sending.waiting_since_ms,
        )
        yield from _instant(
            "arbiter_webhook_last_delivery_time_seconds",
            "When the receiver last took a webhook, in seconds since the epoch.",
            sending.done_ms,
        )


def _instant(name: str, told: str, at_ms: int) -> Iterator[Metric]:
    if at_ms:
        yield GaugeMetricFamily(name, told, value=at_ms / 1000)
