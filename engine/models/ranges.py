"""How the numbers models read were distributed among the customers they were trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import accumulate

from engine.core.change import NumberRange
from model_registry import Root, open_version

_HISTOGRAMS = "histograms.json"
_FEWEST_EDGES = 4  # fewer are the codes of a truth value or a short category


def number_ranges(registry_root: Root, versions: Mapping[str, int]) -> Mapping[str, NumberRange]:
    """Ranges by input name, from the reference histograms of the given model versions.

    Raises RegistryError where a version or its histograms cannot be read, ValueError where they are none.
    """
    found: dict[str, NumberRange] = {}
    for name, version in sorted(versions.items()):
        content = open_version(registry_root, name, version).read(_HISTOGRAMS)
        try:
            found = {**_ranges_in(content), **found}
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            raise ValueError(f"{name}/{version}/{_HISTOGRAMS}: holds no histograms: {error}") from error
    return found


def _ranges_in(content: bytes) -> dict[str, NumberRange]:
    histograms = json.loads(content)["inputs"].items()
    edges_of = {feature: tuple(float(e) for e in histogram["edges"]) for feature, histogram in histograms}
    return {
        f"features.{feature}": _range(edges_of[feature], histogram["counts"])
        for feature, histogram in histograms
        if len(edges_of[feature]) >= _FEWEST_EDGES
    }


def _range(edges: tuple[float, ...], counts: list[int]) -> NumberRange:
    """The edges, and the width between the edges nearest to the quartiles."""
    below = list(accumulate(counts))[: len(edges)]  # customers up to each edge
    total = sum(counts)

    def nearest(share: float) -> float:
        return min(zip(below, edges, strict=True), key=lambda pair: abs(pair[0] - share * total))[1]

    return NumberRange(edges, nearest(0.75) - nearest(0.25) or edges[-1] - edges[0])
