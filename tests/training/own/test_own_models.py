"""Models of own tables: exact in ONNX with every calibration, reproducible, and registered once."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gym_company import OFFERS, churn_plan, members, offer_plan, write_csv, write_offers, write_plan
from pydantic import ValidationError
from typer.testing import Result

from engine.models.loading import load_model
from model_registry import open_alias, open_version
from training.boosting import log_odds
from training.calibration import Isotonic, Platt, fit_calibration, fit_isotonic, fit_platt, sigmoid
from training.errors import PlanRefused
from training.export import to_onnx
from training.own.card import model_card
from training.own.lineage import config_digest
from training.own.plan import Register, TrainingPlan
from training.own.registering import files_of, manifest_fields, register
from training.own.run import TrainedModel, prepare, train
from training.own.words import reasons_yaml
from training.parity import parity_rows, run_onnx

DAY = "2026-01-31"


def trained(folder: Path, **plan: Any) -> TrainedModel:
    """A churn model of a changed plan."""
    return train(prepare(TrainingPlan.model_validate(churn_plan(**plan)), folder=folder))


def registered(model: TrainedModel, registry: Path) -> tuple[int, bool]:
    """Version, and whether anything changed."""
    done = register(model, registry=registry, alias="challenger", created=DAY, code="1", pages={})
    return done.version, done.changed


# ------------------------------------------------------------------------------------- calibration


def test_an_isotonic_model_is_exact_and_never_falls(churn_model: TrainedModel, gym_folder: Path) -> None:
    """In ONNX the margins are LightGBM's, probabilities within 1e-6, and a higher margin never gets less."""
    model = trained(gym_folder, calibration={"method": "isotonic"})
    content = model.artefacts.files["model.onnx"]

    margins, probabilities = run_onnx(content, parity_rows(model.candidate))

    assert isinstance(model.candidate.calibration, Isotonic)
    expected = model.candidate.calibration.score(margins)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6)
    assert (np.diff(probabilities[np.argsort(margins, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("seed", range(8))
def test_the_graph_of_any_steps_rises_and_is_their_line(churn_model: TrainedModel, seed: int) -> None:
    """For knots as near as margins can be and far apart, with flat parts, on the margins of the test rows."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 40))
    gaps = np.where(rng.random(count) < 0.3, 1, rng.integers(1, 1 << 18, count))
    knots = (np.cumsum(gaps) * 2.0**-18 - 4.0).astype(np.float32)
    heights = np.sort(np.round(rng.random(count), int(rng.integers(1, 6)))).astype(np.float32)
    steps = Isotonic(tuple(knots.tolist()), tuple(heights.tolist()))
    candidate = churn_model.candidate
    content = to_onnx(candidate.booster, trees=candidate.trees, calibration=steps, name="m")

    margins, probabilities = run_onnx(content, candidate.task.test.rows)

    np.testing.assert_allclose(probabilities, steps.probability(margins), rtol=0, atol=1e-6)
    assert (np.diff(probabilities[np.argsort(margins, kind="stable")]) >= 0).all()


def test_auto_takes_what_fits_the_validation_rows() -> None:
    """A line where a line made the labels; steps where the rate jumps twice."""
    rng = np.random.default_rng(2)
    margins = rng.normal(0, 2, 6000)
    on_a_line = (rng.random(6000) < sigmoid(0.8 * margins - 0.2)).astype(np.float64)
    on_steps = (rng.random(6000) < 0.1 + 0.4 * (margins > -1) + 0.4 * (margins > 1)).astype(np.float64)

    kinds = [
        type(fit_calibration(margins=margins, labels=labels, method="auto", seed=1))
        for labels in (on_a_line, on_steps)
    ]

    assert kinds == [Platt, Isotonic]


def test_isotonic_rates_are_those_of_the_rows() -> None:
    """Within what a thirtieth of the rows leaves open."""
    rng = np.random.default_rng(3)
    margins = rng.normal(0, 2, 30_000)
    labels = (rng.random(30_000) < 0.1 + 0.8 * (margins > 0)).astype(np.float64)

    steps = fit_isotonic(margins=margins, labels=labels)

    np.testing.assert_allclose(steps.probability(np.array([-3.0, 3.0])), [0.1, 0.9], atol=0.02)


def test_labels_of_one_rate_give_a_flat_line() -> None:
    """No knot but one: every margin has the overall rate."""
    steps = fit_isotonic(margins=np.linspace(1, 0, 100), labels=np.tile([1.0, 0.0], 50))

    assert steps.probability(np.array([-5.0, 5.0])) == pytest.approx(0.5, abs=0.02)


def test_labels_that_a_margin_parts_cleanly_are_calibrated() -> None:
    """The steepest line would be infinite; probabilities are near 0 and 1 instead, and in order."""
    margins = np.linspace(-3, 3, 200)

    platt = fit_platt(margins=margins, labels=(margins > 0.01).astype(np.float64))

    low, high = platt.probability(np.array([-3.0, 3.0]))
    assert 0 < low < 0.02
    assert 0.98 < high < 1


# ------------------------------------------------------------------------------------- registering


def test_the_same_plan_and_data_give_the_same_bytes(churn_model: TrainedModel, gym_folder: Path) -> None:
    """Every file of the version, calibration and drafts included."""
    again = trained(gym_folder)

    assert files_of(again) == files_of(churn_model)


def test_another_seed_gives_another_model(churn_model: TrainedModel, gym_folder: Path) -> None:
    """So the seed is what is told to be the seed."""
    other = trained(gym_folder, seed=2)

    assert files_of(other)["model.onnx"] != files_of(churn_model)["model.onnx"]


def test_the_same_model_is_registered_once(gym_folder: Path, tmp_path: Path) -> None:
    """A second run finds it, with its alias; another seed is the next version."""
    lenient = {"gates": {"behind_baseline_at_most": 0.1}}
    model, other = trained(gym_folder, **lenient), trained(gym_folder, seed=2, **lenient)

    done = [registered(each, tmp_path) for each in (model, model, other)]

    assert done == [(1, True), (1, False), (2, True)]
    assert open_alias(tmp_path, "churn", "challenger").manifest.version == 2


def test_a_version_says_where_it_comes_from(gym_folder: Path, tmp_path: Path) -> None:
    """Plan, code, seeds, libraries and data; segments, fairness and the rows that gates compare on."""
    plan = {"segments": ["Plan", "MonthlyFee"], "fairness": {"attributes": ["Plan"]}}
    model = trained(gym_folder, **plan, gates={"behind_baseline_at_most": 0.1})
    registered(model, tmp_path)

    published = open_version(tmp_path, "churn", 1)

    manifest = published.manifest
    assert manifest.lineage is not None
    assert manifest.lineage.config == config_digest(model.prepared.plan)
    assert manifest.lineage.data.fingerprint == model.prepared.table.digest
    assert {"Plan=flex", "Plan=year", "Plan=student"} <= set(manifest.segments)
    assert sum(bool(name.startswith("MonthlyFee=")) for name in manifest.segments) == 4
    assert "gap_auc" in manifest.fairness["Plan"]
    held = np.load(io.BytesIO(published.read("holdout.npz")))
    np.testing.assert_array_equal(held["rows"], model.task.test.rows)
    np.testing.assert_array_equal(held["labels"], model.task.test.labels)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_registered_model_proves_itself_to_the_server(
    method: str, gym_folder: Path, tmp_path: Path
) -> None:
    """Golden rows, Shapley values and the calibration that the manifest tells."""
    gates = {"behind_baseline_at_most": 0.1, "ece_at_most": 0.2}
    registered(trained(gym_folder, calibration={"method": method}, gates=gates), tmp_path)

    model = load_model(open_version(tmp_path, "churn", 1))

    assert (model.manifest.isotonic is not None) == (method == "isotonic")


def test_what_decides_nothing_is_not_in_the_digest_of_the_plan() -> None:
    """Where it is registered and where the data lies; everything else is."""
    digests = [
        config_digest(TrainingPlan.model_validate(churn_plan(**changed)))
        for changed in ({}, {"register": {"registry": "x"}}, {"data": {"path": "y.csv"}}, {"seed": 3})
    ]

    assert digests[0] == digests[1] == digests[2] != digests[3]


# ------------------------------------------------------------------------------- kinds and options


def test_properties_of_offers_are_inputs(offer_model: TrainedModel) -> None:
    """The price as it is, the kind as one input for each; the same values stand in the manifest."""
    names = [i.name for i in offer_model.task.inputs if i.source == "action"]

    assert names == ["action.price", "action.kind=food", "action.kind=sport", "action.kind=wellness"]
    prices = {offer: values["action.price"] for offer, values in offer_model.task.actions.items()}
    assert prices == {offer: price for offer, (price, _) in OFFERS.items()}
    column = [i.name for i in offer_model.task.inputs].index("action.price")
    of_test = {
        offer_model.task.targets[target]: float(row[column])
        for target, row in zip(offer_model.task.test.targets, offer_model.task.test.rows, strict=True)
    }
    assert of_test == prices


def test_one_customers_offers_are_in_one_part(offer_model: TrainedModel) -> None:
    """Nobody is learnt from with one offer and tested with another."""
    seen, tested = set(offer_model.task.seen.customers), set(offer_model.task.test.customers)

    assert not seen & tested


def test_a_search_is_reproducible_and_no_worse_on_validation(gym_folder: Path) -> None:
    """The same trials give the same recipe, and the first is the plan's own."""
    search = {"model": {"search": {"trials": 4, "minutes": 10}}}

    one, other = trained(gym_folder, **search), trained(gym_folder, **search)

    assert one.recipe == other.recipe
    assert one.searched is not None
    assert one.searched.best <= one.searched.before
    assert (one.searched.trials, one.searched.stopped) == (4, False)


def test_a_search_ends_when_its_time_is_over(gym_folder: Path) -> None:
    """After the trial that is under way, and the run says so."""
    model = trained(gym_folder, model={"search": {"trials": 1000, "minutes": 0.0001}})

    assert model.searched is not None
    assert (model.searched.trials, model.searched.stopped) == (1, True)


def test_a_search_without_its_library_says_what_to_install(
    gym_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the field of the plan that asks for it."""
    monkeypatch.setitem(sys.modules, "optuna", None)

    with pytest.raises(
        PlanRefused, match=r"model\.search: needs optuna, .*pip install 'arbiter-nba\[training\]'"
    ):
        trained(gym_folder, model={"search": {"trials": 2}})


def test_by_time_the_latest_rows_test(tmp_path: Path) -> None:
    """A label of a horizon, split by time: no cross-validation, which would learn from the future."""
    rng = np.random.default_rng(1)
    rows = [
        {name: value for name, value in row.items() if name != "Left"}
        | {
            "At": f"2026-{int(rng.integers(1, 7)):02d}-{int(rng.integers(1, 28)):02d}",
            "Gone": "",
        }
        for row in members(1500)
    ]
    for row, member in zip(rows, members(1500), strict=True):
        if member["Left"] == "yes":  # the day after
            row["Gone"] = f"{row['At'][:8]}{int(row['At'][8:]) + 1:02d}"
    write_csv(tmp_path / "members.csv", rows)
    changed = churn_plan(
        data={"label": None, "positive": None, "time": "At"},
        task={"event": "Gone", "horizon_days": 14, "observed_until": "2026-12-31"},
        split={"by": "time"},
        evaluation={"folds": 5},
    )

    model = train(prepare(TrainingPlan.model_validate(changed), folder=tmp_path))

    examples, parts = model.prepared.examples, model.prepared.parts
    assert examples.from_ms is not None
    assert examples.from_ms[parts.train].max() < examples.from_ms[parts.test].min()
    assert model.crossed is None
    assert "rows left out whose labels look into the next part" in parts.words
    assert "It was tested on later rows than it was trained on." in model_card(model)
    assert manifest_fields(model, created=DAY, code="1", champion=None)["lineage"]["data"]["from"] == (
        "2026-01-01T00:00:00.000Z"
    )


def test_groups_of_the_plan_stay_together(tmp_path: Path) -> None:
    """Households, of which no member is tested where another was learnt from."""
    write_csv(tmp_path / "members.csv", [row | {"Home": f"H{i // 3}"} for i, row in enumerate(members())])
    plan = churn_plan(split={"by": "group", "group": "Home"})

    prepared = prepare(TrainingPlan.model_validate(plan), folder=tmp_path)

    homes = prepared.examples.cells(prepared.table, "Home")
    held = [{homes[row] for row in rows} for rows in prepared.parts.named.values()]
    assert sum(map(len, held)) == 300
    assert "whole groups" in prepared.parts.words


def test_cross_validation_measures_every_row_by_models_that_did_not_see_it(gym_folder: Path) -> None:
    """Beside the logistic regression, on the same folds."""
    model = trained(gym_folder, evaluation={"folds": 4})

    crossed = model.crossed

    assert crossed is not None
    assert sorted(set(crossed.folds.tolist())) == [0, 1, 2, 3]
    assert np.isfinite(crossed.margins).all()
    again = log_odds(model.candidate.booster, model.task.test.rows)
    of_test = crossed.margins[model.prepared.parts.test]
    assert not np.array_equal(again, of_test)
    assert {"cv_auc", "cv_ece", "baseline_cv_auc"} <= set(model.candidate.metrics)


def test_the_card_says_what_the_model_is_for_and_how_it_does(gym_folder: Path) -> None:
    """Use, limits, inputs by class of personal data, figures beside the regression, gates and groups."""
    model = trained(gym_folder, segments=["Plan"], features={"data_classes": {"billing": ["MonthlyFee"]}})

    card = model_card(model)

    metrics = model.candidate.metrics
    assert "Whom to call. Not for prices." in card
    assert "billing: `monthly_fee`" in card
    assert f"| `auc_test` | {metrics['auc_test']:.4f} | {metrics['baseline_auc_test']:.4f} |" in card
    assert "| Plan = flex |" in card
    assert "nothing here says how it does a year on" in card


def test_concepts_of_the_plan_are_told_as_one(gym_folder: Path) -> None:
    """Drafts of words in every language asked for; what is not grouped stands alone."""
    plan = TrainingPlan.model_validate(
        churn_plan(concepts={"money": ["MonthlyFee", "Plan"]}, languages=["en", "fr"])
    )
    prepared = prepare(plan, folder=gym_folder)
    model = train(prepared)

    concepts = {c.name: c.inputs for c in model.task.concepts}
    words = reasons_yaml(plan, model.task.concepts, prepared.kind.outcome)

    assert concepts["money"] == ("monthly_fee", "plan")
    assert concepts["visits"] == ("visits",)
    assert "CHURN_MONEY_RAISES" in words
    assert "Money raises the risk of leaving: {value} (typical: {typical})." in words
    assert "« Money » augmente le risque de départ" in words


# ------------------------------------------------------------------------------------- the command


def test_the_command_says_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Result]
) -> None:
    """Types, figures beside the logistic regression, gates, the version, and how to feed it."""
    write_csv(tmp_path / "members.csv", members())
    here = {"register": {"registry": "reg"}, "gates": {"behind_baseline_at_most": 0.1}}
    write_plan(tmp_path, churn_plan(**here))
    monkeypatch.chdir(tmp_path)

    result = run("train", "plan.yaml", "--report", "out")

    assert result.exit_code == 0, result.output
    assert "churn/1 registered, challenger in reg" in result.stdout
    feeding = "arbiter store load members.csv --schema reg/churn/1/schema.toml --id MemberId --map plan=Plan"
    assert feeding in result.stdout
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"run.json", "report.html", "card.md", "schema.toml", "reasons.yaml"}
    kept = open_version(tmp_path / "reg", "churn", 1).read("report.html")
    assert kept == (tmp_path / "out/report.html").read_bytes()
    assert b"AUC over logistic regression" in kept


def test_json_is_alone_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Result]
) -> None:
    """For programs; warnings are in it and on stderr."""
    write_csv(tmp_path / "members.csv", [row | {"CardId": i} for i, row in enumerate(members())])
    write_plan(tmp_path, churn_plan(gates={"behind_baseline_at_most": 0.1}))
    monkeypatch.chdir(tmp_path)

    result = run("train", "plan.yaml", "--json", "--registry", "reg", "--created", DAY)

    document = json.loads(result.stdout)
    assert document["registered"]["version"] == 1
    assert document["signs"][0]["kind"] == "id"
    assert "warning: column CardId" in result.stderr
    assert open_version(tmp_path / "reg", "churn", 1).manifest.created == DAY


def test_a_dry_run_trains_and_registers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Result]
) -> None:
    """It shows what a run would learn from."""
    write_offers(tmp_path)
    write_plan(tmp_path, offer_plan(register={"registry": "reg"}))
    monkeypatch.chdir(tmp_path)

    result = run("train", "plan.yaml", "--dry-run", "--json")

    document = json.loads(result.stdout)
    assert document["kind"] == "propensity"
    assert "metrics" not in document
    assert not (tmp_path / "reg").exists()


@pytest.mark.parametrize("alias", ["champion", "best"])
def test_a_plan_makes_no_champion(alias: str) -> None:
    """That is for `arbiter models promote`, which asks the gates."""
    with pytest.raises(ValidationError, match="'challenger' or 'shadow'"):
        Register.model_validate({"registry": "models", "alias": alias})


def test_the_committed_schema_is_that_of_the_plan(run: Callable[..., Result]) -> None:
    """`arbiter train --print-schema` writes it."""
    committed = Path(__file__).resolve().parents[3] / "training/schema/training-plan.json"

    assert run("train", "--print-schema").stdout == committed.read_text(encoding="utf-8")


def test_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Result]
) -> None:
    """With what to install, instead of a traceback."""
    monkeypatch.setitem(sys.modules, "training.own.run", None)
    plan = write_plan(tmp_path, churn_plan())

    result = run("train", plan)

    assert result.exit_code == 3
    assert "pip install 'arbiter-nba[training]'" in result.stderr
