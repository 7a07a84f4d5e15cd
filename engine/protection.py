"""What protects a server, as its settings say: TLS, and callers who prove who they are."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass

import structlog

from engine.errors import SetupInvalid
from engine.security.authorising import Authoriser
from engine.security.certificates import TlsFiles, read_tls
from engine.security.keeping import Kept
from engine.security.roles import read_roles
from engine.security.tokens import TokenCheck, read_keys
from engine.service.watching import Watch
from engine.settings import Settings

_log = structlog.get_logger("engine.protection")


@dataclass(frozen=True, slots=True)
class Protection:
    """None where a part is off; `exposed` where whoever reaches the port from elsewhere may do everything."""

    tls: Kept[TlsFiles] | None
    authoriser: Authoriser | None
    exposed: bool

    def reread(self) -> None:
        """Reads certificates, keys and roles now; what is no good leaves the last good."""
        if self.tls is not None:
            self.tls.reread()
        if self.authoriser is not None:
            self.authoriser.reread()


def protection_of(settings: Settings, watch: Watch) -> Protection:
    """The protection that the settings say, at work. Raises SetupInvalid where it would protect nothing."""
    _refuse_halves(settings)
    authoriser = _authoriser(settings, watch)
    reached = [host for host in _hosts(settings) if not is_loopback(host)]
    exposed = authoriser is None and bool(reached)
    if exposed:
        advice = "ask for tokens or certificates (docs/security.md), or listen on 127.0.0.1"
        _log.warning("server.exposed", host=reached[0], advice=advice)
    watch.exposed(open_to_all=exposed)
    return Protection(_tls(settings, watch), authoriser, exposed)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name is taken to be reached by others."""
    if host in ("localhost", "ip6-localhost"):
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _hosts(settings: Settings) -> list[str]:
    """Where calls come in: gRPC, and HTTP where that is on."""
    web = settings.web_address
    return [settings.host] if web is None else [settings.host, web[0]]


def _refuse_halves(settings: Settings) -> None:
    """Every setting that would protect nothing alone. Raises SetupInvalid for the first that does not fit."""
    proves = settings.token_keys is not None or settings.tls_client_ca is not None
    for wrong, words in (
        (
            (settings.tls_certificate is None) != (settings.tls_key is None),
            "ARBITER_TLS_CERTIFICATE and ARBITER_TLS_KEY go together; give both or neither",
        ),
        (
            settings.tls_client_ca is not None and settings.tls_certificate is None,
            "ARBITER_TLS_CLIENT_CA: clients show certificates over TLS only; give ARBITER_TLS_CERTIFICATE "
            "and ARBITER_TLS_KEY too",
        ),
        (
            proves and settings.roles_file is None,
            "ARBITER_ROLES_FILE: callers prove who they are, and nothing says what they may do; write a "
            "roles file (docs/security.md)",
        ),
        (
            settings.roles_file is not None and not proves,
            "ARBITER_ROLES_FILE: nobody can prove to be one of those in it; give ARBITER_TOKEN_KEYS for "
            "tokens or ARBITER_TLS_CLIENT_CA for certificates",
        ),
        (
            settings.token_keys is not None and not (settings.token_issuer and settings.token_audience),
            "ARBITER_TOKEN_KEYS: say whose tokens and for whom with ARBITER_TOKEN_ISSUER and "
            "ARBITER_TOKEN_AUDIENCE, else tokens for other services would be good here",
        ),
        (
            settings.token_keys is not None and not settings.token_algorithms,
            "ARBITER_TOKEN_ALGORITHMS: allows none; name one, such as ES256",
        ),
        (
            settings.token_keys is not None
            and settings.tls_certificate is None
            and not is_loopback(settings.host)
            and not settings.insecure_tokens,
            f"tokens would travel to {settings.host} in the clear, for whoever listens; give "
            "ARBITER_TLS_CERTIFICATE and ARBITER_TLS_KEY, or ARBITER_INSECURE_TOKENS=true where a proxy does "
            "TLS",
        ),
        (
            settings.token_keys is not None
            and settings.web_address is not None
            and not is_loopback(settings.web_address[0])
            and not settings.insecure_tokens,
            f"ARBITER_WEB: tokens would travel to {settings.web} in the clear, as HTTP has no TLS here; "
            "listen on 127.0.0.1 behind a proxy that does TLS, or give ARBITER_INSECURE_TOKENS=true where "
            "the proxy is on another machine",
        ),
    ):
        if wrong:
            raise SetupInvalid(words)


def _tls(settings: Settings, watch: Watch) -> Kept[TlsFiles] | None:
    certificate, key, client_ca = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if certificate is None or key is None:
        return None

    def read() -> TlsFiles:
        files = read_tls(certificate, key, client_ca, now_s=time.time())
        watch.certified(until_s=files.expires_s)
        return files

    paths = [path for path in (certificate, key, client_ca) if path is not None]
    return Kept(
        "certificates", paths, read, told=watch.security_reread, look_s=0.0
    )  # its reader keeps the time


def _authoriser(settings: Settings, watch: Watch) -> Authoriser | None:
    path = settings.roles_file
    if path is None:
        return None
    roles = Kept("roles", [path], lambda: read_roles(path), told=watch.security_reread)
    return Authoriser(roles=roles, tokens=_tokens(settings, watch), clock_s=time.time)


def _tokens(settings: Settings, watch: Watch) -> Kept[TokenCheck] | None:
    path, issuer, audience = settings.token_keys, settings.token_issuer, settings.token_audience
    if path is None or issuer is None or audience is None:
        return None

    def read() -> TokenCheck:
        keys = read_keys(path, settings.token_algorithms)
        return TokenCheck(keys, issuer=issuer, audience=audience, leeway_s=settings.token_leeway_s)

    return Kept("token_keys", [path], read, told=watch.security_reread)
