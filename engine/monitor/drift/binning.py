"""Puts many decisions into bins at once, so that one costs a server a part of a few array operations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.monitor.drift.counts import PERCENTS, Counts, ScoreTally, Tally, Values
from feature_store.schema import FeatureSchema

REFERENCE_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class InputReference:
    """How one input was distributed in training. Bin i holds edges[i-1] <= x < edges[i], ends being open."""

    edges: Values
    counts: Counts
    missing: int


@dataclass(frozen=True, slots=True, eq=False)
class ModelReference:
    """How the inputs of a model version were distributed among the customers it was trained on."""

    customers: int
    inputs: Mapping[str, InputReference]


def read_reference(content: bytes) -> ModelReference:
    """The reference in a `histograms.json`. Raises ValueError saying what is wrong with it."""
    try:
        document = json.loads(content)
        if document["format"] != REFERENCE_FORMAT:
            raise ValueError(f"has format {document['format']}, this engine reads {REFERENCE_FORMAT}")
        inputs = {name: _input(histogram) for name, histogram in document["inputs"].items()}
        return ModelReference(int(document["rows"]), inputs)
    except (KeyError, TypeError) as error:
        raise ValueError(f"is no reference of a model: {error}") from error


def _input(histogram: Mapping[str, object]) -> InputReference:
    edges = np.asarray(histogram["edges"], dtype=np.float64)
    counts = np.asarray(histogram["counts"], dtype=np.int64)
    if edges.ndim != 1 or counts.shape != (len(edges) + 1,) or np.any(np.diff(edges) <= 0):
        raise ValueError("has a histogram whose edges do not rise or do not fit its counts")
    return InputReference(edges, counts, int(str(histogram["missing"])))


@dataclass(frozen=True, slots=True)
class _Column:
    """One input over one set of edges, which several models may read. `codes` is 0 for numbers."""

    name: str
    place: int
    edges: tuple[float, ...]
    codes: int


class InputBinning:
    """Counts the inputs of several model versions in vectors of one schema, all in one pass."""

    def __init__(self, references: Mapping[str, ModelReference], schema: FeatureSchema) -> None:
        """`references` are by model. Inputs that the schema does not have are not counted."""
        columns = {
            model: [
                _Column(name, schema.index[name], tuple(found.edges.tolist()), _codes(schema, name))
                for name, found in reference.inputs.items()
                if name in schema.index
            ]
            for model, reference in references.items()
        }
        self._columns = tuple({column: None for found in columns.values() for column in found})
        place = {column: i for i, column in enumerate(self._columns)}
        self._read = {model: [place[column] for column in found] for model, found in columns.items()}
        self._places = np.array([column.place for column in self._columns], dtype=np.intp)
        self._edges = [np.array(column.edges) for column in self._columns]
        codes = np.array([column.codes for column in self._columns], dtype=np.float64)
        self._coded = np.flatnonzero(codes)
        self._codes = codes[self._coded, None]

    def count(
        self,
        vectors: npt.NDArray[np.float32],
        reading: Mapping[str, npt.NDArray[np.bool_]],
        unread: npt.NDArray[np.bool_] | None = None,
    ) -> dict[str, dict[str, Tally]]:
        """Tallies of vectors (n, features of the schema), by model and input name.

        `reading` says of each model which vectors (n,) it read. `unread` (n, features) are values another
        schema could not tell: unknown, though NaN here.
        """
        group = np.zeros(len(vectors), dtype=np.intp)  # which models read the vector, a bit for each
        for bit, read in enumerate(reading.values()):
            group |= read.astype(np.intp) << bit
        groups = 1 << len(reading)
        values = vectors[:, self._places].T.astype(np.float64)  # (columns, n), each column's together
        missing, unknown = self._left_out(values, unread)
        odd = np.any(missing | unknown, axis=1)
        found: list[Counts] = []
        for i, edges in enumerate(self._edges):
            bins = np.searchsorted(edges, values[i], "right")
            if odd[i]:
                bins = np.where(missing[i], len(edges) + 1, np.where(unknown[i], len(edges) + 2, bins))
            size = len(edges) + 3
            found.append(np.bincount(bins * groups + group, minlength=size * groups).reshape(size, groups))
        return {model: self._tallies(model, 1 << bit, found) for bit, model in enumerate(reading)}

    def _left_out(
        self, values: Values, unread: npt.NDArray[np.bool_] | None
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """What is missing, and what is no value of the feature's type; both (columns, n)."""
        missing, unknown = np.isnan(values), np.isinf(values)
        held = values[self._coded]
        outside = (held < 0) | (held >= self._codes) | (held != np.floor(held))
        unknown[self._coded] |= outside & ~missing[self._coded]
        if unread is not None:
            lost = unread[:, self._places].T & missing
            unknown, missing = unknown | lost, missing & ~lost
        return missing, unknown

    def _tallies(self, model: str, bit: int, found: list[Counts]) -> dict[str, Tally]:
        if not found:
            return {}
        wanted = (np.arange(found[0].shape[1]) & bit) > 0
        tallies: dict[str, Tally] = {}
        for place in self._read.get(model, ()):
            *bins, missing, unknown = found[place][:, wanted].sum(axis=1).tolist()
            tallies[self._columns[place].name] = Tally(np.array(bins, dtype=np.int64), missing, unknown)
        return tallies


def _codes(schema: FeatureSchema, name: str) -> int:
    """How many codes the values of a feature have; 0 for numbers."""
    feature = schema.feature[schema.index[name]]
    if feature.type == "category":
        return len(feature.categories)
    return 2 if feature.type == "bool" else 0


def count_scores(
    targets: npt.NDArray[np.intp], scores: Values, names: tuple[str, ...]
) -> dict[str, ScoreTally]:
    """Tallies of probabilities, each of the target whose place in `names` is given; by target name."""
    percents = np.minimum((scores * PERCENTS).astype(np.intp), PERCENTS - 1)
    size = len(names) * PERCENTS
    bins = np.bincount(targets * PERCENTS + percents, minlength=size).reshape(len(names), PERCENTS)
    totals = np.bincount(targets, weights=scores, minlength=len(names))
    return {
        name: ScoreTally(bins[i].astype(np.int64), float(totals[i]))
        for i, name in enumerate(names)
        if bins[i].any()
    }
