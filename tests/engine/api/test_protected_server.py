"""A server with TLS, tokens and certificates, as its clients meet it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
import trustme
from arbiter_at_work import AT_RISK, LOYAL, connect, failure_of, reason_of, scene, settings_for
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs
from tokens_at_work import AUDIENCE, ISSUER, Issuer, chain_of, key_set, write_pair, yesterday

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, types_pb2
from engine.api.event_servicer import EventServicer
from engine.api.server import HANDSHAKE_MS, ApiServer, Servicers
from engine.api.servicers import ConsentServicer, DecisionServicer, OutcomeServicer
from engine.bootstrap import Application
from engine.client import Access, ArbiterClient, CallFailed
from engine.errors import SetupInvalid
from engine.protection import Protection, is_loopback, protection_of
from engine.service.watching import UNWATCHED

ROLES = """
[[grants]]
subject = "shop"
roles = ["decide"]

[[grants]]
scope = "arbiter:all"
roles = ["decide", "read_log", "outcome", "consent", "events", "admin"]

[[grants]]
certificate = "dns:shop.internal"
roles = ["decide"]
"""
ALL = "openid arbiter:all"


class Rereads:
    """Counts what was read anew, as metrics do."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []

    def security_reread(self, what: str, *, well: bool) -> None:
        self.told.append((what, well))

    def __getattr__(self, name: str) -> object:
        return getattr(UNWATCHED, name)


class Protected:
    """A server over the shared application, with files of its own, and clients of it."""

    def __init__(self, application: Application, folder: Path, *, tls: bool, mutual: bool) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.watch = Rereads()
        (folder / "roles.toml").write_text(ROLES)
        (folder / "keys.json").write_text(key_set(Issuer()))
        (folder / "ca.pem").write_bytes(self.authority.cert_pem.bytes())
        certificate, key = write_pair(self.authority.issue_cert("localhost"), folder)
        settings = settings_for(
            folder,
            roles_file=folder / "roles.toml",
            token_keys=folder / "keys.json",
            token_issuer=ISSUER,
            token_audience=AUDIENCE,
            **({"tls_certificate": certificate, "tls_key": key} if tls else {}),
            **({"tls_client_ca": folder / "ca.pem"} if mutual else {}),
        )
        self.protection = protection_of(settings, self.watch)  # type: ignore[arg-type]  # the rest by __getattr__
        self.server = served(application, self.protection)
        self.target = f"localhost:{self.server.port}"
        self.tls = tls

    def access(self, token: str | None = None, pair: trustme.LeafCert | None = None) -> Access:
        """What a client shows."""
        return Access(
            authorities=self.authority.cert_pem.bytes() if self.tls else None,
            certificate=None if pair is None else chain_of(pair),
            key=None if pair is None else pair.private_key_pem.bytes(),
            token=token,
        )

    def decide(self, token: str | None = None, pair: trustme.LeafCert | None = None) -> str:
        """Decides over a channel of its own; gives the decision's id."""
        with connect(self.target, timeout_s=30.0, access=self.access(token, pair)) as arbiter:
            return arbiter.decide(scene(LOYAL)).decision_id


def served(application: Application, protection: Protection) -> ApiServer:
    """A started server with a protection."""
    server = ApiServer(
        Servicers(
            DecisionServicer(application.decisions, application.explanations),
            OutcomeServicer(application.outcomes),
            ConsentServicer(application.consents),
            EventServicer(application.intake),
        ),
        address="localhost:0",
        threads=4,
        max_request_bytes=1 << 20,
        reuse_port=False,
        with_reflection=True,
        watch=UNWATCHED,
        tls=protection.tls,
        authoriser=protection.authoriser,
    )
    server.start()
    return server


@pytest.fixture
def protected(application: Application, tmp_path: Path) -> Iterator[Callable[..., Protected]]:
    """Starts protected servers."""
    with ExitStack() as stack:

        def start(*, tls: bool = False, mutual: bool = False) -> Protected:
            made = Protected(application, tmp_path, tls=tls, mutual=mutual)
            stack.callback(made.server.drain, 0)
            return made

        yield start


def challenge_of(failure: CallFailed) -> dict[str, str]:
    """What the refusal tells a client to do about it."""
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in failure.status.details)
    return dict(info.metadata)


def test_call_without_a_token_is_unauthenticated(protected: Callable[..., Protected]) -> None:
    """With a stable reason, and the challenge of RFC 6750."""
    place = protected()

    missing, bad = failure_of(place.decide), failure_of(lambda: place.decide("bad"))
    old = failure_of(lambda: place.decide(Issuer().token(exp=yesterday())))

    assert [f.code for f in (missing, bad, old)] == ["UNAUTHENTICATED"] * 3
    assert [reason_of(f)[0] for f in (missing, bad, old)] == [
        "CREDENTIALS_MISSING",
        "TOKEN_INVALID",
        "TOKEN_EXPIRED",
    ]
    assert challenge_of(missing) == {"www-authenticate": "Bearer"}
    assert challenge_of(bad) == {"www-authenticate": 'Bearer error="invalid_token"'}


def test_bearer_calls_what_its_roles_permit(protected: Callable[..., Protected]) -> None:
    """A decision, and no explanation: the refusal says which role that needs."""
    place, token = protected(), Issuer().token("shop")

    decision_id = place.decide(token)
    with connect(place.target, access=place.access(token)) as arbiter:
        failure = failure_of(
            lambda: arbiter.explain(decision_service_pb2.ExplainRequest(decision_id=decision_id))
        )

    assert decision_id
    assert (failure.code, reason_of(failure)[0]) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert challenge_of(failure) == {
        "www-authenticate": 'Bearer error="insufficient_scope"',
        "role": "read_log",
    }


def test_health_asks_for_no_token(protected: Callable[..., Protected]) -> None:
    """Load balancers have none; and they learn nothing else."""
    place = protected()

    with grpc.insecure_channel(place.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        status = stub.Check(health_pb2.HealthCheckRequest(), timeout=30).status
        watched = next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)).status

    assert (status, watched) == (health_pb2.HealthCheckResponse.SERVING,) * 2


def test_reflection_is_for_administrators(protected: Callable[..., Protected]) -> None:
    """Where it is served at all."""
    place = protected()
    ask = [reflection_pb2.ServerReflectionRequest(list_services="")]

    with grpc.insecure_channel(place.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        good = Issuer().token("dba", scope=ALL)
        told = next(
            stub.ServerReflectionInfo(iter(ask), metadata=[("authorization", f"Bearer {good}")], timeout=30)
        )
        with pytest.raises(grpc.RpcError) as refused:
            next(stub.ServerReflectionInfo(iter(ask), timeout=30))

    assert "arbiter.v1.DecisionService" in [s.name for s in told.list_services_response.service]
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_consent_says_who_recorded_it(
    protected: Callable[..., Protected], application: Application, like: Callable[[str], str]
) -> None:
    """The ledger holds who proved to be the caller, whatever the caller claims to be."""
    place, customer = protected(), like(AT_RISK)
    token = Issuer().token("crm", scope=ALL)

    def record(actor: str) -> consent_service_pb2.RecordConsentResponse:
        request = consent_service_pb2.RecordConsentRequest(
            customer_id=customer,
            consent=consent_service_pb2.ConsentRecord(
                purpose="marketing",
                channel="email",
                state=types_pb2.CONSENT_STATE_GRANTED,
                source="web:preference-center",
                actor=actor,
            ),
        )
        with connect(place.target, timeout_s=30.0, access=place.access(token)) as arbiter:
            return arbiter.record_consent(request)

    claimed, silent = record("agent:7"), record("")

    entries = [application.ledger.read(reply.ledger_position) for reply in (claimed, silent)]
    assert [entry and entry.recorded_by for entry in entries] == ["crm", "crm"]
    assert [reply.consent.actor for reply in (claimed, silent)] == ["agent:7", "crm"]


def test_tls_needs_the_right_authority(protected: Callable[..., Protected]) -> None:
    """A client that trusts another one, or speaks in the clear, gets no answer."""
    place = protected(tls=True)
    token = Issuer().token("shop")
    stranger = Access(authorities=trustme.CA().cert_pem.bytes(), token=token)

    with connect(place.target, access=stranger) as arbiter:
        wrong = failure_of(lambda: arbiter.decide(scene(LOYAL)))
    with connect(place.target, access=Access(token=token)) as arbiter:
        clear = failure_of(lambda: arbiter.decide(scene(LOYAL)))

    assert place.decide(token)
    assert (wrong.code, clear.code) == ("UNAVAILABLE", "UNAVAILABLE")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(protected: Callable[..., Protected], version: ssl.TLSVersion) -> None:
    """A client that speaks nothing newer, and would take any cipher."""
    place = protected(tls=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version

    with pytest.raises(ssl.SSLError):
        handshake(place.server.port, context)


def test_tls_1_2_is_taken(protected: Callable[..., Protected]) -> None:
    """It is the least that is."""
    place = protected(tls=True)
    context = ssl.create_default_context(cadata=place.authority.cert_pem.bytes().decode())
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    assert handshake(place.server.port, context)[0] == "TLSv1.2"


def handshake(port: int, context: ssl.SSLContext) -> tuple[str | None, bytes | None]:
    """Version and certificate that a server answers with."""
    with (
        socket.create_connection(("localhost", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.version(), secure.getpeercert(binary_form=True)


def test_certificate_changes_under_load_without_a_dropped_call(protected: Callable[..., Protected]) -> None:
    """Each of many handshakes gets a good pair, while files are replaced one after the other.

    Every pair has a listener of its own: gRPC's own way to change it crashes under handshakes.
    """
    place = protected(tls=True)
    token = Issuer().token("shop")
    context = ssl.create_default_context(cadata=place.authority.cert_pem.bytes().decode())
    context.set_alpn_protocols(["h2"])
    before = handshake(place.server.port, context)[1]
    done, failures, decided = threading.Event(), list[Exception](), list[str]()

    def call() -> None:
        while not done.is_set():
            try:
                with ArbiterClient(place.target, timeout_s=30.0, access=place.access(token)) as arbiter:
                    decided.extend(arbiter.decide(scene(LOYAL)).decision_id for _ in range(20))
            except Exception as error:
                failures.append(error)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for _ in range(5):
        write_pair(place.authority.issue_cert("localhost"), place.folder)
        place.server.follow_certificates()
        handshake(place.server.port, context)
        enough = len(decided) + 30
        while len(decided) < enough and not failures:
            handshake(place.server.port, context)
    done.set()
    for caller in callers:
        caller.join()

    assert failures == []
    assert decided
    assert handshake(place.server.port, context)[1] != before
    assert ("certificates", True) in place.watch.told


def test_new_certificate_is_shown_without_being_asked(protected: Callable[..., Protected]) -> None:
    """Within a second or so; who was connected is told to connect anew, and meets the new one."""
    place = protected(tls=True)
    context = ssl.create_default_context(cadata=place.authority.cert_pem.bytes().decode())
    context.set_alpn_protocols(["h2"])
    before = handshake(place.server.port, context)[1]

    with ArbiterClient(place.target, access=place.access(Issuer().token("shop"))) as arbiter:
        arbiter.decide(scene(LOYAL))
        write_pair(place.authority.issue_cert("localhost"), place.folder)
        shown = next(
            pair for pair in iter(lambda: handshake(place.server.port, context)[1], b"") if pair != before
        )
        decision_id = arbiter.decide(scene(LOYAL)).decision_id

    assert shown != before
    assert decision_id


def test_pair_that_does_not_fit_leaves_the_last_good_one(protected: Callable[..., Protected]) -> None:
    """A half that was forgotten stops nobody; it is counted, and made good by the other half."""
    place = protected(tls=True)
    context = ssl.create_default_context(cadata=place.authority.cert_pem.bytes().decode())
    context.set_alpn_protocols(["h2"])
    before = handshake(place.server.port, context)[1]
    fresh = place.authority.issue_cert("localhost")

    (place.folder / "server.pem").write_bytes(chain_of(fresh))
    place.server.follow_certificates()
    half = handshake(place.server.port, context)[1]
    (place.folder / "server.key").write_bytes(fresh.private_key_pem.bytes())
    place.server.follow_certificates()
    whole = handshake(place.server.port, context)[1]

    assert (half == before, whole == before) == (True, False)
    assert place.watch.told == [("certificates", False), ("certificates", True)]


def test_certificate_says_who_calls(protected: Callable[..., Protected]) -> None:
    """With it alone a client may do what its names may."""
    place = protected(tls=True, mutual=True)

    decision_id = place.decide(pair=place.authority.issue_cert("shop.internal"))
    stranger = failure_of(lambda: place.decide(pair=place.authority.issue_cert("stranger.internal")))

    assert decision_id
    assert (stranger.code, challenge_of(stranger)["role"]) == ("PERMISSION_DENIED", "decide")


BAD_PAIRS: dict[str, Callable[[trustme.CA], trustme.LeafCert | None]] = {
    "none": lambda _: None,
    "of another authority": lambda _: trustme.CA().issue_cert("shop.internal"),
    "expired": lambda authority: authority.issue_cert("shop.internal", not_after=yesterday()),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_client_without_a_good_certificate_is_not_connected(
    protected: Callable[..., Protected], case: str
) -> None:
    """Even with a good token: the handshake comes first."""
    place = protected(tls=True, mutual=True)

    failure = failure_of(lambda: place.decide(Issuer().token("shop"), pair=BAD_PAIRS[case](place.authority)))

    assert failure.code == "UNAVAILABLE"


def test_authorities_of_clients_change_too(protected: Callable[..., Protected]) -> None:
    """Clients of the new one are let in, those of the old one no more."""
    place = protected(tls=True, mutual=True)
    other = trustme.CA()
    (place.folder / "ca.pem").write_bytes(other.cert_pem.bytes())
    place.server.follow_certificates()

    decision_id = place.decide(pair=other.issue_cert("shop.internal"))
    old = failure_of(lambda: place.decide(pair=place.authority.issue_cert("shop.internal")))

    assert decision_id
    assert old.code == "UNAVAILABLE"


HALVES: dict[str, tuple[dict[str, object], str]] = {
    "certificate without key": ({"tls_certificate": "c.pem"}, "TLS_KEY go together"),
    "key without certificate": ({"tls_key": "c.key"}, "TLS_KEY go together"),
    "client authorities without TLS": ({"tls_client_ca": "ca.pem"}, "over TLS only"),
    "proofs without roles": ({"token_keys": "k.json"}, "nothing says what they may do"),
    "roles without proofs": ({"roles_file": "r.toml"}, "nobody can prove"),
    "tokens of anybody": ({"token_keys": "k.json", "roles_file": "r.toml"}, "ARBITER_TOKEN_ISSUER"),
    "tokens in the clear": (
        {
            "token_keys": "k.json",
            "roles_file": "r.toml",
            "token_issuer": "i",
            "token_audience": "a",
            "host": "0.0.0.0",
        },
        "in the clear",
    ),
    "no algorithm": (
        {
            "token_keys": "k.json",
            "roles_file": "r.toml",
            "token_issuer": "i",
            "token_audience": "a",
            "token_algorithms": "",
        },
        "allows none",
    ),
}


@pytest.mark.parametrize("case", HALVES)
def test_half_a_protection_is_refused_at_the_start(tmp_path: Path, case: str) -> None:
    """With what is missing, rather than a server that seems to be protected."""
    given, words = HALVES[case]

    with pytest.raises(SetupInvalid, match=words):
        protection_of(settings_for(tmp_path, **given), UNWATCHED)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("arbiter.internal", False),
    ],
)
def test_who_reaches_an_address(host: str, expected: bool) -> None:
    """Only loopback is for this machine alone."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(("host", "exposed"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_server_that_is_open_to_others_says_so(tmp_path: Path, host: str, exposed: bool) -> None:
    """In the log and, by the watch, in a metric."""
    with capture_logs() as logged:
        protection = protection_of(settings_for(tmp_path, host=host), UNWATCHED)

    assert protection.exposed is exposed
    assert ("server.exposed" in [entry["event"] for entry in logged]) is exposed


@pytest.mark.slow
def test_silent_client_is_let_go(protected: Callable[..., Protected]) -> None:
    """Who says a byte and then nothing holds a connection for the time of a handshake, and no longer."""
    place = protected(tls=True)

    with socket.create_connection(
        ("localhost", place.server.port), timeout=3 * HANDSHAKE_MS / 1000
    ) as silent:
        silent.sendall(b"\x16")
        answer = silent.recv(1)

    assert answer == b""
