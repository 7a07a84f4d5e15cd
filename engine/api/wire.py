"""The wire format of protobuf, for messages that are put together from parts made earlier.

A reply says mostly what other replies said before. Joining bytes that are kept costs a small part of filling
message objects and serializing them. Fields are written in the order of their numbers, as protobuf writes
them, and the entries of maps in that of their keys, so that the same reply is the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from types import SimpleNamespace
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_VARINT, _EIGHT_BYTES, _SIZED = 0, 1, 2
_WIRE_TYPES: Final = {
    FieldDescriptor.TYPE_DOUBLE: _EIGHT_BYTES,
    FieldDescriptor.TYPE_STRING: _SIZED,
    FieldDescriptor.TYPE_MESSAGE: _SIZED,
    FieldDescriptor.TYPE_INT32: _VARINT,
    FieldDescriptor.TYPE_INT64: _VARINT,
    FieldDescriptor.TYPE_BOOL: _VARINT,
    FieldDescriptor.TYPE_ENUM: _VARINT,
}
_SEVEN_BITS: Final = 127
_MORE: Final = 128
_64_BITS: Final = (1 << 64) - 1
_KEY, _TEXT, _WHOLE = b"\x0a", b"\x12", b"\x10"
"""Tags in the entries of maps: 1 is the key, 2 the value."""
_SECONDS, _NANOS = b"\x08", b"\x10"
_SECONDS_TAG: Final = _SECONDS[0]
_NANOS_A_MS: Final = 1_000_000
_FIRST_OF_FIVE: Final = 1 << 28
_LAST_OF_FIVE: Final = (1 << 35) - 1
"""Seconds that take five bytes: those of the years 1978 to 3058."""

EIGHT_BYTES: Final = 8
"""Size of a double."""
eight_bytes: Final = Struct("<d").pack
"""A double without a tag."""
_ZERO: Final = eight_bytes(0.0)


def _varint(number: int) -> bytes:
    left = number & _64_BITS
    parts = []
    while left > _SEVEN_BITS:
        parts.append(left & _SEVEN_BITS | _MORE)
        left >>= 7
    return bytes((*parts, left))


_SMALL: Final = [_varint(number) for number in range(2048)]
"""Most sizes and numbers of a reply."""
_MOST: Final = len(_SMALL)
_MS: Final = [_NANOS + _varint(ms * _NANOS_A_MS) if ms else b"" for ms in range(1000)]
"""Milliseconds of a second, as the field of a timestamp."""


def varint(number: int) -> bytes:
    """A whole number; negative ones as 64 bits."""
    return _SMALL[number] if 0 <= number < _MOST else _varint(number)


def tags(message: type[Message]) -> SimpleNamespace:
    """What stands before each value of the fields, by their names."""
    return SimpleNamespace(
        **{
            field.name: varint(field.number << 3 | _WIRE_TYPES[field.type])
            for field in message.DESCRIPTOR.fields
        }
    )


def sized(of: bytes, body: bytes) -> bytes:
    """A message or an element under its tag; there even where it is empty."""
    size = len(body)
    return of + (_SMALL[size] if size < _MOST else _varint(size)) + body


def tag_and_size(of: bytes, size: int) -> bytes:
    """What stands before a message or an element of this size."""
    return of + varint(size)


def text(of: bytes, value: str) -> bytes:
    """A text under its tag; nothing where it is empty."""
    return sized(of, value.encode()) if value else b""


def whole(of: bytes, number: int) -> bytes:
    """A whole number, truth or enum value under its tag; nothing where it is 0."""
    return of + varint(number) if number else b""


def real(of: bytes, number: float) -> bytes:
    """A double under its tag; nothing where all its bits are 0, which those of -0.0 are not."""
    packed = eight_bytes(number)
    return b"" if packed == _ZERO else of + packed


def text_map(of: bytes, values: Mapping[str, str]) -> bytes:
    """A map from texts to texts."""
    return b"".join(
        [
            sized(of, sized(_KEY, name.encode()) + sized(_TEXT, value.encode()))
            for name, value in sorted(values.items())
        ]
    )


def whole_map(of: bytes, values: Mapping[str, int]) -> bytes:
    """A map from texts to whole numbers."""
    return b"".join(
        [
            sized(of, sized(_KEY, name.encode()) + _WHOLE + varint(value))
            for name, value in sorted(values.items())
        ]
    )


def instant(at_ms: int) -> bytes:
    """The body of a google.protobuf.Timestamp."""
    seconds, ms = divmod(at_ms, 1000)
    if _FIRST_OF_FIVE <= seconds <= _LAST_OF_FIVE:
        return _five_bytes(seconds) + _MS[ms]
    return whole(_SECONDS, seconds) + _MS[ms]


def _five_bytes(seconds: int) -> bytes:
    """The seconds of an instant of our time; as there are several in a reply, no loop finds their size."""
    return bytes(
        (
            _SECONDS_TAG,
            seconds & _SEVEN_BITS | _MORE,
            seconds >> 7 & _SEVEN_BITS | _MORE,
            seconds >> 14 & _SEVEN_BITS | _MORE,
            seconds >> 21 & _SEVEN_BITS | _MORE,
            seconds >> 28,
        )
    )
