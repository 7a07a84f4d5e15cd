"""The benchmark's company with small models, made once."""

from __future__ import annotations

import pytest

from engine.bench.whole_company import write_company
from engine.bench.whole_customers import fill
from engine.bench.whole_shape import Company, Size
from engine.bootstrap import wall_clock_ms
from engine.stores import open_store


@pytest.fixture(scope="session")
def whole_company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """Thirty candidates, fifty rules, forty customers in its embedded store."""
    size = Size(candidates=30, rules=50, features=40, customers=40, trees=12)
    made = write_company(tmp_path_factory.mktemp("whole"), size)
    settings = made.settings()
    settings.data_dir.mkdir()
    store = open_store(settings)
    fill(store, made, now_ms=wall_clock_ms())
    store.close()
    return made
