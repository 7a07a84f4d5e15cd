"""Properties of what is proposed, as inputs: numbers as they are, texts one input for each value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from training.errors import DataRefused, PlanProblem, PlanRefused
from training.own.inference import feature_name
from training.own.plan import Actions
from training.own.table import SourceTable

ACTION_PREFIX: Final = "action."
MAX_VALUES: Final = 50

Properties = Mapping[str, Mapping[str, float | None]]


def properties_of(actions: Actions, table: SourceTable, targets: tuple[str, ...]) -> Properties:
    """Values of each input by action. Raises PlanRefused for columns, DataRefused for actions not there."""
    absent = [name for name in (actions.id, *actions.features) if name not in table.names]
    if absent:
        raise PlanRefused(
            tuple(
                PlanProblem(("task", "actions"), f"{table.path.name} has no column `{name}`")
                for name in absent
            )
        )
    rows: dict[str, int] = {}
    for row, name in enumerate(table.texts(actions.id)):
        if name is not None and name in rows:
            raise DataRefused(table.path.name, (f"column {actions.id}: action {name} stands twice",))
        rows[str(name)] = row
    unknown = [name for name in targets if name not in rows]
    if unknown:
        raise DataRefused(table.path.name, tuple(f"has no action {name!r}" for name in unknown))
    known: dict[str, dict[str, float | None]] = {target: {} for target in targets}
    for column in actions.features:
        cells = {target: table.texts(column)[rows[target]] for target in targets}
        for name, values in _inputs(column, cells, table).items():
            for target in targets:
                known[target][name] = values[target]
    return known


def _inputs(
    column: str, cells: Mapping[str, str | None], table: SourceTable
) -> Mapping[str, Mapping[str, float | None]]:
    """The inputs of one column by name."""
    name = ACTION_PREFIX + feature_name(column)
    try:
        return {name: {target: None if cell is None else float(cell) for target, cell in cells.items()}}
    except ValueError:
        values = sorted({cell for cell in cells.values() if cell is not None})
        if len(values) > MAX_VALUES:
            raise DataRefused(
                table.path.name, (f"column {column}: {len(values)} different texts; at most {MAX_VALUES}",)
            ) from None
        return {
            f"{name}={value}": {target: float(cell == value) for target, cell in cells.items()}
            for value in values
        }
