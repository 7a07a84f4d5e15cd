"""The benchmark of reasons: both sides explain the same, and every figure is measured, or why not is said."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from engine.bench import lightgbm_side, reasons, reasons_cases, reasons_side
from engine.bench.__main__ import main
from engine.bench.parts import Disagreement, PartMissing
from engine.bench.reasons_cases import INPUTS, SETTINGS, cases

SHORT = reasons.Work(trees=20, training_rows=1_500, single_rows=8, batch=100, turns=1)
RATIOS = (
    "reasons_over_lightgbm",
    "reasons_over_lightgbm_median",
    "reasons_four_over_lightgbm",
    "reasons_batch_over_lightgbm",
    "reasons_over_lightgbm_fast",
)


def test_a_short_run_gives_every_figure_within_the_limits() -> None:
    """The worst ratio comes first; even small models are explained several times faster, in few megabytes."""
    cores = os.sched_getaffinity(0)

    figures = reasons.measure(SHORT)

    assert tuple(figures)[: len(RATIOS)] == RATIOS
    assert all(np.isfinite(value) for value in figures.values())
    assert figures["reasons_over_lightgbm"] == min(
        figures[f"lightgbm_{kind}_us"] / figures[f"reasons_{kind}_us"] for kind in SETTINGS
    )
    assert figures["reasons_over_lightgbm"] <= figures["reasons_over_lightgbm_median"]
    assert all(figures[ratio] > 4 for ratio in RATIOS)
    assert figures["reasons_load_s"] < 2
    assert figures["reasons_memory_mb"] < 20
    assert figures["reasons_code_s"] < 2
    assert figures["reasons_code_resident_mb"] < 60
    assert os.sched_getaffinity(0) == cores


@pytest.mark.slow
def test_the_claim_holds_for_whole_models() -> None:
    """At least ten times faster on every model of 200 trees: one row, four, a batch; at most 110 us."""
    figures = reasons.measure()

    assert min(figures[ratio] for ratio in RATIOS) >= 10
    assert max(figures[f"reasons_{kind}_us"] for kind in SETTINGS) <= 110
    assert figures["reasons_memory_mb"] <= 20


def test_the_models_are_of_the_promised_size() -> None:
    """Trees of 31 leaves over all 40 inputs; the deep ones need more than one quadrature."""
    made = {case.name: case.booster.dump_model()["tree_info"] for case in cases(trees=2, training_rows=2_000)}

    assert set(made) == set(SETTINGS)
    assert all(tree["num_leaves"] >= 24 for trees in made.values() for tree in trees)
    assert INPUTS == 40


def test_sides_that_disagree_are_not_compared() -> None:
    """A difference names the model and the row."""
    ours, theirs = np.zeros((2, 3)), np.array([[0.0, 0.0, 0.0], [0.0, 2e-6, 0.0]])

    with pytest.raises(Disagreement, match="model deep, row 1: a share is off by 2e-06"):
        reasons._agree("deep", ours, theirs)


def test_a_machine_without_machine_code_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim is about machine code, so without it nothing is measured."""
    monkeypatch.setattr(sys, "executable", "false")

    with pytest.raises(PartMissing, match="exit code 1"):
        reasons._code()


def test_what_machine_code_takes_is_told_by_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Time and memory as JSON; 2 where there is none."""
    made = reasons_side.main()
    told = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(reasons_side, "machine_code", lambda: None)

    assert made == 0
    assert set(told) == {"reasons_code_s", "reasons_code_resident_mb", "reasons_code_private_mb"}
    assert reasons_side.main() == 2


def test_a_lightgbm_without_its_c_interface_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken from inside of a library may go."""
    monkeypatch.setattr(lightgbm_side, "import_module", lambda _: SimpleNamespace())

    with pytest.raises(PartMissing, match="no fast single rows"):
        lightgbm_side.fast_row(cases(trees=1, training_rows=200)[0].booster, inputs=INPUTS)


def test_without_lightgbm_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with 2."""
    monkeypatch.setitem(sys.modules, "lightgbm", None)

    code = main(["reasons"])

    assert code == 2
    assert "`training` extra" in capsys.readouterr().err
    assert reasons_cases.LEAVES == 31
