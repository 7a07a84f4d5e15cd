"""Texts that only a key reads: authenticated, never twice the same, and with the id of their key in them.

Each use has keys of its own, derived from the configured ones by HKDF-SHA-256; the cipher is AES-256-GCM with
a random nonce. The id of a key is derived like a key and tells nothing of it.

    sealed:2:<key id, 8 hex digits>:<base64url of nonce and content>
"""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from feature_store.errors import KeyMissing, StoreCorrupt

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEALED: Final = "sealed:2:"
"""Begins every text that is sealed today."""
_SEALED: Final = re.compile(r"sealed:2:([0-9a-f]{8}):([A-Za-z0-9_-]+=*)")
_ID_BYTES: Final = 4
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_NAME_BYTES: Final = 8


def derived(key: bytes, use: str, size: int) -> bytes:
    """A key of its own for a use of the configured key."""
    from cryptography.hazmat.primitives.hashes import SHA256  # here, as it takes 30 ms and not all have keys
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=size, salt=None, info=f"arbiter {use}".encode()).derive(key)


def key_id(key: bytes) -> str:
    """Names a key where it must be told from others; no secret."""
    return derived(key, "key id", _ID_BYTES).hex()


def sealed_text(id_of_key: str, content: bytes) -> str:
    """Sealed content as text, which says by which key it opens."""
    return f"{SEALED}{id_of_key}:{urlsafe_b64encode(content).decode()}"


def key_id_of(text: str) -> str | None:
    """Which key a text is sealed under; None where it is none of today's sealed texts."""
    found = _SEALED.fullmatch(text)
    return None if found is None else found[1]


def content_of(text: str) -> bytes:
    """What a sealed text holds, still sealed. Raises StoreCorrupt where it is cut."""
    try:
        return urlsafe_b64decode(text.rpartition(":")[2])
    except ValueError as error:
        raise StoreCorrupt("a sealed text was cut or changed") from error


class TextCipher:
    """Seals texts of one use under the first key, and opens what any of the keys sealed.

    Without keys texts stay as they are. Nobody can move a sealed text to another use.
    """

    def __init__(self, use: str, keys: Sequence[bytes] = ()) -> None:
        self._use = use
        self._ids = tuple(key_id(key) for key in keys)
        self._ciphers: dict[str, AESGCM] = {}
        self._naming = b""
        if keys:
            self._naming = derived(keys[0], f"name of a {use}", _KEY_BYTES)
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._ciphers = {
                name: AESGCM(derived(key, use, _KEY_BYTES)) for name, key in zip(self._ids, keys, strict=True)
            }

    @property
    def current(self) -> str | None:
        """Id of the key that seals; None where none does."""
        return self._ids[0] if self._ids else None

    def sealed(self, text: str) -> str:
        """The text as only the current key reads it; as it is where there is no key, or no text."""
        if not (self._ids and text):
            return text
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._ciphers[self._ids[0]]
        return sealed_text(
            self._ids[0], nonce + cipher.encrypt(nonce, text.encode(errors="surrogatepass"), None)
        )

    def opened(self, text: str) -> str:
        """The text as it was given, sealed or not. Raises KeyMissing, or StoreCorrupt if it was changed."""
        name = key_id_of(text)
        if name is None:
            return text
        if name not in self._ciphers:
            raise KeyMissing(self._use, name)
        from cryptography.exceptions import InvalidTag

        content = content_of(text)
        try:
            read = self._ciphers[name].decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], None)
        except (ValueError, InvalidTag) as error:
            raise StoreCorrupt(f"a sealed {self._use} was changed since it was sealed") from error
        return read.decode(errors="surrogatepass")

    def shown(self, text: str) -> str:
        """The text for a person: opened, or in brackets why it cannot be."""
        try:
            return self.opened(text)
        except StoreCorrupt as error:
            return f"[{error}]"

    def name_of(self, content: bytes) -> str:
        """A name for content, the same each time, that tells nothing of it to who does not have the key."""
        return blake2b(content, key=self._naming, digest_size=_NAME_BYTES).hexdigest()

    def resealed(self, text: str) -> str:
        """The text under the current key; as it is where it is already, or where no key opens it."""
        if not text or key_id_of(text) == self.current:
            return text
        try:
            return self.sealed(self.opened(text))
        except StoreCorrupt:
            return text
