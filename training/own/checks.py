"""Whether a plan and a table fit each other, and whether rows stand once."""

from __future__ import annotations

import difflib

from training.errors import DataRefused, PlanProblem, PlanRefused
from training.own.examples import Examples
from training.own.plan import TrainingPlan
from training.own.signs import ROWS
from training.own.table import SourceTable


def roles_of(plan: TrainingPlan) -> dict[str, str]:
    """Columns that are no inputs, and why."""
    data, task = plan.data, plan.task
    roles = dict.fromkeys(data.exclude, "excluded by the plan")
    roles |= dict.fromkeys(data.known_after, "known only after the event")
    named = {
        "the customer": data.id,
        "the label": data.label,
        "the instant of the row": data.time,
        "when the customer left": task.event,
        "what was proposed": task.action,
        "whether the customer was treated": task.treatment,
        "the chance of treatment": task.chance,
        "the group of the split": plan.split.group,
    }
    return roles | {column: why for why, column in named.items() if column is not None}


def check_columns(plan: TrainingPlan, table: SourceTable) -> None:
    """Raises PlanRefused for every column that the plan names and the table has not."""
    named: list[tuple[tuple[str | int, ...], str | None]] = [
        (("data", "id"), plan.data.id),
        (("data", "label"), plan.data.label),
        (("data", "time"), plan.data.time),
        (("task", "event"), plan.task.event),
        (("task", "action"), plan.task.action),
        (("task", "treatment"), plan.task.treatment),
        (("task", "chance"), plan.task.chance),
        (("split", "group"), plan.split.group),
        *((("data", "exclude", i), name) for i, name in enumerate(plan.data.exclude)),
        *((("data", "known_after", i), name) for i, name in enumerate(plan.data.known_after)),
        *((("data", "accept_leak", i), name) for i, name in enumerate(plan.data.accept_leak) if name != ROWS),
        *((("features", "types", name), name) for name in plan.features.types),
        *((("features", "units", name), name) for name in plan.features.units),
        *((("features", "columns", feature), name) for feature, name in plan.features.columns.items()),
        *((("segments", i), name) for i, name in enumerate(plan.segments)),
        *((("fairness", "attributes", i), name) for i, name in enumerate(plan.fairness.attributes)),
        *(
            (("features", "data_classes", known.value, i), name)
            for known, columns in plan.features.data_classes.items()
            for i, name in enumerate(columns)
        ),
    ]
    there = set(table.names)
    problems = tuple(
        PlanProblem(path, f"{table.path.name} has no column `{name}`", nearest(name, table.names))
        for path, name in named
        if name is not None and name not in there
    )
    if problems:
        raise PlanRefused(problems)


def nearest(name: str, known: list[str]) -> str:
    """Advice for a name that is not there."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=2)
    if close:
        return "did you mean " + " or ".join(f"`{folded[each]}`" for each in close) + "?"
    shown = ", ".join(known[:12])
    return f"it has {shown}" + (f" and {len(known) - 12} more" if len(known) > 12 else "")


def refuse_twice(plan: TrainingPlan, table: SourceTable, examples: Examples) -> None:
    """Raises DataRefused where a customer stands twice in the same row: at one instant, with one action."""
    names = [plan.data.id, *(c for c in (plan.data.time, plan.task.action) if c is not None)]
    if ROWS in plan.data.accept_leak:
        return
    cells = [examples.cells(table, name) for name in names]
    first: dict[tuple[str | None, ...], int] = {}
    twice = []
    for row, key in zip(examples.rows.tolist(), zip(*cells, strict=True), strict=True):
        if first.setdefault(key, row) != row:
            twice.append(row)
    if twice:
        shown = ", ".join(map(str, table.lines(twice[:5])))
        more = f" and {len(twice) - 5:,} more" if len(twice) > 5 else ""
        words = (
            f"line {shown}{more}: the same {' and '.join(names)} stands in an earlier row; keep one row, or "
            f"name `{ROWS}` in `data.accept_leak` where each row is an observation of its own"
        )
        raise DataRefused(table.path.name, (words,))
