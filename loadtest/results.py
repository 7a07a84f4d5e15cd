"""What a load test found, and its file: one JSON object with histograms, that later runs compare with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import grpc
import numpy as np
from hdrh.histogram import HdrHistogram
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtest.errors import FileInvalid
from loadtest.sending import UNSENT, Sent

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99, 100.0)
SHED: Final = "RESOURCE_EXHAUSTED"
UNSENT_NAME: Final = "UNSENT"
_MOST_US: Final = 120_000_000
_DIGITS: Final = 3
_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode} | {UNSENT: UNSENT_NAME}
_NS: Final = 1_000_000_000


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Second(_Strict):
    """Calls that were to be sent within one second of a step."""

    calls: int
    failed: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


class Step(_Strict):
    """Calls at one rate. Latencies are of all calls that were answered with OK, from the scheduled send.

    `rate` is what was offered, `answered_rate` what was answered with OK, calls a second. `codes` counts
    calls by the name of the gRPC status, UNSENT among them. `lag_*`: how late the sender was. `sender_cpu`
    and `server_cpu`: cores kept busy, the server's only where it runs on this machine and is known.
    """

    rate: float
    seconds: float
    calls: int
    answered_rate: float
    codes: Mapping[str, int]
    degraded: int
    lag_p50_ms: float
    lag_p99_ms: float
    lag_worst_ms: float
    sender_cpu: float
    server_cpu: float | None = None
    histogram: str  # HdrHistogram, compressed and base64; microseconds
    over_time: tuple[Second, ...]

    @property
    def failed_share(self) -> float:
        """Share of calls with an error other than being shed."""
        good = self.codes.get("OK", 0) + self.codes.get(SHED, 0)
        return (self.calls - good) / self.calls if self.calls else 0.0

    @property
    def shed_share(self) -> float:
        """Share of calls that the server refused for overload."""
        return self.codes.get(SHED, 0) / self.calls if self.calls else 0.0

    def at_ms(self, percentile: float) -> float:
        """The latency that `percentile` percent of the answered calls did not exceed, ms."""
        return latency_ms(self.latencies(), percentile)

    def share_above(self, limit_ms: float) -> float:
        """Share of answered calls that took longer than a limit; 0 where nothing was answered."""
        latencies = self.latencies()
        counted = [(s.value_iterated_to, s.count_added_in_this_iter_step) for s in _recorded(latencies)]
        above = sum(count for value_us, count in counted if value_us > 1000 * limit_ms)
        return float(above / latencies.get_total_count()) if counted else 0.0

    def latencies(self) -> HdrHistogram:
        """The distribution, in microseconds."""
        return HdrHistogram.decode(self.histogram)


class Result(_Strict):
    """One run: where, with what, and what came of each step."""

    format: Literal[1] = 1
    name: str
    started: str
    target: str
    profile: str
    arrivals: Literal["poisson", "constant"]
    seed: int
    processes: int
    channels: int
    warm_up_s: float
    deadline_s: float
    server: str = ""
    machine: str = ""
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]


def step_of(sents: Sequence[Sent], *, rate: float, seconds: float, server_cpu_s: float | None) -> Step:
    """Puts together what several processes sent at the same time."""
    instants, lag, took, codes, degraded = (
        np.concatenate([getattr(sent, name) for sent in sents])
        for name in ("instants", "lag", "took", "codes", "degraded")
    )
    answered = codes == grpc.StatusCode.OK.value[0]
    counted = Counter(_NAMES.get(code, str(code)) for code in codes.tolist())
    late_ms = np.quantile(lag, (0.5, 0.99, 1.0)) / 1e6 if len(lag) else np.zeros(3)
    return Step(
        rate=rate,
        seconds=seconds,
        calls=len(codes),
        answered_rate=round(_answered_rate(instants, took, answered, seconds), 3),
        codes=dict(sorted(counted.items())),
        degraded=int(degraded.sum()),
        lag_p50_ms=round(float(late_ms[0]), 4),
        lag_p99_ms=round(float(late_ms[1]), 4),
        lag_worst_ms=round(float(late_ms[2]), 4),
        sender_cpu=round(sum(sent.cpu_s for sent in sents) / seconds, 3),
        server_cpu=None if server_cpu_s is None else round(server_cpu_s / seconds, 3),
        histogram=_encoded(took[answered]),
        over_time=tuple(_seconds(instants, took, answered, seconds)),
    )


def _recorded(histogram: HdrHistogram) -> Iterator[Any]:
    """Every value that was noted, with its count."""
    return iter(histogram.get_recorded_iterator())


def latency_ms(histogram: HdrHistogram, percentile: float) -> float:
    """Of a histogram in microseconds; 0 where nothing was answered."""
    return float(histogram.get_value_at_percentile(percentile)) / 1000 if histogram.get_total_count() else 0.0


def write_result(path: Path, result: Result) -> None:
    """Writes the file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_result(path: Path) -> Result:
    """A file that `write_result` wrote. Raises FileInvalid."""
    try:
        return Result.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileInvalid(path, f"cannot be read: {error.strerror}") from error
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileInvalid(path, "is no result of `arbiter loadtest run`") from error


def _answered_rate(instants: np.ndarray, took: np.ndarray, answered: np.ndarray, seconds: float) -> float:
    """Answers that came while calls were being sent, a second: what comes afterwards is a queue emptying."""
    in_time = answered & (instants + took <= seconds * _NS)
    return float(in_time.sum()) / seconds


def _encoded(took: np.ndarray) -> str:
    histogram = HdrHistogram(1, _MOST_US, _DIGITS)
    values, counts = np.unique(np.clip(took // 1000, 1, _MOST_US), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    encoded: bytes = histogram.encode()
    return encoded.decode("ascii")


def _seconds(instants: np.ndarray, took: np.ndarray, answered: np.ndarray, seconds: float) -> list[Second]:
    found = []
    for second in range(int(np.ceil(seconds))):
        within = (instants >= second * _NS) & (instants < (second + 1) * _NS)
        took_ms = took[within & answered] / 1e6
        marks = np.quantile(took_ms, (0.5, 0.99, 1.0)) if len(took_ms) else np.zeros(3)
        p50, p99, worst = (round(float(mark), 3) for mark in marks)
        calls = int(within.sum())
        found.append(Second(calls=calls, failed=calls - len(took_ms), p50_ms=p50, p99_ms=p99, worst_ms=worst))
    return found
