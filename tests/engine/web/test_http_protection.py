"""HTTP asks for the same tokens and roles as gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, LOYAL, settings_for
from starlette.testclient import TestClient
from structlog.testing import capture_logs
from tokens_at_work import AUDIENCE, ISSUER, Issuer, key_set

from engine.bootstrap import Application
from engine.errors import SetupInvalid
from engine.protection import protection_of
from engine.service.watching import UNWATCHED
from engine.web.app import create_app
from engine.web.authorising import by_token

ROLES = """
[[grants]]
subject = "shop"
roles = ["decide"]

[[grants]]
subject = "crm"
roles = ["consent"]
"""
DECIDE = {"customerId": LOYAL, "channel": "web"}


def tokens_of(folder: Path) -> dict[str, object]:
    """Settings that ask for tokens, with their files."""
    (folder / "roles.toml").write_text(ROLES)
    (folder / "keys.json").write_text(key_set(Issuer()))
    return {
        "roles_file": folder / "roles.toml",
        "token_keys": folder / "keys.json",
        "token_issuer": ISSUER,
        "token_audience": AUDIENCE,
    }


@pytest.fixture
def guarded(application: Application, tmp_path: Path) -> Iterator[TestClient]:
    """HTTP of the shared application, for callers with tokens."""
    protection = protection_of(settings_for(tmp_path, **tokens_of(tmp_path)), UNWATCHED)
    assert protection.authoriser is not None
    app = create_app(application, by_token(protection.authoriser))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def bearing(subject: str) -> dict[str, str]:
    """Headers of somebody with a token."""
    return {"Authorization": f"Bearer {Issuer().token(subject)}"}


def test_calls_need_a_token_and_its_role(guarded: TestClient) -> None:
    """Nobody is 401, somebody without the role 403, and probes are for everybody."""
    nobody = guarded.post("/v1/decide", json=DECIDE)
    other = guarded.post("/v1/decide", json=DECIDE, headers=bearing("crm"))
    shop = guarded.post("/v1/decide", json=DECIDE, headers=bearing("shop"))

    assert [reply.status_code for reply in (nobody, other, shop)] == [401, 403, 200]
    assert guarded.get("/healthz").status_code == 200


def test_consent_says_who_recorded_it(
    guarded: TestClient, application: Application, like: Callable[[str], str]
) -> None:
    """The ledger holds who proved to be the caller."""
    will = {
        "purpose": "marketing", "channel": "email", "state": "CONSENT_STATE_GRANTED", "source": "web:center",
    }  # fmt: skip
    asked = {"customerId": like(AT_RISK), "consent": will}

    told = guarded.post("/v1/consents", json=asked, headers=bearing("crm"))

    entry = application.ledger.read(int(told.json()["ledgerPosition"]))
    assert entry is not None
    assert entry.recorded_by == "crm"


def test_tokens_do_not_travel_in_the_clear(tmp_path: Path) -> None:
    """HTTP has no TLS of its own, so it stays on this machine, unless a proxy protects the way."""
    given = tokens_of(tmp_path) | {"web": "0.0.0.0:8080"}

    with pytest.raises(SetupInvalid, match="ARBITER_WEB"):
        protection_of(settings_for(tmp_path, **given), UNWATCHED)

    assert protection_of(settings_for(tmp_path, **given, insecure_tokens=True), UNWATCHED).authoriser


def test_http_that_is_open_to_others_says_so(tmp_path: Path) -> None:
    """As gRPC does."""
    with capture_logs() as logged:
        protection = protection_of(settings_for(tmp_path, web="0.0.0.0:8080"), UNWATCHED)

    assert protection.exposed
    assert [(entry["event"], entry["host"]) for entry in logged] == [("server.exposed", "0.0.0.0")]
