"""From Shapley values to reasons: added up by business concept, few, and stable under float noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.core.scoring import Contribution
from engine.models.trees import Flags, Floats, Places, Rows
from feature_store.schema import Feature, FeatureSchema
from model_registry.manifest import Manifest

MAX_REASONS = 4
MIN_SHARE = 0.05
"""Log-odds below which a concept is not worth a sentence: it moves a probability by 1.25 % at most."""
_DIGITS = 4
"""Shares are compared to this many decimals, so that noise of 1e-6 does not reorder reasons."""

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
    """

    concept_of: Places
    members: tuple[tuple[int, ...], ...]
    codes: tuple[tuple[str, str], ...]
    features: tuple[Feature | None, ...]
    typical: tuple[str, ...]

    def tell(self, contributions: Floats, row: Rows, *, silent: Flags) -> tuple[Contribution, ...]:
        """The strongest concepts of one row, at most four; `silent` inputs (inputs,) are not shown."""
        shares = np.bincount(self.concept_of, contributions[:-1], len(self.codes)).tolist()
        sizes = [round(abs(share), _DIGITS) for share in shares]
        told: list[Contribution] = []
        for concept in sorted(range(len(sizes)), key=lambda c: (-sizes[c], c)):
            if sizes[concept] < MIN_SHARE or len(told) == MAX_REASONS:
                break
            code = self.codes[concept][0 if shares[concept] > 0.0 else 1]
            shown = self._shown(concept, contributions, silent) if code else None
            if shown is not None:
                told.append(self._contribution(code, shares[concept], shown, row))
        return tuple(told)

    def _shown(self, concept: int, contributions: Floats, silent: Flags) -> int | None:
        """The concept's input with the largest share of its own; None where all are silent."""
        open_inputs = [i for i in self.members[concept] if not silent[i] and self.features[i] is not None]
        if not open_inputs:
            return None
        return max(open_inputs, key=lambda i: (round(abs(float(contributions[i])), _DIGITS), -i))

    def _contribution(self, code: str, share: float, shown: int, row: Rows) -> Contribution:
        feature = self.features[shown]
        assert feature is not None  # `_shown` leaves targets out
        return Contribution(
            reason=code,
            share=share,
            feature=feature.name,
            value=value_text(feature, float(row[shown])),
            typical=self.typical[shown],
        )


def concept_reasons(manifest: Manifest, schema: FeatureSchema) -> ConceptReasons:
    """The concepts of a manifest whose feature inputs are all in the schema."""
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
    )
