"""The gym's tables, and its models trained once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gym_company import churn_plan, members, offer_plan, write_csv, write_offers
from typer.testing import CliRunner, Result

from engine.cli.app import app
from training.own.plan import TrainingPlan
from training.own.run import TrainedModel, prepare, train


@pytest.fixture(scope="session")
def gym_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gym's files; nobody changes them."""
    folder = tmp_path_factory.mktemp("gym")
    write_csv(folder / "members.csv", members())
    write_offers(folder)
    return folder


@pytest.fixture(scope="session")
def churn_model(gym_folder: Path) -> TrainedModel:
    return train(prepare(TrainingPlan.model_validate(churn_plan()), folder=gym_folder))


@pytest.fixture(scope="session")
def offer_model(gym_folder: Path) -> TrainedModel:
    return train(prepare(TrainingPlan.model_validate(offer_plan()), folder=gym_folder))


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs `arbiter` in this process and gives exit code, stdout and stderr."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return invoke
