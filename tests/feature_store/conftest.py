"""Shared by the tests of the feature store."""

from __future__ import annotations

from pathlib import Path

import pytest

import feature_store
from feature_store.schema import FeatureSchema, load_schema

pytest.register_assert_rewrite("conformance", "conformance_merging")


@pytest.fixture(scope="session")
def telco() -> FeatureSchema:
    """The demo company's schema."""
    return load_schema(Path(feature_store.__file__).parent / "demo" / "telco.toml")
