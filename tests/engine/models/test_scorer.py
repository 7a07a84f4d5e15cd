from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ensembles import arrays_of
from model_files import FEATURES, INTERCEPT, SLOPE, golden_of, manifest_of, npz

import model_registry
from engine.core.scoring import ScoringError
from engine.models.errors import ModelRefused
from engine.models.loading import load_model
from engine.models.scorer import build_scorer
from feature_store.schema import FeatureSchema
from model_registry import open_alias, open_version, promote, publish


@pytest.fixture(scope="module")
def scorer(registry, schema, actions):
    """Both models, for the small catalogue."""
    return build_scorer(registry_root=registry, schema=schema, actions=actions)


@pytest.fixture(scope="module")
def vector(schema):
    """A new customer with high charges and online security."""
    return schema.pack(
        {
            "contract": "month-to-month", "tenure_months": 3, "monthly_charges": 99.5,
            "online_security": True, "tech_support": False, "support_calls_30d": 4,
        }
    )  # fmt: skip


def model_row(vector, schema):
    """The churn model's input row, by name."""
    return np.array([vector[schema.index[name]] for name in FEATURES], dtype=np.float32)


def calibrated(booster, rows):
    """LightGBM's own probability."""
    margin = booster.predict(rows.astype(np.float64), raw_score=True)
    return 1 / (1 + np.exp(-(SLOPE * margin + INTERCEPT)))


def test_churn_is_the_models_probability(scorer, churn_booster, vector, schema):
    """Features are picked from the stored vector by name, whatever their order there."""
    expected = calibrated(churn_booster, model_row(vector, schema)[None])[0]

    assert scorer.churn(vector) == pytest.approx(expected, abs=1e-6)
    assert dict(scorer.versions) == {"churn": 1, "propensity": 1}


def test_each_action_is_scored_as_its_target(scorer, propensity_booster, vector, schema):
    """The target's column is 1, its own feature hidden; unknown and empty targets give NaN."""
    row = model_row(vector, schema)
    security = np.concatenate([np.where(np.array(FEATURES) == "online_security", np.nan, row), [1, 0]])
    support = np.concatenate([np.where(np.array(FEATURES) == "tech_support", np.nan, row), [0, 1]])
    p_security, p_support = calibrated(propensity_booster, np.array([security, support]))

    found = scorer.propensity(vector, np.array([4, 3, 2, 1, 0]))

    np.testing.assert_allclose(found, [np.nan, p_security, p_support, np.nan, p_security], atol=1e-6)
    assert found.dtype == np.float64


@pytest.mark.parametrize("actions_asked", [[], [1], [1, 4]])
def test_actions_without_a_known_target_run_no_model(scorer, vector, actions_asked):
    """Nothing to score is an answer of the asked length."""
    found = scorer.propensity(vector, np.array(actions_asked, dtype=np.intp))

    assert found.shape == (len(actions_asked),)
    assert np.isnan(found).all()


def test_actions_with_a_target_no_model_knows_are_listed(scorer):
    """The catalogue's mistake can be told; an action without target is none."""
    assert scorer.unscored == ("fax",)


def test_churn_reasons_are_the_concepts_shapley_values(scorer, churn_booster, vector, schema):
    """Each share is the sum of LightGBM's contributions over the concept's inputs, strongest first."""
    row = model_row(vector, schema)
    phi = churn_booster.predict(row[None].astype(np.float64), pred_contrib=True)[0]
    by_concept = {
        "COMMITMENT": phi[0],
        "LOYALTY": phi[1],
        "PRICE": phi[2] + phi[3],
        "PROTECTION": phi[4] + phi[5],
    }
    expected = {
        f"{code}_{'RAISES' if share > 0 else 'LOWERS'}": share
        for code, share in by_concept.items()
        if abs(share) >= 0.05
    }

    reasons = scorer.explain_churn(vector)

    assert {r.reason: r.share for r in reasons} == pytest.approx(expected, abs=1e-6)
    assert [abs(r.share) for r in reasons] == sorted((abs(r.share) for r in reasons), reverse=True)


def test_margins_are_what_scores_are_made_of(scorer, vector, schema):
    """Shares begin at what is expected of anybody and end at the customer's own margin, for every score."""
    action = scorer.target_of.tolist().index(0)
    unknown = scorer.target_of.tolist().index(-1)

    churn, accepted = scorer.churn_margins(vector), scorer.propensity_margins(vector, action)

    own = np.array([churn.own, accepted.own])
    scores = [scorer.churn(vector), scorer.propensity(vector, np.array([action]))[0]]
    assert 1 / (1 + np.exp(-(SLOPE * own + INTERCEPT))) == pytest.approx(scores, abs=1e-6)
    assert churn.expected != churn.own
    assert scorer.propensity_margins(vector, unknown) is None


def test_reasons_show_values_for_people(scorer, vector):
    """Values carry units and category names, and the typical value stands beside them."""
    told = {r.reason.split("_")[0]: (r.feature, r.value, r.typical) for r in scorer.explain_churn(vector)}

    assert told["COMMITMENT"] == ("contract", "month-to-month", "month-to-month")
    assert told["LOYALTY"] == ("tenure_months", "3 months", "29 months")
    assert told["PRICE"] == ("monthly_charges", "99.50 CHF/month", "70.35 CHF/month")


def test_propensity_reasons_show_no_hidden_input_and_no_target(scorer, vector):
    """What the model was not shown is not shown as its reason, nor is what was asked."""
    (reasons,) = scorer.explain_propensities(vector, [0])

    assert reasons
    assert all(r.reason for r in reasons)
    assert not {r.feature for r in reasons} & {"online_security", "target.online_security"}


@pytest.mark.parametrize("action", [1, 4])
def test_an_action_no_model_knows_has_no_model_reasons(scorer, vector, action):
    """No score, no explanation."""
    assert list(scorer.explain_propensities(vector, [action])) == [()]


def test_threads_get_the_answers_a_single_caller_gets(scorer, schema, rows):
    """Nothing is shared between calls."""
    vectors = []
    for row in rows[:40]:
        vector = np.full(len(schema.feature), np.nan, dtype=np.float32)
        vector[[schema.index[name] for name in FEATURES]] = row
        vectors.append(vector)
    every = np.arange(5)

    def answer(vector):
        return (
            scorer.churn(vector),
            scorer.propensity(vector, every).tolist()[:1],
            scorer.explain_churn(vector),
        )

    expected = [answer(v) for v in vectors]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(answer, vectors * 5))

    assert found == expected * 5


def test_a_vector_of_another_schema_is_a_scoring_error(scorer):
    """A vector of the wrong length is not guessed into shape."""
    with pytest.raises(ScoringError, match=r"the vector has shape \(3,\)"):
        scorer.churn(np.zeros(3, dtype=np.float32))


def test_missing_models_are_an_error_unless_allowed(tmp_path, schema, actions, vector):
    """Serving without models is a choice, never an accident."""
    with pytest.raises(ModelRefused, match="no model 'churn'"):
        build_scorer(registry_root=tmp_path, schema=schema, actions=actions)

    scorer = build_scorer(registry_root=tmp_path, schema=schema, actions=actions, allow_missing=True)

    assert scorer.churn(vector) is None
    assert np.isnan(scorer.propensity(vector, np.arange(5))).all()
    assert scorer.explain_churn(vector) == ()
    assert list(scorer.explain_propensities(vector, [0])) == [()]
    assert dict(scorer.versions) == {}
    assert scorer.unscored == ("security", "support", "security_bundle", "fax")


def test_a_damaged_model_is_refused_even_where_missing_ones_are_allowed(publish_churn, schema):
    """One flipped byte of the model file is found by its digest."""
    root = publish_churn()
    path = root / "churn" / "1" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(ModelRefused, match=r"model\.onnx: expected sha256:"):
        build_scorer(registry_root=root, schema=schema, actions=(), allow_missing=True)


def test_an_alias_to_a_version_that_is_gone_is_refused(publish_churn, schema):
    """A dangling alias is damage, not absence."""
    root = publish_churn()
    (root / "churn" / "1").rename(root / "gone")

    with pytest.raises(ModelRefused, match="no version 1"):
        build_scorer(registry_root=root, schema=schema, actions=(), allow_missing=True)


def test_another_alias_serves_another_version(publish_churn, schema):
    """Aliases choose the version; the highest number does not win by itself."""
    publish_churn()
    root = publish_churn()
    promote(root, "churn", 1, alias="challenger", reason="test")

    scorer = build_scorer(
        registry_root=root, schema=schema, actions=(), aliases={"churn": "challenger"}, allow_missing=True
    )

    assert dict(scorer.versions) == {"churn": 1}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"feature_schema": "banking"}, "reads feature schema 'banking', this server has 'telco'"),
        ({"kind": "propensity"}, "a propensity model, published under the wrong name"),
        ({"calibration": {"slope": 1.0}}, "lacks slope or intercept"),
        ({"calibration": {"slope": 1.3, "intercept": -0.5}}, "the manifest's calibration is off by"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(publish_churn, schema, changes, cause):
    """The refusal names what differs."""
    root = publish_churn(**changes)

    with pytest.raises(ModelRefused, match=cause):
        build_scorer(registry_root=root, schema=schema, actions=(), allow_missing=True)


def test_a_feature_the_schema_does_not_have_is_refused(publish_churn, schema):
    """An input by an unknown name would be scored as missing for ever."""
    smaller = FeatureSchema.model_validate({**schema.model_dump(), "feature": schema.feature[:5]})

    with pytest.raises(ModelRefused, match="has no feature monthly_charges, online_security"):
        build_scorer(registry_root=publish_churn(), schema=smaller, actions=(), allow_missing=True)


def test_a_target_without_its_input_is_refused(tmp_path, propensity_files, schema):
    """A target the model cannot be asked about would silently be scored as another."""
    manifest = manifest_of("propensity")
    publish(tmp_path, {**manifest, "targets": [*manifest["targets"], "fax_line"]}, propensity_files)
    promote(tmp_path, "propensity", 1, reason="test")

    with pytest.raises(ModelRefused, match=r"target 'fax_line' has no input named 'target\.fax_line'"):
        build_scorer(registry_root=tmp_path, schema=schema, actions=(), allow_missing=True)


@pytest.mark.parametrize("array", ["probability", "margin", "contributions"])
@pytest.mark.parametrize("change", [1e-3, np.nan])
def test_golden_rows_that_do_not_reproduce_are_refused(
    publish_churn, schema, churn_booster, rows, array, change
):
    """A model that answers otherwise than in training does not serve."""
    golden = golden_of(churn_booster, rows[:10])
    golden[array].reshape(-1)[-1] += change
    root = publish_churn(files={"golden.npz": npz(golden)})

    with pytest.raises(ModelRefused, match=f"golden row 9 does not reproduce: {array} is off by"):
        build_scorer(registry_root=root, schema=schema, actions=(), allow_missing=True)


@pytest.mark.parametrize("filename", ["golden.npz", "trees.npz"])
@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + b"\0" * 40])
def test_array_files_that_are_damaged_are_refused(publish_churn, schema, filename, content):
    """A broken archive is a refusal with the file's name."""
    root = publish_churn(files={filename: content})

    with pytest.raises(ModelRefused, match=f"{filename} is not a file of numeric arrays"):
        build_scorer(registry_root=root, schema=schema, actions=(), allow_missing=True)


def test_arrays_that_are_missing_or_pickled_are_refused(publish_churn, schema, churn_booster):
    """Objects are never unpickled, and a missing array is named."""
    arrays = arrays_of(churn_booster)
    without = npz({name: array for name, array in arrays.items() if name != "cover"})

    with pytest.raises(ModelRefused, match=r"trees\.npz lacks an array: .*cover"):
        load_model(open_alias(publish_churn(files={"trees.npz": without}), "churn"))


DEMO = Path(model_registry.__file__).parent


@pytest.mark.parametrize("name", ["churn", "propensity"])
def test_the_published_demo_models_load_and_explain_themselves(name, tmp_path):
    """The demo models reproduce their golden rows and contributions; with one byte flipped they do not."""
    if not (DEMO / name / "1" / "manifest.json").exists():
        pytest.skip("the demo models are not trained yet: `make train`")
    published = open_version(DEMO, name, 1)

    model = load_model(published)

    assert model.manifest.name == name
    files = {filename: published.read(filename) for filename in published.manifest.files}
    offered = published.manifest.model_dump(mode="json", exclude={"files"})
    folder = publish(tmp_path, offered, files)
    content = bytearray(files["model.onnx"])
    content[100] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ModelRefused, match=r"model\.onnx: expected sha256:"):
        load_model(open_version(tmp_path, name, 1))
