"""A trained model as its evaluation takes it: what it said of the test rows, and who and what it is."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from training.boosting import contributions, log_odds
from training.calibration import sigmoid
from training.evaluation.held_out import HeldOut
from training.own.learning import Searched
from training.own.run import TrainedModel

if TYPE_CHECKING:
    from training.evaluation.report import Facts

MOST_VALUES: Final = 12
"""Numbers of more values are looked at by quarters."""
ABSENT: Final = "(missing)"
Words = npt.NDArray[np.str_]


def held_out(trained: TrainedModel) -> HeldOut:
    """The test rows with all that was said of them, and their segments and attributes."""
    task = trained.task
    margins = log_odds(trained.candidate.booster, task.test.rows)
    return HeldOut(
        labels=task.test.labels,
        probabilities=trained.candidate.calibration.score(margins),
        uncalibrated=sigmoid(margins),
        baseline=sigmoid(trained.baseline),
        rows=task.test.rows,
        shares=contributions(trained.candidate.booster, task.test.rows)[:, :-1],
        names=tuple(i.name for i in task.inputs),
        groups=groups_of_test(trained),
    )


def groups_of_test(trained: TrainedModel) -> dict[str, Words]:
    """The group of each test row, by segment and attribute of the plan."""
    plan = trained.prepared.plan
    looked_at = dict.fromkeys((*plan.segments, *plan.fairness.attributes))
    return {column: group_words(trained.cells("test", column)) for column in looked_at}


def group_words(cells: tuple[str | None, ...]) -> Words:
    """The group of each row: its text, or the quarter that its number lies in where there are many."""
    distinct = {cell for cell in cells if cell is not None}
    if len(distinct) <= MOST_VALUES:
        return np.array([ABSENT if cell is None else cell for cell in cells], dtype=np.str_)
    try:
        numbers = np.array([np.nan if cell is None else float(cell) for cell in cells])
    except ValueError:
        common = sorted(distinct, key=lambda text: (-cells.count(text), text))[: MOST_VALUES - 1]
        words = [ABSENT if cell is None else cell if cell in common else "(others)" for cell in cells]
        return np.array(words, dtype=np.str_)
    cuts = np.unique(np.nanquantile(numbers, (0.25, 0.5, 0.75)))
    ends = ["", *(f"{cut:g}" for cut in cuts), ""]
    names = [f"{low} to {high}".strip() for low, high in pairwise(ends)]
    names[0], names[-1] = f"up to {ends[1]}", f"above {ends[-2]}"
    places = np.searchsorted(cuts, numbers, "left")
    return np.array(
        [ABSENT if np.isnan(number) else names[place] for number, place in zip(numbers, places, strict=True)],
        dtype=np.str_,
    )


def report_html(trained: TrainedModel, *, version: str, made: str) -> bytes:
    """The evaluation as one HTML file."""
    from training.evaluation.report import evaluation_page  # here, as what draws takes a second to import

    facts = facts_of(trained, version=version, made=made)
    if trained.evidence is not None:
        page = trained.evidence.page(facts, groups_of_test(trained), seed=trained.candidate.seed)
        return page.html().encode()
    return evaluation_page(held_out(trained), facts, seed=trained.candidate.seed).html().encode()


def facts_of(trained: TrainedModel, *, version: str, made: str) -> Facts:
    """Who and what, for the report."""
    from engine.pages.page import Warned
    from training.evaluation.report import Facts

    prepared, candidate = trained.prepared, trained.candidate
    rows = prepared.table.rows
    told = list(candidate.training_data.items())
    told += [(name, f"{value:g}") for name, value in candidate.metrics.items()]
    told += [(f"model.{name}", str(value)) for name, value in trained.recipe.parameters.items()]
    if trained.searched is not None:
        told.append(("search", search_words(trained.searched)))
    return Facts(
        name=trained.task.name,
        version=version,
        intended_use=trained.task.intended_use,
        made=made,
        training=told,
        columns=[
            (c.column, c.type or "–", f"{c.missing / rows:.1%}", c.why or f"input {c.feature}")
            for c in prepared.inferred.columns
        ],
        warned=[Warned(f"Column {s.column}: {s.evidence}", s.advice, s.severe) for s in prepared.signs],
        gates=[(gate.name, gate.figure, gate.limit, gate.passed) for gate in trained.gates],
    )


def search_words(searched: Searched) -> str:
    """What a search found, for people."""
    cut = (
        "; the time was over: write the parameters into `model` for the same bytes on another machine"
        if searched.stopped
        else ""
    )
    return f"{searched.trials} trials, log loss {searched.before:.5f} to {searched.best:.5f}{cut}"
