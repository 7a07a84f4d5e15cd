"""Who may ask what over HTTP: who proves callers to gRPC is asked before the call is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from engine.api.status import status_of
from engine.errors import ArbiterError
from engine.security.authorising import Authoriser
from engine.security.callers import Caller
from engine.web.statuses import refusal

Metadata = Sequence[tuple[str, str]]


class Authorise(Protocol):
    """Who says whether a caller may."""

    def __call__(self, method: str, metadata: Metadata) -> Caller | None:
        """Who calls a gRPC method, such as "/arbiter.v1.DecisionService/Decide".

        `metadata` are the headers, named in lower case as gRPC's are. Raises an ArbiterError where they may
        not.
        """
        ...

    def prove(self, metadata: Metadata) -> Caller:
        """Who it is, whatever they may do. Raises the kinds of Unauthenticated."""
        ...


class _ByToken:
    """Asks for tokens: certificates are shown to who does TLS, which is not this process."""

    def __init__(self, authoriser: Authoriser) -> None:
        self._authoriser = authoriser

    def __call__(self, method: str, metadata: Metadata) -> Caller | None:
        return self._authoriser.check(method, metadata, _no_certificate)

    def prove(self, metadata: Metadata) -> Caller:
        return self._authoriser.prove(metadata, _no_certificate)


def by_token(authoriser: Authoriser) -> Authorise:
    """Asks an authoriser for tokens."""
    return _ByToken(authoriser)


def _no_certificate() -> None:
    """What is never shown here."""


def headers_of(scope: Scope) -> Metadata:
    """The headers of a request, as gRPC's metadata are."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


class Authorised:
    """ASGI middleware that asks before it lets a request of one method pass."""

    def __init__(self, app: ASGIApp, authorise: Authorise, method: str) -> None:
        self._app = app
        self._authorise = authorise
        self._method = method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or refuses with the status of the error."""
        if scope["type"] == "http":
            try:
                caller = self._authorise(self._method, headers_of(scope))
            except ArbiterError as error:
                await refusal(status_of(error))(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)
