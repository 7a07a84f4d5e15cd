"""An event as it comes in, before anything of it is believed, and its form in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from engine.events.types import EventRefused, Reason
from engine.signals.patterns import Value
from feature_store.state import Identity

MAX_JSON_BYTES: Final = 64 << 10
"""Longest event: 50 attributes of a thousand characters fit."""


@dataclass(frozen=True, slots=True)
class RawEvent:
    """Something that is said to have happened. `at_ms` None is when it was received.

    `received_ms` is when the event was handed over, and stays the same however often it is delivered.
    `late` asks to apply it however late it is: for replays of what was never applied.
    """

    id: str
    type: str
    customer_id: str
    identity: Identity | None
    at_ms: int | None
    attributes: Mapping[str, Value]
    received_ms: int
    late: bool = False

    def received(self, at_ms: int) -> RawEvent:
        """The event as handed over at an instant."""
        return replace(self, received_ms=at_ms)


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON form. `occur_time` is RFC 3339 or milliseconds since the epoch."""

    event_id: str
    type: str
    customer_id: str = ""
    identity: _WrittenIdentity | None = None
    occur_time: int | str | None = None
    attributes: dict[str, bool | int | float | str] = {}


class _WrittenIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    value: str


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_decoder = msgspec.json.Decoder(_Written)
_encoder = msgspec.json.Encoder()


def read_event(text: bytes | str, *, received_ms: int, late: bool = False) -> RawEvent:
    """The event of a JSON object. Raises EventRefused where it is none."""
    if len(text) > MAX_JSON_BYTES:
        raise EventRefused(Reason.MALFORMED, f"has {len(text)} bytes; at most {MAX_JSON_BYTES} are allowed")
    try:
        written = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EventRefused(Reason.MALFORMED, f"is not the JSON of an event: {error}") from error
    return RawEvent(
        id=written.event_id,
        type=written.type,
        customer_id=written.customer_id,
        identity=None
        if written.identity is None
        else Identity(written.identity.type, written.identity.value),
        at_ms=instant_ms(written.occur_time, "occur_time"),
        attributes=written.attributes,
        received_ms=received_ms,
        late=late,
    )


def write_event(event: RawEvent) -> bytes:
    """The JSON object of an event, in one line."""
    identity = (
        None if event.identity is None else {"type": event.identity.type, "value": event.identity.value}
    )
    whole = {
        "event_id": event.id,
        "type": event.type,
        "customer_id": event.customer_id or None,
        "identity": identity,
        "occur_time": None if event.at_ms is None else written_instant(event.at_ms),
        "attributes": dict(event.attributes) or None,
    }
    return _encoder.encode({name: value for name, value in whole.items() if value is not None})


def instant_ms(written: int | str | None, name: str) -> int | None:
    """Milliseconds of an instant in JSON; without an offset it is UTC. Raises EventRefused."""
    if written is None or isinstance(written, int):
        return written
    try:
        instant = datetime.fromisoformat(written)
        return ((instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError) as error:
        words = f"{name} is no instant such as 2027-01-31T08:00:00Z"
        raise EventRefused(Reason.MALFORMED, words) from error


def written_instant(at_ms: int) -> int | str:
    """An instant for people where a calendar has it, else in milliseconds."""
    try:
        instant = _EPOCH + at_ms * _MILLISECOND
    except OverflowError:
        return at_ms
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
