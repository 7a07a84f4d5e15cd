"""The server's own certificate: what is wrong is said at the start, in words."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from tokens_at_work import write_pair, yesterday

from engine.errors import SetupInvalid
from engine.security.certificates import read_tls

AUTHORITY = trustme.CA()


def refusal(certificate: Path, key: Path, client_ca: Path | None = None) -> str:
    """Why a server does not start with these."""
    with pytest.raises(SetupInvalid) as refused:
        read_tls(certificate, key, client_ca, now_s=time.time())
    return str(refused.value)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Files of a good pair."""
    return write_pair(AUTHORITY.issue_cert("localhost"), tmp_path)


def test_good_pair_is_taken(pair: tuple[Path, Path]) -> None:
    """With the instant at which it ends."""
    files = read_tls(*pair, None, now_s=time.time())

    assert files.expires_s > time.time()
    assert files.client_ca is None


def test_key_of_another_certificate_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Both files are named."""
    (tmp_path / "other.key").write_bytes(AUTHORITY.issue_cert("localhost").private_key_pem.bytes())

    words = refusal(pair[0], tmp_path / "other.key")

    assert "other.key: is not the key of" in words
    assert "server.pem" in words


def test_key_with_a_passphrase_is_refused(pair: tuple[Path, Path]) -> None:
    """Nobody is there to type it."""
    private = load_pem_private_key(pair[1].read_bytes(), None)
    sealed = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    pair[1].write_bytes(sealed)

    assert "the key has a passphrase" in refusal(*pair)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_damaged_files_are_refused(pair: tuple[Path, Path], tmp_path: Path, content: bytes) -> None:
    """Each by its name, with nothing of what is in it."""
    damaged = tmp_path / "damaged.pem"
    damaged.write_bytes(content)

    assert "damaged.pem: holds no private key" in refusal(pair[0], damaged)
    assert "damaged.pem: holds no certificate" in refusal(damaged, pair[1])
    assert "damaged.pem: holds no certificate" in refusal(*pair, damaged)


def test_missing_file_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """With the setting that names it."""
    words = refusal(pair[0], tmp_path / "none.key")

    assert "none.key: the file of ARBITER_TLS_KEY cannot be read" in words


def test_expired_certificate_is_refused(tmp_path: Path) -> None:
    """No client would take it, so better say it at the start."""
    pair = write_pair(AUTHORITY.issue_cert("localhost", not_after=yesterday()), tmp_path)

    assert "the certificate is valid from" in refusal(*pair)
