"""Turns what is known of a customer into the inputs rules and models read.

Values that are absent, stale or withheld are missing, with the cause kept, never a silent default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan

import numpy as np

from engine.core.rulebook import Frame, InputType, Rulebook, Vocabulary
from engine.core.scoring import Vector
from engine.domain import ContextValue, DecisionRequest, MissingCause
from feature_store.schema import Feature, FeatureSchema
from feature_store.state import CustomerState, FeatureVector, Signal

CHURN_SCORE = "scores.churn"
PROPENSITY_SCORE = "scores.propensity"


@dataclass(frozen=True)
class InputLayout:
    """Where each kind of input stands in a frame."""

    vocabulary: Vocabulary
    purposes: tuple[str, ...]

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Input name to its place in `Frame.values`."""
        return {item.name: i for i, item in enumerate(self.vocabulary.inputs)}

    @cached_property
    def context(self) -> Mapping[str, int]:
        """Context field to its place."""
        return {name: self.index[f"context.{name}"] for name in self.vocabulary.context}

    @cached_property
    def signals(self) -> Mapping[str, int]:
        """Signal name to its place."""
        return {name: self.index[f"signals.{name}"] for name in self.vocabulary.signals}

    @cached_property
    def consents(self) -> Mapping[str, int]:
        """Purpose to the place of its permission."""
        return {name: self.index[f"consents.{name}"] for name in self.purposes}

    @cached_property
    def withheld(self) -> tuple[int, ...]:
        """Places of the inputs that need consent to profiling."""
        return tuple(i for i, item in enumerate(self.vocabulary.inputs) if item.behavioural)

    @cached_property
    def churn(self) -> int:
        """Place of the churn score."""
        return self.index[CHURN_SCORE]

    @cached_property
    def request(self) -> tuple[int, int, int]:
        """Places of channel, placement and language."""
        return (
            self.index["request.channel"],
            self.index["request.placement"],
            self.index["request.language"],
        )


@dataclass(slots=True)
class Inputs:
    """The inputs of one decision. `causes` holds places whose value is missing for another cause than
    being absent; `vector` is what models read, float32 of shape (features,), stale values NaN. `unprofiled`
    is why behaviour and scores are missing where the customer is not profiled.
    """

    frame: Frame
    vector: Vector
    causes: dict[int, MissingCause]
    degraded_by: list[str]
    profiled: bool
    unprofiled: MissingCause = MissingCause.WITHHELD

    def cause(self, place: int) -> MissingCause:
        """Why the input at `place` is missing."""
        return self.causes.get(place, MissingCause.ABSENT)

    def set_score(self, place: int, value: float) -> None:
        """Makes a score readable."""
        self.frame.values[place] = value
        self.frame.missing &= ~(1 << place)
        self.causes.pop(place, None)


def layout_of(rulebook: Rulebook) -> InputLayout:
    """The places of a rulebook's inputs."""
    return InputLayout(rulebook.vocabulary, tuple(rulebook.consent.purposes))


def gather(
    *,
    layout: InputLayout,
    schema: FeatureSchema,
    request: DecisionRequest,
    state: CustomerState,
    permitted: Mapping[str, bool | None],
    profiled: bool,
    now_ms: int,
) -> Inputs:
    """Everything the rules may read now, with what is missing and why.

    `permitted` is None for a purpose of which nobody can see now what the customer said.
    """
    vector, stale, degraded_by = _current_features(schema, request, state, now_ms)
    values: list[object] = list(schema.decode_all(vector))
    values.extend([None] * (len(layout.vocabulary.inputs) - len(values)))
    causes = dict.fromkeys(stale, MissingCause.STALE)
    _fill_request(values, layout, request, permitted)
    if state.consents_readable:  # else whether a signal stands is not known either
        _fill_signals(values, layout, state.signals, now_ms)
    # Where consents cannot be read nobody may say that the customer withheld one.
    unprofiled = MissingCause.WITHHELD if state.consents_readable else MissingCause.ABSENT
    if not profiled:
        for place in layout.withheld:
            values[place] = None
            causes[place] = unprofiled
    missing = 0
    for place, value in enumerate(values):
        if value is None:
            missing |= 1 << place
    return Inputs(Frame(values, missing, now_ms), vector, causes, degraded_by, profiled, unprofiled)


def current_vector(
    schema: FeatureSchema, request: DecisionRequest, state: CustomerState, *, now_ms: int
) -> Vector:
    """What models read of a customer now, float32 of shape (features,): for scoring many in one run."""
    return _current_features(schema, request, state, now_ms)[0]


def _current_features(
    schema: FeatureSchema, request: DecisionRequest, state: CustomerState, now_ms: int
) -> tuple[Vector, tuple[int, ...], list[str]]:
    """The features to read now, the places of stale ones, what is degraded."""
    vector, stale, degraded_by = _stored_features(schema, state.features, now_ms)
    for place, feature in schema.requested:
        vector[place] = requested_value(feature, request.context.get(feature.name))
    return vector, stale, degraded_by


def requested_value(feature: Feature, value: ContextValue | None) -> float:
    """The stored form of a value that came with the request; its default, else NaN, where none did.

    A value that float32 cannot hold as it is counts as none.
    """
    try:
        return feature.encode(feature.default if value is None else value)  # type: ignore[arg-type]  # refused
    except ValueError:
        return nan


def _stored_features(
    schema: FeatureSchema, packed: FeatureVector | None, now_ms: int
) -> tuple[Vector, tuple[int, ...], list[str]]:
    """The vector with defaults filled and stale views blanked, the stale places, what is degraded."""
    if packed is None or not _fits(schema, packed):
        cause = "features:absent" if packed is None else "features:schema"
        return np.full(len(schema.feature), np.nan, dtype=np.float32), (), [cause]
    vector = np.where(np.isnan(packed.values), schema.defaults, packed.values)
    if packed.unread:
        vector[list(packed.unread)] = np.nan
    old = [
        i
        for i, (view, at_ms) in enumerate(zip(schema.view, packed.view_times_ms, strict=True))
        if now_ms - at_ms >= view.freshness_ms
    ]
    degraded_by = ["features:schema"] if packed.unread else []
    if not old:
        return vector, (), degraded_by
    stale = np.isin(schema.view_index, old)
    vector[stale] = np.nan
    places = tuple(np.flatnonzero(stale).tolist())
    return vector, places, degraded_by + [f"features:{schema.view[i].name}:stale" for i in old]


def without_behaviour(state: CustomerState, schema: FeatureSchema) -> CustomerState:
    """The state without what needs consent to profiling: what may be logged of a customer who gave none.

    Decides the same, as the rules see none of it either.
    """
    packed = state.features
    if packed is not None:
        # Which features of another schema are behavioural is not known here: then all of them go.
        hidden = schema.behavioural if _fits(schema, packed) else np.True_
        packed = replace(packed, values=np.where(hidden, np.float32(np.nan), packed.values))
    return replace(state, features=packed, signals=())


def _fits(schema: FeatureSchema, packed: FeatureVector) -> bool:
    """Whether a stored vector was packed with this very schema."""
    return (
        packed.schema_version == schema.digest
        and len(packed.view_times_ms) == len(schema.view)
        and packed.values.shape == (len(schema.feature),)
    )


def _fill_request(
    values: list[object], layout: InputLayout, request: DecisionRequest, permitted: Mapping[str, bool | None]
) -> None:
    for name, place in layout.context.items():
        values[place] = request.context.get(name)
    for purpose, place in layout.consents.items():
        values[place] = permitted[purpose]
    channel, placement, language = layout.request
    values[channel] = request.channel
    values[placement] = request.placement
    values[language] = request.language


def _fill_signals(
    values: list[object], layout: InputLayout, signals: tuple[Signal, ...], now_ms: int
) -> None:
    """A declared signal that is not stored did not fire; one that has run out no longer holds."""
    for place in layout.signals.values():
        values[place] = False
    for signal in signals:
        place_or_none = layout.signals.get(signal.name)
        if place_or_none is not None:
            values[place_or_none] = signal.value and signal.since_ms <= now_ms < signal.valid_until_ms


def describe(value: object, kind: InputType) -> str:
    """The value as a neutral token that texts may show; labels translate it per language."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if kind is InputType.DOUBLE:
        return f"{value:.2f}"
    return str(value)
