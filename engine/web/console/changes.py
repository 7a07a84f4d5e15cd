"""The audit log: what was changed by whom, and that nothing was taken out of it."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from engine.decisionlog.verifying import verify
from engine.logfiles import AUDIT, audit_log, checkpoints_of, log_directory
from engine.service.audit import Act
from engine.web.console.pages import House, asked, put
from engine.web.sessions import Session

_SHOWN: Final = 200
"""Changes on the page, the latest; `arbiter audit show` lists more."""


def listed(house: House, request: Request, session: Session) -> Response:
    """Changes, the latest first, of one person or of one kind where that is asked for."""
    settings = house.application.settings
    changes = audit_log(settings).changes()
    who, act = asked(request, "who"), asked(request, "act")
    wanted = [c for c in changes if who in ("", c.asked.who) and act in ("", c.asked.act)]
    checked = verify(log_directory(settings, AUDIT), checkpoints_of(settings, AUDIT)) if changes else None
    return put(
        request,
        session,
        "audit",
        changes=wanted[:_SHOWN],
        count=len(wanted),
        people=sorted({change.asked.who for change in changes}),
        acts=tuple(Act),
        given={"who": who, "act": act},
        checked=checked,
    )
