"""Decisions: found by customer, action and time; one as a way through the stages; made again to the byte."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from engine.decisionlog.record import decision_bytes
from engine.service.explanations import Explanation
from engine.service.glancing import Search, Wanted, search
from engine.service.replaying import differences
from engine.web.console.pages import House, asked, put, said
from engine.web.console.story import TRUTHS, Teller, story_of, why_not
from engine.web.sessions import Session

_SHOWN: Final = 50
"""Decisions on one page; more are found by narrowing the time."""


def found(house: House, request: Request, session: Session) -> Response:
    """The search, and what it found; without anything said the latest decisions."""
    words = said(request)
    since, until = (_instant(asked(request, name)) for name in ("since", "until"))
    wanted = Wanted(asked(request, "customer"), asked(request, "action"), since, until)
    if wanted == Wanted():
        latest = house.recent.decisions()
        result = Search(latest[:_SHOWN], len(latest), len(latest) <= _SHOWN)
    else:
        result = search(house.recent.decision_log, wanted, limit=_SHOWN)
    actions = house.application.live.current.rulebook.actions
    return put(
        request,
        session,
        "decisions",
        wanted=wanted,
        given={name: asked(request, name) for name in ("customer", "action", "since", "until")},
        result=result,
        teller=Teller(house.application.live.current, words.language),
        actions=sorted((action.name[words.language], action.id) for action in actions),
    )


def one(house: House, request: Request, session: Session) -> Response:
    """One decision in full. Raises DecisionUnknown."""
    explanation = _explained(house, request)
    return put(
        request,
        session,
        "decision",
        story=story_of(explanation, said(request)),
        record=explanation.record,
        explanation=explanation,
        teller=Teller(explanation.snapshot, explanation.language),
        accounts={account.found.action.id: account for account in explanation.accounts},
    )


def candidate(house: House, request: Request, session: Session) -> Response:
    """One action of a decision: every rule that judged it, and what would have changed its fate."""
    action_id = request.path_params["action"]
    explanation = _explained(house, request, action_id)
    return put(
        request,
        session,
        "candidate",
        record=explanation.record,
        explanation=explanation,
        found=why_not(explanation, action_id),
        action_id=action_id,
        teller=Teller(explanation.snapshot, explanation.language),
        truths=TRUTHS,
    )


def replayed(house: House, request: Request, session: Session) -> Response:
    """Whether deciding again gives the same bytes, and where not. Raises SetupInvalid."""
    again = house.application.explanations.replay(request.path_params["decision"])
    return put(
        request,
        session,
        "replayed",
        again=again,
        differences=differences(again),
        bytes=len(decision_bytes(again.record.decision)),
    )


def _explained(house: House, request: Request, action_id: str = "") -> Explanation:
    return house.application.explanations.explain(
        request.path_params["decision"], action_id=action_id, language=said(request).language
    )


def _instant(text: str) -> int | None:
    """A time of a form in UTC, as browsers write it; None where it is none."""
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return None
