"""What can go wrong in a use case, in the words of the business; `engine.api.status` maps it to gRPC.

    ArbiterError
    +-- RequestInvalid          the request breaks its contract; carries every violation
    +-- CustomerUnknown         no such customer, or nobody carries the identity
    +-- IdentityAmbiguous       several customers carry the identity
    +-- DecisionUnknown         the log does not hold the decision
    +-- DecisionUnreadable      the log holds it, damaged or written by another engine
    +-- ActionNotReturned       an outcome names an action the decision did not return
    +-- RequestIdReused         the request id belongs to a different request
    +-- RequestInProgress       the same request is being decided right now
    +-- DecisionNotLogged       the log cannot take the record, so there is no decision to prove anything by
    +-- ConsentNotRecorded      the ledger cannot take the record, so nothing changed
    +-- StateUnavailable        the customer's state cannot be read
    +-- ServerDraining          the server is stopping and takes no new calls
    +-- DeadlineExpired         the call waited until nobody waited for its answer
    +-- CallUnknown             no such telephone call is in progress
    +-- CallTaken               a telephone call of this id is another's
    +-- Unauthenticated         the caller does not prove who it is
    |   +-- CredentialsMissing  neither token nor certificate
    |   +-- TokenInvalid        the token is not for us, or not of who may make tokens
    |   +-- TokenExpired        the token was good, and is no more
    |   +-- CertificateRefused  the certificate names nobody, or is valid no more
    +-- PermissionDenied        the caller is known and may not do this
    +-- Overloaded              more calls come than can be answered in time; says when to try again
    +-- SetupInvalid            files or settings do not make a working server

`str(error)` is safe to show to a client: no personal data, no paths, no internals. The cause for
the log is the chained exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that breaks its contract."""

    field: str
    description: str


class ArbiterError(Exception):
    """Root of the tree. `reason` is the stable code clients may act on."""

    reason = "ARBITER_ERROR"


class RequestInvalid(ArbiterError):
    """The request breaks its contract; `violations` holds all of them."""

    reason = "REQUEST_INVALID"

    def __init__(self, violations: Sequence[Violation]) -> None:
        count = len(violations)
        super().__init__(f"the request has {count} invalid field{'s' if count > 1 else ''}")
        self.violations = tuple(violations)


class CustomerUnknown(ArbiterError):
    """No such customer, or nobody carries the identity."""

    reason = "CUSTOMER_UNKNOWN"


class IdentityAmbiguous(ArbiterError):
    """Several customers carry the identity; Arbiter never guesses."""

    reason = "IDENTITY_AMBIGUOUS"

    def __init__(self, identity_type: str, matches: int) -> None:
        super().__init__(
            f"{matches} customers carry this {identity_type}; settle who it is and ask with customer_id"
        )


class DecisionUnknown(ArbiterError):
    """The log does not hold the decision."""

    reason = "DECISION_UNKNOWN"


class DecisionUnreadable(ArbiterError):
    """The log holds the decision, but damaged or written by another engine."""

    reason = "DECISION_UNREADABLE"


class ActionNotReturned(ArbiterError):
    """An outcome names an action that the decision did not return."""

    reason = "ACTION_NOT_RETURNED"


class RequestIdReused(ArbiterError):
    """The request id belongs to a different request."""

    reason = "REQUEST_ID_REUSED"


class RequestInProgress(ArbiterError):
    """The same request is being decided right now."""

    reason = "REQUEST_IN_PROGRESS"


class DecisionNotLogged(ArbiterError):
    """The decision log cannot take the record, so nothing is given that would have to be proven."""

    reason = "DECISION_NOT_LOGGED"


class ConsentNotRecorded(ArbiterError):
    """The consent ledger cannot take the record, so nothing changed."""

    reason = "CONSENT_NOT_RECORDED"


class StateUnavailable(ArbiterError):
    """The customer's state cannot be read, so nothing can be decided."""

    reason = "STATE_UNAVAILABLE"


class ServerDraining(ArbiterError):
    """The server is stopping and takes no new calls."""

    reason = "SERVER_DRAINING"


class DeadlineExpired(ArbiterError):
    """The call waited so long that nobody waits for its answer; no work was done."""

    reason = "DEADLINE_EXPIRED"


class CallUnknown(ArbiterError):
    """No telephone call of this id is in progress, or not any more."""

    reason = "CALL_UNKNOWN"


class CallTaken(ArbiterError):
    """A telephone call of this id is another agent's, of another identity, or has ended."""

    reason = "CALL_TAKEN"


class Unauthenticated(ArbiterError):
    """The caller does not prove who it is."""

    reason = "UNAUTHENTICATED"


class CredentialsMissing(Unauthenticated):
    """The call carries neither token nor certificate."""

    reason = "CREDENTIALS_MISSING"


class TokenInvalid(Unauthenticated):
    """The token is not for us, or not of who may make tokens."""

    reason = "TOKEN_INVALID"


class TokenExpired(Unauthenticated):
    """The token was good, and is no more: get another."""

    reason = "TOKEN_EXPIRED"


class CertificateRefused(Unauthenticated):
    """The client's certificate names nobody, or is valid no more."""

    reason = "CERTIFICATE_REFUSED"


class PermissionDenied(ArbiterError):
    """The caller is known and lacks the role that the method needs; empty where nobody may call it."""

    reason = "PERMISSION_DENIED"

    def __init__(self, text: str, *, role: str = "") -> None:
        super().__init__(text)
        self.role = role


class Overloaded(ArbiterError):
    """More calls come than can be answered in time, and others are more urgent; no work was done."""

    reason = "OVERLOADED"

    def __init__(self, sentence: str, *, retry_after_ms: int = 1_000) -> None:
        super().__init__(sentence)
        self.retry_after_ms = retry_after_ms


class SetupInvalid(ArbiterError):
    """Files or settings do not make a working server; the text is for the operator, not for clients."""

    reason = "SETUP_INVALID"
