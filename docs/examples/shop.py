"""A web back end that shows the best action of a customer, and a default where Arbiter is slow or away.

    pip install starlette uvicorn
    uvicorn shop:app

Arbiter is asked with a deadline of 50 ms: a page that waits longer loses more than the action gains. Outcomes
are reported after the page is sent. They have ids, so that reporting one twice counts once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from engine.client import AsyncArbiterClient, CallFailed, NotAnswered

log = logging.getLogger("shop")

DEADLINE_S = 0.05
DEFAULT = {"headline": "Welcome back", "decision": None, "action": None}


class State(TypedDict):
    """What lives as long as the app."""

    arbiter: AsyncArbiterClient


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[State]:
    """One client for the whole process."""
    async with AsyncArbiterClient(os.environ.get("SHOP_ARBITER", "localhost:50051")) as arbiter:
        yield {"arbiter": arbiter}


async def home(request: Request) -> JSONResponse:
    """The best action for the slot at the top of the page."""
    arbiter: AsyncArbiterClient = request.state.arbiter
    try:
        decision = await arbiter.decide(
            customer_id=request.path_params["customer"],
            channel="web",
            placement="home_hero",
            context={"page": "home"},
            limit=1,
            global_privacy_control=request.headers.get("sec-gpc") == "1",
            timeout_s=DEADLINE_S,
        )
    except NotAnswered as away:  # slow, overloaded or gone: the page is more important
        log.warning("no action: %s", away.code)
        return JSONResponse(DEFAULT)
    except CallFailed as refused:  # ours to mend: an unknown customer, a wrong field
        log.error("no action: %s %s %s", refused.reason, refused.message, refused.violations)
        return JSONResponse(DEFAULT)
    if not decision.actions:  # doing nothing is the best action
        return JSONResponse(DEFAULT)
    best = decision.actions[0]
    shown = BackgroundTask(report, arbiter, decision.decision_id, best.action_id, "shown")
    page = {"headline": best.treatment.headline, "decision": decision.decision_id, "action": best.action_id}
    return JSONResponse(page, background=shown)


async def clicked(request: Request) -> JSONResponse:
    """The customer followed it."""
    said = await request.json()
    done = BackgroundTask(report, request.state.arbiter, said["decision"], said["action"], "clicked")
    return JSONResponse({}, status_code=202, background=done)


async def report(arbiter: AsyncArbiterClient, decision: str, action: str, outcome: str) -> None:
    """Tells Arbiter what came of it; the id makes it count once, however often the browser sends it."""
    try:
        await arbiter.record_outcome(
            decision,
            action,
            "shown" if outcome == "shown" else "clicked",
            outcome_id=f"{decision}-{action}-{outcome}"[:128],
        )
    except CallFailed as failed:
        log.warning("outcome not reported: %s %s", failed.code, failed.reason)


app = Starlette(
    routes=[Route("/home/{customer}", home), Route("/clicked", clicked, methods=["POST"])], lifespan=lifespan
)
