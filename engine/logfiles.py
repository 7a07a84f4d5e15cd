"""Where the logs of a data directory lie, and where their checkpoints are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypedDict

from pydantic import SecretStr

from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.compressor import Compressor
from engine.decisionlog.journal import NO_AGE_MS
from engine.errors import SetupInvalid
from engine.service.audit import AuditLog
from engine.settings import Settings

DECISIONS: Final = "decisions"
CONSENTS: Final = "consents"
OUTCOMES: Final = "outcomes"
SHADOW: Final = "shadow"
MODEL_SHADOW: Final = "model-shadow"
ROLLOUTS: Final = "rollouts"
DRIFT: Final = "drift"
DEAD_LETTERS: Final = "dead-letters"
ERASED: Final = "erased"
WEBHOOKS: Final = "webhooks"
IDENTITIES: Final = "identities"
AUDIT: Final = "audit"
PROVEN: Final = (DECISIONS, CONSENTS, OUTCOMES)
"""Logs whose checkpoints are kept; a shadow's answers are not evidence of anything."""


def log_directory(settings: Settings, log: str) -> Path:
    """Where a log lies."""
    return settings.data_dir / log


COMPRESSED: Final = (DECISIONS, OUTCOMES, SHADOW, MODEL_SHADOW)
"""Logs whose ended segments are compressed; consents are few, and read whole when a server starts."""


class SegmentEnds(TypedDict):
    """When a log goes on in a new segment."""

    max_segment_bytes: int
    max_segment_age_ms: int


def segment_ends(settings: Settings) -> SegmentEnds:
    """When decisions and outcomes go on in a new segment."""
    hours = settings.segment_hours
    return {
        "max_segment_bytes": settings.segment_mb << 20,
        "max_segment_age_ms": NO_AGE_MS if hours == "never" else hours * 3_600_000,
    }


@contextmanager
def compressing(settings: Settings) -> Iterator[None]:
    """Compresses segments in the background while the block runs, where the settings say so."""
    minutes = settings.compress_after_minutes
    if minutes == "never":
        yield
        return
    with Compressor([log_directory(settings, log) for log in COMPRESSED], after_s=minutes * 60):
        yield


def checkpoints_of(settings: Settings, log: str) -> Checkpoints:
    """The checkpoints of a log. Raises SetupInvalid where their key cannot be read."""
    directory = settings.checkpoint_dir or settings.data_dir / "checkpoints"
    return Checkpoints(directory, log, key=_key(settings))


def audit_log(settings: Settings) -> AuditLog:
    """The log of who changed what. Raises SetupInvalid where the key of its checkpoints cannot be read."""
    return AuditLog(log_directory(settings, AUDIT), checkpoints_of(settings, AUDIT))


def _key(settings: Settings) -> bytes:
    return secret_key(settings.checkpoint_key, settings.checkpoint_key_file, "ARBITER_CHECKPOINT_KEY")


def identity_key(settings: Settings) -> bytes:
    """What seals identities and makes pseudonyms; b"" for none. Raises SetupInvalid."""
    return secret_key(settings.identity_key, settings.identity_key_file, "ARBITER_IDENTITY_KEY")


def identity_keys(settings: Settings) -> tuple[bytes, ...]:
    """The identity key and the former ones, which still open what they sealed; none without a key.

    Raises SetupInvalid where one cannot be read, and for former keys without one that took their place.
    """
    name, key = "ARBITER_FORMER_IDENTITY_KEY_FILES", identity_key(settings)
    former = [secret_key(None, path, name) for path in settings.former_identity_key_files]
    if former and not key:
        raise SetupInvalid(f"{name}: there is no present key; give it as ARBITER_IDENTITY_KEY_FILE too")
    return tuple(dict.fromkeys((key, *former))) if key else ()


def secret_key(key: SecretStr | None, file: Path | None, name: str) -> bytes:
    """A key that is given itself or by a file; b"" for none. Raises SetupInvalid, naming the setting."""
    if key is not None and file is not None:
        raise SetupInvalid(f"give either {name} or {name}_FILE, not both")
    if key is None and file is None:
        return b""
    content = _read(file, name) if file is not None else key.get_secret_value().encode() if key else b""
    if not content:
        raise SetupInvalid(f"{name}: is empty; give a long random text, or leave it out")
    return content


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise SetupInvalid(f"{path}: the key of {name} cannot be read: {error.strerror}") from error
