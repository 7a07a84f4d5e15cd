import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_registry import open_alias
from model_registry.manifest import ModelInput
from training.calibration import Platt, calibration_error, fit_platt, sigmoid
from training.candidate import Candidate
from training.cli import main
from training.concepts import concepts_of
from training.errors import GateFailed
from training.gates import check_metrics
from training.publication import build_artefacts, champion_of, publish_candidate
from training.reference import histogram, histograms_json
from training.report import Trained, write_report
from training.telco import Telco

GOOD = {
    "auc_test": 0.845,
    "cv_auc": 0.846,
    "ece_test": 0.02,
    "baseline_auc_test": 0.844,
}


def test_publishing_the_same_model_again_changes_nothing(candidate: Candidate, tmp_path: Path) -> None:
    """A second run of the same data and seed leaves the champion, and publishes no version."""
    artefacts = build_artefacts(candidate)

    first = publish_candidate(candidate, artefacts, registry=tmp_path, created="2026-01-01", reason="test")
    second = publish_candidate(candidate, artefacts, registry=tmp_path, created="2026-02-01", reason="test")

    assert ((first.version, first.changed), (second.version, second.changed)) == ((1, True), (1, False))


def test_another_statement_of_the_manifest_is_another_version(churn: Candidate, tmp_path: Path) -> None:
    """The same bytes with another intended use are published, since a manifest never changes."""
    artefacts = build_artefacts(churn)
    other = replace(churn, task=replace(churn.task, intended_use="Something else."))

    publish_candidate(churn, artefacts, registry=tmp_path, created="2026-01-01", reason="test")
    publish_candidate(other, artefacts, registry=tmp_path, created="2026-01-01", reason="test")

    champion = open_alias(tmp_path, "churn").manifest
    assert (champion.version, champion.intended_use) == (2, "Something else.")


def test_there_is_no_champion_before_the_first(tmp_path: Path) -> None:
    """An empty registry is no error."""
    assert champion_of(tmp_path, "churn") is None


def test_good_metrics_pass(churn: Candidate) -> None:
    """A model within all bounds is let through."""
    good = replace(churn, metrics={**churn.metrics, **GOOD})

    assert check_metrics(good, champion=None) is None


@pytest.mark.parametrize(
    ("metric", "value", "sentence"),
    [
        ("auc_test", 0.91, "the label leaks"),
        ("auc_test", 0.80, "not learnt"),
        ("cv_auc", 0.87, "the label leaks"),
        ("ece_test", 0.2, "not the rates they promise"),
        ("baseline_auc_test", 0.859, "below the baseline"),
    ],
)
def test_a_model_too_bad_or_too_good_is_refused(
    churn: Candidate, metric: str, value: float, sentence: str
) -> None:
    """Each bound refuses with the figure and what it is a sign of."""
    bad = replace(churn, metrics={**churn.metrics, **GOOD, metric: value})

    with pytest.raises(GateFailed, match=sentence):
        check_metrics(bad, champion=None)


def test_a_model_worse_than_the_champion_is_refused(churn: Candidate, tmp_path: Path) -> None:
    """On the same customers, a candidate may not lose more AUC than the gate allows."""
    champion = replace(churn, metrics={**churn.metrics, **GOOD, "auc_test": 0.855})
    publish_candidate(
        champion, build_artefacts(churn), registry=tmp_path, created="2026-01-01", reason="test"
    )

    with pytest.raises(GateFailed, match="below champion 1"):
        check_metrics(
            replace(churn, metrics={**churn.metrics, **GOOD}),
            champion=open_alias(tmp_path, "churn").manifest,
        )


def test_a_feature_without_a_concept_is_refused() -> None:
    """A new input needs a concept, or its share would be in no reason."""
    inputs = (ModelInput(name="shoe_size", source="feature"),)

    with pytest.raises(ValueError, match="no concept has shoe_size"):
        concepts_of(inputs, prefix="CHURN")


def test_platt_finds_the_line_labels_were_drawn_from() -> None:
    """Fitted on labels drawn from a known slope and intercept, it comes close to both."""
    rng = np.random.default_rng(4)
    margins = rng.normal(0, 2, 40_000)
    labels = (rng.random(40_000) < sigmoid(0.5 * margins - 1.0)).astype(np.float64)

    platt = fit_platt(margins=margins, labels=labels)

    assert (platt.slope, platt.intercept) == pytest.approx((0.5, -1.0), abs=0.04)


def test_calibration_error_is_the_gap_of_rate_and_promise() -> None:
    """A constant promise of 0.9 where a half happens is off by 0.4."""
    labels = np.tile([0.0, 1.0], 50)

    error = calibration_error(probabilities=np.full(100, 0.9), labels=labels)

    assert error == pytest.approx(0.4)


@given(st.floats(-1e6, 1e6))
def test_sigmoid_stays_a_probability(log_odds: float) -> None:
    """No overflow, and mirrored at zero."""
    both = sigmoid(np.array([log_odds, -log_odds]))

    assert both.sum() == pytest.approx(1.0)
    assert Platt(slope=1.0, intercept=0.0).probability(np.array([log_odds]))[0] == both[0]


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=1, max_size=200))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    """Counts and missing add up to the number of values; edges rise."""
    counted = histogram(np.array(values))

    assert sum(counted["counts"]) + counted["missing"] == len(values)  # type: ignore[call-overload,operator]  # a JSON object
    assert len(counted["counts"]) == len(counted["edges"]) + 1  # type: ignore[arg-type]  # a JSON object


def test_reference_histograms_name_inputs_and_scores(candidate: Candidate) -> None:
    """Every feature has a histogram of all training customers, and every score one."""
    task = candidate.task

    reference = json.loads(histograms_json(candidate))

    features = {i.name for i in task.inputs if i.source == "feature"}
    assert set(reference["inputs"]) == features
    assert set(reference["scores"]) == set(task.targets or ("churn",))
    assert all(sum(h["counts"]) + h["missing"] == reference["rows"] for h in reference["inputs"].values())


def test_the_report_shows_every_model(churn: Candidate, few: Telco, tmp_path: Path) -> None:
    """The page names the model, its AUC and its segments, and its figure is there."""
    parity = build_artefacts(churn).parity

    write_report(tmp_path / "report.md", models=(Trained(churn, parity, None),), telco=few, dpi=40)

    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert all(word in page for word in ("## churn (not published)", "`auc_test`", "senior_citizen = yes"))
    assert (tmp_path / "figures/churn.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_stops_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that cannot go on ends with exit code 1 and says why."""
    monkeypatch.setattr("sys.argv", ["training", "data", "--schema", str(tmp_path / "none.toml")])

    with pytest.raises(SystemExit) as stopped:
        main()

    assert stopped.value.code == 1
    assert "cannot be read" in capsys.readouterr().err
