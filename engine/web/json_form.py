"""The JSON form of the contract's messages: proto3 JSON, read strictly and written in full."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final, Never, TypeVar, cast

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from engine.errors import RequestInvalid, Violation

Read = TypeVar("Read", bound=Message)

MEDIA_TYPE: Final = "application/json"
_MAX_DEPTH: Final = 32
"""Messages of the contract nest six deep."""
_NOT_READ: Final = (json_format.ParseError, ValueError)
"""The second for half a surrogate pair, which no UTF-8 has."""
_OWN_FORM: Final = "google.protobuf."
"""Begins the names of messages that JSON writes in a form of their own, as an instant is a text."""


def read_json(body: bytes, kind: type[Read]) -> Read:
    """A message of its JSON form. Raises RequestInvalid with every unknown field or the first wrong value."""
    said = _object(body)
    message = kind()
    descriptor = cast(Descriptor, message.DESCRIPTOR)  # the stubs know two classes of it
    unknown = list(_unknown(said, descriptor, ""))
    if unknown:
        raise RequestInvalid(unknown)
    try:
        return json_format.ParseDict(said, message, max_recursion_depth=_MAX_DEPTH)
    except _NOT_READ:
        raise RequestInvalid([_wrong(said, descriptor)]) from None


def write_json(message: Message) -> bytes:
    """The JSON form, in lowerCamelCase as `arbiter ... --json` prints; only what is unset is left out.

    Empty lists, zeros and false are there, so that who has no stubs need not know the defaults.
    """
    form = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return json.dumps(form, ensure_ascii=False, separators=(",", ":")).encode()


def _object(body: bytes) -> dict[str, object]:
    try:
        said = json.loads(body, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise RequestInvalid([Violation("body", "is not a JSON text in UTF-8")]) from None
    if not isinstance(said, dict):
        raise RequestInvalid([Violation("body", "is not a JSON object")])
    return said


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuses names that are there twice: readers differ in which one they take."""
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a name is there twice")
    return named


def _no_number(constant: str) -> Never:
    raise ValueError(f"{constant} is no JSON")


def _unknown(said: object, kind: Descriptor | None, place: str) -> Iterator[Violation]:
    """Every name in it that no field of the message has, in messages within as well."""
    if kind is None or kind.full_name.startswith(_OWN_FORM) or not isinstance(said, dict):
        return
    fields = _fields(kind)
    for name, value in said.items():
        field = fields.get(name)
        if field is None:
            known = ", ".join(each.json_name for each in kind.fields)
            yield Violation(f"{place}{_shown(name)}", f"is no field of {kind.name}, which has {known}")
        elif field.message_type is not None:
            for inner, within in _within(field, value, f"{place}{field.name}"):
                yield from _unknown(inner, _message_of(field), within)


def _within(field: FieldDescriptor, value: object, place: str) -> Iterator[tuple[object, str]]:
    """The messages in the value of a field, with their places."""
    if _is_map(field):
        if isinstance(value, Mapping):
            for key, each in value.items():
                yield each, f"{place}[{_shown(key)}]."
    elif field.is_repeated:
        if isinstance(value, list):
            for position, each in enumerate(value):
                yield each, f"{place}[{position}]."
    else:
        yield value, f"{place}."


def _fields(kind: Descriptor) -> Mapping[str, FieldDescriptor]:
    """By both names that proto3 JSON takes."""
    return {name: field for field in kind.fields for name in (field.json_name, field.name)}


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _message_of(field: FieldDescriptor) -> Descriptor | None:
    """The message in a field; of a map the one it leads to, where it does to one."""
    kind = field.message_type
    return kind.fields_by_name["value"].message_type if kind is not None and _is_map(field) else kind


def _wrong(said: Mapping[str, object], kind: Descriptor) -> Violation:
    """The first field that is not of its type, by trying each alone; the library's words repeat values."""
    fields = _fields(kind)
    for name, value in said.items():
        try:
            json_format.ParseDict({name: value}, _made(kind), max_recursion_depth=_MAX_DEPTH)
        except _NOT_READ:
            return Violation(fields[name].name, f"has not the JSON form of {_type_name(fields[name])}")
    return Violation("body", "sets one of several fields of which only one may be set, or one twice")


def _made(kind: Descriptor) -> Message:
    made: Message = message_factory.GetMessageClass(kind)()
    return made


def _type_name(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        name = field.enum_type.name
    elif field.message_type is not None:
        name = "a map" if _is_map(field) else field.message_type.name
    else:
        name = _SCALARS[field.cpp_type]
    return f"a list of {name}" if field.is_repeated and not _is_map(field) else name


def _shown(name: str) -> str:
    """A name that the caller made, no longer than any of ours."""
    return name if len(name) <= 64 else f"{name[:63]}…"


_SCALARS: Final = {
    FieldDescriptor.CPPTYPE_STRING: "string",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_DOUBLE: "double",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
    FieldDescriptor.CPPTYPE_INT32: "int32",
    FieldDescriptor.CPPTYPE_INT64: "int64",
    FieldDescriptor.CPPTYPE_UINT32: "uint32",
    FieldDescriptor.CPPTYPE_UINT64: "uint64",
}
