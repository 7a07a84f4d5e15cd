"""What the company of the benchmark of the whole has: size, actions, rules and features, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.bench.whole_features import Known, features_of
from engine.bench.whole_rules import GROUPS, TAGS, Rule, rules_of
from engine.settings import Settings

PURPOSES: Final = ("marketing", "personalization", "service")
MAX_TARGETS: Final = 100
"""Products that the propensity model knows; more actions than that are several forms of a product."""
_PURPOSE_OF: Final = (0, 0, 0, 1, 0, 0, 0, 1, 0, 2)
"""Purpose of the actions, in turns: most are marketing."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a company is."""

    candidates: int = 30
    rules: int = 50
    features: int = 40
    customers: int = 2_000
    trees: int = 200

    @property
    def targets(self) -> int:
        """What the propensity model can be asked about."""
        return min(self.candidates, MAX_TARGETS)


STANDARD: Final = Size()
"""The company of every claim."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An action of the catalogue, as any engine may know it."""

    id: str
    group: str
    purpose: str
    tag: str
    target: str
    value: float
    cost: float


@dataclass(frozen=True, slots=True)
class Company:
    """Files of a company that was written, and what they hold."""

    folder: Path
    size: Size
    features: Sequence[Known]
    offers: Sequence[Offer]
    rules: Sequence[Rule]

    def settings(self, **others: object) -> Settings:
        """Settings of a server of this company."""
        places = {
            "data_dir": self.folder / "data",
            "rules": self.folder / "rules",
            "registry": self.folder / "registry",
            "feature_schema": self.folder / "schema.toml",
        }
        return Settings(**{**places, **others})  # type: ignore[arg-type]  # checked by pydantic

    @property
    def boosters(self) -> Path:
        """Where LightGBM's own files of the models are."""
        return self.folder / "boosters"


def described(folder: Path, size: Size) -> Company:
    """What a company of this size has; nothing is written."""
    features = features_of(size.features)
    offers = [_offer(number, size) for number in range(size.candidates)]
    rules = rules_of(size.rules, features=features, actions=[offer.id for offer in offers])
    return Company(folder, size, features, offers, rules)


def _offer(number: int, size: Size) -> Offer:
    value = 20.0 + number * number * 7 % 181
    return Offer(
        id=f"offer_{number:04}",
        group=GROUPS[number % len(GROUPS)],
        purpose=PURPOSES[_PURPOSE_OF[number % len(_PURPOSE_OF)]],
        tag=TAGS[number % len(TAGS)],
        target=f"product_{number % size.targets:04}",
        value=value,
        cost=round(value * 0.2, 2),
    )
