"""What a receiver is told of an outcome, made of the logs anew for each attempt: who is erased is in none.

A message is named by the customer and the id of the outcome, under a key. So one that comes again has its
name, also where a client reported it again to another server, and nobody reads the id out of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.ledger import OutcomeEntry, OutcomeLog
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.masking import Mask
from engine.decisionlog.segment import write_failure

OUTCOME_RECORDED: Final = "outcome.recorded"
_KEY_FILE: Final = "naming-key"
_KEY_BYTES: Final = 32
_PERSON: Final = b"arbiter-webhook"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is sent; `customer_id` and `received_at_ms` say whose it is and when it came in."""

    webhook_id: str
    body: bytes
    customer_id: str
    received_at_ms: int


class _Data(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    outcome: str
    decision_id: str
    action_id: str
    record_time: str
    channel: str | None = None
    purpose: str | None = None
    reason: str | None = None
    customer: str | None = None
    outcome_id: str | None = None


class _Event(msgspec.Struct):
    type: str
    timestamp: str
    data: _Data


class Messages:
    """Makes messages of recorded outcomes."""

    def __init__(
        self,
        outcomes: OutcomeLog,
        decisions: DecisionLog,
        *,
        mask: Mask,
        is_erased: Callable[[str], bool],
        naming_key: bytes,
    ) -> None:
        self._outcomes = outcomes
        self._decisions = decisions
        self._mask = mask
        self._is_erased = is_erased
        self._naming_key = naming_key

    def at(self, position: int) -> Message | None:
        """The message of a recorded outcome; None where its customer was erased. Raises LogError."""
        entry = self._outcomes.read(position)
        whose = None if entry is None else self._whose(entry)
        if entry is None or whose is None or self._is_erased(whose[0]):
            return None
        customer_id, channel, purpose = whose
        row = self._mask.outcome(position, entry)
        data = _Data(
            outcome=row["type"],
            decision_id=row["decision_id"],
            action_id=row["action_id"],
            channel=channel,
            purpose=purpose or None,
            reason=entry.reason or None,
            customer=self._mask.customer(customer_id),
            outcome_id=row["outcome_id"],
            record_time=_instant(entry.received_at_ms),
        )
        body = msgspec.json.encode(_Event(OUTCOME_RECORDED, _instant(entry.at_ms), data))
        return Message(self._name(customer_id, entry.outcome_id), body, customer_id, entry.received_at_ms)

    def _whose(self, entry: OutcomeEntry) -> tuple[str, str, str] | None:
        """Customer, channel and purpose; None where the decision is gone by which older entries say it."""
        if entry.use is not None:
            return entry.use.customer_id, entry.use.channel, entry.use.purpose
        decision = self._decisions.read(entry.decision_id)
        return None if decision is None else (decision.request.customer_id, decision.request.channel, "")

    def _name(self, customer_id: str, outcome_id: str) -> str:
        named = f"{customer_id}\n{outcome_id}".encode(errors="surrogatepass")
        return "out_" + blake2b(named, key=self._naming_key, digest_size=16).hexdigest()


def naming_key(folder: Path, identity_key: bytes) -> bytes:
    """What names of messages are made with: of the identity key, which servers share, else kept in a file.

    Raises LogUnavailable where that cannot be.
    """
    if identity_key:
        return blake2b(identity_key, digest_size=_KEY_BYTES, person=_PERSON).digest()
    path = folder / _KEY_FILE
    try:
        if not path.exists():
            scratch = path.with_suffix(".part")
            scratch.touch(mode=0o600)
            scratch.write_bytes(secrets.token_bytes(_KEY_BYTES))
            scratch.replace(path)
        key = path.read_bytes()
    except OSError as error:
        raise write_failure(path, error) from error
    if len(key) != _KEY_BYTES:
        raise LogUnavailable(path, "it is no key", "remove it; messages then have new names")
    return key


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
