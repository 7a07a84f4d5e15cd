"""The plan of a training run: what `arbiter train` reads, whatever file it stands in.

Whoever reads a plan from a file knows its lines. What is wrong with it only in view of the data, such as a
column that is not there, is told by the path of the field: `training.errors.PlanProblem`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from feature_store.schema import DataClass
from model_registry.manifest import ModelName

KIND: Final = "TrainingPlan"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Column = Annotated[str, Field(min_length=1, max_length=256)]
Share = Annotated[float, Field(gt=0, lt=0.5)]
Unit = Annotated[float, Field(ge=0, le=1)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$")]
WORDED: Final = ("en", "fr")
"""Languages that drafts of reasons are written in."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Metadata(_Strict):
    """Whose model it is, and what for."""

    name: ModelName = Field(description="Name in the registry; the server scores `churn` and `propensity`.")
    owner: Annotated[str, Field(min_length=1)] = Field(description="Who answers for the model.")
    intended_use: Annotated[str, Field(min_length=1)] = Field(
        description="What the scores are for, and what they are not for; stands in the manifest."
    )
    description: str = ""


class Data(_Strict):
    """The table, and what its columns are."""

    path: Annotated[str, Field(min_length=1)] = Field(
        description="CSV (also .gz) or Parquet, relative to the plan."
    )
    id: Column = Field(description="Column of the customer's id; a customer is in one part only.")
    label: Column | None = Field(default=None, description="Column of the label; or `task.event`.")
    positive: str | bool | int | float | None = Field(
        default=None, description="Value of the label that the score is the probability of."
    )
    time: Column | None = Field(default=None, description="Column of the instant at which a row was known.")
    exclude: tuple[Column, ...] = Field(default=(), description="Columns that are no inputs.")
    known_after: tuple[Column, ...] = Field(
        default=(), description="Columns known only after the event: no inputs, and named in the lineage."
    )
    accept_leak: tuple[Column, ...] = Field(
        default=(), description="Columns to learn from although they look like leaks; `(rows)` for copies."
    )


class Actions(_Strict):
    """A table of what is proposed: one row an action."""

    path: Annotated[str, Field(min_length=1)] = Field(description="CSV or Parquet, relative to the plan.")
    id: Column = Field(description="Column of the action, as in the column `task.action`.")
    features: Annotated[tuple[Column, ...], Field(min_length=1)] = Field(
        description="Columns to learn from: numbers as they are, texts one input for each value."
    )


_OF_KIND: Final = {
    "churn": ("event", "observed_until"),
    "propensity": ("action", "actions"),
    "uplift": ("treatment", "treated", "chance", "treat_above"),
    "value": ("currency", "objective", "winsorise"),
}
"""Fields of the task that one kind knows and no other."""


class Task(_Strict):
    """What is to be learnt. Fields of another kind of model are refused."""

    kind: Literal["churn", "propensity", "uplift", "value"] = Field(description="Kind of model.")
    horizon_days: Annotated[int, Field(ge=1, le=3660)] | None = Field(
        default=None, description="How many days from `data.time` the label looks ahead."
    )
    event: Column | None = Field(
        default=None,
        description="churn, instead of `data.label`: column of the instant of leaving, or empty.",
    )
    observed_until: str | None = Field(
        default=None,
        description="With `event`: until when leaving would be known; the latest instant if not given.",
    )
    action: Column | None = Field(default=None, description="propensity: column of what was proposed.")
    actions: Actions | None = Field(default=None, description="propensity: a table of the actions.")
    treatment: Column | None = Field(
        default=None, description="uplift: column of whether the customer was treated, at random."
    )
    treated: str | bool | int | float | None = Field(
        default=None, description="uplift: value of `treatment` that means treated."
    )
    chance: Column | None = Field(
        default=None,
        description="uplift: column of the chance of treatment of each row; the share treated if not given.",
    )
    treat_above: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        default=None, description="uplift: from which uplift a treatment is worth its cost; 0 if not given."
    )
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = Field(
        default=None, description="value: currency of the label, such as CHF."
    )
    objective: Literal["tweedie", "gamma", "lognormal"] | None = Field(
        default=None, description="value: how values scatter; tweedie (the default) knows zeros."
    )
    winsorise: Annotated[float, Field(gt=0.5, lt=1)] | None = Field(
        default=None, description="value: quantile of the training labels above which they count as it."
    )

    @model_validator(mode="after")
    def _fields_are_of_the_kind(self) -> Self:
        others = [name for kind, fields in _OF_KIND.items() if kind != self.kind for name in fields]
        given = [name for name in others if getattr(self, name) is not None]
        if given:
            raise ValueError(f"{self.kind} knows no {', '.join(f'`{name}`' for name in given)}")
        if self.kind == "propensity" and self.action is None:
            raise ValueError("propensity needs `action`, the column of what was proposed")
        if self.kind == "uplift" and self.treatment is None:
            raise ValueError("uplift needs `treatment`, the column of whether the customer was treated")
        if self.kind == "value" and self.currency is None:
            raise ValueError("value needs `currency`, such as CHF: a value without one says nothing")
        if self.event is not None and self.horizon_days is None:
            raise ValueError("`event` needs `horizon_days`: until when after `data.time` it counts")
        if self.observed_until is not None and self.event is None:
            raise ValueError("`observed_until` is for `event`")
        return self


class Split(_Strict):
    """Which rows are learnt from, which choose and calibrate, and which test."""

    by: Literal["stratified", "group", "time"] = Field(
        default="stratified",
        description="time: the latest rows test; stratified and group: at random, whole customers or groups.",
    )
    test: Share = 0.2
    validation: Share = 0.2
    group: Column | None = Field(default=None, description="Rows of one value stay together, e.g. household.")

    @model_validator(mode="after")
    def _group_is_named(self) -> Self:
        if (self.by == "group") != (self.group is not None):
            raise ValueError("`group` is for `by: group`, and it must name a column there")
        return self


class Features(_Strict):
    """The inputs: of a feature schema that there is, or inferred."""

    schema_path: str | None = Field(
        default=None, alias="schema", description="Feature schema (TOML), relative to the plan; or `infer`."
    )
    columns: dict[Name, Column] = Field(default={}, description="Column of a feature where named otherwise.")
    types: dict[Column, Literal["bool", "int", "double", "category"]] = Field(
        default={}, description="Types of columns where they are not to be inferred."
    )
    categories_at_most: Annotated[int, Field(ge=2, le=1000)] = Field(
        default=50, description="Texts with more values are left out."
    )
    data_class: DataClass = Field(
        default=DataClass.BEHAVIOURAL,
        description="Personal-data class of inferred features; behavioural needs consent to profiling.",
    )
    data_classes: dict[DataClass, tuple[Column, ...]] = Field(
        default={}, description="Columns of other classes."
    )
    units: dict[Column, str] = Field(default={}, description="Units of columns, for reasons: CHF/month.")
    freshness_hours: Annotated[float, Field(gt=0, le=87_600)] = Field(
        default=720.0, description="Age from which the server takes values for stale."
    )

    @property
    def inferred(self) -> bool:
        """Whether the types are to be found in the data."""
        return self.schema_path in (None, "infer")


class Search(_Strict):
    """A search for better parameters (Optuna), on the validation rows."""

    minutes: Annotated[float, Field(gt=0, le=1440)] = Field(
        default=5.0, description="No trial is begun after so long."
    )
    trials: Annotated[int, Field(ge=1, le=10_000)] = 50


class ModelPlan(_Strict):
    """How trees are boosted (LightGBM's names)."""

    max_trees: Annotated[int, Field(ge=1, le=5000)] = 400
    patience: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=30, description="Trees without a better log loss on validation after which boosting stops."
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    num_leaves: Annotated[int, Field(ge=2, le=256)] = 8
    max_depth: Annotated[int, Field(ge=1, le=16)] = 3
    min_data_in_leaf: Annotated[int, Field(ge=1)] = 40
    lambda_l2: Annotated[float, Field(ge=0)] = 20.0
    feature_fraction: Annotated[float, Field(gt=0, le=1)] = 0.7
    bagging_fraction: Annotated[float, Field(gt=0, le=1)] = 0.8
    search: Search | None = None


class CalibrationPlan(_Strict):
    """How margins become probabilities."""

    method: Literal["auto", "platt", "isotonic"] = Field(
        default="auto", description="auto: the one with the smaller log loss across validation rows."
    )


class Evaluation(_Strict):
    """How the model is measured, beside the test rows."""

    folds: Annotated[int, Field(ge=0, le=20)] = Field(
        default=5, description="Folds of the cross-validation; 0 for none. None where rows are split by time."
    )


class Fairness(_Strict):
    """For whom the model is to be as good as for others."""

    attributes: tuple[Column, ...] = ()


class Gates(_Strict):
    """What a model must be to be registered."""

    auc_at_least: Unit = 0.55
    auc_at_most: Unit = Field(default=0.99, description="Above it the label leaks, until proven otherwise.")
    ece_at_most: Unit = 0.05
    behind_baseline_at_most: Unit = Field(
        default=0.01,
        description="AUC (value: Gini) it may lack to the regression before it is not worth serving.",
    )
    qini_above: Annotated[float, Field(ge=-1, le=1)] = Field(
        default=0.0, description="uplift: what the 95 % interval of the Qini coefficient must lie above."
    )
    gini_at_least: Unit = Field(
        default=0.1, description="value: how well it ranks, as a share of the best possible."
    )
    total_off_at_most: Unit = Field(
        default=0.1,
        description="value: how far the predicted total may be from the actual one, chance considered.",
    )


class Register(_Strict):
    """Where the model goes."""

    registry: Annotated[str, Field(min_length=1)] = Field(description="Folder, relative to the plan, or URL.")
    alias: Literal["challenger", "shadow"] | None = Field(
        default="challenger",
        description="Alias to point at the version; null for none. Only `arbiter models promote` makes a "
        "champion, as it asks the gates.",
    )


class TrainingPlan(_Strict):
    """What to train on which table, and where to register it."""

    api_version: Literal["arbiter/v1"] = Field(alias="apiVersion")
    kind: Literal["TrainingPlan"]
    metadata: Metadata
    data: Data
    task: Task
    split: Split = Split()
    features: Features = Features()
    model: ModelPlan = ModelPlan()
    calibration: CalibrationPlan = CalibrationPlan()
    evaluation: Evaluation = Evaluation()
    concepts: dict[Name, Annotated[tuple[Column, ...], Field(min_length=1)]] = Field(
        default={}, description="Columns told as one reason; the others are one each."
    )
    languages: tuple[Language, ...] = Field(
        default=("en",), description="Languages of the reasons' drafts: en, fr."
    )
    segments: tuple[Column, ...] = Field(default=(), description="Columns to measure by.")
    fairness: Fairness = Fairness()
    gates: Gates = Gates()
    register_: Register | None = Field(
        default=None, alias="register", description="Absent: registers nothing."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        default=1, description="Of split, hidden values, boosting and search."
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.data.label is None) == (self.task.event is None):
            raise ValueError("give either `data.label` or, for churn, `task.event`")
        if self.task.kind == "value" and self.data.positive is not None:
            raise ValueError("`data.positive` is for labels of two values; those of `value` are amounts")
        if self.task.kind in ("uplift", "value") and self.model.search is not None:
            raise ValueError(f"`model.search` knows no {self.task.kind}: write the parameters yourself")
        if self.data.time is None and (self.task.event is not None or self.split.by == "time"):
            raise ValueError("`data.time` is missing: `task.event` and `split.by: time` need it")
        unworded = sorted(set(self.languages) - set(WORDED))
        if unworded:
            raise ValueError(
                f"no drafts are written in {', '.join(unworded)}: `languages` are {', '.join(WORDED)}"
            )
        return self

    def canonical(self) -> dict[str, Any]:
        """Every field with its value, defaults too: what a run depends on, paths and registry aside."""
        told = self.model_dump(mode="json", by_alias=True, exclude={"register_"})
        told["data"].pop("path")
        return told
