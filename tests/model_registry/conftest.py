"""A small valid manifest and its files; the registry does not look inside the files."""

from __future__ import annotations

import pytest


@pytest.fixture
def offered() -> dict[str, object]:
    """A manifest as a training run offers it."""
    return {
        "name": "churn",
        "kind": "churn",
        "created": "2026-01-15",
        "intended_use": "Ranks customers by the risk that they leave",
        "feature_schema": "telco",
        "inputs": [{"name": "tenure_months", "source": "feature"}],
        "typical": {"tenure_months": 29.0},
        "concepts": [
            {"name": "loyalty", "inputs": ["tenure_months"], "reason_raises": "NEW", "reason_lowers": "LOYAL"}
        ],
        "calibration": {"slope": 1.0, "intercept": 0.0},
        "metrics": {"auc": 0.84},
        "training_data": {"source": "telco", "rows": "7043"},
    }


@pytest.fixture
def files() -> dict[str, bytes]:
    """Two files of a version."""
    return {"model.onnx": b"trees", "golden.npz": b"rows"}
