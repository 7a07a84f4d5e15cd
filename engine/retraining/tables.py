"""The table of a run: rows as a Parquet file that the training reads, the same bytes for the same rows.

It holds features of customers. So no id is in it, only a number that rows of one customer share, and it is
removed as soon as a model is trained: the logs make it again.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from engine.domain import Action
from engine.retraining.errors import PlanUnusable
from engine.retraining.observing import Row
from engine.retraining.plan import ActionFeature
from feature_store.schema import Feature, FeatureSchema
from feature_store.tables import require_arrow
from model_registry.disk import write_durably
from training.instants import written_instant
from training.leaks import check_labels
from training.pointintime import Observation

if TYPE_CHECKING:
    import pyarrow as pa

TABLE: Final = "rows.parquet"
SCHEMA: Final = "schema.toml"
ACTIONS: Final = "actions.csv"
CUSTOMER, AT, ACTION, LABEL = "row.customer", "row.at", "row.action", "row.label"
CHANNEL, RANK = "request.channel", "row.rank"
"""No feature is named with a dot, so these take nobody's name."""


@dataclass(frozen=True, slots=True)
class Written:
    """A table on disk, in numbers."""

    rows: int
    positives: int
    answered: int
    customers: int
    first: str
    last: str
    digest: str


def write_table(
    folder: Path, rows: Sequence[Row], *, schema: FeatureSchema, schema_text: str, horizon_ms: int
) -> Written:
    """Writes table and schema. Raises LeakRefused where a label was known at its row's own instant."""
    _check(rows, horizon_ms)
    content = table_bytes(rows, schema)
    write_durably(folder / TABLE, content)
    write_durably(folder / SCHEMA, schema_text.encode())
    return Written(
        rows=len(rows),
        positives=sum(row.label for row in rows),
        answered=sum(row.answered for row in rows),
        customers=len({row.customer_id for row in rows}),
        first=written_instant(min(row.at_ms for row in rows)),
        last=written_instant(max(row.at_ms for row in rows)),
        digest="sha256:" + hashlib.sha256(content).hexdigest(),
    )


def table_bytes(rows: Sequence[Row], schema: FeatureSchema) -> bytes:
    """The rows by time, customer and action, whatever order they came in."""
    require_arrow(Path(TABLE))
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = sorted(rows, key=lambda row: (row.at_ms, row.customer_id, row.action))
    numbers: dict[str, int] = {}
    for row in ordered:
        numbers.setdefault(row.customer_id, len(numbers) + 1)
    values = np.stack([row.vector for row in ordered])
    columns: dict[str, Any] = {
        CUSTOMER: pa.array([str(numbers[row.customer_id]) for row in ordered]),
        AT: pa.array([row.at_ms for row in ordered], pa.int64()),
        ACTION: pa.array([row.action for row in ordered]),
        LABEL: pa.array([int(row.label) for row in ordered], pa.int64()),
        CHANNEL: pa.array([row.channel for row in ordered]),
        RANK: pa.array([row.rank for row in ordered], pa.int64()),
    }
    if not any(row.action for row in ordered):
        del columns[ACTION], columns[RANK]
    for place, feature in enumerate(schema.feature):
        columns[feature.name] = _cells(values[:, place], feature)
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def write_actions(folder: Path, actions: Sequence[Action], wanted: Sequence[ActionFeature]) -> None:
    """Properties of what is proposed, by propensity target. Raises PlanUnusable where one has several."""
    told: dict[str, dict[str, str]] = {}
    for action in actions:
        if not action.target:
            continue
        properties: dict[str, str] = {name: str(getattr(action, name)) for name in wanted}
        if told.setdefault(action.target, properties) != properties:
            raise PlanUnusable(
                f"task.action_features: actions of target {action.target} differ in {', '.join(wanted)}: the "
                "model could not tell them apart; leave out what differs, or give each a target of its own"
            )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["action", *wanted])
    writer.writerows([target, *values.values()] for target, values in sorted(told.items()))
    write_durably(folder / ACTIONS, text.getvalue().encode())


def targets_of(actions: Sequence[Action]) -> Mapping[str, str]:
    """What the propensity model calls each action; "" for those ranked by their priors."""
    return {action.id: action.target for action in actions}


def _cells(stored: np.ndarray[Any, Any], feature: Feature) -> pa.Array:
    """A column as people read it; None where the value is missing."""
    import pyarrow as pa

    types = {"bool": pa.bool_(), "int": pa.int64(), "double": pa.float64(), "category": pa.string()}
    return pa.array([feature.decode(value) for value in stored.tolist()], types[feature.type])


def _check(rows: Sequence[Row], horizon_ms: int) -> None:
    """The checks that every training set passes: labels begin at the instant, and are known after it."""
    firsts = {(row.customer_id, row.at_ms): row for row in rows}
    check_labels(
        [
            Observation(row.customer_id, row.at_ms, float(row.label), row.at_ms + horizon_ms, row.at_ms)
            for row in firsts.values()
        ]
    )
