"""What the columns of a table hold: each is given a type, or a reason why it is no input."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from feature_store.schema import MAX_EXACT_INT, DataClass, Feature, FeatureSchema, View
from training.errors import DataRefused, PlanProblem, PlanRefused
from training.instants import read_instant_ms
from training.own.plan import Features, TrainingPlan
from training.own.table import SourceTable

FeatureType = Literal["bool", "int", "double", "category"]
VIEW: Final = "table"
"""The one view of an inferred schema: its values come together and age together."""

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BOOLEANS: Final = frozenset({"true", "false"})
_ABSENT: Final = frozenset({"na", "n/a", "nan", "null", "none", "-", "?", "unknown", "inf", "-inf"})
_MOST_FLOAT32: Final = 3.4e38
_IDENTIFIER = re.compile(r"(^|_)(id|uuid|guid|key|hash|number|no|nr|iban|email|phone|name)$")
_SHOWN: Final = 3
_MIXED_FROM: Final = 0.5
"""Share of numbers from which the texts among them are taken for mistakes."""
_FEWEST_FOR_ID: Final = 50
_DENSE: Final = 3
"""Whole numbers, all different, that span at most so many times their count only number rows through."""


@dataclass(frozen=True, slots=True)
class SeenColumn:
    """One column as it was found. `feature` and `type` are None where it is no input, and `why` says so."""

    column: str
    feature: str | None
    type: FeatureType | None
    missing: int
    distinct: int
    examples: tuple[str, ...]
    why: str = ""
    looks_like_id: bool = False


@dataclass(frozen=True, slots=True)
class Inferred:
    """All columns of a table as they were found, and the schema of the inputs among them."""

    columns: tuple[SeenColumn, ...]
    schema: FeatureSchema
    column_of: Mapping[str, str]


def infer(table: SourceTable, plan: TrainingPlan, *, roles: Mapping[str, str]) -> Inferred:
    """A feature schema for the columns that have none of the `roles` (column to what it is).

    Raises DataRefused where cells of a column are of several types.
    """
    seen: list[SeenColumn] = []
    features: list[Feature] = []
    problems: list[str] = []
    for name in table.names:
        if name in roles:
            seen.append(_looked_at(table, name, feature=None, type_=None, why=roles[name]))
            continue
        found = _column(table, name, plan.features, problems)
        seen.append(found)
        if found.feature is not None and found.type is not None:
            features.append(_feature(table, found, plan.features))
    problems += _same_names(seen)
    if not problems and not features:
        problems = ["no column is left to learn from"]
    if problems:
        raise DataRefused(table.path.name, tuple(problems))
    return Inferred(
        columns=tuple(seen),
        schema=_schema(plan, features),
        column_of={c.feature: c.column for c in seen if c.feature is not None},
    )


def declared(
    table: SourceTable, plan: TrainingPlan, schema: FeatureSchema, *, roles: Mapping[str, str]
) -> Inferred:
    """The part of a given schema that the table has columns for. Raises PlanRefused."""
    named = plan.features.columns
    unknown = [name for name in named if name not in schema.index]
    wanted = {f.name: named.get(f.name, f.name) for f in schema.feature}
    there = set(table.names) - set(roles)
    features = [f for f in schema.feature if wanted[f.name] in there]
    problems = [
        PlanProblem(("features", "columns", name), f"`{name}` is not a feature of schema {schema.name}")
        for name in unknown
    ]
    if not features:
        problems.append(
            PlanProblem(("features", "schema"), f"no column is a feature of schema {schema.name}")
        )
    if problems:
        raise PlanRefused(tuple(problems))
    feature_of = {wanted[f.name]: f for f in features}
    seen = [
        _looked_at(
            table,
            name,
            feature=feature_of[name].name if name in feature_of else None,
            type_=feature_of[name].type if name in feature_of else None,
            why="" if name in feature_of else roles.get(name, f"not in schema {schema.name}"),
        )
        for name in table.names
    ]
    return Inferred(tuple(seen), schema, {f.name: wanted[f.name] for f in features})


def feature_name(column: str) -> str:
    """A column's name as a feature's: MonthlyCharges and `Monthly charges` are monthly_charges."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", column.strip())
    name = re.sub(r"[^a-z0-9]+", "_", parted.casefold()).strip("_")
    return (name if name[:1].isalpha() else f"c_{name}")[:63].rstrip("_")


def _column(table: SourceTable, name: str, wanted: Features, problems: list[str]) -> SeenColumn:
    counts = table.counts(name)
    absent = counts.pop(None, 0)
    texts = {str(text): n for text, n in counts.items()}
    given = wanted.types.get(name)
    type_, why = (given, "") if given is not None else _type(texts, absent, table.rows, wanted)
    if why.startswith("mixed"):
        problems.append(f"column {name}: {_mixture(table, name, texts)}")
    looks_like_id = _is_id(name, texts, table.rows)
    if type_ is not None and looks_like_id and given is None:
        type_, why = (
            None,
            "looks like an id: another value in every row; name its type in `features.types` if not",
        )
    return SeenColumn(
        column=name,
        feature=_named(name, wanted) if type_ is not None else None,
        type=type_,
        missing=absent,
        distinct=len(texts),
        examples=tuple(sorted(texts, key=lambda t: (-texts[t], t))[:_SHOWN]),
        why=why,
        looks_like_id=looks_like_id,
    )


def _type(
    texts: Mapping[str, int], absent: int, rows: int, wanted: Features
) -> tuple[FeatureType | None, str]:
    """The type of the cells of a column, or why it is no input."""
    if not texts:
        return None, "holds nothing"
    if len(texts) == 1 and not absent:
        return None, "holds one value only"
    if all(text.lower() in _BOOLEANS for text in texts):
        return "bool", ""
    numbers = [text for text in texts if _NUMBER.match(text)]
    if len(numbers) == len(texts):
        return _number_type(texts)
    if all(_DATE.match(text) and _is_instant(text) for text in texts):
        return None, "holds instants: give an age in days instead"
    if sum(texts[text] for text in numbers) >= _MIXED_FROM * (rows - absent):
        return None, "mixed"
    if len(texts) > wanted.categories_at_most:
        return None, f"{len(texts):,} different texts, more than {wanted.categories_at_most}: group them"
    return "category", ""


def _number_type(texts: Mapping[str, int]) -> tuple[FeatureType | None, str]:
    """A whole number where every cell is one that float32 holds exactly; texts such as 007 are no numbers."""
    if all(_WHOLE.match(text) for text in texts):
        return ("int" if max(abs(int(text)) for text in texts) <= MAX_EXACT_INT else "double"), ""
    if any(re.match(r"[-+]?0[0-9]+\Z", text) for text in texts):
        return None, "holds codes such as 007: name its type in `features.types`"
    if any(not math.isfinite(float(text)) or abs(float(text)) > _MOST_FLOAT32 for text in texts):
        return None, "holds numbers beyond float32 (3.4e38)"
    return "double", ""


def _mixture(table: SourceTable, name: str, texts: Mapping[str, int]) -> str:
    """The texts among numbers, with where the first one stands and what to do."""
    odd = [text for text in texts if not _NUMBER.match(text)]
    count = sum(texts[text] for text in odd)
    cells = table.texts(name)
    row = next(i for i, cell in enumerate(cells) if cell in odd)
    shown = ", ".join(repr(text) for text in sorted(odd)[:_SHOWN])
    absent = all(text.lower() in _ABSENT for text in odd)
    advice = (
        "leave cells empty where nothing is known, as `arbiter store load` asks for too"
        if absent
        else f"correct the cells, `exclude` the column, or say `features.types: {{{name}: category}}`"
    )
    numbers = sum(texts.values()) - count
    first = table.lines([row])[0]
    return f"mixed types: {numbers:,} numbers and {count:,} texts ({shown}; first in line {first}); {advice}"


def _is_instant(text: str) -> bool:
    try:
        read_instant_ms(text)
    except ValueError:
        return False
    return True


def _is_id(name: str, texts: Mapping[str, int], rows: int) -> bool:
    """Whether every row has another value, and the name or the numbers say that they only tell rows apart."""
    if rows < _FEWEST_FOR_ID or len(texts) < rows:
        return False
    if not all(_WHOLE.match(text) for text in texts):
        return bool(_IDENTIFIER.search(feature_name(name))) or not all(_NUMBER.match(t) for t in texts)
    numbers = [int(text) for text in texts]
    return bool(_IDENTIFIER.search(feature_name(name))) or max(numbers) - min(numbers) < _DENSE * rows


def _looked_at(
    table: SourceTable, name: str, *, feature: str | None, type_: FeatureType | None, why: str
) -> SeenColumn:
    counts = table.counts(name)
    absent = counts.pop(None, 0)
    common = sorted(counts, key=lambda text: (-counts[text], str(text)))[:_SHOWN]
    return SeenColumn(name, feature, type_, absent, len(counts), tuple(str(text) for text in common), why)


def _named(column: str, wanted: Features) -> str:
    given = {held: feature for feature, held in wanted.columns.items()}
    return given.get(column) or feature_name(column)


def _same_names(seen: list[SeenColumn]) -> list[str]:
    times = Counter(column.feature for column in seen if column.feature is not None)
    return [
        f"columns {', '.join(c.column for c in seen if c.feature == name)} would all be feature {name}: "
        "name them apart in `features.columns`"
        for name, n in times.items()
        if n > 1
    ]


def _feature(table: SourceTable, seen: SeenColumn, wanted: Features) -> Feature:
    assert seen.feature is not None  # asked for inputs only
    assert seen.type is not None
    texts = sorted(text for text in table.counts(seen.column) if text is not None)
    of_class = {column: known for known, columns in wanted.data_classes.items() for column in columns}
    return Feature(
        name=seen.feature,
        view=VIEW,
        type=seen.type,
        data_class=of_class.get(seen.column, DataClass(wanted.data_class)),
        description=seen.column.strip(),
        unit=wanted.units.get(seen.column, ""),
        categories=tuple(texts) if seen.type == "category" else (),
    )


def _schema(plan: TrainingPlan, features: list[Feature]) -> FeatureSchema:
    view = View(
        name=VIEW,
        kind="batch",
        owner=plan.metadata.owner,
        freshness_hours=plan.features.freshness_hours,
        description=f"What model {plan.metadata.name} was trained on",
    )
    name = re.sub(r"[^a-z0-9_]", "_", plan.metadata.name)
    return FeatureSchema(name=name, version=1, view=(view,), feature=tuple(features))
