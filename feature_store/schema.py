"""The feature schema: what is known of a customer, typed, classified and packed as float32.

One TOML file declares it (see feature_store/demo/telco.toml). Training and serving read the same file, so a
feature is transformed in one place only: every value is stored as one float32, categories as the
index of their name, booleans as 0 and 1, absent values as NaN.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
FeatureValue = bool | int | float | str
MAX_EXACT_INT = 1 << 24
"""Largest whole number every smaller one of which float32 holds exactly."""


class SchemaError(Exception):
    """The feature schema file, or a value offered to it, is wrong; the text says where and why."""


class DataClass(StrEnum):
    """Personal-data class of a feature."""

    CONTRACTUAL = "contractual"
    BILLING = "billing"
    DEMOGRAPHIC = "demographic"
    BEHAVIOURAL = "behavioural"  # never read without consent to profiling


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class View(_Strict):
    """Features that arrive together and age together."""

    name: Name
    kind: Literal["batch", "streaming"]
    owner: str
    freshness_hours: Annotated[float, Field(gt=0)]
    description: str

    @property
    def freshness_ms(self) -> int:
        """Age in milliseconds from which the view's values are stale."""
        return int(self.freshness_hours * 3_600_000)


class Feature(_Strict):
    """One input of rules and models."""

    name: Name
    view: Name
    type: Literal["bool", "int", "double", "category"]
    data_class: DataClass
    description: str
    unit: str = ""
    categories: tuple[str, ...] = ()
    default: FeatureValue | None = None

    @model_validator(mode="after")
    def _categories_fit_type(self) -> Self:
        if (self.type == "category") != bool(self.categories):
            raise ValueError("`categories` are for features of type category, and only for them")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("a category is listed twice")
        if self.default is not None:
            self.encode(self.default)
        return self

    def encode(self, value: FeatureValue | None) -> float:
        """The value as stored; NaN for None. Raises ValueError where the type does not fit."""
        if value is None:
            return math.nan
        if self.type == "category":
            if value not in self.categories:
                raise ValueError(f"{self.name}: {value!r} is none of {', '.join(self.categories)}")
            return float(self.categories.index(value))  # type: ignore[arg-type]  # checked above
        return self._encode_number(value)

    def _encode_number(self, value: FeatureValue) -> float:
        wanted = {"bool": bool, "int": int, "double": (int, float)}[self.type]
        if not isinstance(value, wanted) or (isinstance(value, bool) and self.type != "bool"):  # type: ignore[arg-type]  # a type or a pair of types
            raise ValueError(f"{self.name}: {value!r} is not of type {self.type}")
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{self.name}: {value!r} is not finite; leave it out where it is unknown")
        if self.type == "int" and abs(number) > MAX_EXACT_INT:
            raise ValueError(f"{self.name}: {value!r} is beyond the exact range of float32 (2^24)")
        return number

    def decode(self, stored: float) -> FeatureValue | None:
        """The value behind a stored float32; None where absent or not a value of the type."""
        if stored != stored:
            return None
        if self.type == "double":
            return float(stored)
        if self.type == "bool":
            return stored != 0.0
        if self.type == "int":
            return int(stored)
        index = int(stored)
        return self.categories[index] if 0 <= index < len(self.categories) else None


class FeatureSchema(_Strict):
    """All views and features, in stored order."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    view: tuple[View, ...]
    feature: tuple[Feature, ...]

    @model_validator(mode="after")
    def _names_are_unique_and_known(self) -> Self:
        names = [f.name for f in self.feature]
        views = [v.name for v in self.view]
        for kind, listed in (("feature", names), ("view", views)):
            twice = {n for n in listed if listed.count(n) > 1}
            if twice:
                raise ValueError(f"{kind} declared twice: {', '.join(sorted(twice))}")
        unknown = sorted({f.view for f in self.feature} - set(views))
        if unknown:
            raise ValueError(f"features name views that are not declared: {', '.join(unknown)}")
        return self

    @cached_property
    def digest(self) -> str:
        """Content address of everything that decides how a stored vector is read."""
        return "sha256:" + hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Feature name to its place in the vector."""
        return {f.name: i for i, f in enumerate(self.feature)}

    @cached_property
    def view_index(self) -> npt.NDArray[np.intp]:
        """For each feature the place of its view, shape (features,)."""
        places = {v.name: i for i, v in enumerate(self.view)}
        return np.array([places[f.view] for f in self.feature], dtype=np.intp)

    @cached_property
    def defaults(self) -> npt.NDArray[np.float32]:
        """Stored default of each feature, NaN where none is declared, shape (features,)."""
        return np.array([f.encode(f.default) for f in self.feature], dtype=np.float32)

    @cached_property
    def behavioural(self) -> npt.NDArray[np.bool_]:
        """Which features need consent to profiling, shape (features,)."""
        return np.array([f.data_class is DataClass.BEHAVIOURAL for f in self.feature])

    def pack(self, values: Mapping[str, FeatureValue | None]) -> npt.NDArray[np.float32]:
        """A stored vector, shape (features,). Raises SchemaError naming every value that does not fit."""
        vector = np.full(len(self.feature), np.nan, dtype=np.float32)
        wrong = [f"{name}: not in schema {self.name}" for name in values if name not in self.index]
        for i, feature in enumerate(self.feature):
            try:
                vector[i] = feature.encode(values.get(feature.name))
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise SchemaError("; ".join(wrong))
        return vector


def load_schema(path: Path) -> FeatureSchema:
    """Reads a schema file. Raises SchemaError with file, place and cause."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return FeatureSchema.model_validate(document)
    except OSError as error:
        raise SchemaError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc']) or 'document'}: {e['msg']}" for e in error.errors()]
        raise SchemaError(f"{path}: " + "; ".join(lines)) from error
