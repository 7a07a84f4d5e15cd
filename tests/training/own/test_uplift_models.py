"""Uplift models: a planted effect is found, none is not, and a treatment that was not random is told."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gym_company import write_plan
from typer.testing import Result

from engine.models.errors import ModelRefused
from engine.models.loading import load_model
from engine.models.scorer import build_scorer
from feature_store.schema import load_schema
from model_registry import open_version, promote
from training.boosting import contributions, log_odds
from training.errors import DataRefused, GateFailed
from training.evaluation.uplift import Trial, curve_of, effect_of, effects_by_tenth, qini_of
from training.own.card import model_card
from training.own.plan import TrainingPlan
from training.own.registering import register
from training.own.run import TrainedModel, prepare, train
from training.own.seam import report_html
from training.own.uplift_evidence import UpliftEvidence
from training.parity import run_onnx
from training.trial import TrueTrial, drawn_trial, write_trial

ROWS = 8_000


def uplift_plan(**task: Any) -> dict[str, Any]:
    """A plan for the trial; keyword arguments change the task."""
    return {
        "apiVersion": "arbiter/v1",
        "kind": "TrainingPlan",
        "metadata": {"name": "discount", "owner": "shop", "intended_use": "Whom to offer the discount."},
        "data": {"path": "trial.csv", "id": "customer_id", "label": "bought"},
        "task": {"kind": "uplift", "treatment": "discount", **task},
        "features": {"data_class": "contractual"},
        "model": {"max_trees": 60, "learning_rate": 0.1},
        "segments": ["channel", "months"],
        "fairness": {"attributes": ["channel"]},
    }


def model_of(folder: Path, trial: TrueTrial) -> TrainedModel:
    write_trial(folder / "trial.csv", trial)
    return train(prepare(TrainingPlan.model_validate(uplift_plan()), folder=folder))


def evidence_of(model: TrainedModel) -> UpliftEvidence:
    assert isinstance(model.evidence, UpliftEvidence)
    return model.evidence


def true_area(uplift: np.ndarray, scores: np.ndarray) -> float:
    """The Qini coefficient that targeting by the scores really has."""
    gains = np.concatenate([[0.0], np.cumsum(uplift[np.argsort(-scores, kind="stable")])]) / len(uplift)
    return float(((gains[1:] + gains[:-1]) / 2.0).mean() - gains[-1] / 2.0)


@pytest.fixture(scope="module")
def truth() -> TrueTrial:
    return drawn_trial(ROWS)


@pytest.fixture(scope="module")
def model(truth: TrueTrial, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return model_of(tmp_path_factory.mktemp("trial"), truth)


# ------------------------------------------------------------------------------------- the truth


def test_a_planted_effect_is_found(model: TrainedModel, truth: TrueTrial) -> None:
    """The interval of the Qini coefficient holds the true one, most of the best that there is."""
    found = evidence_of(model)
    uplift = truth.uplift[model.prepared.examples.rows[model.prepared.parts.test]]

    reached, best = true_area(uplift, found.scores), true_area(uplift, uplift)

    assert found.qini.model.low > 0.0
    assert found.qini.model.low <= reached <= found.qini.model.high
    assert reached >= 0.8 * best
    assert all(gate.passed for gate in model.gates)


def test_promised_uplift_is_the_true_one(model: TrainedModel, truth: TrueTrial) -> None:
    """On average, near it for each customer, and in proportion."""
    found = evidence_of(model)
    uplift = truth.uplift[model.prepared.examples.rows[model.prepared.parts.test]]

    assert np.corrcoef(found.scores, uplift)[0, 1] > 0.8
    assert found.scores.mean() == pytest.approx(uplift.mean(), abs=0.03)
    assert found.qini.slope.low <= 1.0 <= found.qini.slope.high


def test_a_response_model_is_worse_by_what_it_is(model: TrainedModel, truth: TrueTrial) -> None:
    """Who buys anyway is called by it; the interval of the gain holds the true one."""
    found = evidence_of(model)
    uplift = truth.uplift[model.prepared.examples.rows[model.prepared.parts.test]]

    gain = true_area(uplift, found.scores) - true_area(uplift, found.response)

    assert gain > 0.005
    assert found.qini.gain.low <= gain <= found.qini.gain.high


def test_whom_it_says_to_treat_gains(model: TrainedModel, truth: TrueTrial) -> None:
    """Surely above 0 among them, and more than among all; sleeping dogs are let lie."""
    found = evidence_of(model)
    worth = found.worth_treating

    treated = effect_of(found.trial.where(worth), found.scores[worth])
    let_lie = effect_of(found.trial.where(found.scores < -0.05), found.scores[found.scores < -0.05])

    assert treated.uplift.low > found.overall.uplift.high
    assert let_lie.uplift.high < 0.0


def test_no_effect_is_not_found(tmp_path: Path) -> None:
    """The interval holds 0, and nothing is registered."""
    model = model_of(tmp_path, drawn_trial(ROWS, seed=21, effect=0.0))

    qini = evidence_of(model).qini.model

    assert qini.low <= 0.0 <= qini.high
    with pytest.raises(GateFailed, match="Qini coefficient, lower end"):
        register(model, registry=tmp_path / "reg", alias=None, created="2026-01-01", code="1", pages={})
    assert not (tmp_path / "reg").exists()


# ------------------------------------------------------------------------------------- the measures


def test_random_scores_have_an_interval_around_nothing(truth: TrueTrial) -> None:
    """And the order of the true uplift has its own area inside the interval."""
    trial = Trial(truth.bought, truth.treated, np.full(ROWS, truth.treated.mean()))
    noise = np.random.default_rng(1).random(ROWS)

    found = qini_of(trial, truth.uplift, noise, seed=1)

    assert found.rival.low < 0.0 < found.rival.high
    assert found.model.low <= true_area(truth.uplift, truth.uplift) <= found.model.high
    assert found.gain.low > 0.0


def test_the_curve_by_hand() -> None:
    """Four customers: the first treated one buys, the last untreated one too."""
    trial = Trial(np.array([1.0, 0.0, 0.0, 1.0]), np.array([1.0, 0.0, 1.0, 0.0]), np.full(4, 0.5))

    curve = curve_of(trial, np.array([4.0, 3.0, 2.0, 1.0]))

    np.testing.assert_allclose(curve.shares, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.gains, [0, 0, 0.5, 0.375, 0])
    assert curve.area == pytest.approx(0.25 * 0.875)


def test_rows_of_one_score_have_one_place(truth: TrueTrial) -> None:
    """A score that tells nothing is targeting at random, in whatever order the rows stand."""
    trial = Trial(truth.bought, truth.treated, np.full(ROWS, 0.5))

    assert curve_of(trial, np.zeros(ROWS)).area == pytest.approx(0.0, abs=1e-12)


def test_unequal_chances_are_weighed() -> None:
    """Customers who buy more were treated more often; by their chances the effect is seen as it is."""
    rng = np.random.default_rng(5)
    keen = rng.random(40_000) < 0.5
    chances = np.where(keen, 0.8, 0.2)
    treated = (rng.random(40_000) < chances).astype(np.float64)
    bought = (rng.random(40_000) < 0.2 + 0.4 * keen + 0.1 * treated).astype(np.float64)

    weighed = effect_of(Trial(bought, treated, chances), keen.astype(np.float64))
    blind = effect_of(Trial(bought, treated, np.full(40_000, 0.5)), keen.astype(np.float64))

    assert weighed.uplift.low <= 0.1 <= weighed.uplift.high
    assert blind.uplift.low > 0.2


def test_an_empty_arm_has_no_effect() -> None:
    """No number is told rather than a wrong one."""
    effects = effects_by_tenth(
        Trial(np.ones(20), np.repeat([1.0, 0.0], 10), np.full(20, 0.5)), -np.arange(20.0)
    )

    assert np.isnan(effects[0].uplift.value)
    assert effects[0].rows == 2


# ------------------------------------------------------------------------------- was it a trial at all


def chosen_by_fee(trial: TrueTrial, *, strength: float) -> TrueTrial:
    """The same customers, treated the more the more they pay; the chance is told as `months`."""
    chances = np.clip(0.5 + strength * (trial.fee - 60.0) / 30.0, 0.05, 0.95).round(3)
    treated = (np.random.default_rng(8).random(len(chances)) < chances).astype(np.float64)
    return TrueTrial(trial.visits, trial.fee, trial.months, trial.channel, chances, treated, trial.bought)


def test_random_treatment_has_no_sign(model: TrainedModel) -> None:
    """The inputs do not tell who was treated."""
    metrics = model.candidate.metrics

    assert model.prepared.signs == ()
    assert metrics["treatment_auc"] == pytest.approx(0.5, abs=0.03)


def test_treatment_that_follows_an_input_stops_the_run(truth: TrueTrial, tmp_path: Path) -> None:
    """With the figure, the input, and what to do."""
    write_trial(tmp_path / "trial.csv", chosen_by_fee(truth, strength=0.6))

    signs = prepare(TrainingPlan.model_validate(uplift_plan()), folder=tmp_path).signs

    guessed, unbalanced = signs
    assert (guessed.column, guessed.kind, guessed.severe) == ("discount", "treatment", True)
    assert "with an AUC of 0.7" in guessed.evidence
    assert (unbalanced.column, unbalanced.kind, unbalanced.severe) == ("fee", "balance", False)
    assert "standard deviations between treated and untreated" in unbalanced.evidence


def test_known_chances_make_it_a_trial_again(truth: TrueTrial, tmp_path: Path) -> None:
    """Weighed by them nothing tells who was treated."""
    chosen = chosen_by_fee(truth, strength=0.6)
    path = write_trial(tmp_path / "trial.csv", chosen)
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    told = [f"{line},{chance}" for line, chance in zip(lines, chosen.uplift, strict=True)]
    path.write_text("\n".join([f"{head},odds", *told]) + "\n", encoding="utf-8")

    prepared = prepare(TrainingPlan.model_validate(uplift_plan(chance="odds")), folder=tmp_path)

    assert prepared.signs == ()
    assert "odds" not in prepared.examples.features


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("odds", "1.2", "line 2: no chance of treatment from 0.01 to 0.99"),
        ("discount", "", "line 2: has no treatment; leave such rows out"),
        ("discount", "perhaps", "3 values.*; a treatment has two"),
    ],
)
def test_what_is_no_trial_is_refused(
    column: str, cell: str, words: str, truth: TrueTrial, tmp_path: Path
) -> None:
    """Naming the line."""
    path = write_trial(tmp_path / "trial.csv", truth)
    head, first, *lines = path.read_text(encoding="utf-8").splitlines()
    names = [*head.split(","), "odds"]
    cells = [*first.split(","), "0.5"]
    cells[names.index(column)] = cell
    rows = [",".join(names), ",".join(cells), *(f"{line},0.5" for line in lines)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")

    with pytest.raises(DataRefused, match=words):
        prepare(TrainingPlan.model_validate(uplift_plan(chance="odds")), folder=tmp_path)


def test_too_small_an_arm_is_refused(tmp_path: Path) -> None:
    """With how many rows of which arm the part has."""
    write_trial(tmp_path / "trial.csv", drawn_trial(2_000, chance=0.02))

    with pytest.raises(DataRefused, match=r"the test part has .* treated rows"):
        prepare(TrainingPlan.model_validate(uplift_plan()), folder=tmp_path)


# ------------------------------------------------------------------------------------- what comes of it


def test_a_registered_uplift_model_proves_itself(model: TrainedModel, tmp_path: Path) -> None:
    """ONNX, golden rows and Shapley values; the outcome, treatment and chance of the test rows are kept."""
    register(model, registry=tmp_path, alias=None, created="2026-01-01", code="1", pages={})
    published = open_version(tmp_path, "discount", 1)
    rows = model.task.test.rows

    loaded = load_model(published)

    margins, uplifts = run_onnx(published.read("model.onnx"), rows, output="uplift")
    np.testing.assert_array_equal(margins, log_odds(model.candidate.booster, rows))
    np.testing.assert_allclose(uplifts, np.clip(margins, -1, 1), atol=1e-6)
    shares = contributions(model.candidate.booster, rows[:50])
    np.testing.assert_allclose(loaded.shapley.contributions_of_many(rows[:50]), shares, atol=1e-9)
    held = np.load(io.BytesIO(published.read("holdout.npz")))
    assert set(held) == {"rows", "labels", "treated", "chances"}
    manifest = published.manifest
    assert (manifest.kind, manifest.format, dict(manifest.calibration)) == ("uplift", 2, {})
    assert {"channel=app", "channel=shop", "channel=web"} <= set(manifest.segments)
    assert set(manifest.fairness["channel"]) == {"gap_selection", "gap_promise"}


def test_the_server_refuses_it_by_name(model: TrainedModel, tmp_path: Path) -> None:
    """Where it stands in a name that the server scores."""
    published = {**uplift_plan(), "metadata": {"name": "churn", "owner": "x", "intended_use": "y"}}
    plan = TrainingPlan.model_validate(published)
    renamed = train(prepare(plan, folder=model.prepared.folder))
    register(renamed, registry=tmp_path, alias=None, created="2026-01-01", code="1", pages={})
    promote(tmp_path, "churn", 1, alias="champion", reason="by mistake")
    schema = load_schema(tmp_path / "churn/1/schema.toml")

    with pytest.raises(ModelRefused, match="model of kind uplift, which this server does not score"):
        build_scorer(registry_root=tmp_path, schema=schema, actions=(), allow_missing=True)


def test_report_and_card_say_what_it_is_worth(model: TrainedModel) -> None:
    """Curves, policy, groups and gates; the same bytes each time."""
    page = report_html(model, version="1", made="2026-01-01").decode()
    card = model_card(model)

    for words in ("Qini curve", "Uplift by tenth", "What to do with it", "channel = app", "response model"):
        assert words in page
    assert page.count("<figure") == 6
    assert page.encode() == report_html(model, version="1", made="2026-01-01")
    assert "Of a single customer nobody ever sees both" in card
    assert "channel=app" in card


def test_the_command_trains_it(
    truth: TrueTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Result]
) -> None:
    """And says its figures."""
    write_trial(tmp_path / "trial.csv", truth)
    write_plan(tmp_path, uplift_plan())
    monkeypatch.chdir(tmp_path)

    result = run("train", "plan.yaml", "--registry", "reg")

    assert result.exit_code == 0, result.output
    assert "Qini coefficient" in result.stdout
    assert "discount/1 registered" in result.stdout
