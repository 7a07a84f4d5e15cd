"""The feature schema: what is known of a customer, typed, classified and packed as float32.

One TOML file declares it (see feature_store/demo/telco.toml). Training and serving read the same file, so a
feature is transformed in one place only: every value is stored as one float32, categories as the
index of their name, booleans as 0 and 1, absent values as NaN.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from feature_store.aggregates import Aggregate
from feature_store.errors import SchemaError as SchemaError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
FeatureValue = bool | int | float | str
MAX_EXACT_INT = 1 << 24
"""Largest whole number every smaller one of which float32 holds exactly."""

_REMEMBERED = 16_384
"""Decimals that are known: one that is found saves 0.8 us, one that is not costs 0.1 us."""
_NEVER_MS = 1 << 62
_FLOAT32 = struct.Struct("<f")
Array = TypeVar("Array", bound=npt.NDArray[np.generic])
Decoder = Callable[[float], FeatureValue | None]


class DataClass(StrEnum):
    """Personal-data class of a feature."""

    CONTRACTUAL = "contractual"
    BILLING = "billing"
    DEMOGRAPHIC = "demographic"
    BEHAVIOURAL = "behavioural"  # never read without consent to profiling


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class View(_Strict):
    """Features that arrive together and age together.

    Those of kind `request` come with each request, as context fields of their names; they are never stored.
    """

    name: Name
    kind: Literal["batch", "streaming", "request"]
    owner: str
    freshness_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    description: str

    @model_validator(mode="after")
    def _what_is_stored_ages(self) -> Self:
        if (self.freshness_hours is None) != (self.kind == "request"):
            raise ValueError("`freshness_hours` is for batch and streaming views, and they must have it")
        return self

    @property
    def freshness_ms(self) -> int:
        """Age in milliseconds from which the view's values are stale; of a request's own values none is."""
        return _NEVER_MS if self.freshness_hours is None else int(self.freshness_hours * 3_600_000)


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
    aggregate: Aggregate | None = None

    @model_validator(mode="after")
    def _aggregate_fits_type(self) -> Self:
        if self.aggregate is None:
            return self
        if self.type == "category" or (self.type == "bool" and self.aggregate.function == "rfm"):
            raise ValueError(f"{self.aggregate.function} cannot be of type {self.type}")
        if self.type == "int" and self.aggregate.function == "decay":
            raise ValueError("decay is of type double")
        return self

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
        """The value as stored, rounded to float32; NaN for None. Raises ValueError where it does not fit."""
        if value is None:
            return math.nan
        if self.type == "category":
            if not isinstance(value, str) or value not in self.categories:
                raise ValueError(f"{self.name}: {value!r} is none of {', '.join(self.categories)}")
            return float(self.categories.index(value))
        if isinstance(value, str) or isinstance(value, bool) != (self.type == "bool"):
            raise ValueError(f"{self.name}: {value!r} is not of type {self.type}")
        if self.type == "int":
            return self._encode_int(value)
        return self._encode_double(value)

    def _encode_int(self, value: float) -> float:
        if not isinstance(value, int):
            raise ValueError(f"{self.name}: {value!r} is not of type int")
        if abs(value) > MAX_EXACT_INT:
            raise ValueError(f"{self.name}: {value!r} is beyond the exact range of float32 (2^24)")
        return float(value)

    def _encode_double(self, value: float) -> float:
        try:
            stored: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
        except (OverflowError, struct.error) as error:
            raise ValueError(f"{self.name}: {value!r} is beyond the range of float32 (3.4e38)") from error
        if not math.isfinite(stored):
            raise ValueError(f"{self.name}: {value!r} is not finite; leave it out where it is unknown")
        return stored

    def decode(self, stored: float) -> FeatureValue | None:
        """The value behind a stored float32; None where absent or not a value of the type."""
        return self._decoder(float(stored))

    @cached_property
    def _decoder(self) -> Decoder:
        """What `decode` does, chosen once by type: a dict lookup where the values can be listed."""
        if self.type == "bool":
            return {0.0: False, 1.0: True}.get
        if self.type == "category":
            return {float(i): category for i, category in enumerate(self.categories)}.get
        return _whole if self.type == "int" else _finite


def _whole(stored: float) -> int | None:
    return int(stored) if stored.is_integer() else None


def _finite(stored: float) -> float | None:
    """The shortest decimal that is stored so: 70.35, not 70.3499985, is what was written and is compared."""
    if stored.is_integer() and -MAX_EXACT_INT <= stored <= MAX_EXACT_INT:
        return stored  # is its own shortest decimal
    return _shortest(stored) if math.isfinite(stored) else None


@lru_cache(_REMEMBERED)
def _shortest(stored: float) -> float:
    return float(str(np.float32(stored)))


class FeatureSchema(_Strict):
    """All views and features, in stored order."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    view: Annotated[tuple[View, ...], Field(min_length=1)]
    feature: Annotated[tuple[Feature, ...], Field(min_length=1)]

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
        streaming = {v.name for v in self.view if v.kind == "streaming"}
        misplaced = sorted(
            f.name for f in self.feature if f.aggregate is not None and f.view not in streaming
        )
        if misplaced:
            raise ValueError(f"features with an aggregate belong in a streaming view: {', '.join(misplaced)}")
        return self

    @cached_property
    def digest(self) -> str:
        """Content address of everything that decides how a stored vector is read and judged.

        That is the order of features, their names, types, units, categories, defaults and data classes,
        how streaming features are computed, and the views with their freshness. Rewording a description,
        another owner or a new `version` keep stored vectors valid.
        """
        views = [(v.name, v.freshness_ms) for v in self.view]
        features = [
            (f.name, f.view, f.type, f.unit, f.categories, f.default, f.data_class) for f in self.feature
        ]
        computed = [(f.name, f.aggregate.canonical) for f in self.feature if f.aggregate is not None]
        parts = [views, features, computed] if computed else [views, features]
        canonical = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Feature name to its place in the vector."""
        return {f.name: i for i, f in enumerate(self.feature)}

    @cached_property
    def view_index(self) -> npt.NDArray[np.intp]:
        """For each feature the place of its view, shape (features,)."""
        places = {v.name: i for i, v in enumerate(self.view)}
        return _frozen(np.array([places[f.view] for f in self.feature], dtype=np.intp))

    @cached_property
    def defaults(self) -> npt.NDArray[np.float32]:
        """Stored default of each feature, NaN where none is declared, shape (features,)."""
        return _frozen(np.array([f.encode(f.default) for f in self.feature], dtype=np.float32))

    @cached_property
    def requested(self) -> tuple[tuple[int, Feature], ...]:
        """Features that come with the request, and their places."""
        views = {v.name for v in self.view if v.kind == "request"}
        return tuple((i, f) for i, f in enumerate(self.feature) if f.view in views)

    @cached_property
    def behavioural(self) -> npt.NDArray[np.bool_]:
        """Which features need consent to profiling, shape (features,)."""
        return _frozen(
            np.array([f.data_class is DataClass.BEHAVIOURAL for f in self.feature], dtype=np.bool_)
        )

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

    def decode_all(self, vector: npt.NDArray[np.float32]) -> list[FeatureValue | None]:
        """The values behind a stored vector of shape (features,), in schema order; None where absent."""
        return [decode(stored) for decode, stored in zip(self._decoders, vector.tolist(), strict=True)]

    @cached_property
    def _decoders(self) -> tuple[Decoder, ...]:
        return tuple(f._decoder for f in self.feature)


def load_schema(path: Path) -> FeatureSchema:
    """Reads a schema file. Raises SchemaError with file, place and cause."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SchemaError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SchemaError(f"{path}: not TOML: {error}") from error
    return parse_schema(text, source=str(path))


def parse_schema(text: str, *, source: str) -> FeatureSchema:
    """The schema of a TOML text. Raises SchemaError with `source`, place and cause."""
    document: dict[str, object] = {}
    try:
        document = tomllib.loads(text)
        return FeatureSchema.model_validate(document)
    except tomllib.TOMLDecodeError as error:
        raise SchemaError(f"{source}: not TOML: {error}") from error
    except RecursionError:
        raise SchemaError(f"{source}: is nested too deeply") from None
    except ValidationError as error:
        lines = [f"{_place(document, e['loc'])}: {e['msg']}" for e in error.errors()]
        raise SchemaError(f"{source}: " + "; ".join(lines)) from error


def _place(document: Mapping[str, object], location: tuple[int | str, ...]) -> str:
    """Where in the file a problem is, with the name of the view or feature: TOML gives no line."""
    parts: list[str] = []
    node: object = document
    for step in location:
        try:
            node = node[step]  # type: ignore[index]  # a TOML document; what does not fit is caught
        except (KeyError, IndexError, TypeError):
            node = None
        name = node.get("name") if isinstance(step, int) and isinstance(node, dict) else None
        parts.append(f"{step} ({name})" if name else str(step))
    return ".".join(parts) or "document"


def _frozen(array: Array) -> Array:
    """The array, shared by every decision and so not to be written to."""
    array.setflags(write=False)
    return array
