"""The servers of the benchmark of the whole, side by side, and what is asked of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.bench import whole_floor
from engine.bench.redis_process import RedisProcess
from engine.bench.whole_customers import SEED, fill
from engine.bench.whole_features import values_of
from engine.bench.whole_load import Load
from engine.bench.whole_plan import write_plan
from engine.bench.whole_server import MeasuredServer, cores, free_port, module, on_cores
from engine.bench.whole_shape import Company
from engine.bench.whole_venv import parts_python
from engine.bench.whole_wire import GrpcConnection, HttpConnection
from engine.bootstrap import wall_clock_ms
from engine.settings import EMBEDDED, Settings
from engine.stores import open_store
from model_registry import open_alias

EMPTY: Final = "empty"
SKELETON: Final = "skeleton"
WHOLE: Final = "whole"
WHOLE_LMDB: Final = "whole_lmdb"
PARTS: Final = "parts"
CHANNEL: Final = "web"
PLACEMENT: Final = "account_banner"
PAGE: Final = "/billing"
LIMIT: Final = 3
_GRPC_CHANNELS: Final = 4
_TIMEOUT_MS: Final = 5_000
_WAIT_MS: Final = 1_000
"""Nothing is to fail because other work keeps the machine busy: what would be refused waits, and is told."""
_HTTP_CONNECTIONS: Final = 64
"""One for each call under way: HTTP/1.1 has no two on a connection."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests for some customers, in the words of both protocols."""

    grpc: Sequence[bytes]
    http: Sequence[bytes]


def asked_for(names: Sequence[str]) -> Asked:
    """What is to be decided for these customers."""
    return Asked([decide_request(name).SerializeToString() for name in names], [_json(n) for n in names])


def decide_request(name: str) -> decision_service_pb2.DecideRequest:
    """The request for one customer."""
    request = decision_service_pb2.DecideRequest(
        customer_id=name, channel=CHANNEL, placement=PLACEMENT, limit=LIMIT
    )
    request.context["page"].string_value = PAGE
    return request


def _json(name: str) -> bytes:
    asked = {"customer_id": name, "channel": CHANNEL, "placement": PLACEMENT, "limit": LIMIT}
    return json.dumps({**asked, "context": {"page": PAGE}}).encode()


def load_on(server: MeasuredServer, asked: Asked, *, channels: int = _GRPC_CHANNELS) -> Load:
    """How calls reach a server; `channels` where it speaks gRPC."""
    if server.name == PARTS:
        return Load(partial(HttpConnection, server.port, "/decide"), _HTTP_CONNECTIONS, asked.http)
    return Load(partial(GrpcConnection, server.port), channels, asked.grpc)


@contextmanager
def redis_apart() -> Iterator[str]:
    """A Redis on the core where no server is measured; its URL. All sides that use one use this."""
    with on_cores(cores()[1:]), RedisProcess(free_port()) as redis:
        yield redis.url


def filled(company: Company, *, store: str) -> Settings:
    """Settings of the company on a store, which now has its customers."""
    folder = company.folder / ("data" if store == EMBEDDED else "data-redis")
    folder.mkdir(exist_ok=True)
    settings = company.settings(data_dir=folder, store=store)
    opened = open_store(settings, patient=True)
    try:
        fill(opened, company, now_ms=wall_clock_ms())
    finally:
        opened.close()
    return settings


def arbiter(name: str, settings: Settings, *, workers: int = 1, on: Collection[int] = ()) -> MeasuredServer:
    """Arbiter as `arbiter serve` runs it, with its usual settings but for how patient it is."""
    port = free_port()
    return MeasuredServer(
        name,
        module("engine", "serve", "--port", str(port), "--workers", str(workers)),
        port=port,
        log=settings.data_dir / "server.log",
        environment={
            "ARBITER_DATA_DIR": str(settings.data_dir),
            "ARBITER_STORE": settings.store,
            "ARBITER_STORE_TIMEOUT_MS": str(_TIMEOUT_MS),
            "ARBITER_ADMISSION_WAIT_MS": str(_WAIT_MS),
            "ARBITER_RULES": str(settings.rules),
            "ARBITER_REGISTRY": str(settings.registry),
            "ARBITER_FEATURE_SCHEMA": str(settings.feature_schema),
        },
        on=on,
    )


def empty(company: Company) -> MeasuredServer:
    """The same stack with nothing to do."""
    port = free_port()
    command = module("engine.bench.whole_floor", str(port))
    return MeasuredServer(EMPTY, command, port=port, log=company.folder / "empty.log", environment={})


def skeleton(company: Company, settings: Settings, *, reply: bytes) -> MeasuredServer:
    """The same stack with one read, one run of the model, and a reply of Arbiter's that was made before."""
    folder = company.folder / SKELETON
    folder.mkdir(exist_ok=True)
    (folder / "reply.bin").write_bytes(reply)
    np.save(folder / "rows.npy", _rows(company))
    described = folder / "skeleton.json"
    held = {
        "redis": settings.store,
        "prefix": settings.store_prefix,
        "model": str(company.folder / "registry" / "propensity" / "1" / "model.onnx"),
        "rows": str(folder / "rows.npy"),
        "reply": str(folder / "reply.bin"),
    }
    described.write_text(json.dumps(held), encoding="utf-8")
    port = free_port()
    command = module("engine.bench.whole_floor", str(port), str(described))
    return MeasuredServer(SKELETON, command, port=port, log=folder / "server.log", environment={})


def _rows(company: Company) -> np.typing.NDArray[np.float32]:
    """Rows of the propensity model: one customer, asked about one target after the other."""
    targets = len(open_alias(company.folder / "registry", "propensity").manifest.targets)
    known = np.repeat(values_of(0, company.features, seed=SEED)[:1], whole_floor.ROWS, axis=0)
    one_hot = np.eye(targets, dtype=np.float32)[np.arange(whole_floor.ROWS) % targets]
    return np.hstack([known, one_hot])


def parts(company: Company, settings: Settings) -> MeasuredServer:
    """The stack of well-known parts, on the same Redis. Raises PartMissing where it cannot be installed."""
    folder = company.folder / PARTS
    address = settings.store.removeprefix("redis://").removesuffix("/0")
    plan = write_plan(company, folder, redis=address)
    port = free_port()
    command = module("engine.bench.whole_parts.app", str(plan), str(port), python=str(parts_python()))
    return MeasuredServer(PARTS, command, port=port, log=folder / "server.log", environment={})


ReplyOf = Callable[[MeasuredServer], bytes]


@contextmanager
def all_sides(
    company: Company, reply_of: ReplyOf, *, with_parts: bool
) -> Iterator[dict[str, MeasuredServer]]:
    """Every server at once; only one is ever asked."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_apart())
        lmdb, on_redis = filled(company, store=EMBEDDED), filled(company, store=redis)
        sides = {WHOLE_LMDB: arbiter(WHOLE_LMDB, lmdb), WHOLE: arbiter(WHOLE, on_redis)}
        for side in sides.values():
            stack.enter_context(side)
        sides[SKELETON] = skeleton(company, on_redis, reply=reply_of(sides[WHOLE]))
        sides[EMPTY] = empty(company)
        if with_parts:
            sides[PARTS] = parts(company, on_redis)
        for name in (SKELETON, EMPTY, *((PARTS,) if with_parts else ())):
            stack.enter_context(sides[name])
        yield sides
