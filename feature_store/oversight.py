"""What an operator sees of a store: how much it holds and whether it is set up well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KindStats:
    """The values of one kind: how many, and the bytes they take."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds. `kinds` are by the names that layout.py gives them.

    `identities` are the links from an identity to a customer; `is_estimate` where counting all would take
    too long.
    """

    customers: int
    kinds: Mapping[str, KindStats]
    identities: int
    budgets: int
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class StoreCondition:
    """How a store stands: settings and figures by name, and what is wrong with them, each with its remedy."""

    engine: str
    version: str
    place: str
    facts: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def mebibytes(size: int) -> str:
    """A size for people."""
    return f"{size / (1 << 20):,.1f} MiB"
