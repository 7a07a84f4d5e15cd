"""The plan of retraining: what `arbiter retrain` reads.

What is learnt from is made by Arbiter itself, so a plan says nothing of columns: it says which decisions, and
until when an outcome counts. How a model is learnt is said as in a TrainingPlan.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.own.plan import (
    WORDED,
    CalibrationPlan,
    Column,
    Evaluation,
    Fairness,
    Gates,
    Language,
    Metadata,
    ModelPlan,
    Name,
    Split,
)

KIND: Final = "RetrainingPlan"
ActionFeature = Literal["value", "cost", "weight", "group", "purpose"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Left(_Strict):
    """Who left when: a CSV of the company, one row for each customer who did."""

    path: Annotated[str, Field(min_length=1)] = Field(description="CSV, relative to the plan.")
    customer: Column = Field(default="customer_id", description="Column of the customer's id.")
    at: Column = Field(default="churned_at", description="Column of the instant of leaving.")
    complete_until: str | None = Field(
        default=None,
        description="Until when everybody who left is in the file; the end of the run if not given.",
    )


class Task(_Strict):
    """What is to be learnt, and until when after a decision it counts."""

    kind: Literal["churn", "propensity"] = Field(description="Kind of model.")
    horizon_days: Annotated[int, Field(ge=1, le=3660)] = Field(
        description="How many days after a decision an acceptance, or leaving, counts."
    )
    action_features: tuple[ActionFeature, ...] = Field(
        default=(), description="propensity: properties of actions in the catalogue to learn from."
    )
    left: Left | None = Field(default=None, description="churn: who left when.")
    every_days: Annotated[int, Field(ge=1, le=3660)] | None = Field(
        default=None, description="churn: a customer is one row in so many days; 30 by default."
    )

    @model_validator(mode="after")
    def _fields_are_of_the_kind(self) -> Self:
        if self.kind == "propensity" and (self.left is not None or self.every_days is not None):
            raise ValueError("propensity knows no `left` and no `every_days`: outcomes tell who accepted")
        if self.kind == "churn" and self.left is None:
            raise ValueError("churn needs `left`: no log says who left")
        if self.kind == "churn" and self.action_features:
            raise ValueError("churn knows no `action_features`: it is asked about customers alone")
        return self


class FromDecisions(_Strict):
    """Which decisions are learnt from."""

    window_days: Annotated[int, Field(ge=1, le=3660)] = Field(
        default=365, description="How far back they are taken, counted from the end of the run."
    )
    rows: Literal["returned", "contacted"] = Field(
        default="returned",
        description="propensity: all returned actions, or those that an outcome says were shown.",
    )
    channels: tuple[str, ...] = Field(default=(), description="Only decisions on these channels; else all.")
    min_outcomes: Annotated[int, Field(ge=1)] = Field(
        default=500,
        description="Fewest answers (accepted or declined), or customers who left, that are worth a run.",
    )


class Drift(_Strict):
    """When drift is a reason to retrain."""

    days: Annotated[int, Field(ge=1, le=366)] = Field(
        default=1, description="With --if-drift: how far back an alarm of the champion counts."
    )


class RetrainingPlan(_Strict):
    """What to learn from the decision log, how, and who makes the result champion."""

    api_version: Literal["arbiter/v1"] = Field(alias="apiVersion")
    kind: Literal["RetrainingPlan"]
    metadata: Metadata
    task: Task
    decisions: FromDecisions = FromDecisions()
    drift: Drift = Drift()
    approve: Literal["human", "automatic"] = Field(
        default="human",
        description="automatic: champion by itself where every gate is passed; human: a person promotes.",
    )
    split: Split = Split(by="time")
    model: ModelPlan = ModelPlan()
    calibration: CalibrationPlan = CalibrationPlan()
    evaluation: Evaluation = Evaluation()
    concepts: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(
        default={}, description="Features told as one reason; those of the champion if none are given."
    )
    languages: tuple[Language, ...] = Field(default=("en",), description="Languages of the reasons' drafts.")
    segments: tuple[Column, ...] = Field(
        default=(), description="What to measure by: features, `request.channel`, `row.rank`."
    )
    fairness: Fairness = Fairness()
    gates: Gates = Gates()
    accept_leak: tuple[Column, ...] = Field(
        default=(), description="Features to learn from although they look like leaks."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        unworded = sorted(set(self.languages) - set(WORDED))
        if unworded:
            raise ValueError(f"no drafts are written in {', '.join(unworded)}")
        if self.split.by == "group":
            raise ValueError("`split.by` is time or stratified: customers are kept together by themselves")
        return self

    @property
    def digest(self) -> str:
        """Content address of what decides rows and model; who approves and what triggers do not."""
        told: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude={"approve", "drift"})
        canonical = json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
