"""Who may call what: every method of the contract needs a role, and what is not listed nobody may call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from engine.errors import (
    CertificateRefused,
    CredentialsMissing,
    PermissionDenied,
    TokenExpired,
    TokenInvalid,
)
from engine.security.callers import Caller, Role
from engine.security.certificates import peer_of
from engine.security.keeping import Kept
from engine.security.roles import RoleBook
from engine.security.tokens import TokenCheck

METHODS: Mapping[str, Role] = {
    "/arbiter.v1.DecisionService/Decide": Role.DECIDE,
    "/arbiter.v1.DecisionService/DecideBatch": Role.DECIDE,
    "/arbiter.v1.DecisionService/Explain": Role.READ_LOG,
    "/arbiter.v1.OutcomeService/RecordOutcome": Role.OUTCOME,
    "/arbiter.v1.ConsentService/RecordConsent": Role.CONSENT,
    "/arbiter.v1.ConsentService/GetConsents": Role.CONSENT,
    "/arbiter.v1.EventService/Ingest": Role.EVENTS,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.ADMIN,
}
OPEN: Final = frozenset(
    {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch"}
)
"""What anybody may ask who reaches the port: load balancers and kubelets carry no tokens."""
MAX_KNOWN: Final = 10_000
"""Callers remembered. Each takes about 1 kB; beyond that those are forgotten that were first."""

Metadata = Sequence[tuple[str, str | bytes]]


class Authoriser:
    """Proves callers and looks up what they may do. Safe for threads.

    Where a call has a token, the token alone counts: a bad one is refused even over a certificate that could
    do the same, and a good one gets none of the certificate's roles, so that a proxy lends nobody its own.
    """

    def __init__(
        self, *, roles: Kept[RoleBook], tokens: Kept[TokenCheck] | None, clock_s: Callable[[], float]
    ) -> None:
        """`tokens` None takes no tokens; `clock_s` gives seconds since the epoch."""
        self._roles = roles
        self._tokens = tokens
        self._clock_s = clock_s
        self._known = _Known(roles.current, None if tokens is None else tokens.current)
        self._turning = threading.Lock()

    def check(
        self, method: str, metadata: Metadata, certificate: Callable[[], bytes | None]
    ) -> Caller | None:
        """Who calls; None for what is open to all. `certificate` gives the client's, verified, in PEM.

        Raises the kinds of Unauthenticated, and PermissionDenied.
        """
        if method in OPEN:
            return None
        caller = self._caller(metadata, certificate)
        role = METHODS.get(method)
        if role is None or role not in caller.roles:
            raise PermissionDenied("the caller may not do this", role=role or "")
        return caller

    def reread(self) -> None:
        """Reads roles and keys now."""
        self._roles.reread()
        if self._tokens is not None:
            self._tokens.reread()

    def _caller(self, metadata: Metadata, certificate: Callable[[], bytes | None]) -> Caller:
        given = [value for name, value in metadata if name == "authorization"]
        if given:
            return self._bearer(given)
        shown = certificate()
        if not shown:
            raise CredentialsMissing(
                "the call carries no token" if self._tokens else "the call shows no certificate"
            )
        return self._remembered(shown, lambda roles, _tokens: _holder(shown, roles), CertificateRefused)

    def _bearer(self, given: Sequence[str | bytes]) -> Caller:
        scheme, _, token = given[0].partition(" ") if isinstance(given[0], str) else ("", "", "")
        if len(given) > 1 or scheme.lower() != "bearer" or not token:
            raise TokenInvalid("write the metadata once, as authorization: Bearer TOKEN")
        if self._tokens is None:
            raise TokenInvalid("this server takes no tokens, only certificates")
        carried = token.encode("utf-8", "surrogatepass")
        return self._remembered(carried, lambda roles, tokens: _bearer_of(token, roles, tokens), TokenExpired)

    def _remembered(
        self,
        proof: bytes,
        prove: Callable[[RoleBook, TokenCheck | None], Caller],
        ended: type[TokenExpired | CertificateRefused],
    ) -> Caller:
        """The caller of a proof, which is remembered by its digest alone; other roles or keys forget all."""
        known = self._current()
        digest = sha256(ended.reason.encode() + proof).digest()  # no certificate passes for a token
        caller = known.callers.get(digest)
        if caller is None:
            caller = prove(known.roles, known.tokens)
            known.remember(digest, caller)
        if self._clock_s() >= caller.until_s:
            known.callers.pop(digest, None)
            raise ended("the proof of who calls has expired")
        return caller

    def _current(self) -> _Known:
        roles = self._roles.current
        tokens = None if self._tokens is None else self._tokens.current
        known = self._known
        if known.roles is roles and known.tokens is tokens:
            return known
        with self._turning:
            self._known = known = _Known(roles, tokens)
        return known


class _Known:
    """Callers proven under one book of roles and one set of keys."""

    __slots__ = ("_adding", "callers", "roles", "tokens")

    def __init__(self, roles: RoleBook, tokens: TokenCheck | None) -> None:
        self.roles = roles
        self.tokens = tokens
        self.callers: dict[bytes, Caller] = {}
        self._adding = threading.Lock()

    def remember(self, digest: bytes, caller: Caller) -> None:
        """Keeps a caller, and no more than MAX_KNOWN."""
        with self._adding:
            while len(self.callers) >= MAX_KNOWN:
                self.callers.pop(next(iter(self.callers)), None)
            self.callers[digest] = caller


def _bearer_of(token: str, roles: RoleBook, tokens: TokenCheck | None) -> Caller:
    assert tokens is not None  # who has no keys takes no tokens
    verified = tokens.verified(token)
    return Caller(verified.subject, roles.of_token(verified.claims), verified.until_s)


def _holder(certificate: bytes, roles: RoleBook) -> Caller:
    peer = peer_of(certificate)
    return Caller(peer.names[0], roles.of_certificate(peer.names), peer.until_s)
