"""What is to be learnt of each row: its label, until when it looks ahead, and what it asks about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from training.dataset import Floats, Index
from training.errors import DataRefused, PlanProblem, PlanRefused
from training.instants import read_instant_ms, written_instant
from training.own.plan import TrainingPlan
from training.own.table import SourceTable

DAY_MS: Final = 86_400_000
NO_TARGET: Final = -1
_POSITIVE: Final = {"true": "false", "1": "0", "yes": "no"}
_SHOWN: Final = 5
MAX_TARGETS: Final = 500
"""More actions than these are not proposed; each is an input."""

Instants = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Of all rows of a table, n: label (0 or 1, or an amount), and which rows can be learnt from.

    `from_ms` is the instant of a row and `until_ms` the end of what its label tells, None where there is no
    time. `targets` are places in `target_names`. `actions` holds values of properties by target. `treated`
    and `chances` are for uplift: whether the customer was treated, and the chance of it.
    """

    labels: Floats
    kept: Flags
    from_ms: Instants | None
    until_ms: Instants | None
    targets: Index
    target_names: tuple[str, ...] = ()
    actions: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    treated: Floats | None = None
    chances: Floats | None = None


def labelled_churn(plan: TrainingPlan, table: SourceTable) -> Labelled:
    """Whether the customer left: as the label says, or within the horizon after the row's instant."""
    if plan.task.event is None:
        return labelled_ahead(plan, table, binary_label(plan, table))
    from_ms, until_ms = instants_ahead(plan, table)
    assert from_ms is not None  # the plan asks for it
    assert until_ms is not None
    left_ms = _instants(table, plan.task.event, may_be_absent=True)
    return _within_horizon(plan, table, from_ms=from_ms, until_ms=until_ms, left_ms=left_ms)


def labelled_ahead(plan: TrainingPlan, table: SourceTable, labels: Floats) -> Labelled:
    """Every row with its label, which looks as far ahead as the plan says."""
    from_ms, until_ms = instants_ahead(plan, table)
    everyone = np.full(table.rows, NO_TARGET, dtype=np.intp)
    return Labelled(labels, np.ones(table.rows, dtype=np.bool_), from_ms, until_ms, everyone)


def instants_ahead(plan: TrainingPlan, table: SourceTable) -> tuple[Instants | None, Instants | None]:
    """The instant of each row and the end of its horizon; None where the table has no time."""
    if plan.data.time is None:
        return None, None
    from_ms = _instants(table, plan.data.time)
    return from_ms, from_ms + (plan.task.horizon_days or 0) * DAY_MS


def labelled_propensity(plan: TrainingPlan, table: SourceTable) -> Labelled:
    """Whether the customer took what was proposed, row by row of customer and action."""
    assert plan.task.action is not None  # the plan asks for it
    from_ms = None if plan.data.time is None else _instants(table, plan.data.time)
    cells = table.texts(plan.task.action)
    empty = [row for row, cell in enumerate(cells) if cell is None]
    if empty:
        raise refused(table, plan.task.action, "names no action", empty)
    names = tuple(sorted({cell for cell in cells if cell is not None}))
    if not 2 <= len(names) <= MAX_TARGETS:
        raise DataRefused(
            table.path.name,
            (f"column {plan.task.action}: {len(names)} actions; 2 to {MAX_TARGETS} can be learnt together",),
        )
    places = {name: place for place, name in enumerate(names)}
    return Labelled(
        labels=binary_label(plan, table),
        kept=np.ones(table.rows, dtype=np.bool_),
        from_ms=from_ms,
        until_ms=None if from_ms is None else from_ms + (plan.task.horizon_days or 0) * DAY_MS,
        targets=np.array([places[str(cell)] for cell in cells], dtype=np.intp),
        target_names=names,
    )


def _within_horizon(
    plan: TrainingPlan, table: SourceTable, *, from_ms: Instants, until_ms: Instants, left_ms: Instants
) -> Labelled:
    """Left in (instant, instant + horizon]; rows whose horizon is not over are known only where they left."""
    event = str(plan.task.event)
    never = left_ms < 0
    gone = np.flatnonzero(~never & (left_ms <= from_ms)).tolist()
    if gone:
        raise refused(table, event, "had left at the row's own instant; keep rows of customers only", gone)
    until = plan.task.observed_until
    try:
        known_ms = int(max(from_ms.max(), left_ms.max())) if until is None else read_instant_ms(until)
    except ValueError as error:
        problem = PlanProblem(("task", "observed_until"), str(error))
        raise PlanRefused((problem,)) from error
    labels = (~never & (left_ms <= until_ms)).astype(np.float64)
    kept = (labels > 0) & (left_ms <= known_ms) | (until_ms <= known_ms)
    unknown = int((~kept).sum())
    notes = (
        f"{unknown:,} rows left out: their {plan.task.horizon_days} days are not over by "
        f"{written_instant(known_ms)}"
    )
    return Labelled(
        labels=labels,
        kept=kept,
        from_ms=from_ms,
        until_ms=until_ms,
        targets=np.full(table.rows, NO_TARGET, dtype=np.intp),
        notes=(notes,) if unknown else (),
    )


def binary_label(plan: TrainingPlan, table: SourceTable) -> Floats:
    """1 where the label is the positive value. Raises DataRefused for labels of one class or of several."""
    path = ("data", "positive")
    return binary_column(table, str(plan.data.label), plan.data.positive, path=path, what="label")


def binary_column(
    table: SourceTable,
    name: str,
    positive: str | bool | float | None,
    *,
    path: tuple[str, str],
    what: str,
) -> Floats:
    """1 where a column of two values holds the one that is meant; `path` is where the plan says which.

    `what` the column is, for people.

    Raises DataRefused for columns of one value or of several, and PlanRefused where nobody says which.
    """
    cells = table.texts(name)
    empty = [row for row, cell in enumerate(cells) if cell is None]
    if empty:
        raise refused(table, name, f"has no {what}; leave such rows out", empty)
    counts = Counter(str(cell) for cell in cells)
    told = ", ".join(f"{text!r} {n:,} times" for text, n in counts.most_common(_SHOWN))
    if len(counts) == 1:
        raise DataRefused(table.path.name, (f"column {name}: one class only, {told}: nothing to tell apart",))
    if len(counts) > 2:
        raise DataRefused(
            table.path.name, (f"column {name}: {len(counts):,} values, {told}; a {what} has two",)
        )
    meant = _meant(positive, set(counts), path=path, what=what)
    return np.array([cell == meant for cell in cells], dtype=np.float64)


def _meant(given: str | bool | float | None, values: set[str], *, path: tuple[str, str], what: str) -> str:
    """Which of the two values is meant. Raises PlanRefused where nobody says."""
    if given is None:
        for positive, negative in _POSITIVE.items():
            named = {value for value in values if value.casefold() == positive}
            if named and {value.casefold() for value in values} == {positive, negative}:
                return named.pop()
        told = " or ".join(sorted(map(repr, values)))
        part, field = path
        problem = PlanProblem((part,), f"`{field}` is missing", f"say which value is meant: {told}")
        raise PlanRefused((problem,))
    wanted = str(given).casefold() if isinstance(given, bool) else str(given)
    for value in values:
        if (value.casefold() if isinstance(given, bool) else value) == wanted:
            return value
    told = " and ".join(sorted(map(repr, values)))
    problem = PlanProblem(path, f"`{given}` is no value of the {what}", f"its values are {told}")
    raise PlanRefused((problem,))


def _instants(table: SourceTable, name: str, *, may_be_absent: bool = False) -> Instants:
    """Milliseconds since the epoch, -1 where absent. Raises DataRefused naming the rows."""
    found = np.full(table.rows, -1, dtype=np.int64)
    wrong: list[int] = []
    for row, cell in enumerate(table.texts(name)):
        try:
            if cell is not None:
                found[row] = read_instant_ms(cell)
            elif not may_be_absent:
                wrong.append(row)
        except ValueError:
            wrong.append(row)
    if wrong:
        raise refused(table, name, "no instant; write 2027-01-31T08:00:00Z or milliseconds since 1970", wrong)
    return found


def refused(table: SourceTable, column: str, why: str, rows: Sequence[int]) -> DataRefused:
    """What is wrong with cells of a column, with the lines of the first ones."""
    shown = ", ".join(map(str, table.lines(rows[:_SHOWN])))
    more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return DataRefused(table.path.name, (f"column {column}: line {shown}{more}: {why}",))
