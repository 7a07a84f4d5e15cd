"""Both stores where customers are merged."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance_merging import MergingConformance
from redis_at_work import RedisServer
from test_redis import reopen

from feature_store.embedded import open_embedded


class TestEmbedded(MergingConformance):
    """On the local disk."""

    open_store = staticmethod(open_embedded)


class TestRedis(MergingConformance):
    """On Redis, with the documented rights of a server."""

    open_store = staticmethod(reopen)

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer, tmp_path: Path) -> None:
        urls = redis_server.url_of("server"), redis_server.url_of("operator")
        (tmp_path / "redis.url").write_text("\n".join(urls))
