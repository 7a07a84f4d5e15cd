"""`python -m engine.bench.whole_floor PORT [SKELETON]`: what a server of the same kind does without deciding.

Without SKELETON an empty handler. With it, a JSON file, what nobody who scores can do without: the customer's
values from Redis in one MGET, one run of the propensity model on 20 rows, and a reply that was made before.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import onnxruntime

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.bench.raw_redis import RawRedis, raw_redis
from engine.settings import Settings
from feature_store.redis.keys import DECIDED, Keys

ROWS: Final = 20
_SERVICE: Final = "arbiter.v1.DecisionService"
_METADATA_BYTES: Final = 16 * 1024
Handler = Callable[[decision_service_pb2.DecideRequest, grpc.ServicerContext], bytes]


def empty(_request: decision_service_pb2.DecideRequest, _context: grpc.ServicerContext) -> bytes:
    """A reply with nothing in it."""
    return decision_service_pb2.DecideResponse().SerializeToString()


def skeleton(described: Path, stack: ExitStack) -> Handler:
    """A handler that reads, scores and replies, and decides nothing."""
    held = json.loads(described.read_text(encoding="utf-8"))
    redis: RawRedis = stack.enter_context(raw_redis(held["redis"]))
    keys = Keys(held["prefix"])
    reply = Path(held["reply"]).read_bytes()
    session = onnxruntime.InferenceSession(held["model"], _options(), providers=["CPUExecutionProvider"])
    rows = np.load(held["rows"])

    def handle(request: decision_service_pb2.DecideRequest, _context: grpc.ServicerContext) -> bytes:
        redis.values(keys.of(request.customer_id, DECIDED))
        session.run(["probability"], {"input": rows})
        return reply

    return handle


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    return options


def serve(port: int, handler: Handler) -> grpc.Server:
    """A server with the threads and options of Arbiter's (engine/api/server.py), started."""
    settings = Settings()
    server = grpc.server(
        ThreadPoolExecutor(max_workers=settings.threads),
        options=(
            ("grpc.max_receive_message_length", settings.max_request_bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.max_metadata_size", _METADATA_BYTES),
        ),
    )
    decide = grpc.unary_unary_rpc_method_handler(
        handler,
        request_deserializer=decision_service_pb2.DecideRequest.FromString,
        response_serializer=_as_it_is,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Decide": decide}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    gc.collect()
    gc.freeze()
    server.start()
    return server


def _as_it_is(reply: bytes) -> bytes:
    return reply


def main() -> None:
    """Serves until SIGTERM."""
    port, *described = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with ExitStack() as stack:
        server = serve(int(port), skeleton(Path(described[0]), stack) if described else empty)
        signal.sigwait({signal.SIGTERM})
        server.stop(0)


if __name__ == "__main__":
    main()
