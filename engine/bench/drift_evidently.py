"""`python -m engine.bench.drift_evidently`: our drift alarms beside Evidently's, on the same windows.

Windows are drawn from the demo's customers who were not trained on, compared with those who were; some are
left as they are, in some one feature is changed. `--python` names the interpreter that has evidently, which
asks for another pandas than our training: `pip install evidently 'pandas<3'` in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from engine.bench.parts import PartMissing
from engine.monitor.drift.binning import InputBinning, InputReference, ModelReference
from engine.monitor.drift.counts import BUCKETS, ModelCounts, WindowCounts, buckets_of
from engine.monitor.drift.examining import References, examine_window
from engine.settings import Settings
from feature_store.loading import load_customers
from feature_store.schema import FeatureSchema, load_schema

Rows = npt.NDArray[np.float32]
SIZES: Final = (100, 500, 2_000, 10_000)
_MODEL: Final = "demo/1"
_TRAINED: Final = 4_225
_MISSING: Final = 0.04
"""Share of missing values that the demo's data is given in one feature, so that it can double."""
_HOURLY: Final = 24
_SIDE: Final = Path(__file__).with_name("evidently_side.py")


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The customers' values (n, features), in the order of `names`."""

    schema: FeatureSchema
    names: tuple[str, ...]
    numeric: frozenset[str]
    rows: Rows
    buckets: npt.NDArray[np.intp]

    def place(self, name: str) -> int:
        """Column of a feature."""
        return self.names.index(name)


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """A window, the feature that was changed in it, "" for none, and how."""

    feature: str
    change: str
    size: int
    rows: npt.NDArray[np.intp]
    values: Rows


Found = dict[str, set[str]]
"""Features that are said to drift, by window."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 0 where both judged, 2 where evidently is missing."""
    asked = _arguments(arguments)
    data = customers()
    rng = np.random.default_rng(asked.seed)
    order = rng.permutation(len(data.rows))
    trained, held_out = order[:_TRAINED], order[_TRAINED:]
    windows = {
        f"window-{i:05}": window
        for i, window in enumerate(planted(data, held_out, rng, repeats=asked.repeats))
    }
    started = time.perf_counter()
    ours = judged(data, data.rows[trained], windows)
    took_s = time.perf_counter() - started
    try:
        theirs, their_s = evidently(data, data.rows[trained], windows, python=asked.python)
    except PartMissing as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sides = {"arbiter": ours, "evidently": theirs["default"], "its PSI 0.1": theirs["psi"]}
    Console(width=110, highlight=False).print(table(data, windows, sides))
    print(
        f"{len(windows)} windows; arbiter {took_s:.1f} s with counting, evidently {their_s:.1f} s (default)"
    )
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine.bench.drift_evidently", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has evidently and pandas")
    parser.add_argument("--repeats", type=int, default=10, help="windows of each kind and size")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def customers() -> Data:
    """The demo company's customers, with the features its models read and some values missing."""
    settings = Settings()
    schema = load_schema(settings.feature_schema)
    path = settings.feature_schema.parent / "customers.csv.gz"
    loaded = load_customers(path, schema=schema, as_of_ms=0)
    vectors = np.stack([vector.values for _, vector in loaded])
    known = [i for i, _ in enumerate(schema.feature) if not np.isnan(vectors[:, i]).all()]
    names = tuple(schema.feature[i].name for i in known)
    rows = vectors[:, known].copy()
    holes = np.random.default_rng(0).random(len(rows)) < _MISSING
    rows[holes, names.index("total_charges")] = np.nan
    numeric = frozenset(f.name for f in schema.feature if f.type in ("int", "double"))
    return Data(schema, names, numeric, rows, buckets_of([name for name, _ in loaded]))


def planted(
    data: Data, held_out: npt.NDArray[np.intp], rng: np.random.Generator, *, repeats: int
) -> list[Planted]:
    """Windows of every size, unchanged and with each change."""
    changes: Mapping[str, tuple[str, Callable[[Rows], None]]] = {
        "none": ("", lambda _rows: None),
        "half a deviation": (
            "monthly_charges",
            lambda rows: _shift(data, rows, "monthly_charges"),
        ),
        "a fifth of a mix": ("payment_method", lambda rows: _mix(data, rows, rng)),
        "missing doubled": ("total_charges", lambda rows: _lose(data, rows, rng)),
    }
    found = []
    for size in SIZES:
        for name, (feature, change) in changes.items():
            for _ in range(repeats):
                chosen = rng.choice(held_out, size)
                values = data.rows[chosen].copy()
                change(values)
                found.append(Planted(feature, name, size, chosen, values))
    return found


def _shift(data: Data, rows: Rows, name: str) -> None:
    place = data.place(name)
    rows[:, place] += np.float32(np.nanstd(data.rows[:, place]) / 2)


def _mix(data: Data, rows: Rows, rng: np.random.Generator) -> None:
    rows[rng.random(len(rows)) < 0.2, data.place("payment_method")] = 0


def _lose(data: Data, rows: Rows, rng: np.random.Generator) -> None:
    rows[rng.random(len(rows)) < _MISSING, data.place("total_charges")] = np.nan


def judged(data: Data, reference: Rows, windows: Mapping[str, Planted]) -> Found:
    """What we say, each window judged as one of 24 of its day."""
    trained = ModelReference(
        len(reference), {name: _histogram(reference[:, i]) for i, name in enumerate(data.names)}
    )
    binning = InputBinning({_MODEL: trained}, data.schema)
    references = References(lambda _model: trained, data.numeric)
    found: Found = {}
    for name, window in windows.items():
        vectors = np.full((len(window.values), len(data.schema.feature)), np.nan, dtype=np.float32)
        vectors[:, [data.schema.index[feature] for feature in data.names]] = window.values
        inputs = binning.count(vectors, {_MODEL: np.ones(len(vectors), dtype=np.bool_)})
        seen = np.bincount(data.buckets[window.rows], minlength=BUCKETS)
        counts = WindowCounts(0, 3_600_000, {_MODEL: ModelCounts(len(vectors), seen, inputs[_MODEL])})
        sections = examine_window(counts, references, before=[], windows_a_day=_HOURLY)
        found[name] = {verdict.variable.name for section in sections for verdict in section.alarms}
    return found


def _histogram(values: Rows) -> InputReference:
    """As training writes it: deciles, or each value where there are ten or fewer."""
    known = values[~np.isnan(values)].astype(np.float64)
    distinct = np.unique(known)
    edges = (distinct[1:] + distinct[:-1]) / 2
    if len(distinct) > 10:
        edges = np.unique(np.quantile(known, np.arange(0.1, 0.95, 0.1)))
    counts = np.bincount(np.searchsorted(edges, known, "right"), minlength=len(edges) + 1)
    return InputReference(edges, counts.astype(np.int64), len(values) - len(known))


def evidently(
    data: Data, reference: Rows, windows: Mapping[str, Planted], *, python: str
) -> tuple[dict[str, Found], float]:
    """What evidently says by its default methods, and by PSI; and its seconds. Raises PartMissing."""
    with tempfile.TemporaryDirectory(prefix="bench-drift-") as folder:
        given, answers = Path(folder) / "windows.npz", Path(folder) / "answers.json"
        numeric = np.array([name in data.numeric for name in data.names])
        values = {name: window.values for name, window in windows.items()}
        held = {"reference": reference, "names": np.array(data.names), "numeric": numeric, **values}
        np.savez(given, **held)  # type: ignore[arg-type]  # arrays by name, none named as its options
        command = [python, str(_SIDE), str(given), str(answers)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # ours
        if ran.returncode or not answers.exists():
            last = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise PartMissing(
                f"evidently cannot be run by {python}: {last}\n"
                "    python -m venv evidently && evidently/bin/pip install evidently 'pandas<3'\n"
                "    python -m engine.bench.drift_evidently --python evidently/bin/python"
            )
        told = json.loads(answers.read_text(encoding="utf-8"))
    sides = {side: {name: set(found) for name, found in all_.items()} for side, all_ in told["found"].items()}
    return sides, float(told["seconds"])


def table(data: Data, windows: Mapping[str, Planted], sides: Mapping[str, Found]) -> Table:
    """By change and size: how often what was changed is found, and how often what was not."""
    result = Table(
        "change", "decisions", *(f"{side}: found" for side in sides), *(f"{side}: false" for side in sides)
    )
    for column in result.columns[1:]:
        column.justify = "right"
    kinds = dict.fromkeys((window.change, window.size) for window in windows.values())
    for change, size in kinds:
        same = {n: w for n, w in windows.items() if (w.change, w.size) == (change, size)}
        hits = [
            _share([w.feature in side[n] for n, w in same.items() if w.feature]) for side in sides.values()
        ]
        false = [
            _share([name in side[n] for n, w in same.items() for name in data.names if name != w.feature])
            for side in sides.values()
        ]
        result.add_row(change, f"{size:,}", *hits, *false)
    return result


def _share(flags: Sequence[bool]) -> str:
    return f"{100 * sum(flags) / len(flags):.1f}%" if flags else ""


if __name__ == "__main__":
    raise SystemExit(main())
