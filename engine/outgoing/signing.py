"""Secrets that webhooks are signed with, after the Standard Webhooks specification."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from standardwebhooks import Webhook

from engine.errors import SetupInvalid
from engine.security.keeping import LOOK_S, Kept, read_text

_PREFIX: Final = "whsec_"
_FEWEST_BYTES: Final = 24
_MOST_BYTES: Final = 64
"""Both as the specification says."""
_LARGEST_FILE: Final = 1 << 16
_ADVICE: Final = f"make one with: echo {_PREFIX}$(openssl rand -base64 32)"

Secrets = Callable[[], Sequence[Webhook]]
"""The secrets that sign now: one, or several while one takes the place of another."""


def read_secrets(text: str, source: str) -> tuple[Webhook, ...]:
    """The secrets of a text, parted by blanks. Raises SetupInvalid, which quotes none of it."""
    found = tuple(_secret(word, f"{source}: secret {n}") for n, word in enumerate(text.split(), 1))
    if not found:
        raise SetupInvalid(f"{source}: there is no secret; {_ADVICE}")
    return found


def kept_secrets(path: Path, *, look_s: float = LOOK_S) -> Secrets:
    """The secrets of a file, read anew when it changes; the last good ones where it is no good then.

    Raises SetupInvalid.
    """
    name = "ARBITER_WEBHOOK_SECRET_FILE"

    def read() -> tuple[Webhook, ...]:
        return read_secrets(read_text(path, name, largest=_LARGEST_FILE), str(path))

    kept = Kept("webhook_secrets", [path], read, told=_untold, look_s=look_s)
    return lambda: kept.current


def signed_headers(
    secrets: Sequence[Webhook], webhook_id: str, body: bytes, *, now_ms: int
) -> dict[str, str]:
    """Headers by which a receiver knows a message for ours: a signature for each secret."""
    at = datetime.fromtimestamp(now_ms // 1000, UTC)
    text = body.decode()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(now_ms // 1000),
        "webhook-signature": " ".join(secret.sign(webhook_id, at, text) for secret in secrets),
    }


def _untold(what: str, *, well: bool) -> None:
    """The log tells of it; there are no metrics in this process."""


def _secret(word: str, source: str) -> Webhook:
    if not word.startswith(_PREFIX):
        raise SetupInvalid(f"{source} does not begin with {_PREFIX}; {_ADVICE}")
    try:
        key = b64decode(word.removeprefix(_PREFIX), validate=True)
    except NotBase64:
        raise SetupInvalid(f"{source} is not base64 behind {_PREFIX}; {_ADVICE}") from None
    if not _FEWEST_BYTES <= len(key) <= _MOST_BYTES:
        raise SetupInvalid(
            f"{source} has {len(key)} bytes, and {_FEWEST_BYTES} to {_MOST_BYTES} are asked for; {_ADVICE}"
        )
    return Webhook(key)
