"""`python -m engine.bench.stack_server PORT FOLDER WAY THREADS SWITCH_MS`: decides for a company in one way.

WAY is `threads` (grpc.server), `aio` (grpc.aio, decisions in the event loop) or `aio_pool` (grpc.aio,
decisions in threads). The handler is the servicer's own in all of them, and nothing is around it.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.api.servicers import DecisionServicer, add_decision_service
from engine.bench.whole_shape import Size, described
from engine.bootstrap import open_application

_OPTIONS: Final = (("grpc.so_reuseport", 0),)
_SERVICE: Final = "arbiter.v1.DecisionService"


def serve(servicer: DecisionServicer, *, port: int, way: str, threads: int) -> None:
    """Serves until SIGTERM."""
    if way == "threads":
        _serve_threads(servicer, port, threads)
    else:
        pool = ThreadPoolExecutor(threads) if way == "aio_pool" else None
        with suppress(asyncio.CancelledError):
            asyncio.run(_serve_aio(servicer, port, pool))


def _serve_threads(servicer: DecisionServicer, port: int, threads: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = grpc.server(ThreadPoolExecutor(threads), options=_OPTIONS)
    add_decision_service(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    signal.sigwait({signal.SIGTERM})
    server.stop(0).wait()


async def _serve_aio(servicer: DecisionServicer, port: int, pool: ThreadPoolExecutor | None) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)

    async def decide(request: decision_service_pb2.DecideRequest, _context: Any) -> bytes:  # noqa: ANN401  # grpc's
        if pool is None:
            return servicer.decide(request, None)
        return await loop.run_in_executor(pool, servicer.decide, request, None)

    server = grpc.aio.server(options=_OPTIONS)
    handler = grpc.unary_unary_rpc_method_handler(
        decide,
        request_deserializer=decision_service_pb2.DecideRequest.FromString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Decide": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await stopped.wait()
    await server.stop(0)


def main() -> None:
    """Opens the company and serves."""
    port, folder, way, threads, switch_ms = sys.argv[1:]
    sys.setswitchinterval(float(switch_ms) / 1000)
    with open_application(described(Path(folder), Size()).settings()) as application:
        servicer = DecisionServicer(application.decisions, application.explanations)
        gc.collect()
        gc.freeze()
        serve(servicer, port=int(port), way=way, threads=int(threads))


if __name__ == "__main__":
    main()
