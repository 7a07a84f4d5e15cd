"""What a published model says of itself: `model_registry/<name>/<version>/manifest.json`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""A plain name: no folder, no hidden file, nothing that could leave the version folder."""
ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
ModelKind = Literal["churn", "propensity", "uplift", "value"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Figures = Mapping[str, int | Finite | None]
"""Figures by name; None where one could not be worked out, as the AUC of rows with one label."""

MAX_KNOTS: Final = 10_000
"""Most knots of an isotonic map: more than any calibration data fills."""
SINCE_FORMAT_2: Final = ("actions", "isotonic", "lineage", "segments", "fairness", "baseline")
"""Fields that format 1 has not. A manifest that uses none of them is written as format 1, as ever."""
_KINDS_OF_FORMAT_1: Final = ("churn", "propensity")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelInput(_Strict):
    """One column of the model's float32 input matrix, in order.

    `feature`: the feature of that name in the feature schema. `target`: `name` is `target.` and one of
    the manifest's `targets`; 1 where the scored action's propensity target is that one, else 0
    (propensity models only). The prefix keeps it apart from the feature of the same name. `action`: `name`
    is `action.` and a property of actions, such as their price; its values are in the manifest's `actions`.
    """

    name: str
    source: Literal["feature", "target", "action"]


class Concept(_Strict):
    """A business concept: its inputs' Shapley values are added up into one reason."""

    name: str
    inputs: tuple[str, ...]
    reason_raises: str  # reason code where the concept raises the score
    reason_lowers: str  # reason code where it lowers the score; empty code: not told


class Isotonic(_Strict):
    """A non-decreasing piecewise linear map from margin to probability, flat beyond its ends.

    It is part of the ONNX graph; the manifest repeats it, so that the graph can be held to it.
    """

    margins: tuple[Finite, ...] = Field(min_length=2, max_length=MAX_KNOTS)
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...]

    @model_validator(mode="after")
    def _is_a_map(self) -> Self:
        if len(self.margins) != len(self.probabilities):
            raise ValueError("`margins` and `probabilities` are not equally many")
        if not all(low < high for low, high in pairwise(self.margins)):
            raise ValueError("`margins` do not ascend")
        if not all(low <= high for low, high in pairwise(self.probabilities)):
            raise ValueError("`probabilities` fall somewhere: a higher margin must not mean less")
        return self


class TrainingRows(_Strict):
    """The rows a model was trained on. `from` (here `from_`) and `until` are RFC 3339 instants or dates."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    source: str
    rows: Annotated[int, Field(ge=0)]
    fingerprint: str
    from_: str | None = Field(default=None, alias="from")
    until: str | None = None


class Lineage(_Strict):
    """Where a version comes from, so that it can be trained again and be the same.

    `config` is the digest of the training configuration, `code` the version or commit of the code,
    `champion` the version that served when it was trained, `run` the run that made it, if it has a name.
    """

    config: Digest
    code: Annotated[str, Field(min_length=1)]
    seeds: Mapping[str, int]
    environment: Mapping[str, str]  # "python", "lightgbm", "onnx", "numpy": version
    data: TrainingRows
    champion: Annotated[int, Field(ge=1)] | None = None
    run: str | None = None


class Baseline(_Strict):
    """What explanations compare a customer with. The version changes when its meaning does."""

    name: Annotated[str, Field(min_length=1)]
    version: Annotated[int, Field(ge=1)]


class Manifest(_Strict):
    """Identity, contract, lineage and evidence of one immutable model version.

    Format 2 adds the fields of SINCE_FORMAT_2 and the kinds uplift and value. A server that knows format 1
    only refuses format 2 by name, instead of scoring without what it cannot read.
    """

    format: Literal[1, 2] = 1
    name: ModelName
    version: Annotated[int, Field(ge=1)]
    kind: ModelKind
    created: str  # RFC 3339 date of the training run
    intended_use: str
    feature_schema: str  # name of the feature schema, "telco"
    inputs: tuple[ModelInput, ...]
    targets: tuple[str, ...] = ()  # propensity targets the model knows
    hidden: Mapping[str, tuple[str, ...]] = {}  # target -> inputs set to NaN when it is scored
    actions: Mapping[str, Mapping[str, Finite | None]] = {}  # target -> value of each input of source action
    typical: Mapping[str, float | None]  # input name -> stored-form typical value (median or mode)
    concepts: tuple[Concept, ...]
    calibration: Mapping[str, float] = {}  # Platt: probability = sigmoid(slope * margin + intercept)
    metrics: Mapping[str, float]
    training_data: Mapping[str, str]  # source, rows, fingerprint, split, seed
    isotonic: Isotonic | None = None  # instead of Platt; `calibration` is empty then
    lineage: Lineage | None = None
    segments: Mapping[str, Figures] = {}  # "contract=month-to-month" -> rows, rate, auc, ece
    fairness: Mapping[str, Figures] = {}  # "age_band" -> gap_auc, gap_tpr, gap_selection
    baseline: Baseline | None = None
    files: Mapping[FileName, Digest]  # every other file of the version folder and its digest

    @property
    def needs_format_2(self) -> bool:
        """Whether it says something that format 1 cannot."""
        return self.kind not in _KINDS_OF_FORMAT_1 or any(getattr(self, name) for name in SINCE_FORMAT_2)

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leaves out what is not used of format 2, so that format 1 stays what it was, byte for byte."""
        told: dict[str, object] = dump(self)
        unused = {name for name in SINCE_FORMAT_2 if not getattr(self, name)}
        return {name: value for name, value in told.items() if name not in unused}

    @model_validator(mode="after")
    def _format_fits(self) -> Self:
        if self.format == 1 and self.needs_format_2:
            raise ValueError(f"`kind` {self.kind} or a field of {', '.join(SINCE_FORMAT_2)} needs `format` 2")
        if self.isotonic is not None and self.calibration:
            raise ValueError("`calibration` and `isotonic` are both given: a model is calibrated in one way")
        if (
            self.kind in _KINDS_OF_FORMAT_1
            and self.isotonic is None
            and "calibration" not in self.model_fields_set
        ):
            raise ValueError(
                "neither `calibration` nor `isotonic` is given: its scores would be no probabilities"
            )
        return self

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [i.name for i in self.inputs]
        if len(set(names)) != len(names):
            raise ValueError("an input is listed twice")
        told = [name for concept in self.concepts for name in concept.inputs]
        if sorted(told) != sorted(names):
            raise ValueError("every input must belong to exactly one concept")
        unknown = {n for hidden in self.hidden.values() for n in hidden} - set(names)
        if unknown or set(self.hidden) - set(self.targets):
            raise ValueError("`hidden` names an input or target that is not declared")
        of_actions = {i.name for i in self.inputs if i.source == "action"}
        known = set(self.targets) if of_actions else set()
        if set(self.actions) != known or any(set(v) != of_actions for v in self.actions.values()):
            raise ValueError("`actions` does not give each target a value of each input of source action")
        return self
