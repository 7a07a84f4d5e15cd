"""Identities in one form, however they are written, and sealed by a key where there is one.

Sealing is AES-SIV (RFC 5297) with the type as associated data: the same value gives the same text, so that it
can be looked up, and nobody without the key can read it or try values out. The key never leaves the process.
Values name the key that sealed them; former keys find and open what they sealed until it is sealed anew.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from feature_store.errors import KeyMissing, StoreCorrupt
from feature_store.inspecting import pages
from feature_store.keeping import identity_order
from feature_store.oversight import StoreCondition
from feature_store.sealing import SEALED, content_of, derived, key_id, key_id_of, sealed_text
from feature_store.state import Identity
from feature_store.store import OnlineStore

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

SEALED_UNNAMED: Final = "sealed:1:"
"""Begins values that earlier engines sealed, which do not name their key."""
_SHA256: Final = re.compile("[0-9a-f]{64}")
_SIV_KEY_BYTES: Final = 64
_LONGEST_PHONE: Final = 64


class IdentityForms:
    """How identities are written. `phone_region`, such as CH, is that of numbers without a country."""

    def __init__(self, phone_region: str | None = None) -> None:
        self._forms: Mapping[str, Callable[[str], str | None]] = {
            "phone": lambda text: _phone(text, phone_region),
            "email_sha256": _mail_digest,
        }

    def prepare(self) -> None:
        """Loads what phone numbers need, so that no request waits for it."""
        self.normal(Identity("phone", "+41790000000"))

    def fault(self, identity: Identity) -> str | None:
        """Why the value cannot be one of its type; None where it can."""
        if self._form(identity) is not None:
            return None
        if identity.type == "phone":
            return "is no phone number; write it with its country, such as +41 79 000 00 01"
        return "is neither a SHA-256 in hex nor an e-mail address" if identity.value.strip() else "is empty"

    def normal(self, identity: Identity) -> Identity:
        """The identity in the form of its type; trimmed only, where it has none or does not fit it."""
        form = self._form(identity)
        return replace(identity, value=_trimmed(identity.value) if form is None else form)

    def _form(self, identity: Identity) -> str | None:
        return self._forms.get(identity.type, _plain)(_trimmed(identity.value))


def _trimmed(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _plain(text: str) -> str | None:
    return text or None


def _mail_digest(text: str) -> str | None:
    """Lower-case hex; of an address the digest of its trimmed lower-case form, as is the custom."""
    if "@" in text:
        return hashlib.sha256(text.lower().encode()).hexdigest()
    return text.lower() if _SHA256.fullmatch(text.lower()) else None


def _phone(text: str, region: str | None) -> str | None:
    """E.164; None where the text cannot be a number."""
    import phonenumbers  # here, as it takes 60 ms and not everybody has phones

    if len(text) > _LONGEST_PHONE:
        return None
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if number.extension or not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


class IdentityCipher:
    """Seals values by the current key, and opens what it or a former one sealed.

    Keys are of any length; a short or guessable one protects nothing.
    """

    def __init__(self, key: bytes, *former: bytes) -> None:
        keys = (key, *former)
        self.current = key_id(key)
        self._ciphers = {key_id(each): _siv(derived(each, "identity", _SIV_KEY_BYTES)) for each in keys}
        self._unnamed = [_siv(_unnamed_key(each)) for each in keys]

    def sealed(self, identity: Identity) -> Identity:
        """The identity with a value that only the key reads; the same each time."""
        return self._sealed_under(self.current, identity)

    def written(self, identity: Identity) -> list[Identity]:
        """The identity sealed in every way it may be kept: by each key, and as earlier engines wrote it."""
        named = [self._sealed_under(name, identity) for name in self._ciphers]
        texts = [SEALED_UNNAMED + urlsafe_b64encode(_seal(c, identity)).decode() for c in self._unnamed]
        return [*named, *(replace(identity, value=text) for text in texts)]

    def opened(self, identity: Identity) -> Identity:
        """The identity as it was given. Raises KeyMissing, or StoreCorrupt where no key opens it."""
        content, name = content_of(identity.value), key_id_of(identity.value)
        if name is None:
            candidates = self._unnamed
        elif name in self._ciphers:
            candidates = [self._ciphers[name]]
        else:
            raise KeyMissing(identity.type, name)
        values = [value for cipher in candidates if (value := _open(cipher, content, identity)) is not None]
        if not values:
            known = ", ".join(self._ciphers)
            raise StoreCorrupt(
                f"sealed {identity.type}: does not open by any key that is configured ({known}); "
                "ARBITER_FORMER_IDENTITY_KEY_FILES names former ones"
            )
        return replace(identity, value=values[0])

    def _sealed_under(self, name: str, identity: Identity) -> Identity:
        return replace(identity, value=sealed_text(name, _seal(self._ciphers[name], identity)))


def _siv(key: bytes) -> AESSIV:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(key)


def _unnamed_key(key: bytes) -> bytes:
    """How the key of values was made that do not name theirs."""
    return hashlib.blake2b(key, digest_size=_SIV_KEY_BYTES, person=b"arbiter-identity").digest()


def _seal(cipher: AESSIV, identity: Identity) -> bytes:
    return cipher.encrypt(identity.value.encode(errors="surrogatepass"), [_about(identity)])


def _open(cipher: AESSIV, content: bytes, identity: Identity) -> str | None:
    """The value; None where this key does not open it."""
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(content, [_about(identity)]).decode(errors="surrogatepass")
    except (ValueError, InvalidTag):
        return None


def is_sealed(identity: Identity) -> bool:
    """Whether only a key reads the value."""
    return identity.value.startswith((SEALED, SEALED_UNNAMED))


def _about(identity: Identity) -> bytes:
    return identity.type.encode(errors="surrogatepass")


class IdentityStore:
    """A store in which identities have one form and, with a cipher, are sealed; all else is the store's.

    What was linked before it had the form or the key is found too, as written then.
    """

    def __init__(self, store: OnlineStore, *, forms: IdentityForms, cipher: IdentityCipher | None) -> None:
        self._store = store
        self._forms = forms
        self._cipher = cipher

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the store has
        return getattr(self._store, name)

    def resolve(self, identity: Identity) -> tuple[str, ...]:
        """Ids of the customers that carry the identity in any way of writing it, sorted."""
        found = {carrier for form in self._written(identity) for carrier in self._store.resolve(form)}
        return tuple(sorted(found))

    def link(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Adds identities to customers, in the form they are kept in."""
        self._store.link((self._kept(identity), customer_id) for identity, customer_id in links)

    def unlink(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Takes identities away from customers, however they were written."""
        self._store.unlink(
            (form, customer_id) for identity, customer_id in links for form in self._written(identity)
        )

    def identities(self, customer_id: str) -> tuple[Identity, ...]:
        """What the customer carries, opened. Raises StoreCorrupt where the key is not the one it needs."""
        found = {self._opened(identity) for identity in self._store.identities(customer_id)}
        return tuple(sorted(found, key=identity_order))

    def condition(self) -> StoreCondition:
        """How the store stands, and whether identities are sealed."""
        condition = self._store.condition()
        words = (
            "NOT ENCRYPTED: whoever reads the store reads phone numbers; set ARBITER_IDENTITY_KEY_FILE"
            if self._cipher is None
            else f"encrypted (AES-SIV) by identity key {self._cipher.current}"
        )
        return replace(condition, facts={**condition.facts, "identities": words})

    def reseal(self, customer_ids: Iterable[str]) -> int:
        """Writes what customers carry in today's form and under the key; how many were not so before."""
        return sum(self._reseal(page) for page in pages(customer_ids))

    def _reseal(self, customer_ids: Sequence[str]) -> int:
        missing: list[tuple[Identity, str]] = []
        former: list[tuple[Identity, str]] = []
        for customer_id in customer_ids:
            stored = set(self._store.identities(customer_id))
            wanted = {self._kept(self._opened(identity)) for identity in stored}
            missing += [(identity, customer_id) for identity in wanted - stored]
            former += [(identity, customer_id) for identity in stored - wanted]
        self._store.link(missing)
        self._store.unlink(former)
        return len({customer_id for _, customer_id in (*missing, *former)})

    def _kept(self, identity: Identity) -> Identity:
        normal = self._forms.normal(identity)
        return normal if self._cipher is None else self._cipher.sealed(normal)

    def _written(self, identity: Identity) -> list[Identity]:
        """Every way in which the identity may be kept."""
        normal = self._forms.normal(identity)
        sealed = [] if self._cipher is None else self._cipher.written(normal)
        return list(dict.fromkeys((*sealed, normal, identity)))

    def _opened(self, identity: Identity) -> Identity:
        return opened_identity(identity, self._cipher)


def shown_identity(identity: Identity, cipher: IdentityCipher | None) -> Identity:
    """An identity for a person: as it was given, or in brackets why it cannot be read."""
    try:
        return opened_identity(identity, cipher)
    except StoreCorrupt as error:
        return replace(identity, value=f"[{error}]")


def opened_identity(identity: Identity, cipher: IdentityCipher | None) -> Identity:
    """An identity as it was given, sealed or not. Raises KeyMissing, or StoreCorrupt where none opens it."""
    if not is_sealed(identity):
        return identity
    if cipher is None:
        raise KeyMissing(identity.type, key_id_of(identity.value) or "(unnamed)")
    return cipher.opened(identity)
