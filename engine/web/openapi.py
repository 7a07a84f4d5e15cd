"""The gateway in OpenAPI 3.1, made of the messages' own descriptors, so that it cannot say anything else."""

from __future__ import annotations

from typing import Any, Final, TypeAlias, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.rpc import status_pb2

from engine.release import engine_version
from engine.web.json_form import MEDIA_TYPE
from engine.web.methods import METHODS, Method

Schema: TypeAlias = dict[str, Any]

_SCALARS: Final[dict[int, Schema]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": ["string", "integer"], "format": "int64", "pattern": r"^-?\d+$"},
}
"""Types the contract uses. Replies write an int64 as a text, as JSON readers lose digits of large numbers."""
_OWN_FORM: Final[dict[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Any": {
        "type": "object",
        "required": ["@type"],
        "properties": {"@type": {"type": "string"}},
    },
}


def document() -> Schema:
    """The whole description."""
    schemas = _Schemas()
    paths = {method.path: {"post": _operation(method, schemas)} for method in METHODS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Arbiter",
            "version": engine_version(),
            "description": "The gRPC contract arbiter.v1 as proto3 JSON; its .proto files say what fields "
            "mean. A refusal is a google.rpc.Status whose ErrorInfo has a stable reason.",
        },
        "paths": paths,
        "components": {"schemas": schemas.named},
    }


def _operation(method: Method, schemas: _Schemas) -> Schema:
    request, response = (cast(Descriptor, m.DESCRIPTOR) for m in (method.request, method.response))
    return {
        "operationId": method.name,
        "tags": [method.service],
        "summary": method.summary,
        "parameters": [
            {
                "name": "Grpc-Timeout",
                "in": "header",
                "description": "How long the caller waits, e.g. 50m for 50 ms.",
                "schema": {"type": "string", "pattern": r"^\d{1,8}[HMSmun]$"},
            }
        ],
        "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": schemas.of(request)}}},
        "responses": {
            "200": {"description": "The answer.", "content": {MEDIA_TYPE: {"schema": schemas.of(response)}}},
            "default": {
                "description": "Why there is none.",
                "content": {MEDIA_TYPE: {"schema": schemas.status()}},
            },
        },
    }


class _Schemas:
    """Schemas of messages and enums, each made once."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}

    def of(self, kind: Descriptor) -> Schema:
        """A reference to a message's schema."""
        own = _OWN_FORM.get(kind.full_name)
        if own is not None:
            return own
        if kind.full_name not in self.named:
            self.named[kind.full_name] = {}  # before its fields, as a message may hold its own kind
            properties = {field.json_name: self._value(field) for field in kind.fields}
            self.named[kind.full_name] = {
                "type": "object",
                "properties": properties,
                "additionalProperties": False,
            }
        return {"$ref": f"#/components/schemas/{kind.full_name}"}

    def status(self) -> Schema:
        """A refusal's."""
        return self.of(status_pb2.Status.DESCRIPTOR)

    def _value(self, field: FieldDescriptor) -> Schema:
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            value = kind.fields_by_name["value"]
            return {"type": "object", "additionalProperties": self._one(value)}
        return {"type": "array", "items": self._one(field)} if field.is_repeated else self._one(field)

    def _one(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.of(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        return _SCALARS[field.type]

    def _enum(self, kind: EnumDescriptor) -> Schema:
        self.named[kind.full_name] = {"type": "string", "enum": [value.name for value in kind.values]}
        return {"$ref": f"#/components/schemas/{kind.full_name}"}
