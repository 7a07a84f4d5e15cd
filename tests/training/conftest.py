"""A small company: the first 900 customers, and models of few trees, trained once for all tests."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from feature_store.schema import FeatureSchema, load_schema
from training.boosting import Recipe
from training.candidate import Candidate
from training.churn import RECIPE as CHURN_RECIPE
from training.churn import train_churn
from training.propensity import RECIPE as PROPENSITY_RECIPE
from training.propensity import train_propensity
from training.telco import Telco, read_telco

ROOT = Path(__file__).resolve().parents[2]
SEED = 5
FEW_TREES = 25


@pytest.fixture(scope="session")
def schema() -> FeatureSchema:
    return load_schema(ROOT / "feature_store/demo/telco.toml")


@pytest.fixture(scope="session")
def everyone(schema: FeatureSchema) -> Telco:
    return read_telco(schema)


@pytest.fixture(scope="session")
def few(schema: FeatureSchema) -> Telco:
    return read_telco(schema, rows=900)


def small(recipe: Recipe) -> Recipe:
    """The recipe with few trees."""
    return Recipe(max_trees=FEW_TREES, patience=recipe.patience, parameters=recipe.parameters)


def small_churn(telco: Telco) -> Candidate:
    """A churn model of few trees."""
    return train_churn(telco, seed=SEED, recipe=small(CHURN_RECIPE))


def small_propensity(telco: Telco) -> Candidate:
    """A propensity model of few trees."""
    return train_propensity(telco, seed=SEED, recipe=small(PROPENSITY_RECIPE))


@pytest.fixture(scope="session")
def trainers() -> Mapping[str, Callable[[Telco], Candidate]]:
    """How the small models are trained, by name."""
    return {"churn": small_churn, "propensity": small_propensity}


@pytest.fixture(scope="session")
def churn(few: Telco) -> Candidate:
    return small_churn(few)


@pytest.fixture(scope="session")
def propensity(few: Telco) -> Candidate:
    return small_propensity(few)


@pytest.fixture(scope="session", params=["churn", "propensity"])
def candidate(request: pytest.FixtureRequest) -> Candidate:
    model: Candidate = request.getfixturevalue(request.param)
    return model
