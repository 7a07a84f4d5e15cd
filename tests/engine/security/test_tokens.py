"""Tokens: what is taken, what is refused, and that files of keys say what is wrong with them."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm
from tokens_at_work import AUDIENCE, ISSUER, Issuer, key_set

from engine.errors import SetupInvalid, TokenExpired, TokenInvalid
from engine.security.tokens import MAX_TOKEN, TokenCheck, parse_keys

ALLOWED = ("RS256", "ES256", "EdDSA")


def check_of(*issuers: Issuer, allowed: tuple[str, ...] = ALLOWED) -> TokenCheck:
    """A check with the issuers' keys."""
    keys = parse_keys(key_set(*issuers), allowed, source="keys.json")
    return TokenCheck(keys, issuer=ISSUER, audience=AUDIENCE, leeway_s=30)


@pytest.mark.parametrize("algorithm", ALLOWED)
def test_token_of_the_issuer_is_taken(algorithm: str) -> None:
    """With each algorithm that is allowed by default."""
    issuer = Issuer(algorithm)

    verified = check_of(issuer).verified(issuer.token("shop", exp=2_000_000_000))

    assert (verified.subject, verified.until_s) == ("shop", 2_000_000_030)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another audience": ({"aud": "crm"}, "the token is for another audience"),
    "no audience": ({"aud": None}, "the token lacks one of the claims iss, aud, sub and exp"),
    "another issuer": ({"iss": "https://evil.example"}, "the token is of another issuer"),
    "no issuer": ({"iss": None}, "the token lacks one of the claims iss, aud, sub and exp"),
    "never expires": ({"exp": None}, "the token lacks one of the claims iss, aud, sub and exp"),
    "not valid yet": ({"nbf": time.time() + 3600}, "the token is not valid yet"),
    "made in the future": ({"iat": time.time() + 3600}, "the token is not valid yet"),
    "expires at no number": ({"exp": "soon"}, "the token cannot be verified"),
    "expires at infinity": ({"exp": float("inf")}, "the token cannot be verified"),
    "subject of control characters": (
        {"subject": "a\nb"},
        "the token's subject has no 1 to 256 printable characters",
    ),
    "endless subject": ({"subject": "a" * 257}, "the token's subject has no 1 to 256 printable characters"),
    "unknown key": ({"headers": {"kid": "k9"}}, "the token is signed with a key that is not known here"),
    "critical extension": ({"headers": {"crit": ["x"], "x": 1}}, "the token cannot be verified"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_tokens_are_refused_in_words(case: str) -> None:
    """The words say which part is wrong, and nothing of what is in it."""
    changes, words = REFUSED[case]
    issuer = Issuer()
    token = issuer.token(**changes)

    with pytest.raises(TokenInvalid) as refusal:
        check_of(issuer).verified(token)

    assert str(refusal.value) == words


def test_expired_token_is_told_from_a_wrong_one() -> None:
    """A client gets a new token then, rather than give up."""
    issuer = Issuer()

    with pytest.raises(TokenExpired):
        check_of(issuer).verified(issuer.token(exp=time.time() - 31))


def test_clocks_may_differ_by_the_leeway() -> None:
    """A token that expired 10 s ago and one that begins in 10 s are taken."""
    issuer = Issuer()
    token = issuer.token(exp=time.time() - 10, nbf=time.time() + 10)

    assert check_of(issuer).verified(token).subject == "shop"


def test_token_without_a_signature_is_refused() -> None:
    """The algorithm "none" is none of those allowed, in any spelling."""
    issuer, check = Issuer(), check_of(Issuer())
    payload = issuer.token().split(".")[1]

    for name in ("none", "None", "NONE"):
        header = (
            base64.urlsafe_b64encode(json.dumps({"alg": name, "kid": "k1"}).encode()).decode().rstrip("=")
        )
        with pytest.raises(TokenInvalid):
            check.verified(f"{header}.{payload}.")


def test_public_key_is_no_shared_secret() -> None:
    """A token signed by HMAC with the public key, which everybody knows, is refused."""
    issuer = Issuer("RS256")
    public = issuer.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": time.time() + 60}
    secret = base64.urlsafe_b64encode(public).decode()
    forged = jwt.encode(claims, secret, "HS256", headers={"kid": "k1"})

    with pytest.raises(TokenInvalid):
        check_of(issuer).verified(forged)


def test_algorithm_that_is_not_allowed_is_refused() -> None:
    """A key of an RSA pair could check RS512 too, and does not."""
    issuer = Issuer("RS256")
    strange = jwt.encode(
        {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": time.time() + 60},
        issuer.private,
        "RS512",
        headers={"kid": "k1"},
    )

    with pytest.raises(TokenInvalid):
        check_of(issuer).verified(strange)


def test_token_of_another_key_is_refused() -> None:
    """The same name, another pair."""
    with pytest.raises(TokenInvalid, match="cannot be verified"):
        check_of(Issuer(number=0)).verified(Issuer(number=1).token())


def test_changed_token_is_refused() -> None:
    """A bit of the payload, and the signature is no longer of it."""
    issuer = Issuer()
    header, payload, signature = issuer.token().split(".")
    other = issuer.token("admin").split(".")[1]

    with pytest.raises(TokenInvalid):
        check_of(issuer).verified(f"{header}.{other}.{signature}")
    assert payload != other


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "=" * 40, "\udcff", "é.é.é", "x" * (MAX_TOKEN + 1)]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    """Whatever stands there, it is the client's error."""
    with pytest.raises(TokenInvalid):
        check_of(Issuer()).verified(token)


def test_keys_are_told_apart_by_their_names() -> None:
    """While keys rotate, tokens of the old and of the new one are good."""
    old, new = Issuer(kid="old", number=1), Issuer(kid="new", number=2)
    check = check_of(old, new)

    assert [check.verified(issuer.token()).subject for issuer in (old, new)] == ["shop", "shop"]


def test_token_without_a_key_name_is_checked_with_the_only_key() -> None:
    """Simple issuers have one key and name it nowhere."""
    issuer = Issuer()
    document = {"keys": [{name: value for name, value in issuer.jwk.items() if name != "kid"}]}
    check = TokenCheck(parse_keys(json.dumps(document), ALLOWED, source="k"), ISSUER, AUDIENCE, 30)
    token = jwt.encode(
        {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": time.time() + 60}, issuer.private, "ES256"
    )

    assert check.verified(token).subject == "shop"


def _private() -> dict[str, Any]:
    private: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(Issuer("RS256").private))
    return private


def _short() -> dict[str, Any]:
    public: dict[str, Any] = json.loads(
        RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key())
    )
    return public


SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQ"
BAD_FILES: dict[str, tuple[Any, str]] = {
    "no JSON": ("{keys", "is no JSON"),
    "no set": ([], "is no JSON Web Key Set"),
    "no list": ({"keys": {}}, "is no JSON Web Key Set"),
    "empty": ({"keys": []}, "holds no key for RS256, ES256, EdDSA"),
    "no key": ({"keys": [1]}, "keys[0]: is no key"),
    "shared secret": ({"keys": [{"kty": "oct", "k": SECRET}]}, "keys[0]: is a shared secret"),
    "private key": ({"keys": [_private()]}, "keys[0]: is a private key"),
    "short key": ({"keys": [_short()]}, "keys[0]: has 1024 bits"),
    "damaged key": (
        {"keys": [{"kty": "EC", "crv": "P-256", "x": SECRET, "y": SECRET}]},
        "keys[0]: is no usable public key",
    ),
    "name that is no text": ({"keys": [{**Issuer().jwk, "kid": 7}]}, "keys[0]: its kid is no text"),
    "one name twice": ({"keys": [Issuer().jwk, Issuer(number=1).jwk]}, "keys[1]: another key has the same"),
    "for encryption only": ({"keys": [{**Issuer().jwk, "use": "enc"}]}, "holds no key for"),
    "of an algorithm that is not allowed": ({"keys": [{**Issuer().jwk, "alg": "ES512"}]}, "holds no key for"),
    "nameless among several": (
        {"keys": [{**Issuer().jwk, "kid": ""}, Issuer(kid="b", number=1).jwk]},
        "a key has no kid",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_of_keys_is_refused_in_words(case: str) -> None:
    """The place and what is wrong; no part of a key, which may be a secret by mistake."""
    document, words = BAD_FILES[case]
    text = document if isinstance(document, str) else json.dumps(document)

    with pytest.raises(SetupInvalid) as refusal:
        parse_keys(text, ALLOWED, source="keys.json")

    assert str(refusal.value).startswith("keys.json: ")
    assert words in str(refusal.value)
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None
