"""Reason codes: few, of the right direction, shown by a value that says so, and unmoved by float noise."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import manifest_of

import feature_store
import model_registry
from engine.models.errors import ModelRefused
from engine.models.reason_codes import (
    CLOSE,
    MAX_REASONS,
    MIN_SHARE,
    ConceptReasons,
    by_size,
    concept_reasons,
    value_text,
)
from engine.models.scorer import build_scorer
from feature_store.loading import load_customers
from feature_store.schema import load_schema
from model_registry.manifest import Baseline, Manifest

CONCEPTS, EACH = 10, 3
NOISE = 1e-6
NOT_SILENT = np.zeros(CONCEPTS * EACH, dtype=np.bool_)
ROW = np.zeros(CONCEPTS * EACH, dtype=np.float32)


@pytest.fixture(scope="module")
def reasons(schema) -> ConceptReasons:
    """Ten concepts of three inputs each."""
    count = CONCEPTS * EACH
    features = tuple(schema.feature[i % len(schema.feature)] for i in range(count))
    return ConceptReasons(
        concept_of=np.repeat(np.arange(CONCEPTS), EACH),
        members=tuple(tuple(range(c * EACH, (c + 1) * EACH)) for c in range(CONCEPTS)),
        codes=tuple((f"{c}_RAISES", f"{c}_LOWERS") for c in range(CONCEPTS)),
        features=features,
        typical=tuple(f"typical {i}" for i in range(count)),
        baseline="training-expectation/1",
    )


def contributions_of(shares):
    """One input of each concept has all of its share, and the base comes last."""
    spread = np.zeros(len(shares) * EACH + 1)
    spread[np.arange(len(shares)) * EACH] = shares
    return spread


def codes_of(reasons, contributions):
    """The codes told, strongest first."""
    return [told.reason for told in reasons.tell(contributions, ROW, shown=reasons.shown(NOT_SILENT))]


shares_of_inputs = st.lists(
    st.floats(-0.5, 0.5, allow_subnormal=False), min_size=CONCEPTS * EACH, max_size=CONCEPTS * EACH
)


@given(shares=shares_of_inputs)
def test_what_is_told_is_strong_few_and_of_the_right_direction(reasons, shares):
    """Each reason names its concept's sum, and shows an input that pushes the same way."""
    contributions = np.array([*shares, -1.0])
    sums = contributions[:-1].reshape(CONCEPTS, EACH).sum(axis=1)

    told = reasons.tell(contributions, ROW, shown=reasons.shown(NOT_SILENT))

    assert len(told) <= MAX_REASONS
    for each in told:
        concept, direction = each.reason.split("_")
        members = contributions[int(concept) * EACH :][:EACH] * np.sign(each.share)
        assert each.share == pytest.approx(sums[int(concept)])
        assert direction == ("RAISES" if each.share > 0 else "LOWERS")
        assert abs(each.share) > MIN_SHARE - CLOSE
        assert any(
            reasons.typical[int(concept) * EACH + place] == each.typical and push > members.max() - CLOSE
            for place, push in enumerate(members)
        )
    sizes = [abs(each.share) for each in told]
    assert all(first > second - CLOSE for first, second in itertools.pairwise(sizes))


def test_the_strongest_are_told_first(reasons):
    """Whatever their direction."""
    shares = np.array([0.1, -0.4, 0.02, 0.3, 0.0, -0.2, 0.06, 0.049, 0.0, 0.0])

    assert codes_of(reasons, contributions_of(shares)) == ["1_LOWERS", "3_RAISES", "5_LOWERS", "0_RAISES"]


def test_equal_shares_are_told_in_the_manifests_order(reasons):
    """Also where float noise makes a later one the larger."""
    shares = np.array([0.0, 0.2, 0.0, 0.2 + NOISE, 0.0, -0.2 - 2 * NOISE, 0.0, 0.3, 0.0, 0.0])

    assert codes_of(reasons, contributions_of(shares)) == ["7_RAISES", "1_RAISES", "3_RAISES", "5_LOWERS"]


def test_a_share_of_just_the_least_is_told(reasons):
    """With a little less too; not with clearly less."""
    shares = np.array([MIN_SHARE, MIN_SHARE - NOISE, MIN_SHARE - 2 * CLOSE, *np.zeros(7)])

    assert codes_of(reasons, contributions_of(shares)) == ["0_RAISES", "1_RAISES"]


def test_an_input_that_pushes_the_other_way_is_not_shown(reasons):
    """Though it is the strongest: the sentence would give it as a reason for what it speaks against."""
    contributions = np.zeros(CONCEPTS * EACH + 1)
    contributions[:3] = (-0.5, 0.3, 0.4)

    (told,) = reasons.tell(contributions, ROW, shown=reasons.shown(NOT_SILENT))

    assert told.reason == "0_RAISES"
    assert told.typical == "typical 2"


def test_a_concept_that_only_silent_inputs_push_is_not_told(reasons):
    """What may not be shown is no reason, and what is left speaks against it."""
    contributions = np.zeros(CONCEPTS * EACH + 1)
    contributions[:3] = (0.5, -0.1, -0.1)
    contributions[3:5] = (0.2, 0.1)
    silent = NOT_SILENT.copy()
    silent[[0, 3]] = True

    told = reasons.tell(contributions, ROW, shown=reasons.shown(silent))

    assert [(each.reason, each.typical) for each in told] == [("1_RAISES", "typical 4")]


def _normal(rng):
    return rng.normal(0.0, 0.2, CONCEPTS)


def _small(rng):
    return rng.normal(0.0, MIN_SHARE, CONCEPTS)


def _steps(size):
    return lambda rng: np.round(rng.normal(0.0, 0.2, CONCEPTS) / size) * size


def _tied(rng):
    return rng.choice([-0.3, -MIN_SHARE, 0.0, MIN_SHARE, 0.125, 0.3], CONCEPTS)


@pytest.mark.parametrize(
    "drawn",
    [_normal, _small, *map(_steps, (0.05, 0.01, 1e-3, 1e-4, 5e-5, 2**-18)), _tied],
    ids=["normal", "small", "0.05", "0.01", "1e-3", "1e-4", "5e-5", "leaf steps", "tied"],
)  # fmt: skip
def test_noise_of_a_millionth_leaves_at_least_99_of_100_lists_as_they_are(reasons, drawn):
    """However shares are spread: at random, on any grid, equal, or at the least that is told."""
    rng = np.random.default_rng(3)
    count, same = 2_000, 0

    for _ in range(count):
        exact = contributions_of(drawn(rng))
        noisy = exact + rng.choice([-NOISE, NOISE], exact.shape) * rng.random(exact.shape)
        same += codes_of(reasons, exact) == codes_of(reasons, noisy)

    assert same >= 0.99 * count


@pytest.mark.parametrize("drawn", [_steps(0.05), _steps(0.01), _steps(1e-3), _tied])
def test_noise_never_moves_what_is_equal_or_clearly_apart(reasons, drawn):
    """On such grids not one list changes."""
    rng = np.random.default_rng(4)

    for _ in range(500):
        exact = contributions_of(drawn(rng))
        noisy = exact + rng.uniform(-NOISE, NOISE, exact.shape)
        assert codes_of(reasons, exact) == codes_of(reasons, noisy)


@pytest.fixture(scope="module")
def demo():
    """The scorer of the demo's champions, and the vectors of 500 of its customers."""
    folder = Path(feature_store.__file__).parent / "demo"
    schema = load_schema(folder / "telco.toml")
    loaded = load_customers(folder / "customers.csv.gz", schema=schema, as_of_ms=0)
    root = Path(model_registry.__file__).parent
    scorer = build_scorer(registry_root=root, schema=schema, actions=())
    return scorer, np.array([state.values for _, state in loaded[::14]])


def explained(demo):
    """The churn rows and all propensity rows of the customers: reasons, contributions, row, inputs shown."""
    scorer, vectors = demo
    churn, propensity = scorer._churn, scorer._propensity
    rows = churn.rows.fill_many(vectors)
    for row, shares in zip(rows, churn.model.shapley.contributions_of_many(rows), strict=True):
        yield churn.reasons, shares, row, churn.shown
    rows = propensity.rows.fill_many(vectors[::4])
    for template, shown in zip(propensity.templates, propensity.shown, strict=True):
        asked = rows + template
        for row, shares in zip(asked, propensity.model.shapley.contributions_of_many(asked), strict=True):
            yield propensity.reasons, shares, row, shown


def test_the_codes_of_the_demos_customers_stand_noise(demo):
    """Of churn and of every offer at least 99 of 100 lists stay as they are, in the same order."""
    rng = np.random.default_rng(5)
    same, count = 0, 0

    for reasons, shares, row, shown in explained(demo):
        noisy = shares + rng.uniform(-NOISE, NOISE, shares.shape)
        before = [told.reason for told in reasons.tell(shares, row, shown=shown)]
        same += before == [told.reason for told in reasons.tell(noisy, row, shown=shown)]
        count += 1

    assert count > 1_500
    assert same >= 0.99 * count


def test_the_demos_reasons_show_what_pushes_their_way(demo):
    """The value shown is the customer's own, beside a typical one, and of an input with the share's sign."""
    told_of = {}
    for reasons, shares, row, shown in explained(demo):
        places = {f.name: place for place, f in enumerate(reasons.features) if f is not None}
        for told in reasons.tell(shares, row, shown=shown):
            place = places[told.feature]
            assert np.sign(shares[place]) == np.sign(told.share)
            assert told.value == value_text(reasons.features[place], float(row[place]))
            assert told.typical
            assert told.baseline == "training-expectation/1"
            told_of.setdefault(told.reason, []).append(told.value)

    months = {
        code: [int(v.split()[0]) for v in values]
        for code, values in told_of.items()
        if "CHURN_LOYALTY" in code
    }
    assert max(months["CHURN_LOYALTY_RAISES"]) < min(months["CHURN_LOYALTY_LOWERS"]) + 6
    assert set(told_of["CHURN_COMMITMENT_RAISES"]) == {"month-to-month"}
    assert "month-to-month" not in told_of["CHURN_COMMITMENT_LOWERS"]


@given(sizes=st.dictionaries(st.integers(0, 20), st.floats(0, 1)))
def test_every_place_comes_once_and_none_long_after_a_smaller_one(sizes):
    """The order is one of sizes but for differences that do not count."""
    order = list(by_size([(size, place) for place, size in sizes.items()]))

    assert sorted(order) == sorted(sizes)
    assert all(sizes[order[i]] > max(sizes[later] for later in order[i:]) - CLOSE for i in range(len(order)))


def test_a_baseline_that_the_manifest_names_is_told(schema):
    """With its version, so that a share says what it compares with."""
    named = Baseline(name="training-expectation", version=1)
    fields = {**manifest_of("churn"), "version": 1, "files": {}}

    silent_on_it = concept_reasons(Manifest.model_validate(fields), schema)
    telling = concept_reasons(Manifest.model_validate({**fields, "format": 2, "baseline": named}), schema)

    assert silent_on_it.baseline == telling.baseline == "training-expectation/1"


@pytest.mark.parametrize("other", [("training-expectation", 2), ("uniform", 1)])
def test_a_model_of_another_baseline_is_refused(publish_churn, schema, actions, other):
    """Its shares would be read as something they are not."""
    name, version = other
    root = publish_churn(format=2, baseline={"name": name, "version": version})

    with pytest.raises(ModelRefused, match=rf"baseline {name}/{version}, this server's with training-exp"):
        build_scorer(registry_root=root, schema=schema, actions=actions)


def test_reasons_come_from_the_registered_files_alone():
    """A process that has none of the training libraries explains the demo's customers."""
    told = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout

    assert told.split() == ["4", "CHURN_PRICE_RAISES"]


ROOT = Path(model_registry.__file__).parent.parent
ALONE = """
import sys
for library in ("lightgbm", "onnx", "onnxmltools", "pandas", "scipy", "sklearn", "training"):
    sys.modules[library] = None
from pathlib import Path
import numpy as np
from engine.models.scorer import build_scorer
from feature_store.schema import load_schema

schema = load_schema(Path("feature_store/demo/telco.toml"))
scorer = build_scorer(registry_root=Path("model_registry"), schema=schema, actions=())
vector = np.zeros(len(schema.feature), dtype=np.float32)
vector[schema.index["monthly_charges"]], vector[schema.index["tenure_months"]] = 110.0, 1.0
reasons = scorer.explain_churn(vector)
print(len(reasons), reasons[0].reason)
"""
