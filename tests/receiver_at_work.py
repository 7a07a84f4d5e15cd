"""A receiver of webhooks on this machine, and logs of outcomes to send to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engine.decisionlog.ledger import ConsentUse, OutcomeEntry, outcome_log
from engine.web.serving import http_served
from feature_store.state import OutcomeType

NOW_MS = 1_780_000_000_000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@dataclass(frozen=True)
class Arrival:
    """A message as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data


def taken(_arrival: Arrival) -> Response:
    """The answer of who takes all."""
    return Response(status_code=204)


@dataclass
class Receiver:
    """What arrived; `answer` says what is answered, and `stop` is set once `enough` were taken."""

    url: str = ""
    answer: Callable[[Arrival], Response] = taken
    arrivals: list[Arrival] = field(default_factory=list)
    taken: list[Arrival] = field(default_factory=list)
    enough: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def begin_anew(self) -> None:
        """Forgets what arrived, and takes all."""
        self.answer, self.arrivals, self.taken, self.enough = taken, [], [], None
        self.stop = threading.Event()

    async def receive(self, request: Request) -> Response:
        arrival = Arrival(dict(request.headers), await request.body())
        self.arrivals.append(arrival)
        response = self.answer(arrival)
        if response.status_code < 300:
            self.taken.append(arrival)
            if len(self.taken) == self.enough:
                self.stop.set()
        return response

    @property
    def outcome_ids(self) -> list[str]:
        """Of what was taken, where the policy lets them through."""
        return [arrival.data["outcomeId"] for arrival in self.taken]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver at work."""
    receiver = Receiver()
    app = Starlette(routes=[Route("/{path:path}", receiver.receive, methods=["POST", "GET"])])
    with http_served(app, ("127.0.0.1", 0), drain_seconds=1) as port:
        receiver.url = f"http://127.0.0.1:{port}/hook"
        yield receiver


def entry(n: int, customer_id: str, **fields: Any) -> OutcomeEntry:
    """The outcome `o-n`, a moment after the one before."""
    given = {
        "outcome_id": f"o-{n}",
        "decision_id": f"d-{n}",
        "action_id": "tech_support",
        "type": OutcomeType.ACCEPTED,
        "at_ms": NOW_MS + n,
        "received_at_ms": NOW_MS + n,
        "use": ConsentUse(customer_id=customer_id, channel="web", purpose="marketing", relied_on=()),
    }
    return OutcomeEntry(**given | fields)


def log_outcomes(data_dir: Path, count: int, *, start: int = 0, customers: int = 3) -> list[str]:
    """Outcomes of some customers in turns; their ids."""
    with outcome_log(data_dir / "outcomes") as log:
        for n in range(start, start + count):
            log.append(entry(n, f"c-{n % customers}"))
    return [f"o-{n}" for n in range(start, start + count)]
