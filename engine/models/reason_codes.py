"""From Shapley values to reasons: added up by business concept, few, and stable under float noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.core.scoring import Contribution
from engine.models.shapley import BASELINE
from engine.models.trees import Flags, Floats, Places, Rows
from feature_store.schema import Feature, FeatureSchema
from model_registry.manifest import Manifest

MAX_REASONS: Final = 4
MIN_SHARE: Final = 0.05
"""Log-odds below which a concept is not worth a sentence: it moves a probability by 1.25 % at most."""
CLOSE: Final = 1.3e-4
"""Sizes that differ by less are the same: the manifest's order decides between them, and what is this little
below MIN_SHARE is still told. So noise of 1e-6 changes nothing for equal sizes and for sizes apart, only for
those that differ by nearly CLOSE, which is therefore no round number."""
_DIGITS: Final = 9
"""Decimals of a share that is told: the last bits are the machine's, and no part of a decision."""

Shown = Sequence[Sequence[int]]
"""For each concept the places of inputs, in the manifest's order."""

YES, NO, UNKNOWN = "yes", "no", "unknown"
"""Tokens for values that have no words of their own; whoever renders the text translates them."""


def value_text(feature: Feature, stored: float | None) -> str:
    """A stored value for people: "84.50 CHF/month", "3 months", "month-to-month", "streaming_tv=yes"."""
    if stored is None or not math.isfinite(stored):
        return UNKNOWN
    if feature.type == "bool":
        return f"{feature.name}={YES if stored else NO}"  # a bare yes says nothing in a sentence
    if feature.type == "category":
        return str(feature.decode(stored) or UNKNOWN)
    number = f"{stored:.0f}" if feature.type == "int" else f"{stored:.2f}"
    return f"{number} {feature.unit}".rstrip()


@dataclass(frozen=True, slots=True, eq=False)
class ConceptReasons:
    """What one model's concepts say. Inputs and concepts are in the manifest's order.

    `concept_of` (inputs,) is the place of each input's concept. `members` are each concept's inputs,
    `codes` its reason codes (raises, lowers). `features` and `typical` are per input; None for targets.
    `baseline` is what shares compare with, "name/version".
    """

    concept_of: Places
    members: tuple[tuple[int, ...], ...]
    codes: tuple[tuple[str, str], ...]
    features: tuple[Feature | None, ...]
    typical: tuple[str, ...]
    baseline: str

    def shown(self, silent: Flags) -> Shown:
        """The inputs of each concept that a reason may show: features that are not `silent` (inputs,)."""
        return tuple(
            tuple(place for place in inputs if self.features[place] is not None and not silent[place])
            for inputs in self.members
        )

    def tell(self, contributions: Floats, row: Rows, *, shown: Shown) -> tuple[Contribution, ...]:
        """The strongest concepts of one row, at most four, each with the value of an input in `shown`."""
        shares = np.bincount(self.concept_of, contributions[:-1], len(self.codes)).tolist()
        pushes = contributions.tolist()
        worth_it = [
            (size, concept)
            for concept, share in enumerate(shares)
            if (size := abs(share)) > MIN_SHARE - CLOSE
        ]
        told: list[Contribution] = []
        for concept in by_size(worth_it):
            share = shares[concept]
            way = 1.0 if share > 0.0 else -1.0
            code = self.codes[concept][0 if share > 0.0 else 1]
            place = _strongest(shown[concept], pushes, way) if code else None
            if place is not None:
                told.append(self._contribution(code, share, place, row))
                if len(told) == MAX_REASONS:
                    break
        return tuple(told)

    def _contribution(self, code: str, share: float, shown: int, row: Rows) -> Contribution:
        feature = self.features[shown]
        assert feature is not None  # `_shown` leaves targets out
        return Contribution(
            reason=code,
            share=round(share, _DIGITS),
            feature=feature.name,
            value=value_text(feature, float(row[shown])),
            typical=self.typical[shown],
            baseline=self.baseline,
        )


def _strongest(places: Sequence[int], pushes: Sequence[float], way: float) -> int | None:
    """The input that pushes the concept's way (1 or -1) most; None where none does.

    An input that pushes the other way would make the sentence say the opposite of what is so.
    """
    pushing = [(push, place) for place in places if (push := way * pushes[place]) > CLOSE]
    return pushing[0][1] if len(pushing) == 1 else next(by_size(pushing), None)


def by_size(sizes: Sequence[tuple[float, int]]) -> Iterator[int]:
    """Places from the largest size down; of those CLOSE to the largest that is left, the first place.

    `sizes` are of different places each, with its place.
    """
    left = sorted(sizes, reverse=True)
    while left:
        largest, place = left[0]
        if len(left) > 1 and left[1][0] > largest - CLOSE:
            place = min(other for size, other in left if size > largest - CLOSE)
            left = [each for each in left if each[1] != place]
        else:
            del left[0]
        yield place


def concept_reasons(manifest: Manifest, schema: FeatureSchema) -> ConceptReasons:
    """The concepts of a manifest whose feature inputs are all in the schema."""
    baseline = manifest.baseline or BASELINE
    places = {model_input.name: i for i, model_input in enumerate(manifest.inputs)}
    members = tuple(tuple(places[name] for name in concept.inputs) for concept in manifest.concepts)
    owner: Mapping[int, int] = {i: c for c, inputs in enumerate(members) for i in inputs}
    features = tuple(
        schema.feature[schema.index[i.name]] if i.source == "feature" else None for i in manifest.inputs
    )
    return ConceptReasons(
        concept_of=np.array([owner[i] for i in range(len(places))], dtype=np.intp),
        members=members,
        codes=tuple((concept.reason_raises, concept.reason_lowers) for concept in manifest.concepts),
        features=features,
        typical=tuple(
            value_text(feature, manifest.typical.get(feature.name)) if feature else "" for feature in features
        ),
        baseline=f"{baseline.name}/{baseline.version}",
    )
