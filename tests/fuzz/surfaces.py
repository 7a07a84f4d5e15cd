"""What is fuzzed: a surface makes an input and runs it; what it may not do is a finding."""

from __future__ import annotations

import re
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from mutating import Mutator

SLOW_S = 1.0
"""Of processor time for one input. The slowest good ones take a hundredth of it."""
_INSIDE = re.compile(
    r"Traceback|\.py\b|site-packages|/(?:home|tmp|usr|dev/shm|work)/|engine\.[a-z]+|feature_store\.|google\.protobuf"
    r"|<class |0x[0-9a-f]{9,}|grpc\._",
)
"""Addresses have nine digits and more; gRPC tells a sender of its own numbers, which have eight."""


class Finding(Exception):
    """An input was not answered as every input must be."""


class Surface(Protocol):
    """Makes and runs inputs; gives what became of each in a word or two, and raises Finding."""

    name: str

    def run(self, mutator: Mutator) -> str:
        """Runs one input."""
        ...

    def check(self) -> None:
        """That all is well after many inputs, as a good input finds it. Raises Finding."""
        ...


@dataclass
class Counts:
    """What became of the inputs of one surface."""

    surface: str
    inputs: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    became: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def refuse_inside(words: str) -> None:
    """Raises Finding where words for a client tell of our inside."""
    found = _INSIDE.search(words)
    if found:
        raise Finding(f"tells of the inside: {found[0]!r} in {words[:300]!r}")


def fuzz(surface: Surface, inputs: int, seed: int, *, checked_every: int = 2_000) -> Counts:
    """Runs `inputs` inputs of a surface; each is made from the seed and its number alone."""
    counts = Counts(surface.name)
    began = time.perf_counter()
    for number in range(inputs):
        started = time.thread_time()
        _one(
            lambda at=number: surface.run(Mutator(seed * 10_000_019 + at)),
            counts,
            f"seed {seed} input {number}",
        )
        took_s = time.thread_time() - started
        counts.inputs += 1
        counts.slowest_ms = max(counts.slowest_ms, took_s * 1000)
        if took_s > SLOW_S:
            counts.findings.append(f"{surface.name} seed {seed} input {number}: took {took_s:.1f} s")
        if (number + 1) % checked_every == 0:
            _one(lambda: _checked(surface), counts, f"seed {seed} after {number}")
        if len(counts.findings) >= 20:
            break
    _one(lambda: _checked(surface), counts, f"seed {seed} at the end")
    counts.seconds = time.perf_counter() - began
    return counts


def _checked(surface: Surface) -> str:
    surface.check()
    return "good input still right"


def _one(run: Callable[[], str], counts: Counts, place: str) -> None:
    try:
        counts.became[run()] += 1
    except Finding as finding:
        counts.findings.append(f"{counts.surface} {place}: {finding}")
    except Exception:
        counts.findings.append(f"{counts.surface} {place}: raised\n{traceback.format_exc()[-1500:]}")
