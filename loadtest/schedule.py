"""When calls are sent: fixed before the first, so that a slow server cannot slow its own test down."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Instants = npt.NDArray[np.int64]
"""Nanoseconds since the start, ascending."""
Arrivals = Literal["poisson", "constant"]

_NS = 1_000_000_000


def arrivals(kind: Arrivals, *, rate: float, seconds: float, rng: np.random.Generator) -> Instants:
    """Instants of `rate` calls a second for `seconds`.

    Constant ones are evenly apart. Poisson ones come as people do who do not know of each other; their
    number scatters, too.
    """
    if kind == "constant":
        return (np.arange(round(rate * seconds)) * (_NS / rate)).astype(np.int64)
    count = rng.poisson(rate * seconds)
    return np.sort(rng.uniform(0.0, seconds * _NS, count)).astype(np.int64)


def dealt(instants: Instants, parts: int) -> list[npt.NDArray[np.intp]]:
    """Places in `instants` for each of several senders, in turns: each gets the same mix."""
    places = np.arange(len(instants))
    return [places[part::parts] for part in range(parts)]
