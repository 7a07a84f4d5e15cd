"""Bearer tokens: JSON Web Tokens that an issuer signed, checked with its public keys from a file.

Only keys of two halves count: with a shared secret, whoever can check a token can make one.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuedAtError,
    InvalidIssuerError,
    MissingRequiredClaimError,
    PyJWTError,
)

from engine.errors import SetupInvalid, TokenExpired, TokenInvalid
from engine.security.keeping import read_text

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Those that may be allowed at all: of key pairs, none broken."""
LARGEST: Final = 1 << 20
"""Bytes of a file of keys: hundreds of them."""
MAX_TOKEN: Final = 8 << 10
"""Characters of a token. Real ones have about 1,000; metadata may have twice this."""
MAX_SUBJECT: Final = 256
_RSA_BITS: Final = 2048
_SENTENCES: Mapping[type[PyJWTError], str] = {
    ImmatureSignatureError: "the token is not valid yet",
    InvalidIssuedAtError: "the token is not valid yet",
    InvalidAudienceError: "the token is for another audience",
    InvalidIssuerError: "the token is of another issuer",
    MissingRequiredClaimError: "the token lacks one of the claims iss, aud, sub and exp",
}
_UNREADABLE: Final = "the token cannot be verified"
_KIND: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A public key, the name its issuer gave it, and the algorithms it may be used with."""

    name: str
    key: jwt.PyJWK
    algorithms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good token says; it is good until `until_s`, in seconds since the epoch."""

    subject: str
    claims: Mapping[str, Any]
    until_s: float


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """Checks tokens of one issuer for one audience."""

    keys: Mapping[str, TokenKey]
    issuer: str
    audience: str
    leeway_s: float

    def verified(self, token: str) -> Verified:
        """What a token says. Raises TokenExpired and TokenInvalid."""
        if len(token) > MAX_TOKEN:
            raise TokenInvalid(f"the token has more than {MAX_TOKEN} characters")
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key.key,
                algorithms=list(key.algorithms),
                issuer=self.issuer,
                audience=self.audience,
                leeway=self.leeway_s,
                options={"require": ["iss", "aud", "sub", "exp"]},
            )
            return _read(claims, self.leeway_s)
        except ExpiredSignatureError as error:
            raise TokenExpired("the token has expired") from error
        except PyJWTError as error:
            raise TokenInvalid(_SENTENCES.get(type(error), _UNREADABLE)) from error
        except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
            raise TokenInvalid(
                _UNREADABLE
            ) from error  # what a hostile token can still make the library raise

    def _key(self, name: object) -> TokenKey:
        """The key of that name; a token without one is checked with the only key."""
        if name is None and len(self.keys) == 1:
            return next(iter(self.keys.values()))
        key = self.keys.get(name) if isinstance(name, str) else None
        if key is None:
            raise TokenInvalid("the token is signed with a key that is not known here")
        return key


def _read(claims: Mapping[str, Any], leeway_s: float) -> Verified:
    subject = claims["sub"]
    if not 1 <= len(subject) <= MAX_SUBJECT or not subject.isprintable():
        raise TokenInvalid(f"the token's subject has no 1 to {MAX_SUBJECT} printable characters")
    return Verified(subject, claims, float(claims["exp"]) + leeway_s)


def read_keys(path: Path, allowed: Sequence[str]) -> Mapping[str, TokenKey]:
    """The keys of a JSON Web Key Set file. Raises SetupInvalid."""
    return parse_keys(read_text(path, "ARBITER_TOKEN_KEYS", largest=LARGEST), allowed, source=str(path))


def parse_keys(text: str, allowed: Sequence[str], *, source: str) -> Mapping[str, TokenKey]:
    """The keys for signatures that a JSON Web Key Set holds, by name. Raises SetupInvalid, telling no key.

    Keys for other uses, and for algorithms that are not allowed, are left out, as issuers publish both.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise SetupInvalid(f"{source}: is no JSON") from None  # the cause would quote what may be a key
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise SetupInvalid(f'{source}: is no JSON Web Key Set; write {{"keys": [...]}}')
    keys: dict[str, TokenKey] = {}
    for position, each in enumerate(listed):
        key = _token_key(each, allowed, place=f"{source}: keys[{position}]")
        if key is not None and key.name in keys:
            raise SetupInvalid(f"{source}: keys[{position}]: another key has the same kid")
        if key is not None:
            keys[key.name] = key
    if not keys:
        raise SetupInvalid(f"{source}: holds no key for {', '.join(allowed)}")
    if len(keys) > 1 and "" in keys:
        raise SetupInvalid(f"{source}: a key has no kid; with several keys each needs one")
    return keys


def _token_key(said: object, allowed: Sequence[str], *, place: str) -> TokenKey | None:
    if not isinstance(said, dict):
        raise SetupInvalid(f"{place}: is no key")
    _refuse_secrets(said, place)
    if said.get("use", "sig") != "sig":
        return None
    algorithms = _algorithms(said, allowed)
    if not algorithms:
        return None
    name = said.get("kid", "")
    if not isinstance(name, str):
        raise SetupInvalid(f"{place}: its kid is no text")
    try:
        key = jwt.PyJWK(said, algorithms[0])
    except (PyJWTError, ValueError, TypeError, OverflowError, KeyError, AttributeError):
        raise SetupInvalid(f"{place}: is no usable public key") from None  # the cause quotes the key
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < _RSA_BITS:
        raise SetupInvalid(f"{place}: has {key.key.key_size} bits; RSA keys need {_RSA_BITS} or more")
    return TokenKey(name, key, algorithms)


def _refuse_secrets(said: Mapping[str, object], place: str) -> None:
    if said.get("kty") == "oct":
        raise SetupInvalid(f"{place}: is a shared secret; tokens are checked with public keys only")
    if "d" in said:
        raise SetupInvalid(f"{place}: is a private key; publish its public half only, and make a new pair")


def _algorithms(said: Mapping[str, object], allowed: Sequence[str]) -> tuple[str, ...]:
    """Algorithms of a key: what it names, else all of its kind; of elliptic curves each has one."""
    kind, named = said.get("kty"), said.get("alg")
    curve = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}.get(
        str(said.get("crv"))
    )
    fitting = (a for a in allowed if _KIND[a[:2]] == kind and (kind == "RSA" or a == curve))
    return tuple(a for a in fitting if named in (None, a) or (a == "EdDSA" and named == "Ed25519"))
