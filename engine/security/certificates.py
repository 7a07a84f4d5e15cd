"""Certificates: the server's own pair, fit to serve with, and whom a client's certificate names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from engine.errors import CertificateRefused, SetupInvalid
from engine.security.keeping import read_bytes

LARGEST: Final = 1 << 20
"""Bytes of a file of certificates: the authorities of the whole web take a quarter of that."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a server shows and whom it asks for a certificate; `client_ca` None asks nobody."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expires_s: float


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a certificate names, most telling first, each name with its kind; until when it is valid."""

    names: tuple[str, ...]
    until_s: float


def read_tls(certificate: Path, key: Path, client_ca: Path | None, *, now_s: float) -> TlsFiles:
    """The files of a server, read and found to fit. Raises SetupInvalid; no part of a key is in it."""
    shown = read_bytes(certificate, "ARBITER_TLS_CERTIFICATE", largest=LARGEST)
    secret = read_bytes(key, "ARBITER_TLS_KEY", largest=LARGEST)
    leaf = _certificates(shown, certificate)[0]
    _refuse_mismatch(leaf, secret, certificate=certificate, key=key)
    _refuse_outside_validity(leaf, certificate, now_s)
    authorities = None
    if client_ca is not None:
        authorities = read_bytes(client_ca, "ARBITER_TLS_CLIENT_CA", largest=LARGEST)
        _certificates(authorities, client_ca)
    return TlsFiles(shown, secret, authorities, leaf.not_valid_after_utc.timestamp())


def _certificates(content: bytes, path: Path) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, UnsupportedAlgorithm):
        raise SetupInvalid(f"{path}: holds no certificate in PEM, or a damaged one") from None


def _refuse_mismatch(leaf: x509.Certificate, secret: bytes, *, certificate: Path, key: Path) -> None:
    try:
        private = load_pem_private_key(secret, password=None)
    except TypeError:
        raise SetupInvalid(
            f"{key}: the key has a passphrase; store it without, readable by the server only"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SetupInvalid(f"{key}: holds no private key in PEM, or a damaged one") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise SetupInvalid(
            f"{key}: is not the key of {certificate}; give the pair that belongs together, the server's own "
            "certificate first in its file"
        )


def _refuse_outside_validity(leaf: x509.Certificate, path: Path, now_s: float) -> None:
    first, last = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if not first.timestamp() <= now_s <= last.timestamp():
        raise SetupInvalid(f"{path}: the certificate is valid from {_day(first)} to {_day(last)}, not now")


def _day(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def peer_of(pem: bytes) -> Peer:
    """Whom a verified certificate of a client names. Raises CertificateRefused where it names nobody.

    URIs and host names of the subject alternative name come first. The common name counts only where there
    are none, as it is free text that an authority may not have looked at.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = _alternative_names(certificate) or _common_names(certificate)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise CertificateRefused("the client's certificate cannot be read") from error
    if not names:
        raise CertificateRefused("the client's certificate names nobody: no URI, host name or common name")
    return Peer(names, certificate.not_valid_after_utc.timestamp())


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    uris = said.get_values_for_type(x509.UniformResourceIdentifier)
    return (
        *(f"uri:{each}" for each in uris),
        *(f"dns:{each}" for each in said.get_values_for_type(x509.DNSName)),
    )


def _common_names(certificate: x509.Certificate) -> tuple[str, ...]:
    said = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(f"cn:{name}" for name in said[:1] if isinstance(name, str) and name)
