"""What the benchmark's company knows of its customers: features of every type, and values from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

AREAS: Final = ("tenure", "billing", "usage", "support", "content", "network", "device", "payment")
"""Parts of the business; a model tells its reasons by them."""
_UNRULED: Final = frozenset({"support", "payment"})
"""What no rule reads; only here values are missing, or rules would mostly meet missing ones."""
_TYPES: Final = ("double", "double", "int", "bool", "category")
CATEGORIES: Final = ("basic", "plus", "family", "business")
MISSING: Final = 0.05
_LARGEST: Final = 1_000
_LARGEST_COUNT: Final = 24
BLOCK: Final = 8_192
"""Customers whose values are drawn together."""

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Known:
    """One feature."""

    name: str
    area: str
    type: str

    @property
    def read_by_rules(self) -> bool:
        """Whether rules may read it."""
        return self.area not in _UNRULED


def features_of(count: int) -> list[Known]:
    """So many features, area by area in turns."""
    return [
        Known(f"{AREAS[i % len(AREAS)]}_{i // len(AREAS) + 1}", AREAS[i % len(AREAS)], _type(i))
        for i in range(count)
    ]


def _type(place: int) -> str:
    return _TYPES[place // len(AREAS) % len(_TYPES)]


def schema_toml(features: Sequence[Known]) -> str:
    """The feature schema of the company, as a file."""
    views = "".join(
        f'[[view]]\nname = "{area}"\nkind = "batch"\nowner = "data-team"\nfreshness_hours = 1080\n'
        f'description = "Everything about {area}; loaded nightly"\n\n'
        for area in AREAS
    )
    return f'name = "whole"\nversion = 1\n\n{views}' + "".join(_declared(known) for known in features)


def _declared(known: Known) -> str:
    allowed = f"categories = {list(CATEGORIES)}\n".replace("'", '"') if known.type == "category" else ""
    return (
        f'[[feature]]\nname = "{known.name}"\nview = "{known.area}"\ntype = "{known.type}"\n'
        f'data_class = "contractual"\ndescription = "A figure about {known.area}"\n{allowed}\n'
    )


def values_of(block: int, features: Sequence[Known], *, seed: int) -> Rows:
    """The stored values of the BLOCK customers of one block, shape (BLOCK, features)."""
    rng = np.random.default_rng([seed, block])
    columns = [_column(known, rng) for known in features]
    return np.column_stack(columns).astype(np.float32)


def _column(known: Known, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    if known.type == "double":
        column = rng.integers(0, _LARGEST, BLOCK, endpoint=True) / 10
    else:
        limit = {"int": _LARGEST_COUNT, "bool": 1, "category": len(CATEGORIES) - 1}[known.type]
        column = rng.integers(0, limit, BLOCK, endpoint=True).astype(np.float64)
    if not known.read_by_rules:
        column[rng.random(BLOCK) < MISSING] = np.nan
    return column
