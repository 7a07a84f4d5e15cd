"""Who may call what: methods and roles, tokens and certificates, and what is remembered of them."""

from __future__ import annotations

import timeit
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme
from tokens_at_work import AUDIENCE, ISSUER, Issuer, key_set, yesterday

from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    decision_service_pb2,
    event_service_pb2,
    outcome_service_pb2,
)
from engine.errors import (
    ArbiterError,
    CertificateRefused,
    CredentialsMissing,
    PermissionDenied,
    TokenExpired,
    TokenInvalid,
)
from engine.security import authorising
from engine.security.authorising import METHODS, OPEN, Authoriser
from engine.security.callers import Caller, Role, answer_as, calling, subject
from engine.security.keeping import Kept
from engine.security.roles import read_roles
from engine.security.tokens import TokenCheck, read_keys
from engine.service.watching import UNWATCHED

DECIDE = "/arbiter.v1.DecisionService/Decide"
CONSENT = "/arbiter.v1.ConsentService/RecordConsent"
ROLES = """
[[grants]]
subject = "shop"
roles = ["decide"]

[[grants]]
certificate = "dns:shop.internal"
roles = ["decide", "consent"]

[[grants]]
certificate = "cn:old-shop"
roles = ["decide"]
"""


class Door:
    """An authoriser over files of its own, by a clock that the test moves."""

    def __init__(self, folder: Path, *, tokens: bool = True) -> None:
        self.now_s = 1_000.0
        self.roles, self.keys = folder / "roles.toml", folder / "keys.json"
        self.roles.write_text(ROLES)
        self.keys.write_text(key_set(Issuer()))
        self.authoriser = Authoriser(
            roles=Kept("roles", [self.roles], lambda: read_roles(self.roles), told=UNWATCHED.security_reread),
            tokens=Kept("token_keys", [self.keys], self._check, told=UNWATCHED.security_reread)
            if tokens
            else None,
            clock_s=lambda: self.now_s,
        )

    def _check(self) -> TokenCheck:
        return TokenCheck(read_keys(self.keys, ["ES256"]), ISSUER, AUDIENCE, leeway_s=0)

    def check(self, method: str, *tokens: str, certificate: bytes | None = None) -> Caller | None:
        """Who a call is by."""
        metadata = [("user-agent", "test"), *(("authorization", f"Bearer {token}") for token in tokens)]
        return self.authoriser.check(method, metadata, lambda: certificate)

    def refusal(self, method: str, *tokens: str, certificate: bytes | None = None) -> ArbiterError:
        """Why a call is refused."""
        with pytest.raises(ArbiterError) as refused:
            self.check(method, *tokens, certificate=certificate)
        return refused.value


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """Takes tokens and certificates."""
    return Door(tmp_path)


def certificate(*names: str, common_name: str | None = None, expired: bool = False) -> bytes:
    """A client's certificate."""
    end = yesterday() if expired else None
    pair = trustme.CA().issue_cert(*names, common_name=common_name, not_after=end)
    return pair.cert_chain_pems[0].bytes()


def test_every_method_of_the_contract_needs_a_role() -> None:
    """A method that is added without one can be called by nobody, and fails here."""
    services = [
        service
        for module in (consent_service_pb2, decision_service_pb2, event_service_pb2, outcome_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    methods = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}

    assert {method for method in METHODS if method.startswith("/arbiter.")} == methods


def test_files_of_the_contract_are_all_looked_at() -> None:
    """A new file with services is in the test above, or this fails."""
    folder = Path(__file__).resolve().parents[3] / "proto" / "arbiter" / "v1"

    names = {path.stem for path in folder.glob("*.proto") if "\nservice " in path.read_text()}

    assert names == {"consent_service", "decision_service", "event_service", "outcome_service"}


def test_bearer_may_do_what_its_roles_say(door: Door) -> None:
    """And nothing else; the refusal names the role that is missing."""
    token = Issuer().token("shop")

    caller = door.check(DECIDE, token)
    refusal = door.refusal(CONSENT, token)

    assert caller is not None
    assert (caller.subject, caller.roles) == ("shop", {Role.DECIDE})
    assert isinstance(refusal, PermissionDenied)
    assert refusal.role == "consent"


def test_whoever_is_not_named_may_do_nothing(door: Door) -> None:
    """A good token of a stranger."""
    assert isinstance(door.refusal(DECIDE, Issuer().token("stranger")), PermissionDenied)


@pytest.mark.parametrize(
    "method", ["/arbiter.v1.DecisionService/Forget", "/grpc.reflection.v1.Any/Thing", ""]
)
def test_what_is_not_listed_nobody_may_call(door: Door, method: str) -> None:
    """Not even who has proved who it is."""
    assert isinstance(door.refusal(method, Issuer().token("shop")), PermissionDenied)


@pytest.mark.parametrize("method", sorted(OPEN))
def test_health_is_open_to_all(door: Door, method: str) -> None:
    """Even with a token that is none."""
    assert door.check(method, "no token") is None


def test_call_without_a_proof_is_refused(door: Door, tmp_path: Path) -> None:
    """In the words of what the server takes."""
    missing = door.refusal(DECIDE)
    without_tokens = Door(tmp_path, tokens=False).refusal(DECIDE)

    assert (type(missing), str(missing)) == (CredentialsMissing, "the call carries no token")
    assert str(without_tokens) == "the call shows no certificate"


@pytest.mark.parametrize("value", ["Basic c2hvcDpzZWNyZXQ=", "Bearer", "Bearer ", "", b"Bearer x"])
def test_other_schemes_are_refused(door: Door, value: str | bytes) -> None:
    """Only bearer tokens are taken."""
    with pytest.raises(TokenInvalid):
        door.authoriser.check(DECIDE, [("authorization", value)], lambda: None)


def test_two_tokens_are_refused(door: Door) -> None:
    """It would not be clear who calls."""
    good = Issuer().token("shop")

    assert isinstance(door.refusal(DECIDE, good, good), TokenInvalid)


def test_server_without_keys_takes_no_token(tmp_path: Path) -> None:
    """Even over a good certificate: who sends one expects it to count."""
    shown = certificate("shop.internal")

    refusal = Door(tmp_path, tokens=False).refusal(DECIDE, Issuer().token("shop"), certificate=shown)

    assert isinstance(refusal, TokenInvalid)


def test_holder_of_a_certificate_may_do_what_its_names_say(door: Door) -> None:
    """And is known by the first name."""
    caller = door.check(CONSENT, certificate=certificate("shop.internal", "other.internal"))

    assert caller is not None
    assert caller.subject == "dns:shop.internal"


def test_common_name_counts_where_there_is_no_other(door: Door) -> None:
    """An authority that checks host names need not have checked the common name."""
    alone = door.check(DECIDE, certificate=certificate(common_name="old-shop"))
    beside = door.refusal(DECIDE, certificate=certificate("evil.internal", common_name="old-shop"))

    assert alone is not None
    assert alone.subject == "cn:old-shop"
    assert isinstance(beside, PermissionDenied)


def test_certificate_that_names_nobody_is_refused(door: Door) -> None:
    """As one for an address only; or no certificate at all."""
    assert isinstance(door.refusal(DECIDE, certificate=certificate("10.0.0.1")), CertificateRefused)
    assert isinstance(door.refusal(DECIDE, certificate=b"no certificate"), CertificateRefused)


def test_connection_does_not_outlive_its_certificate(door: Door) -> None:
    """The handshake was before the end, the call comes after it."""
    shown = certificate("shop.internal")
    before = door.check(DECIDE, certificate=shown)
    assert before is not None
    door.now_s = before.until_s

    assert isinstance(door.refusal(DECIDE, certificate=shown), CertificateRefused)


def test_token_alone_counts_where_there_is_one(door: Door) -> None:
    """A proxy's certificate neither saves a bad token nor lends its roles to a good one."""
    shown = certificate("shop.internal")

    bad = door.refusal(DECIDE, "bad", certificate=shown)
    poor = door.refusal(CONSENT, Issuer().token("shop"), certificate=shown)

    assert isinstance(bad, TokenInvalid)
    assert isinstance(poor, PermissionDenied)


def test_certificate_does_not_pass_for_a_token(door: Door) -> None:
    """Certificates are public, so what is remembered of one must not open the door to who sends its text."""
    shown = certificate("shop.internal")
    door.check(DECIDE, certificate=shown)

    assert isinstance(door.refusal(DECIDE, shown.decode()), TokenInvalid)


def test_remembered_token_expires_all_the_same(door: Door) -> None:
    """At its very second."""
    token = Issuer().token("shop", exp=4_000_000_000)
    door.check(DECIDE, token)
    door.now_s = 4_000_000_000.0

    assert isinstance(door.refusal(DECIDE, token), TokenExpired)


def test_other_roles_count_for_remembered_callers(door: Door) -> None:
    """What a caller may do is not remembered for longer than the file says it."""
    token = Issuer().token("shop")
    door.check(DECIDE, token)
    door.roles.write_text(ROLES.replace('roles = ["decide"]', 'roles = ["events"]', 1))

    door.authoriser.reread()

    assert isinstance(door.refusal(DECIDE, token), PermissionDenied)


def test_key_that_is_taken_out_opens_no_more(door: Door) -> None:
    """Tokens it signed are refused, remembered or not; those of the new key are taken."""
    old, new = Issuer().token("shop"), Issuer(kid="k2", number=1)
    door.check(DECIDE, old)
    door.keys.write_text(key_set(new))

    door.authoriser.reread()

    assert isinstance(door.refusal(DECIDE, old), TokenInvalid)
    assert door.check(DECIDE, new.token("shop")) is not None


def test_no_more_callers_are_remembered_than_fit(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came first are forgotten, and proved anew when they call."""
    monkeypatch.setattr(authorising, "MAX_KNOWN", 2)
    tokens = [Issuer().token("shop", jti=str(number)) for number in range(4)]

    callers: Sequence[Caller | None] = [door.check(DECIDE, token) for token in (*tokens, tokens[0])]

    assert None not in callers
    assert len(door.authoriser._known.bearers) == 2


def test_known_token_costs_next_to_nothing(door: Door) -> None:
    """A tenth of what proving it does, at most: about 3 us where proving takes 200."""
    token, check = Issuer().token("shop"), door._check()
    metadata = [("user-agent", "test"), ("authorization", f"Bearer {token}")]

    known_s = min(timeit.repeat(lambda: door.authoriser.check(DECIDE, metadata, lambda: None), number=200))
    proved_s = min(timeit.repeat(lambda: check.verified(token), number=20)) * 10

    assert known_s * 10 < proved_s


def test_who_calls_is_known_while_the_call_is_answered() -> None:
    """And not before or after."""
    shop = Caller("shop", frozenset({Role.DECIDE}), 0.0)

    told = answer_as(shop, lambda word: (word, subject(), calling()), "hello")

    assert told == ("hello", "shop", shop)
    assert (subject(), calling()) == ("", None)
