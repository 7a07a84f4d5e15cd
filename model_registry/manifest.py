"""What a published model says of itself: `model_registry/<name>/<version>/manifest.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""A plain name: no folder, no hidden file, nothing that could leave the version folder."""
ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelInput(_Strict):
    """One column of the model's float32 input matrix, in order.

    `feature`: the feature of that name in the feature schema. `target`: `name` is `target.` and one of
    the manifest's `targets`; 1 where the scored action's propensity target is that one, else 0
    (propensity models only). The prefix keeps it apart from the feature of the same name.
    """

    name: str
    source: Literal["feature", "target"]


class Concept(_Strict):
    """A business concept: its inputs' Shapley values are added up into one reason."""

    name: str
    inputs: tuple[str, ...]
    reason_raises: str  # reason code where the concept raises the score
    reason_lowers: str  # reason code where it lowers the score; empty code: not told


class Manifest(_Strict):
    """Identity, contract, lineage and evidence of one immutable model version."""

    format: Literal[1] = 1
    name: ModelName
    version: Annotated[int, Field(ge=1)]
    kind: Literal["churn", "propensity"]
    created: str  # RFC 3339 date of the training run
    intended_use: str
    feature_schema: str  # name of the feature schema, "telco"
    inputs: tuple[ModelInput, ...]
    targets: tuple[str, ...] = ()  # propensity targets the model knows
    hidden: Mapping[str, tuple[str, ...]] = {}  # target -> inputs set to NaN when it is scored
    typical: Mapping[str, float | None]  # input name -> stored-form typical value (median or mode)
    concepts: tuple[Concept, ...]
    calibration: Mapping[str, float]  # Platt: probability = sigmoid(slope * margin + intercept)
    metrics: Mapping[str, float]
    training_data: Mapping[str, str]  # source, rows, fingerprint, split, seed
    files: Mapping[FileName, Digest]  # every other file of the version folder and its digest

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
        return self
