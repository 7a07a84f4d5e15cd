"""Features of customers as rows for others to read: each value by its name, with the age of its view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.errors import LoadError
from feature_store.inspecting import pages
from feature_store.loading import CUSTOMER_ID
from feature_store.schema import FeatureSchema, FeatureValue
from feature_store.store import OnlineStore
from feature_store.tables import require_arrow
from feature_store.versions import SchemaVersions

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_PER_GROUP = 20_000


@dataclass(frozen=True, slots=True)
class Exported:
    """One customer's features as they are stored, absent ones None; stale ones too, by their time."""

    customer_id: str
    features: Mapping[str, FeatureValue | None]
    view_times_ms: Mapping[str, int]


def exported(
    store: OnlineStore, customer_ids: Iterable[str], schema: FeatureSchema, versions: SchemaVersions
) -> Iterator[Exported]:
    """The features of customers in one schema; whoever is merged into another has no row of its own.

    Raises LoadError for who is unknown or cannot be read so.
    """
    for page in pages(customer_ids):
        for customer_id, state in zip(page, store.read_many(page), strict=True):
            if state is None or state.features is None:
                raise LoadError(
                    f"customer {customer_id}: unknown; list customers with `arbiter store export`"
                )
            if state.customer_id != customer_id:
                continue
            vector = versions.read(state.features, schema, now_ms=0)
            if vector.schema_version != schema.digest:
                raise LoadError(
                    f"customer {customer_id}: its features are of schema {vector.schema_version}, which the "
                    "store does not keep; load them again"
                )
            values = dict(zip(schema.index, schema.decode_all(vector.values), strict=True))
            requested = {feature.name for _, feature in schema.requested}
            yield Exported(
                customer_id,
                {name: value for name, value in values.items() if name not in requested},
                dict(zip((view.name for view in schema.view), vector.view_times_ms, strict=True)),
            )


def write_parquet(path: Path, schema: FeatureSchema, rows: Iterable[Exported]) -> int:
    """Writes customer ids and features as a Parquet file; returns how many. Raises LoadError."""
    require_arrow(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, count = _columns(schema), 0
    try:
        with pq.ParquetWriter(path, columns) as writer:
            waiting: list[dict[str, FeatureValue | None]] = []
            for row in rows:
                waiting.append({CUSTOMER_ID: row.customer_id, **row.features})
                count += 1
                if len(waiting) == _ROWS_PER_GROUP:
                    writer.write_table(pa.Table.from_pylist(waiting, columns))
                    waiting.clear()
            writer.write_table(pa.Table.from_pylist(waiting, columns))
    except OSError as error:
        raise LoadError(f"{path}: cannot be written: {error}") from error
    return count


def _columns(schema: FeatureSchema) -> pa.Schema:
    import pyarrow as pa

    types = {"bool": pa.bool_(), "int": pa.int64(), "double": pa.float64(), "category": pa.string()}
    requested = {feature.name for _, feature in schema.requested}
    features = [(f.name, types[f.type]) for f in schema.feature if f.name not in requested]
    return pa.schema([(CUSTOMER_ID, pa.string()), *features])
