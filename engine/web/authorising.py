"""Who may ask what over HTTP: who proves callers to gRPC is asked before the call is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from engine.api.status import status_of
from engine.errors import ArbiterError
from engine.security.authorising import Authoriser
from engine.security.callers import Caller
from engine.web.statuses import refusal

Metadata = Sequence[tuple[str, str]]
Authorise = Callable[[str, Metadata], Caller | None]
"""Is told the gRPC method that a call stands for, such as "/arbiter.v1.DecisionService/Decide", and the
headers, named in lower case as gRPC's metadata are. Raises an ArbiterError where the caller may not."""


def by_token(authoriser: Authoriser) -> Authorise:
    """Asks for tokens: certificates are shown to who does TLS, which is not this process."""
    return lambda method, metadata: authoriser.check(method, metadata, lambda: None)


class Authorised:
    """ASGI middleware that asks before it lets a request of one method pass."""

    def __init__(self, app: ASGIApp, authorise: Authorise, method: str) -> None:
        self._app = app
        self._authorise = authorise
        self._method = method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or refuses with the status of the error."""
        if scope["type"] == "http":
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
            try:
                caller = self._authorise(self._method, headers)
            except ArbiterError as error:
                await refusal(status_of(error))(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)
