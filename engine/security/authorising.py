"""Who may call what: every method of the contract needs a role, and what is not listed nobody may call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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

_WRITE: Final = "write the metadata once, as authorization: Bearer TOKEN"

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

    def prove(self, metadata: Metadata, certificate: Callable[[], bytes | None]) -> Caller:
        """Who calls, whatever they may do. Raises the kinds of Unauthenticated."""
        return self._caller(metadata, certificate)

    def reread(self) -> None:
        """Reads roles and keys now."""
        self._roles.reread()
        if self._tokens is not None:
            self._tokens.reread()

    def _caller(self, metadata: Metadata, certificate: Callable[[], bytes | None]) -> Caller:
        known = self._current()
        given = [value for name, value in metadata if name == "authorization"]
        if given:
            return self._bearer(given, known)
        shown = certificate()
        if not shown:
            raise CredentialsMissing(
                "the call carries no token" if self._tokens else "the call shows no certificate"
            )
        digest = sha256(shown).digest()
        caller = known.holders.get(digest)
        if caller is None:
            caller = _Known.remember(known.holders, digest, _holder(shown, known.roles))
        if self._clock_s() >= caller.until_s:
            raise CertificateRefused("the client's certificate has expired since the connection was made")
        return caller

    def _bearer(self, given: Sequence[str | bytes], known: _Known) -> Caller:
        """By the digest of what was sent, as the text itself would be a token to steal from memory."""
        said = given[0]
        if len(given) > 1 or not isinstance(said, str):
            raise TokenInvalid(_WRITE)
        digest = sha256(said.encode("utf-8", "surrogatepass")).digest()
        caller = known.bearers.get(digest)
        if caller is None:
            caller = _Known.remember(known.bearers, digest, _bearer_of(said, known))
        if self._clock_s() >= caller.until_s:
            raise TokenExpired("the token has expired")
        return caller

    def _current(self) -> _Known:
        roles = self._roles.current
        tokens = None if self._tokens is None else self._tokens.current
        known = self._known
        if known.roles is roles and known.tokens is tokens:
            return known
        self._known = known = _Known(roles, tokens)
        return known


class _Known:
    """Callers proven under one book of roles and one set of keys, by the digest of their proof.

    Tokens and certificates are apart: a certificate is public, and its text no token.
    """

    __slots__ = ("bearers", "holders", "roles", "tokens")

    def __init__(self, roles: RoleBook, tokens: TokenCheck | None) -> None:
        self.roles = roles
        self.tokens = tokens
        self.bearers: dict[bytes, Caller] = {}
        self.holders: dict[bytes, Caller] = {}

    @staticmethod
    def remember(callers: dict[bytes, Caller], digest: bytes, caller: Caller) -> Caller:
        """Keeps a caller, and no more than MAX_KNOWN but for one a thread."""
        while len(callers) >= MAX_KNOWN:
            with suppress(StopIteration, RuntimeError):  # another thread is at it too
                callers.pop(next(iter(callers)), None)
        callers[digest] = caller
        return caller


def _bearer_of(said: str, known: _Known) -> Caller:
    scheme, _, token = said.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenInvalid(_WRITE)
    if known.tokens is None:
        raise TokenInvalid("this server takes no tokens, only certificates")
    verified = known.tokens.verified(token)
    return Caller(verified.subject, known.roles.of_token(verified.claims), verified.until_s)


def _holder(certificate: bytes, roles: RoleBook) -> Caller:
    peer = peer_of(certificate)
    return Caller(peer.names[0], roles.of_certificate(peer.names), peer.until_s)
