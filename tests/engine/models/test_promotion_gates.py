from __future__ import annotations

import numpy as np
import pytest
from contenders import UNFAIR, Contenders, held_out_rows, labels_of, poor_booster
from ensembles import arrays_of
from model_files import calibrate_nodes, ensemble_node, golden_of, manifest_of, npz, onnx_model
from onnx import helper
from sklearn.metrics import log_loss, roc_auc_score

from engine.models.session import OnnxModel
from engine.promotion.errors import LimitsInvalid, PromotionRefused
from engine.promotion.evidence import Holdout, latency_ratio, rows_for
from engine.promotion.figures import Scored, compare
from engine.promotion.judgement import Verdict
from engine.promotion.promoting import judge_version, promote_through_gates
from model_registry import resolve
from model_registry.aliases import read_aliases
from model_registry.manifest import Manifest


@pytest.fixture
def company(tmp_path, rows, churn_booster) -> Contenders:
    held_out = held_out_rows()
    return Contenders(
        tmp_path, churn_booster, poor_booster(rows), held_out, labels_of(churn_booster, held_out)
    )


def verdicts(company: Contenders, version: int, *, alias: str = "champion") -> dict[str, str]:
    judgement = judge_version(company.root, "churn", version, alias=alias)
    return {gate.name: str(gate.verdict) for gate in judgement.gates}


def gate(company: Contenders, version: int, name: str):
    judgement = judge_version(company.root, "churn", version)
    return next(gate for gate in judgement.gates if gate.name == name)


def limits(company: Contenders, text: str) -> None:
    (company.root / "churn" / "gates.toml").write_text(text)


# without this, a busy machine could fail a gate that the test is not about
NO_LATENCY = "latency_ratio = 1000.0\n"


def test_a_better_candidate_passes_every_gate_and_becomes_champion(company):
    """All evidence is judged, and the history says that nothing was forced."""
    company.crown(company.poor)
    better = company.publish(company.good)
    limits(company, NO_LATENCY)

    judgement = promote_through_gates(company.root, "churn", better, actor="risk:17")

    assert {g.verdict for g in judgement.gates} == {Verdict.PASSED}
    last = read_aliases(company.root, "churn").history[-1]
    assert (last.version, last.actor, last.forced, last.gates) == (better, "risk:17", False, ())
    assert last.reason == "passed the gates"


def test_a_worse_candidate_is_refused_and_the_champion_stays(company):
    """The text names every gate that did not pass, with its figures, and what to do."""
    company.crown(company.good)
    worse = company.publish(company.poor)
    limits(company, NO_LATENCY)

    with pytest.raises(PromotionRefused, match=r"auc failed: AUC 0\.\d+, the champion's") as caught:
        promote_through_gates(company.root, "churn", worse)

    assert {"auc", "log_loss"} <= set(caught.value.judgement.refusing)
    assert "--force, --actor and --reason" in str(caught.value)
    assert resolve(company.root, "churn") == 1


def test_a_forced_promotion_keeps_who_why_and_past_which_gates(company):
    """What was overridden is in the history for good."""
    company.crown(company.good)
    worse = company.publish(company.poor)
    limits(company, NO_LATENCY + 'off = ["calibration"]')

    promote_through_gates(
        company.root, "churn", worse, force=True, actor="risk:17", reason="outage of the old one"
    )

    last = read_aliases(company.root, "churn").history[-1]
    assert (last.forced, last.actor, last.gates) == (True, "risk:17", ("auc", "log_loss"))
    assert last.reason == "outage of the old one"


def test_nobody_forces_anonymously(company):
    """Without an actor nothing is judged or promoted."""
    company.crown(company.good)
    worse = company.publish(company.poor)

    with pytest.raises(ValueError, match="kept who overrode"):
        promote_through_gates(company.root, "churn", worse, force=True, reason="now")

    assert resolve(company.root, "churn") == 1


def test_a_version_that_does_not_load_is_not_forced_either(company):
    """It would serve nobody: there is nothing to override."""
    company.crown(company.good)
    broken = company.publish(company.good, calibration={"slope": 2.0, "intercept": 0.0})

    with pytest.raises(PromotionRefused, match=r"loads failed: .*does not reproduce.*Publish a version"):
        promote_through_gates(company.root, "churn", broken, force=True, actor="a", reason="b")

    assert resolve(company.root, "churn") == 1


def test_the_same_model_differs_by_nothing(company):
    """The paired bootstrap of a model against itself is zero, without any width."""
    company.crown(company.good)

    found = gate(company, 1, "auc")

    assert (found.figure, found.interval) == (0.0, (0.0, 0.0))


def test_figures_are_those_of_sklearn_and_the_interval_is_seeded(company):
    """AUC and log loss agree with an independent implementation; the same seed gives the same interval."""
    company.crown(company.poor)
    better = company.publish(company.good)
    margins = [
        b.predict(company.rows.astype(np.float64), raw_score=True) for b in (company.good, company.poor)
    ]
    p_good, p_poor = (1 / (1 + np.exp(-(1.25 * m - 0.5))) for m in margins)
    auc_gain = roc_auc_score(company.labels, p_good) - roc_auc_score(company.labels, p_poor)
    loss_gain = log_loss(company.labels, p_good) - log_loss(company.labels, p_poor)

    first, again = gate(company, better, "auc"), gate(company, better, "auc")
    loss = gate(company, better, "log_loss")
    limits(company, "seed = 2")
    other = gate(company, better, "auc")

    assert first.figure == pytest.approx(auc_gain, abs=1e-6)
    assert loss.figure == pytest.approx(loss_gain, abs=1e-6)
    assert first == again
    assert first.interval != other.interval
    low, high = first.interval
    assert low < first.figure < high


def test_the_interval_holds_the_truth_about_as_often_as_it_says(company):
    """Of 60 draws of customers, the 95 % interval holds the difference among all of them in 50 or more."""
    rng = np.random.default_rng(5)
    margins = [
        b.predict(company.rows.astype(np.float64), raw_score=True) for b in (company.good, company.poor)
    ]
    everyone = np.ones(len(company.labels))
    truth = [Scored.of(m, company.labels).auc(everyone) for m in map(np.tanh, margins)]
    held = 0
    for _ in range(60):
        drawn = rng.integers(0, len(company.labels), 300)
        one, other = (Scored.of((1 + np.tanh(m[drawn])) / 2, company.labels[drawn]) for m in margins)
        gain = compare(one, other, groups=None, resamples=200, seed=1).auc_gain
        held += gain.low <= truth[0] - truth[1] <= gain.high

    assert 50 <= held <= 60


def test_rows_of_one_customer_are_drawn_together(company):
    """Ten copies of each customer tell no more than one: the interval stays as wide."""
    few, labels = company.rows[:200].astype(np.float64), company.labels[:200]
    p = [1 / (1 + np.exp(-b.predict(few, raw_score=True))) for b in (company.good, company.poor)]
    groups = np.repeat(np.arange(200), 10)
    copies = [Scored.of(np.repeat(each, 10), np.repeat(labels, 10)) for each in p]

    single = compare(*(Scored.of(each, labels) for each in p), groups=None, resamples=400, seed=1).auc_gain
    grouped = compare(*copies, groups=groups, resamples=400, seed=1).auc_gain
    loose = compare(*copies, groups=None, resamples=400, seed=1).auc_gain

    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high), abs=1e-9)
    assert loose.high - loose.low < 0.5 * (grouped.high - grouped.low)


def test_without_held_out_rows_gates_are_not_known_and_refuse(company):
    """What cannot be judged is not taken for passed."""
    company.crown(company.good, holdout={})
    again = company.publish(company.good, holdout={})

    judgement = judge_version(company.root, "churn", again)

    assert judgement.refusing == ("auc", "log_loss", "calibration")
    assert "the version has no holdout.npz" in judgement.gates[2].words


def test_the_first_champion_needs_no_comparison(company):
    """There is nothing to compare with; what is judged must pass all the same."""
    first = company.publish(company.good, holdout={}, fairness={})

    judgement = promote_through_gates(company.root, "churn", first)

    assert judgement.champion is None
    assert verdicts(company, first)["fairness"] == "not known"
    assert resolve(company.root, "churn") == first


def test_the_first_champion_may_not_fail_what_is_judged(company):
    """Probabilities that promise other rates are refused without any champion."""
    wrong = {"rows": company.rows, "labels": 1.0 - company.labels}
    first = company.publish(company.good, holdout=wrong)

    with pytest.raises(PromotionRefused, match="calibration failed"):
        promote_through_gates(company.root, "churn", first)


@pytest.mark.parametrize(
    ("fairness", "verdict", "told"),
    [
        (UNFAIR, "failed", "age_band gap_tpr 0.450"),
        ({}, "not known", "says nothing of fairness"),
        ({"age_band": {"gap_auc": None}}, "not known", "says nothing of fairness"),
        ({"age_band": {"gap_auc": -0.05}}, "passed", "age_band gap_auc 0.050"),
    ],
)
def test_fairness_is_judged_by_the_widest_gap(company, fairness, verdict, told):
    """A gap counts by its size, against the limit of its kind."""
    version = company.crown(company.good, fairness=fairness)

    found = gate(company, version, "fairness")

    assert (str(found.verdict), told in found.words) == (verdict, True)


def test_limits_are_read_from_the_registry(company):
    """A company may ask for more, for less, or do without a gate, which shows."""
    version = company.crown(company.good)
    limits(company, 'ece = 0.0001\noff = ["fairness"]\n')

    found = verdicts(company, version)

    assert (found["calibration"], found["fairness"]) == ("failed", "off")
    assert gate(company, version, "calibration").limit == 0.0001


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ece = 2", "ece: "),
        ("surprise = 1", "surprise: Extra"),
        ('off = ["loads"]', r"off\."),
        ("ece = ", "cannot be read"),
        ("resamples = 10", "resamples"),
        ("x" * 70_000, "at most 65536"),
    ],
)
def test_limits_that_cannot_be_meant_stop_the_promotion(company, text, told):
    """A misspelt limit is an error with its place, never a default."""
    version = company.crown(company.good)
    limits(company, text)

    with pytest.raises(LimitsInvalid, match=told) as caught:
        promote_through_gates(company.root, "churn", version)

    assert "gates.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda rows, labels: {"rows": rows[:, :3], "labels": labels}, "do not fit 6 inputs"),
        (lambda rows, labels: {"rows": rows[:50], "labels": labels[:50]}, "50 rows; 100 to 20000"),
        (lambda rows, labels: {"rows": rows, "labels": labels * 2}, "not both 0 and 1"),
        (lambda rows, labels: {"rows": rows, "labels": labels * 0}, "not both 0 and 1"),
        (lambda rows, labels: {"rows": rows, "labels": labels * np.nan}, "not both 0 and 1"),
        (lambda rows, labels: {"rows": rows}, "lacks an array: labels"),
        (lambda rows, labels: {"rows": rows, "labels": labels, "groups": labels[:3]}, "groups"),
    ],
)
def test_held_out_rows_that_are_not_sound_are_not_known(company, spoil, told):
    """Wrong evidence is no evidence, and says what is wrong with it."""
    version = company.crown(company.good, holdout=spoil(company.rows, company.labels))

    found = gate(company, version, "auc")

    assert (found.verdict, told in found.words) == (Verdict.NOT_KNOWN, True)


def test_a_champion_that_reads_more_than_the_rows_hold_is_not_compared(company, rows, churn_booster):
    """The gate says which input is missing."""
    company.crown(company.good)
    renamed = [{"name": n, "source": "feature"} for n in "abcdef"]
    concept = {
        "name": "all",
        "inputs": ["a", "b", "c", "d", "e", "f"],
        "reason_raises": "",
        "reason_lowers": "",
    }
    other = company.publish(company.good, inputs=renamed, concepts=[concept])

    found = gate(company, other, "auc")

    assert found.verdict is Verdict.NOT_KNOWN
    assert "the champion reads contract" in found.words


@pytest.mark.parametrize(("seed", "told"), [("1", False), ("2", True)])
def test_a_champion_that_has_seen_the_rows_is_told_of(company, seed, told):
    """The same data under another split: some of the held-out rows taught the champion."""
    company.crown(company.good, training_data={"fingerprint": "sha256:1", "split": "60/20/20", "seed": "1"})
    data = {"fingerprint": "sha256:1", "split": "60/20/20", "seed": seed}

    found = gate(company, company.publish(company.good, training_data=data), "auc")

    assert ("which favours it" in found.words) is told


def test_a_champion_that_no_longer_loads_is_not_compared(company):
    """The candidate is not taken for better because the champion is broken; it may be forced."""
    company.crown(company.good, calibration={"slope": 2.0, "intercept": 0.0})
    version = company.publish(company.good)

    found = gate(company, version, "latency")

    assert found.verdict is Verdict.NOT_KNOWN
    assert "the champion does not load" in found.words


def test_a_shadow_needs_to_load_and_be_one_model_only(company):
    """It answers nobody, so figures do not keep it from being seen."""
    company.crown(company.good)
    worse = company.publish(company.poor, holdout={}, fairness={})

    found = verdicts(company, worse, alias="shadow")

    assert found == {"loads": "passed", "parity": "passed"}


def test_a_challenger_is_judged_like_a_champion(company):
    """A rollout shows it to customers."""
    company.crown(company.good)
    worse = company.publish(company.poor)

    assert {"auc", "latency"} <= verdicts(company, worse, alias="challenger").keys()


def test_trees_that_are_another_model_fail_parity(company):
    """Golden rows far from a split may agree where the splits differ: boundary rows tell."""
    trees = arrays_of(company.good)
    splits = trees["left"] >= 0
    moved = np.nextafter(trees["threshold"], np.float32(np.inf), dtype=np.float32)
    spoilt = {**trees, "threshold": np.where(splits, moved, trees["threshold"]).astype(np.float32)}
    away = held_out_rows()[:40] + np.float32(0.123)
    files = {"trees.npz": npz(spoilt), "golden.npz": npz(golden_of(company.good, away))}
    version = company.publish(company.good, files=files)

    found = gate(company, version, "parity")

    assert found.verdict is Verdict.FAILED
    assert int(found.words.split(" of ")[0]) > 20


def test_a_slower_model_is_told_by_its_ratio(company):
    """A hundred times the trees take longer in the same run, whatever else the machine does."""
    arrays = arrays_of(company.good)
    nodes, times = len(arrays["left"]), 100
    shift = np.repeat(np.arange(times) * nodes, nodes)
    large = {name: np.tile(values, times) for name, values in arrays.items() if name not in ("roots", "base")}
    for side in ("left", "right"):
        large[side] = np.where(large[side] < 0, -1, large[side] + shift)
    large["roots"] = (arrays["roots"] + np.arange(times)[:, None] * nodes).reshape(-1)
    sessions = [
        OnnxModel(
            onnx_model([ensemble_node(trees), *calibrate_nodes()], input_count=6).SerializeToString(),
            name="churn",
            input_count=6,
        )
        for trees in (large, arrays)
    ]
    row = company.rows[:1]

    ratio = latency_ratio((sessions[0], row), (sessions[1], row))

    assert ratio > 1.5


def test_a_model_beyond_its_latency_is_refused(company):
    """The limit is a multiple of the champion's time."""
    version = company.crown(company.good)
    limits(company, "latency_ratio = 0.001")

    found = gate(company, version, "latency")

    assert (found.verdict, found.limit) == (Verdict.FAILED, 0.001)


def test_new_targets_are_left_out_of_the_comparison(tmp_path, propensity_rows, propensity_booster):
    """Rows of a target the champion does not know cannot be compared; the others are."""

    new = Manifest.model_validate({**manifest_of("propensity"), "version": 1, "files": {}})
    old = new.model_copy(update={"inputs": new.inputs[:-1], "targets": new.targets[:-1]})
    labels = np.arange(len(propensity_rows)) % 3 == 0
    holdout = Holdout(propensity_rows, labels.astype(np.float64), None)

    shared, champion_rows = rows_for(old, new, holdout)

    known = propensity_rows[:, -1] == 0
    assert len(shared.labels) == known.sum() < len(labels)
    np.testing.assert_array_equal(champion_rows, propensity_rows[known][:, :-1])


def value_files(company: Contenders) -> dict[str, bytes]:
    """A version whose scores are amounts: the exponential of the margin."""
    nodes = [ensemble_node(arrays_of(company.good)), helper.make_node("Exp", ["margin"], ["value"])]
    model = onnx_model(nodes, input_count=6, outputs=("margin", "value"))
    answers = golden_of(company.good, company.rows[:40])
    golden = {**answers, "value": np.exp(answers["margin"])}
    return {"model.onnx": model.SerializeToString(), "golden.npz": npz(golden)}


def test_the_gates_of_a_kind_without_labels_are_not_known(company):
    """A value model's scores are no probabilities of 0 and 1; the other gates judge it."""
    company.crown(company.good)
    version = company.publish(company.good, kind="value", calibration={}, files=value_files(company))

    found = verdicts(company, version)

    assert "cannot judge a model of kind value" in gate(company, version, "auc").words
    assert (found["loads"], found["parity"], found["calibration"]) == ("passed", "passed", "not known")
