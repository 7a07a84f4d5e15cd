"""Feature schemas side by side: vectors of one read and rewritten by who knows another, never a wrong value.

A value crosses to another schema under its feature's name, where both declare the same type, unit, data class
and aggregate; a category by its name. What cannot cross is missing: NaN, and among `FeatureVector.unread`, so
that a declared default does not stand for it. A view is as old as the oldest view its values come from.

Writers of different versions of a schema meet in one store. The stored vector keeps the newer version: a
writer of an older one replaces what it knows and leaves the rest, and a view that still holds older values
keeps their time. Where a value was lost, or a default would stand for one that nobody told, the view gets
time 0: stale until written again, as other readers' defaults must not stand for what was said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from feature_store.errors import SchemaError
from feature_store.merging import filled
from feature_store.schema import Feature, FeatureSchema, parse_schema
from feature_store.state import CustomerState, FeatureVector

Values = npt.NDArray[np.float32]
Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]

_LOOK_AGAIN_MS = 5_000
"""How soon a digest that was not known is looked up again: its writer keeps the schema before it writes."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Vectors of one schema: `values` of shape (customers, features), `times_ms` of (customers, views)."""

    values: Values
    times_ms: Times


@dataclass(frozen=True, eq=False)
class Conversion:
    """How vectors of one schema become vectors of another. Made once for two schemas; see `conversion`."""

    old: FeatureSchema
    new: FeatureSchema

    def applied(self, rows: Rows) -> tuple[Rows, Mask]:
        """The rows in the new schema, and which values could not be told, of shape (customers, features)."""
        values = np.full((len(rows.values), len(self.new.feature)), np.nan, dtype=np.float32)
        values[:, self._places] = rows.values[:, self._sources]
        unread = np.broadcast_to(self._foreign, values.shape).copy()
        for place, codes in self._codes:
            stored = values[:, place].copy()
            values[:, place] = _recoded(stored, codes)
            unread[:, place] = np.isnan(values[:, place]) & ~np.isnan(stored)
        return Rows(values, self._aged(rows.times_ms)), unread

    @cached_property
    def crossing(self) -> Mask:
        """Which features of the new schema the old one tells, of shape (features,)."""
        return ~self._foreign

    def carried(self, unread: Collection[int]) -> Mask:
        """Which features of the new schema are of these places of the old one."""
        marked = np.zeros(len(self.new.feature), dtype=np.bool_)
        marked[self._places] = np.isin(self._sources, list(unread))
        return marked

    def views_of(self, views: Collection[int]) -> Mask:
        """Which features of the new schema take their value from these views of the old one."""
        crosses = np.zeros(len(self.new.feature), dtype=np.bool_)
        crosses[self._places] = np.isin(self.old.view_index[self._sources], list(views))
        return crosses

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        """Places of the features that cross, in the new schema and in the old."""
        return [
            (place, self.old.index[feature.name])
            for place, feature in enumerate(self.new.feature)
            if _crosses(self.old, feature)
        ]

    @cached_property
    def _places(self) -> Places:
        return np.array([place for place, _ in self._pairs], dtype=np.intp)

    @cached_property
    def _sources(self) -> Places:
        return np.array([source for _, source in self._pairs], dtype=np.intp)

    @cached_property
    def _foreign(self) -> Mask:
        """Features of the new schema that the old one cannot tell."""
        foreign = np.ones(len(self.new.feature), dtype=np.bool_)
        foreign[self._places] = False
        return foreign

    @cached_property
    def _codes(self) -> list[tuple[int, Values]]:
        """Categories whose list differs: their place, and for each old code the new one, NaN for none."""
        found = []
        for place, source in self._pairs:
            old, new = self.old.feature[source].categories, self.new.feature[place].categories
            if old != new:
                codes = [float(new.index(name)) if name in new else np.nan for name in old]
                found.append((place, np.array(codes, dtype=np.float32)))
        return found

    @cached_property
    def _view_sources(self) -> list[list[int]]:
        """For each new view the old views its values come from."""
        return [
            sorted(
                {int(self.old.view_index[s]) for p, s in self._pairs if int(self.new.view_index[p]) == view}
            )
            for view in range(len(self.new.view))
        ]

    def _aged(self, times_ms: Times) -> Times:
        aged = np.zeros((len(times_ms), len(self.new.view)), dtype=np.int64)
        for view, sources in enumerate(self._view_sources):
            if sources:
                aged[:, view] = times_ms[:, sources].min(axis=1)
        return aged


@dataclass(frozen=True, slots=True)
class _ByDigest:
    """A schema as a key of the cache: equal where the digest is."""

    schema: FeatureSchema

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByDigest) and other.schema.digest == self.schema.digest

    def __hash__(self) -> int:
        return hash(self.schema.digest)


@lru_cache(maxsize=64)
def _conversion(old: _ByDigest, new: _ByDigest) -> Conversion:
    return Conversion(old.schema, new.schema)


def conversion(old: FeatureSchema, new: FeatureSchema) -> Conversion:
    """The plan from one schema to another, made once."""
    return _conversion(_ByDigest(old), _ByDigest(new))


def _crosses(old: FeatureSchema, feature: Feature) -> bool:
    """Whether a feature means the same in an older or newer schema, so that its value may be taken."""
    place = old.index.get(feature.name)
    if place is None:
        return False
    before = old.feature[place]
    return (before.type, before.unit, before.data_class, before.aggregate) == (
        feature.type,
        feature.unit,
        feature.data_class,
        feature.aggregate,
    )


def _recoded(stored: Values, codes: Values) -> Values:
    """Codes of categories in another list; what is no code is NaN."""
    known = (stored >= 0) & (stored < len(codes)) & (stored == np.floor(stored))
    recoded = np.full(stored.shape, np.nan, dtype=np.float32)
    recoded[known] = codes[stored[known].astype(np.intp)]
    return recoded


def read_kept(digest: str, text: str) -> FeatureSchema | None:
    """The schema behind a kept text; None where this version of Arbiter reads it otherwise, or not at all."""
    try:
        schema = parse_schema(text, source=digest)
    except SchemaError:
        return None
    return schema if schema.digest == digest else None


class SchemaVersions:
    """The schemas a store's vectors are of. Safe for threads: what is looked up twice is the same twice."""

    def __init__(self, kept: Callable[[], Mapping[str, str]]) -> None:
        """`kept` gives the texts of the schemas by digest: `OnlineStore.schemas`."""
        self._kept = kept
        self._known: dict[str, FeatureSchema | None] = {}
        self._looked_ms: dict[str, int] = {}

    def read(self, vector: FeatureVector, schema: FeatureSchema, *, now_ms: int) -> FeatureVector:
        """The vector in a reader's schema; itself where it is of that one, or of one that is not known.

        Raises what the store raises where the schema must be looked up.
        """
        if vector.schema_version == schema.digest:
            return vector
        old = self.of(vector.schema_version, now_ms=now_ms)
        if old is None or not _fits(vector, old):
            return vector
        plan = conversion(old, schema)
        converted, unread = plan.applied(_one(vector))
        return _vector(schema, converted, np.flatnonzero(unread[0] | plan.carried(vector.unread)))

    def state(self, state: CustomerState, schema: FeatureSchema, *, now_ms: int) -> CustomerState:
        """A customer's state with the features in a reader's schema, as `read`; with those of merged ones."""
        features = state.features
        if features is None or (features.schema_version == schema.digest and not state.merged_features):
            return state
        others = [self.read(other, schema, now_ms=now_ms) for other in state.merged_features]
        own = self.read(features, schema, now_ms=now_ms)
        return replace(state, features=filled(own, others, schema), merged_features=())

    def adopted(self, vector: FeatureVector, schema: FeatureSchema) -> FeatureVector:
        """The vector as a writer of a schema goes on with it: in its own, unless it is of a later version.

        Looks nothing up, so that updates may use it; `learn` before.
        """
        if vector.schema_version == schema.digest:
            return vector
        old = self._known.get(vector.schema_version)
        if old is None or old.version > schema.version:
            return vector
        nothing = np.full(len(schema.feature), np.nan, dtype=np.float32)
        offered = FeatureVector(schema.digest, (0,) * len(schema.view), nothing)
        return write_one(vector, old, offered, schema, ())

    def knows(self, digest: str) -> bool:
        """Whether the schema of a digest was read; looks nothing up."""
        return self._known.get(digest) is not None

    def learn(self) -> None:
        """Reads the kept schemas. Raises what the store raises."""
        for digest, text in self._kept().items():
            if self._known.get(digest) is None:
                self._known[digest] = read_kept(digest, text)

    def of(self, digest: str, *, now_ms: int) -> FeatureSchema | None:
        """The schema of a digest, None where it is not kept; looked up again after a while."""
        schema = self._known.get(digest)
        if schema is None and now_ms - self._looked_ms.get(digest, -_LOOK_AGAIN_MS) >= _LOOK_AGAIN_MS:
            self._looked_ms[digest] = now_ms
            self.learn()
            schema = self._known.get(digest)
        return schema


def written(
    stored: Rows, old: FeatureSchema | None, offered: Rows, new: FeatureSchema, views: Collection[int]
) -> tuple[Rows, FeatureSchema]:
    """What is to be kept where `views` of the new schema are written over stored rows, and in which schema.

    The rows belong together one by one. `old` None is for customers without features, or with ones of a
    schema that nobody knows, which are replaced.
    """
    if old is None:
        return _only(offered, new, views), new
    if old.digest == new.digest:
        return _over(stored, offered, new, views), new
    if new.version >= old.version:
        plan = conversion(old, new)
        crossed, unread = plan.applied(stored)
        lost = unread & (plan.crossing | ~np.isnan(new.defaults))
        return _over(_disowned(crossed, lost, new), offered, new, views), new
    return _under(stored, old, offered, new, views), old


def write_one(
    stored: FeatureVector | None,
    old: FeatureSchema | None,
    offered: FeatureVector,
    new: FeatureSchema,
    views: Collection[int],
) -> FeatureVector:
    """`written` for one customer."""
    if stored is None or old is None or not _fits(stored, old):
        stored_rows, old = _one(offered), None
    else:
        stored_rows = _one(stored)
    rows, schema = written(stored_rows, old, _one(offered), new, views)
    return _vector(schema, rows, np.array([], dtype=np.intp))


def _only(offered: Rows, schema: FeatureSchema, views: Collection[int]) -> Rows:
    """Rows with the values of some views; the others are absent, and stale until they are written."""
    nothing = Rows(np.full_like(offered.values, np.nan), np.zeros_like(offered.times_ms))
    return _over(nothing, offered, schema, views)


def _over(stored: Rows, offered: Rows, schema: FeatureSchema, views: Collection[int]) -> Rows:
    """Rows of one schema, some views of which are replaced."""
    replaced = np.zeros(len(schema.view), dtype=np.bool_)
    replaced[list(views)] = True
    return Rows(
        np.where(replaced[schema.view_index], offered.values, stored.values),
        np.where(replaced, offered.times_ms, stored.times_ms),
    )


def _under(
    stored: Rows, old: FeatureSchema, offered: Rows, new: FeatureSchema, views: Collection[int]
) -> Rows:
    """Rows of the schema they are stored in, with what a writer of an earlier version tells of them.

    `old` is the schema stored, the later version; `new` the writer's.
    """
    plan = conversion(new, old)
    crossed, unread = plan.applied(offered)
    told = plan.views_of(views)
    values = np.where(told, crossed.values, stored.values)
    touched = np.array([bool(told[old.view_index == v].any()) for v in range(len(old.view))])
    left = ~told & (~np.isnan(stored.values) | ~np.isnan(old.defaults))
    holds_older = _any_in_view(left, old)
    fresher = np.where(holds_older, np.minimum(stored.times_ms, crossed.times_ms), crossed.times_ms)
    times_ms = np.where(touched, fresher, stored.times_ms)
    return _disowned(Rows(values, times_ms), unread & told, old)


def _disowned(rows: Rows, lost: Mask, schema: FeatureSchema) -> Rows:
    """The rows with time 0 for views of values that were lost."""
    views = _any_in_view(lost, schema)
    return Rows(rows.values, np.where(views, 0, rows.times_ms))


def _any_in_view(of_features: Mask, schema: FeatureSchema) -> Mask:
    """For each customer and view whether a feature of it is marked."""
    marked = np.zeros((len(of_features), len(schema.view)), dtype=np.bool_)
    for view in range(len(schema.view)):
        marked[:, view] = of_features[:, schema.view_index == view].any(axis=1)
    return marked


def _fits(vector: FeatureVector, schema: FeatureSchema) -> bool:
    """Whether a vector has the shape its schema says; one that has not is not looked into."""
    return len(vector.view_times_ms) == len(schema.view) and vector.values.shape == (len(schema.feature),)


def _one(vector: FeatureVector) -> Rows:
    return Rows(vector.values[np.newaxis, :], np.array([vector.view_times_ms], dtype=np.int64))


def _vector(schema: FeatureSchema, rows: Rows, unread: Places) -> FeatureVector:
    times = tuple(rows.times_ms[0].tolist())
    return FeatureVector(schema.digest, times, rows.values[0], tuple(unread.tolist()))
