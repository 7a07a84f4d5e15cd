"""Models of customers' value: the known expectation is found, in any currency, and outliers count as told."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.models.errors import ModelRefused
from engine.models.loading import load_model
from model_registry import open_version, publish
from training.boosting import log_odds
from training.errors import DataRefused
from training.evaluation.value import errors_of, gini_gain, gini_of, lorenz, rank_correlation, tenths_of
from training.own.card import model_card
from training.own.plan import TrainingPlan
from training.own.registering import files_of, manifest_fields, register
from training.own.run import TrainedModel, prepare, train
from training.own.seam import report_html
from training.own.value_evidence import ValueEvidence
from training.parity import run_onnx
from training.purchases import TruePurchases, drawn_purchases, write_purchases
from training.trees import npz_bytes

ROWS = 5_000


def value_plan(**task: Any) -> dict[str, Any]:
    """A plan for the purchases; keyword arguments change the task."""
    return {
        "apiVersion": "arbiter/v1",
        "kind": "TrainingPlan",
        "metadata": {"name": "worth", "owner": "shop", "intended_use": "What keeping customers may cost."},
        "data": {"path": "purchases.csv", "id": "customer_id", "label": "spent_next_year"},
        "task": {"kind": "value", "currency": "CHF", "horizon_days": 365, **task},
        "features": {"data_class": "contractual"},
        "model": {"max_trees": 120, "learning_rate": 0.1},
        "segments": ["region"],
        "fairness": {"attributes": ["region"]},
    }


def model_of(folder: Path, purchases: TruePurchases, **task: Any) -> TrainedModel:
    write_purchases(folder / "purchases.csv", purchases)
    return train(prepare(TrainingPlan.model_validate(value_plan(**task)), folder=folder))


def evidence_of(model: TrainedModel) -> ValueEvidence:
    assert isinstance(model.evidence, ValueEvidence)
    return model.evidence


def expected_of(model: TrainedModel, purchases: TruePurchases) -> np.ndarray:
    """What the test customers are expected to spend."""
    return purchases.expected[model.prepared.examples.rows[model.prepared.parts.test]]


@pytest.fixture(scope="module")
def truth() -> TruePurchases:
    return drawn_purchases(ROWS)


@pytest.fixture(scope="module")
def model(truth: TruePurchases, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return model_of(tmp_path_factory.mktemp("purchases"), truth)


def test_the_true_expectation_is_found(model: TrainedModel, truth: TruePurchases) -> None:
    """Ranked as it is, of its size in every tenth, and better than a linear regression."""
    found, expected = evidence_of(model), expected_of(model, truth)

    tenths = tenths_of(expected, found.predicted)

    assert rank_correlation(expected, found.predicted) > 0.95
    assert all(0.8 < tenth.ratio < 1.25 for tenth in tenths)
    assert found.predicted.sum() == pytest.approx(expected.sum(), rel=0.05)
    assert found.gini[1].low > 0.0
    assert errors_of(found.counted, found.predicted).rmse < errors_of(found.counted, found.baseline).rmse
    assert all(gate.passed for gate in model.gates)


@pytest.mark.parametrize("objective", ["gamma", "lognormal"])
def test_amounts_that_are_never_0(objective: str, tmp_path: Path) -> None:
    """Both alternatives find means, the lognormal one too, whose trees are of logarithms."""
    truth = drawn_purchases(ROWS, zeros=False)

    model = model_of(tmp_path, truth, objective=objective)

    found, expected = evidence_of(model), expected_of(model, truth)
    assert rank_correlation(expected, found.predicted) > 0.95
    assert found.predicted.sum() == pytest.approx(expected.sum(), rel=0.05)


def test_a_model_knows_no_currency(model: TrainedModel, truth: TruePurchases, tmp_path: Path) -> None:
    """In centimes the same trees make a hundred times the amounts."""
    cheap = replace(truth, spent=truth.spent * 100.0)

    in_centimes = evidence_of(model_of(tmp_path, cheap)).predicted

    np.testing.assert_allclose(in_centimes, 100.0 * evidence_of(model).predicted, rtol=0.02)


def test_outliers_count_as_the_quantile_only_where_told(truth: TruePurchases, tmp_path: Path) -> None:
    """One customer in 200 has a million: capped, the total is near the others'; what is kept is whole."""
    spent = truth.spent.copy()
    spent[7::200] = 1e6
    outliers = replace(truth, spent=spent)

    capped = model_of(tmp_path, outliers, winsorise=0.99)

    found = evidence_of(capped)
    assert found.cap is not None
    assert found.cap < 2_000
    assert found.counted.max() == pytest.approx(found.cap)
    assert found.amounts.max() == 1e6
    assert found.predicted.sum() == pytest.approx(expected_of(capped, truth).sum(), rel=0.1)
    assert "quantile 0.99" in capped.candidate.training_data["winsorised"]
    assert "count as" in report_html(capped, version="", made="").decode()


@pytest.mark.parametrize(
    ("cell", "task", "words"),
    [
        ("-3", {}, "line 3: is no amount from 0"),
        ("", {}, "line 3: is no amount from 0"),
        ("much", {}, "line 3: is no amount from 0"),
        ("inf", {}, "line 3: is no amount from 0"),
        ("0", {"objective": "gamma"}, "is 0, which gamma does not know; say `objective: tweedie`"),
    ],
)
def test_what_is_no_amount_is_refused(
    cell: str, task: dict[str, str], words: str, truth: TruePurchases, tmp_path: Path
) -> None:
    """Naming the line."""
    path = write_purchases(tmp_path / "purchases.csv", truth)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2].rpartition(",")[0] + f",{cell}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    with pytest.raises(DataRefused, match=words):
        prepare(TrainingPlan.model_validate(value_plan(**task)), folder=tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"task": {"kind": "value"}}, "value needs `currency`"),
        ({"task": {"kind": "value", "currency": "CHF", "treatment": "x"}}, "value knows no `treatment`"),
        ({"task": {"kind": "uplift"}}, "uplift needs `treatment`"),
        ({"model": {"search": {"trials": 2}}}, "`model.search` knows no value"),
        ({"data": {"path": "a", "id": "b", "label": "c", "positive": 1}}, "those of `value` are amounts"),
    ],
)
def test_plans_that_cannot_be_are_refused(changed: dict[str, Any], words: str) -> None:
    """Each with what is wrong."""
    with pytest.raises(ValueError, match=words):
        TrainingPlan.model_validate({**value_plan(), **changed})


def test_a_registered_value_model_proves_itself(model: TrainedModel, tmp_path: Path) -> None:
    """The graph gives the exponential of LightGBM's margin; held-out amounts are kept as they were."""
    register(model, registry=tmp_path, alias=None, created="2026-01-01", code="1", pages={})
    published = open_version(tmp_path, "worth", 1)
    rows = model.task.test.rows

    load_model(published)

    margins, values = run_onnx(published.read("model.onnx"), rows, output="value")
    np.testing.assert_array_equal(margins, log_odds(model.candidate.booster, rows))
    np.testing.assert_allclose(values, np.exp(margins), rtol=1e-6)
    held = np.load(io.BytesIO(published.read("holdout.npz")))
    np.testing.assert_array_equal(held["labels"], evidence_of(model).amounts)
    assert published.manifest.training_data["currency"] == "CHF"
    assert set(published.manifest.fairness["region"]) == {"gap_selection", "gap_ratio"}


def test_a_value_model_with_a_calibration_is_refused(model: TrainedModel, tmp_path: Path) -> None:
    """Its scores would be other than they say."""
    fields = manifest_fields(model, created="2026-01-01", code="1", champion=None)
    publish(tmp_path, {**fields, "calibration": {"slope": 1.0, "intercept": 0.0}}, files_of(model))

    with pytest.raises(ModelRefused, match="a model of kind value has no calibration"):
        load_model(open_version(tmp_path, "worth", 1))


def test_golden_amounts_of_another_model_are_refused(model: TrainedModel, tmp_path: Path) -> None:
    """By a millionth of the amount, which float32 could tell."""
    fields = manifest_fields(model, created="2026-01-01", code="1", champion=None)
    files = files_of(model)
    golden = dict(np.load(io.BytesIO(files["golden.npz"])))
    other = npz_bytes({**golden, "value": golden["value"] * (1.0 + 3e-6)})
    publish(tmp_path, fields, {**files, "golden.npz": other})

    with pytest.raises(ModelRefused, match="does not reproduce: value is off by"):
        load_model(open_version(tmp_path, "worth", 1))


def test_report_and_card_say_what_it_is_worth(model: TrainedModel) -> None:
    """Curves, sums by tenth, errors in the currency and groups."""
    page = report_html(model, version="1", made="2026-01-01").decode()
    card = model_card(model)

    for words in ("Value captured", "Errors in CHF", "region = town", "linear regression"):
        assert words in page
    assert page.count("<figure") == 6
    assert "region=town" in card
    assert "amounts of single customers scatter widely" in card


def test_measures_by_hand() -> None:
    """The best order has a Gini coefficient of 1, the worst of -1, one score for all of 0."""
    amounts = np.array([0.0, 1.0, 2.0, 7.0])

    shares, captured = lorenz(amounts, amounts)

    np.testing.assert_allclose(shares, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(captured, [0, 0.7, 0.9, 1, 1])
    assert gini_of(amounts, amounts) == pytest.approx(1.0)
    assert gini_of(amounts, -amounts) == pytest.approx(-1.0)
    assert gini_of(amounts, np.zeros(4)) == pytest.approx(0.0)
    errors = errors_of(amounts, np.array([1.0, 1.0, 1.0, 5.0]))
    assert (errors.mae, errors.rmse) == (1.0, pytest.approx(np.sqrt(6 / 4)))
    assert errors.mape == pytest.approx((0 + 1 / 2 + 2 / 7) / 3)
    assert rank_correlation(amounts, np.zeros(4)) == 0.0


def test_a_rival_of_the_same_order_is_no_worse() -> None:
    """The gain over it is 0, and so is its interval."""
    amounts = np.random.default_rng(3).gamma(1.0, 10.0, 500)

    own, gain = gini_gain(amounts, amounts, 2.0 * amounts, seed=1)

    assert own.value == pytest.approx(1.0)
    assert (gain.low, gain.value, gain.high) == (0.0, 0.0, 0.0)
