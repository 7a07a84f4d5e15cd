"""`python -m engine.bench.whole_parts.app PLAN PORT`: loads the online store, then serves POST /decide."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Final

import orjson
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

from engine.bench.whole_parts.deciding import Decider
from engine.bench.whole_parts.features import KnownCustomers, load
from engine.bench.whole_parts.plan import read_plan

_KEPT_S: Final = 300
"""Connections of callers who come back stay; by default they are closed after 5 s."""


class Context(BaseModel):
    """Facts of the request."""

    page: str


class DecideRequest(BaseModel):
    """What is asked."""

    customer_id: str
    channel: str
    placement: str
    limit: int
    context: Context


def served(decider: Decider, log: int) -> FastAPI:
    """The application. Its handler never waits, so on one core a thread of its own would only cost.

    `log` is the open file of decisions, one JSON a line.
    """

    async def decide(request: DecideRequest) -> Response:
        decided = decider.decide(request.customer_id, request.channel, request.limit, request.context.page)
        reply = orjson.dumps(decided.reply)
        os.write(log, b'{"evidence":' + orjson.dumps(decided.evidence) + b',"reply":' + reply + b"}\n")
        return Response(reply, media_type="application/json")

    app = FastAPI()
    app.add_api_route("/decide", decide, methods=["POST"])
    return app


def main() -> None:
    """Serves until it is told to stop."""
    plan = read_plan(Path(sys.argv[1]))
    load(plan)
    log = os.open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    app = served(Decider(plan, KnownCustomers(plan).read), log)
    gc.collect()
    gc.freeze()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=_KEPT_S,
    )


if __name__ == "__main__":
    main()
