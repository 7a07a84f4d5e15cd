"""An issuer of tokens, and authorities that certify, for tests."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import get_default_algorithms

ISSUER, AUDIENCE = "https://issuer.example", "arbiter"
_KEYS: dict[str, PrivateKeyTypes] = {}


def key_for(algorithm: str, number: int = 0) -> Any:
    """A private key, made once for each algorithm and number."""
    name = f"{algorithm}-{number}"
    if name not in _KEYS:
        _KEYS[name] = _made(algorithm)
    return _KEYS[name]


def _made(algorithm: str) -> PrivateKeyTypes:
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(65537, 2048)
    return (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ES256"
        else ed25519.Ed25519PrivateKey.generate()
    )


class Issuer:
    """Signs tokens, and publishes the public half of its key."""

    def __init__(self, algorithm: str = "ES256", *, kid: str = "k1", number: int = 0) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private = key_for(algorithm, number)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key."""
        public: str = get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key())
        return {**json.loads(public), "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def token(self, subject: str = "shop", *, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A token that is good for a minute, but for what `claims` say; None leaves a claim out."""
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": time.time() + 60, **claims}
        return jwt.encode(
            {name: value for name, value in said.items() if value is not None},
            self.private,
            self.algorithm,
            headers={"kid": self.kid, **(headers or {})},
        )


def key_set(*issuers: Issuer) -> str:
    """The file of keys that issuers publish."""
    return json.dumps({"keys": [issuer.jwk for issuer in issuers]})


def write_pair(pair: trustme.LeafCert, folder: Path) -> tuple[Path, Path]:
    """Certificate and key of a pair, each put in place whole."""
    certificate, key = folder / "server.pem", folder / "server.key"
    for path, content in ((certificate, chain_of(pair)), (key, pair.private_key_pem.bytes())):
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(path)
    return certificate, key


def chain_of(pair: trustme.LeafCert) -> bytes:
    """The certificate and those between it and the authority."""
    return b"".join(part.bytes() for part in pair.cert_chain_pems)


def yesterday() -> datetime.datetime:
    """When something has long expired."""
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
