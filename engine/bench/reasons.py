"""Reasons: exact Shapley values from a registered version's `trees.npz`, beside LightGBM's `pred_contrib`.

Both explain the same rows of the same models, 200 trees of 31 leaves over 40 inputs, in one process on one
core and one thread, in turns; the answers are compared first. Of single rows and of four (a decision explains
its churn and three offers) the best round of each piece counts, and the pieces take about as long on both
sides. Batches of a thousand are measured by the processor's clock.

Ratios are those of the worst model: `reasons_over_lightgbm` says how many times faster Arbiter is at least.
`reasons_over_lightgbm_fast` is against LightGBM's C interface for single rows, which its Python one has not.
`reasons_cold_us` is one row after the processor's caches were filled with other things, as between calls.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from engine.bench import lightgbm_side
from engine.bench.parts import Disagreement, PartMissing
from engine.bench.reasons_cases import INPUTS, Case, cases
from engine.bench.timing import best_processor_s, cold_us, in_turns, per_item_us
from engine.models.arrays import read_arrays
from engine.models.loading import TREE_ARRAYS
from engine.models.shapley import TreeShapley
from engine.models.trees import Floats, Rows, read_trees

Figures = dict[str, float]
_LIMIT: Final = 1e-6
_TOGETHER: Final = 4
"""Rows that a decision explains: churn, and three offers."""
_OURS_AT_ONCE: Final = 20
"""Our calls that take as long as one of LightGBM's."""
_FIRM: Final = 15
"""Rounds of our side, which take as long as three of LightGBM's calls one by one."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much is measured: a model's trees and rows it learns from, rows explained, turns of each side."""

    trees: int = 200
    training_rows: int = 8_000
    single_rows: int = 40
    batch: int = 1_000
    turns: int = 5


DEFAULT: Final = Work()
_WORST: Final = ("four_us", "cold_us", "batch_us", "plain_us", "load_s", "memory_mb")


def measure(work: Work = DEFAULT) -> Figures:
    """All figures of all models. Raises PartMissing, and Disagreement."""
    models = cases(trees=work.trees, training_rows=work.training_rows)
    with _one_core():
        code = _code()
        found = {case.name: _figures(case, work) for case in models}
    over = [figures["lightgbm_us"] / figures["us"] for figures in found.values()]
    return {
        "reasons_over_lightgbm": min(over),
        "reasons_over_lightgbm_median": statistics.median(over),
        "reasons_four_over_lightgbm": _least(found, "lightgbm_four_us", "four_us"),
        "reasons_batch_over_lightgbm": _least(found, "lightgbm_batch_us", "batch_us"),
        "reasons_over_lightgbm_fast": _least(found, "lightgbm_fast_us", "us"),
        **{f"reasons_{name}_us": figures["us"] for name, figures in found.items()},
        **{f"lightgbm_{name}_us": figures["lightgbm_us"] for name, figures in found.items()},
        **{f"reasons_{name}": max(figures[name] for figures in found.values()) for name in _WORST},
        **code,
    }


def _least(found: Mapping[str, Figures], theirs: str, ours: str) -> float:
    return min(figures[theirs] / figures[ours] for figures in found.values())


@contextmanager
def _one_core() -> Iterator[None]:
    """Keeps this process, and what it starts, on one core during the block; garbage waits."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        os.sched_setaffinity(0, cores)


def _code() -> Figures:
    """What machine code costs a fresh process."""
    command = [sys.executable, "-m", "engine.bench.reasons_side"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own module
    if ran.returncode:
        last = (ran.stderr or ran.stdout).strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
        raise PartMissing(f"no machine code is made on this machine: {last[0]}")
    found: Figures = json.loads(ran.stdout.splitlines()[-1])
    return found


def _figures(case: Case, work: Work) -> Figures:
    """One model: microseconds a row by both, and what loading takes."""
    kernel, loading = _loaded(case.trees)
    plain = _kernel(case.trees, compiled=False)
    rows = case.rows[: work.batch]
    expected = lightgbm_side.predict(case.booster, rows.astype(np.float64))
    _agree(case.name, kernel.contributions_of_many(rows), expected)
    _agree(case.name, plain.contributions_of_many(rows[: work.single_rows]), expected[: work.single_rows])
    return {
        **loading,
        **_singles(case, kernel, rows[: work.single_rows], work),
        **_fours(case, kernel, rows[: work.single_rows], work),
        "cold_us": cold_us(kernel.contributions, list(rows[: work.single_rows])),
        "batch_us": best_processor_s(lambda: kernel.contributions_of_many(rows)) / len(rows) * 1e6,
        "lightgbm_batch_us": _theirs_s(case, rows) / len(rows) * 1e6,
        "plain_us": per_item_us(plain.contributions, list(rows[:3]), rounds=12, at_once=1),
    }


def _theirs_s(case: Case, rows: Rows) -> float:
    wide = rows.astype(np.float64)
    return best_processor_s(lambda: lightgbm_side.predict(case.booster, wide), rounds=2)


def _singles(case: Case, kernel: TreeShapley, rows: Rows, work: Work) -> Figures:
    """One row a call: ours, LightGBM's usual way, and its fast one."""
    wide = rows.astype(np.float64)
    predict = partial(lightgbm_side.predict, case.booster)
    fast = lightgbm_side.fast_row(case.booster, inputs=INPUTS)
    _agree(case.name, kernel.contributions_of_many(rows[:1]), fast(wide[0])[None])
    ours_us, theirs_us, fast_us = in_turns(
        lambda: per_item_us(kernel.contributions, list(rows), rounds=_FIRM, at_once=_OURS_AT_ONCE),
        lambda: per_item_us(predict, list(wide[:, None, :]), rounds=3, at_once=1),
        lambda: per_item_us(fast, list(wide), rounds=3, at_once=1),
        turns=work.turns,
    )
    return {"us": ours_us, "lightgbm_us": theirs_us, "lightgbm_fast_us": fast_us}


def _fours(case: Case, kernel: TreeShapley, rows: Rows, work: Work) -> Figures:
    """Four rows a call, per row."""
    fours = rows.reshape(-1, _TOGETHER, INPUTS)
    predict = partial(lightgbm_side.predict, case.booster)
    ours_us, theirs_us = in_turns(
        lambda: per_item_us(kernel.contributions_of_many, list(fours), rounds=_FIRM, at_once=_OURS_AT_ONCE),
        lambda: per_item_us(predict, list(fours.astype(np.float64)), rounds=3, at_once=1),
        turns=work.turns,
    )
    return {"four_us": ours_us / _TOGETHER, "lightgbm_four_us": theirs_us / _TOGETHER}


def _agree(model: str, ours: Floats, theirs: Floats) -> None:
    """Raises Disagreement where a share is off by more than the limit."""
    gap = np.abs(ours - theirs).max(axis=1)
    if not (gap <= _LIMIT).all():
        row = int(np.argmax(gap))
        raise Disagreement(f"model {model}, row {row}: a share is off by {gap[row]:.3g}, at most {_LIMIT:g}")


def _loaded(content: bytes) -> tuple[TreeShapley, Figures]:
    """The explanation of a registered version's trees; the processor's time and the memory that it took."""
    load_s = best_processor_s(lambda: _kernel(content))
    tracemalloc.start()
    kernel = _kernel(content)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kernel, {"load_s": load_s, "memory_mb": held_bytes / 1e6}


def _kernel(content: bytes, *, compiled: bool = True) -> TreeShapley:
    """As `engine.models.loading` makes it."""
    arrays = read_arrays(content, names=TREE_ARRAYS, model="bench", filename="trees.npz")
    return TreeShapley(read_trees(arrays, input_count=INPUTS), input_count=INPUTS, compiled=compiled)
