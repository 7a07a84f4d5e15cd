"""The rows to learn from as the server will see them: read by the code that loads features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_store.schema import FeatureSchema
from feature_store.tables import stored_column
from training.dataset import Floats, Index, Rows
from training.errors import DataRefused
from training.own.inference import Inferred
from training.own.labels import Instants, Labelled
from training.own.table import SourceTable


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Rows that can be learnt from, n of them.

    values: float32 (n, features), in the order of `features`, as stored. labels, targets: (n,). groups: the
    place of the customer, or group, of each row. rows: their places in the table. from_ms, until_ms: the
    instant of each row and the end of what its label tells; None where the table has no time.
    """

    features: tuple[str, ...]
    values: Rows
    labels: Floats
    targets: Index
    groups: Index
    rows: Index
    from_ms: Instants | None
    until_ms: Instants | None

    def cells(self, table: SourceTable, column: str) -> tuple[str | None, ...]:
        """The texts of a column of the table in these rows."""
        texts = table.texts(column)
        return tuple(texts[row] for row in self.rows)


def examples_of(
    table: SourceTable, inferred: Inferred, labelled: Labelled, *, group_column: str, id_column: str
) -> Examples:
    """The rows a label is known of. Raises DataRefused naming every cell that does not fit its type."""
    absent = [row for row, cell in enumerate(table.texts(id_column)) if cell is None]
    if absent:
        lines = ", ".join(map(str, table.lines(absent[:5])))
        raise DataRefused(table.path.name, (f"column {id_column}: line {lines}: names no customer",))
    features = tuple(name for name in inferred.schema.index if name in inferred.column_of)
    values = _stored_values(table, inferred.schema, inferred, features)
    kept = np.flatnonzero(labelled.kept)
    groups = table.texts(group_column)
    own = table.texts(id_column)
    _, places = np.unique([groups[row] or f"\x00{own[row]}" for row in kept], return_inverse=True)
    return Examples(
        features=features,
        values=values[kept],
        labels=labelled.labels[kept],
        targets=labelled.targets[kept],
        groups=places.astype(np.intp),
        rows=kept.astype(np.intp),
        from_ms=None if labelled.from_ms is None else labelled.from_ms[kept],
        until_ms=None if labelled.until_ms is None else labelled.until_ms[kept],
    )


def _stored_values(
    table: SourceTable, schema: FeatureSchema, inferred: Inferred, features: tuple[str, ...]
) -> Rows:
    """Every cell in its stored form, float32 (rows, features)."""
    wrong: dict[str, list[int]] = {}
    values = np.empty((table.rows, len(features)), dtype=np.float32)
    for place, name in enumerate(features):
        column = inferred.column_of[name]

        def report(row: int, value: object, why: str, column: str = column) -> None:
            shown = "" if repr(value) in why else f"{value!r}: "
            wrong.setdefault(f"column {column}: {shown}{why}", []).append(row)

        values[:, place] = stored_column(table.column(column), schema.feature[schema.index[name]], report)
    if wrong:
        raise DataRefused(
            table.path.name,
            tuple(
                f"{words} (line {table.lines([rows[0]])[0]}"
                + (f" and {len(rows) - 1:,} more)" if len(rows) > 1 else ")")
                for words, rows in wrong.items()
            ),
        )
    return values
