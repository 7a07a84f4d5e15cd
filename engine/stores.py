"""Opens the online store that the settings name: the embedded one of the data directory, or a Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from engine.logfiles import identity_keys
from engine.settings import EMBEDDED, Settings
from feature_store.embedded import open_embedded
from feature_store.identities import IdentityCipher, IdentityForms, IdentityStore
from feature_store.merged import MergingStore
from feature_store.redis.address import Credentials, Tls, parse_address, without_secrets
from feature_store.sealing import TextCipher
from feature_store.store import OnlineStore

if TYPE_CHECKING:
    from feature_store.redis.streams import EventStream, OutboundStream

STREAM_TIMEOUT_S: Final = 2.0
"""No decision waits for a stream; a write of 500 entries to a busy server may take a while."""


_PATIENT_MS = 2_000


def open_store(settings: Settings, *, patient: bool = False) -> OnlineStore:
    """The store, open. Raises StoreError where it cannot be used.

    `patient` is for commands that nobody waits for in a call: they give a busy Redis seconds to answer.
    """
    forms, cipher = IdentityForms(settings.phone_region), identity_cipher(settings)
    named = IdentityStore(_opened(settings, patient=patient), forms=forms, cipher=cipher)
    return cast(OnlineStore, MergingStore(cast(OnlineStore, named)))  # what they lack they hand on


def identity_cipher(settings: Settings) -> IdentityCipher | None:
    """What seals identities; None where there is no key. Raises SetupInvalid where one cannot be read."""
    keys = identity_keys(settings)
    return IdentityCipher(*keys) if keys else None


def consent_cipher(settings: Settings) -> TextCipher:
    """What seals free texts of consents. Raises SetupInvalid where a key cannot be read."""
    return TextCipher("text of a consent", identity_keys(settings))


def letter_cipher(settings: Settings) -> TextCipher:
    """What seals dead letters. Raises SetupInvalid where a key cannot be read."""
    return TextCipher("dead letter", identity_keys(settings))


def _opened(settings: Settings, *, patient: bool) -> OnlineStore:
    if settings.store == EMBEDDED:
        return open_embedded(settings.data_dir / "store")
    from feature_store.redis.store import open_redis  # importing redis-py takes half a second

    return open_redis(
        settings.store,
        prefix=settings.store_prefix,
        credentials=_credentials(settings),
        tls=_tls(settings),
        timeout_ms=max(settings.store_timeout_ms, _PATIENT_MS if patient else 0),
    )


def open_stream(settings: Settings, url: str, *, name: str, group: str, consumer: str) -> EventStream:
    """A stream of events in a Redis, with the settings' credentials where the URL has none.

    Raises StoreRefused for a URL that is none; the connection is opened by the first call.
    """
    from feature_store.redis.streams import EventStream

    address = parse_address(url, credentials=_credentials(settings), tls=_tls(settings))
    return EventStream(address, name=name, group=group, consumer=consumer, timeout_s=STREAM_TIMEOUT_S)


def open_outbound(settings: Settings, url: str, *, name: str) -> OutboundStream:
    """A stream that decisions are forwarded to, with the settings' credentials where the URL has none.

    Raises StoreRefused for a URL that is none; the connection is opened by the first call.
    """
    from feature_store.redis.streams import OutboundStream

    address = parse_address(url, credentials=_credentials(settings), tls=_tls(settings))
    return OutboundStream(address, name=name, timeout_s=STREAM_TIMEOUT_S)


def _credentials(settings: Settings) -> Credentials:
    password = settings.store_password
    return Credentials(
        user=settings.store_user or "",
        password="" if password is None else password.get_secret_value(),
        password_file=settings.store_password_file,
    )


def _tls(settings: Settings) -> Tls:
    return Tls(settings.store_ca, settings.store_certificate, settings.store_key)


def store_place(settings: Settings) -> str:
    """Where customer state is, for people and logs: without a password."""
    if settings.store == EMBEDDED:
        return str(settings.data_dir / "store")
    return f"{without_secrets(settings.store)} ({settings.store_prefix})"
