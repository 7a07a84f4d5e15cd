"""LightGBM's Shapley values in a user's two ways: `Booster.predict`, and the C interface for single rows."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from engine.bench.parts import PartMissing

if TYPE_CHECKING:
    import lightgbm

Floats = npt.NDArray[np.float64]
_CONTRIBUTIONS: Final = 3
_FLOAT64: Final = 1
_ALL_TREES: Final = -1


def predict(booster: lightgbm.Booster, rows: Floats) -> Floats:
    """Contributions of rows, on one thread."""
    return np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1), dtype=np.float64)


def fast_row(booster: lightgbm.Booster, *, inputs: int) -> Callable[[Floats], Floats]:
    """A function of one row by `LGBM_BoosterPredictForMatSingleRowFast`, which prepares what rows share.

    It is none of LightGBM's Python interface, so its handle and library are taken from inside of that. Raises
    PartMissing where they are not there. What is prepared is kept until the process ends.
    """
    try:
        inside: Any = import_module("lightgbm.basic")
        library, handle = inside._LIB, booster._handle
        prepare, run = (
            library.LGBM_BoosterPredictForMatSingleRowFastInit,
            library.LGBM_BoosterPredictForMatSingleRowFast,
        )
    except (ImportError, AttributeError) as error:
        raise PartMissing(f"this LightGBM has no fast single rows: {error}") from error
    prepared = ctypes.c_void_p()
    failed = prepare(
        handle,
        ctypes.c_int(_CONTRIBUTIONS),
        ctypes.c_int(0),
        ctypes.c_int(_ALL_TREES),
        ctypes.c_int(_FLOAT64),
        ctypes.c_int32(inputs),
        b"num_threads=1",
        ctypes.byref(prepared),
    )
    if failed:
        raise PartMissing("LightGBM did not prepare its fast single rows")
    found, count = np.empty(inputs + 1), ctypes.c_int64()
    result = ctypes.c_void_p(found.ctypes.data)

    def contributions(row: Floats) -> Floats:
        run(prepared, ctypes.c_void_p(row.ctypes.data), ctypes.byref(count), result)
        return found

    return contributions
