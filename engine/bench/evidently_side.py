"""Evidently's side of the comparison: reads windows from a file, writes which columns drift to another.

Needs numpy, pandas and evidently and nothing of ours, so that it may run in an environment of its own:
`python evidently_side.py WINDOWS.npz ANSWERS.json`.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

warnings.simplefilter("ignore")  # pandas tells of what will change; the answers are what counts here


def main(windows: str, answers: str) -> None:
    """Judges every window with the preset's own methods and thresholds, and with PSI at 0.1."""
    from evidently import DataDefinition, Dataset, Report  # type: ignore[import-not-found]  # not ours
    from evidently.presets import DataDriftPreset  # type: ignore[import-not-found]  # as above

    with np.load(windows, allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    names = [str(name) for name in held["names"]]
    numeric = [name for name, is_number in zip(names, held["numeric"], strict=True) if is_number]
    categories = [name for name in names if name not in numeric]
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categories)

    def dataset(rows: np.ndarray) -> Dataset:
        frame = pd.DataFrame(rows, columns=names)
        frame[categories] = frame[categories].astype("Int64").astype("string")
        return Dataset.from_pandas(frame, definition)

    presets = {"default": DataDriftPreset(), "psi": DataDriftPreset(method="psi", threshold=0.1)}
    reference = dataset(held["reference"])
    found: dict[str, dict[str, list[str]]] = {name: {} for name in presets}
    took_s = 0.0
    for window in (name for name in held if name.startswith("window-")):
        now = dataset(held[window])
        for name, preset in presets.items():
            started = time.perf_counter()
            told = Report([preset]).run(now, reference).dict()["metrics"]
            took_s += time.perf_counter() - started if name == "default" else 0.0
            found[name][window] = [column for column, drifts in map(_verdict, told) if drifts]
    Path(answers).write_text(json.dumps({"found": found, "seconds": took_s}), encoding="utf-8")


def _verdict(metric: dict[str, Any]) -> tuple[str, bool]:
    """A column and whether its drift is over the threshold: p-values fall, distances rise."""
    config, value = metric["config"], metric["value"]
    if "column" not in config:
        return "", False
    falls = "p_value" in config["method"]
    return config["column"], bool(value < config["threshold"] if falls else value >= config["threshold"])


if __name__ == "__main__":
    main(*sys.argv[1:])
