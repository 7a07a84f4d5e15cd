"""Signs that a table tells its label: loud, each with its evidence and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from training.dataset import Floats, Index
from training.own.examples import Examples
from training.own.inference import Inferred
from training.own.parts import Parts
from training.own.plan import TrainingPlan

ROWS: Final = "(rows)"
"""What `accept_leak` names for rows that stand several times."""
SURELY: Final = 0.97
"""AUC of one column alone, on rows it was not looked up in, from which it must be the label in disguise."""
SUSPECT: Final = 0.90
FILLED_SURELY: Final = 0.90
"""Difference of the shares that are filled, between the two labels."""
FILLED_SUSPECT: Final = 0.50
COPIES_SURELY: Final = 0.20
COPIES_SUSPECT: Final = 0.05
_TELLING_VALUES: Final = 100
"""Rows without a column of more values may well be alike by chance."""
_LOOKED_AT: Final = 50_000
_LEAVES: Final = 16
_AFTERWARDS = re.compile(
    r"(^|_)(churn(ed)?|cancel(led|lation|ed)?|terminat(ed|ion)|closed|closure|exit|left|leaving|refund(ed)?"
    r"|win_?back|deactivat(ed|ion)|departure|end_date|final|outcome|result)(_|$)"
)

Kind = Literal["near_perfect", "known_after", "name", "id", "copies", "order", "treatment", "balance"]


@dataclass(frozen=True, slots=True)
class Sign:
    """One reason for suspicion. A severe one stops the run unless the plan accepts its column."""

    column: str
    kind: Kind
    evidence: str
    advice: str
    severe: bool = False

    def __str__(self) -> str:
        return f"column {self.column}: {self.evidence}; {self.advice}"


def signs_of(plan: TrainingPlan, inferred: Inferred, examples: Examples, parts: Parts) -> tuple[Sign, ...]:
    """Everything suspicious, the severe first."""
    found = [
        *_near_perfect(inferred, examples, parts),
        *_filled_by_label(inferred, examples),
        *_named_for_afterwards(inferred),
        *_ids(inferred),
        *_copies(examples, parts),
        *_out_of_order(plan),
    ]
    return tuple(sorted(found, key=lambda sign: not sign.severe))


def unaccepted(plan: TrainingPlan, signs: tuple[Sign, ...]) -> tuple[Sign, ...]:
    """The severe ones that nobody has said to learn from."""
    return tuple(sign for sign in signs if sign.severe and sign.column not in plan.data.accept_leak)


def _near_perfect(inferred: Inferred, examples: Examples, parts: Parts) -> Iterator[Sign]:
    """Columns of which a small tree alone tells the label, on rows it was not grown on."""
    grown = parts.train[:_LOOKED_AT]
    judged = np.concatenate([parts.validation, parts.test])[:_LOOKED_AT]
    for place, feature in enumerate(examples.features):
        area = _area_alone(examples.values[:, [place]], examples.labels, grown, judged)
        if area >= SUSPECT:
            yield Sign(
                inferred.column_of[feature],
                "near_perfect",
                f"alone it tells the label with an AUC of {area:.3f}",
                "if it is written after the event, name it in `data.known_after`; if surely before, in "
                "`data.accept_leak`",
                severe=area >= SURELY,
            )


def _area_alone(values: Floats | np.ndarray, labels: Floats, grown: Index, judged: Index) -> float:
    """AUC of a tree of few leaves on one column."""
    tree = DecisionTreeClassifier(
        max_leaf_nodes=_LEAVES, min_samples_leaf=max(5, len(grown) // 500), random_state=0
    )
    tree.fit(values[grown], labels[grown])
    scores = tree.predict_proba(values[judged])[:, -1]
    return float(roc_auc_score(labels[judged], scores))


def _filled_by_label(inferred: Inferred, examples: Examples) -> Iterator[Sign]:
    """Columns that are filled with one label, and empty with the other."""
    positive = examples.labels > 0
    for place, feature in enumerate(examples.features):
        filled = ~np.isnan(examples.values[:, place])
        with_label, without = float(filled[positive].mean()), float(filled[~positive].mean())
        gap = abs(with_label - without)
        if gap >= FILLED_SUSPECT:
            yield Sign(
                inferred.column_of[feature],
                "known_after",
                f"filled in {with_label:.1%} of the rows with the label and {without:.1%} of the others",
                "if it is filled once the label is known, name it in `data.known_after`",
                severe=gap >= FILLED_SURELY,
            )


def _named_for_afterwards(inferred: Inferred) -> Iterator[Sign]:
    for feature, column in inferred.column_of.items():
        if found := _AFTERWARDS.search(feature):
            yield Sign(
                column,
                "name",
                f"its name has `{found[0].strip('_')}`, as what is known only after the event often has",
                "make sure that it is known at the instant of the row, or name it in `data.known_after`",
            )


def _ids(inferred: Inferred) -> Iterator[Sign]:
    for seen in inferred.columns:
        if seen.looks_like_id:
            yield Sign(
                seen.column,
                "id",
                f"{seen.distinct:,} different values in as many rows: it names rows and describes nobody",
                "it is left out"
                if seen.feature is None
                else "its type is in `features.types`, so it is learnt from",
            )


def _copies(examples: Examples, parts: Parts) -> Iterator[Sign]:
    """Test rows that stand in the training part too, in all that is learnt from."""
    whole = np.column_stack([examples.values, examples.targets, examples.labels]).astype(np.float32)
    whole += np.float32(0)  # -0.0 is 0.0
    known = {row.tobytes() for row in whole[parts.train]}
    copied = sum(row.tobytes() in known for row in whole[parts.test])
    share = copied / len(parts.test)
    telling = max((len(np.unique(column)) for column in examples.values.T), default=0) > _TELLING_VALUES
    if share >= COPIES_SUSPECT and telling:
        yield Sign(
            ROWS,
            "copies",
            f"{copied:,} of {len(parts.test):,} test rows stand in the training part too, under other ids",
            "remove the copies: the model is tested on what it has learnt by heart",
            severe=share >= COPIES_SURELY,
        )


def _out_of_order(plan: TrainingPlan) -> Iterator[Sign]:
    if plan.data.time is not None and plan.split.by != "time":
        yield Sign(
            plan.data.time,
            "order",
            f"rows have instants, and `split.by` is {plan.split.by}: rows are tested that are older than "
            "those learnt from",
            "say `split: {by: time}`, to be tested as it will serve",
        )
