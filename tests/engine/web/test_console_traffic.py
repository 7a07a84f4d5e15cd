"""What the overview says of the server: figures between two looks at its metrics."""

from __future__ import annotations

from pathlib import Path

from arbiter_at_work import settings_for

from engine.monitor.scraping import MetricsUnreachable, Scrape, read_scrape
from engine.running import announced
from engine.web.console.traffic import Seen, Traffic

DECIDE = 'method="arbiter.v1.DecisionService/Decide"'


def metrics(calls: int, slow: int, at_s: float) -> Scrape:
    """A page of metrics: calls that took a millisecond at most, and those that took longer."""
    text = f"""
# TYPE arbiter_rpc_calls counter
arbiter_rpc_calls_total{{{DECIDE},code="OK"}} {calls}
# TYPE arbiter_rpc_seconds histogram
arbiter_rpc_seconds_bucket{{{DECIDE},le="0.001"}} {calls - slow}
arbiter_rpc_seconds_bucket{{{DECIDE},le="0.01"}} {calls}
arbiter_rpc_seconds_bucket{{{DECIDE},le="+Inf"}} {calls}
"""
    return read_scrape(text, at_s=at_s)


class Endpoint:
    """Metrics that a test sets, and how often they were asked for."""

    def __init__(self) -> None:
        self.now = metrics(100, 100, at_s=0.0)
        self.asked = 0
        self.clock_s = 0.0

    def __call__(self, _address: str) -> Scrape:
        self.asked += 1
        return self.now


def watched(folder: Path, endpoint: Endpoint) -> Traffic:
    return Traffic(settings_for(folder), ask=endpoint, clock_s=lambda: endpoint.clock_s)


def second_look(traffic: Traffic, endpoint: Endpoint) -> Seen:
    traffic.look()
    endpoint.clock_s, endpoint.now = 10.0, metrics(300, 110, at_s=10.0)
    return traffic.look()


def test_figures_are_of_the_time_between_looks(tmp_path: Path) -> None:
    """Twenty calls a second, of which one in twenty was slow; what was before does not count."""
    endpoint = Endpoint()
    with announced(settings_for(tmp_path), port=1, metrics="127.0.0.1:9"):
        seen = second_look(watched(tmp_path, endpoint), endpoint)

    assert seen.work is not None
    assert (seen.work.calls_per_s, seen.rates, seen.over_s) == (20.0, (20.0,), 10.0)
    assert [(band.until_ms, band.calls) for band in seen.latency] == [(1.0, 190), (10.0, 10), (None, 0)]
    assert seen.p50_ms is not None
    assert seen.p50_ms < 1.0


def test_many_watchers_ask_the_server_once_a_second(tmp_path: Path) -> None:
    """Whoever looks within the same second sees the same."""
    endpoint = Endpoint()
    traffic = watched(tmp_path, endpoint)

    with announced(settings_for(tmp_path), port=1, metrics="127.0.0.1:9"):
        for _ in range(5):
            traffic.look()

    assert endpoint.asked == 1


def test_overview_says_why_nothing_is_known(tmp_path: Path) -> None:
    """No server, a server without metrics, and metrics that do not answer are three things."""

    def away(_address: str) -> Scrape:
        raise MetricsUnreachable("no metrics at 127.0.0.1:9")

    settings = settings_for(tmp_path)
    traffic = Traffic(settings, ask=away, clock_s=lambda: 0.0)

    assert traffic.look().trouble == "none"
    with announced(settings, port=1, metrics=""):
        assert traffic.look().trouble == "off"
    with announced(settings, port=1, metrics="127.0.0.1:9"):
        assert "no metrics at" in traffic.look().trouble
