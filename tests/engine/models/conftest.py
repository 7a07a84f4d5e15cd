"""Two tiny models, trained once a session, and registries that hold them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from ensembles import train
from model_files import FEATURES, TARGETS, manifest_of, version_files

import feature_store
from engine.domain import Action
from feature_store.schema import FeatureSchema, load_schema
from model_registry import promote, publish


def action(action_id: str, target: str) -> Action:
    """A catalogue action of which only the target matters here."""
    return Action(
        id=action_id, group="cross_sell", purpose="marketing", name={}, value=1.0, cost=0.0,
        prior=0.1, weight=1.0, target=target, treatments=(),
    )  # fmt: skip


@pytest.fixture(scope="session")
def schema() -> FeatureSchema:
    """The demo's schema."""
    return load_schema(Path(feature_store.__file__).parent / "demo" / "telco.toml")


@pytest.fixture(scope="session")
def rows() -> np.ndarray:
    """Training rows over FEATURES, float32, with missing charges."""
    rng = np.random.default_rng(7)
    n = 600
    rows = np.column_stack(
        [
            rng.integers(0, 3, n),
            rng.integers(0, 72, n),
            rng.uniform(20, 120, n).round(2),
            rng.uniform(20, 8000, n).round(2),
            rng.integers(0, 2, n),
            rng.integers(0, 2, n),
        ]
    ).astype(np.float32)
    rows[rng.random(n) < 0.2, 3] = np.nan
    return rows


@pytest.fixture(scope="session")
def churn_booster(rows) -> lightgbm.Booster:
    """Leaves early: short tenure, high charges."""
    noise = np.random.default_rng(1).normal(0, 1, len(rows))
    labels = (rows[:, 2] / 30 - rows[:, 1] / 20 - rows[:, 0] + noise > 0).astype(np.int64)
    return train(rows, labels, rounds=12, num_leaves=8)


@pytest.fixture(scope="session")
def propensity_rows(rows) -> np.ndarray:
    """Rows with the target's one-hot columns, its own feature hidden."""
    asked = np.arange(len(rows)) % len(TARGETS)
    one_hot = np.eye(len(TARGETS), dtype=np.float32)[asked]
    hidden = rows.copy()
    hidden[np.arange(len(rows)), [FEATURES.index(TARGETS[t]) for t in asked]] = np.nan
    return np.column_stack([hidden, one_hot])


@pytest.fixture(scope="session")
def propensity_booster(rows, propensity_rows) -> lightgbm.Booster:
    """Security sells to new customers, support to old ones."""
    noise = np.random.default_rng(2).normal(0, 0.5, len(rows))
    sign = propensity_rows[:, 6] - propensity_rows[:, 7]
    labels = (sign * (rows[:, 1] - 36) / 20 + rows[:, 2] / 100 + noise > 0.5).astype(np.int64)
    return train(propensity_rows, labels, rounds=12, num_leaves=8)


@pytest.fixture(scope="session")
def churn_files(churn_booster, rows) -> dict[str, bytes]:
    """The files of a good churn version."""
    return version_files(churn_booster, rows[:40])


@pytest.fixture(scope="session")
def propensity_files(propensity_booster, propensity_rows) -> dict[str, bytes]:
    """The files of a good propensity version."""
    return version_files(propensity_booster, propensity_rows[:40])


@pytest.fixture
def publish_churn(tmp_path, churn_files) -> Callable[..., Path]:
    """Publishes and promotes a churn version, with changes, and returns the registry's root."""

    def publish_it(*, files: dict[str, bytes] | None = None, **changes: object) -> Path:
        folder = publish(tmp_path, {**manifest_of("churn"), **changes}, {**churn_files, **(files or {})})
        promote(tmp_path, folder.parent.name, int(folder.name), reason="test")
        return tmp_path

    return publish_it


@pytest.fixture(scope="session")
def registry(tmp_path_factory, churn_files, propensity_files) -> Path:
    """A registry with both champions."""
    root = tmp_path_factory.mktemp("registry")
    for kind, files in (("churn", churn_files), ("propensity", propensity_files)):
        publish(root, manifest_of(kind), files)
        promote(root, kind, 1, reason="test")
    return root


@pytest.fixture(scope="session")
def actions() -> tuple[Action, ...]:
    """Known targets twice, an unknown one, and none."""
    return (
        action("security", "online_security"),
        action("care_call", ""),
        action("support", "tech_support"),
        action("security_bundle", "online_security"),
        action("fax", "fax_line"),
    )
