"""Types of conditions, and which of them are lists and maps of which."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Type of a node. Timestamps and durations are integer milliseconds, lists tuples, maps dicts."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRING = "string"
    TIMESTAMP = "timestamp"
    DURATION = "duration"
    LIST = "list<string>"
    BOOL_LIST = "list<bool>"
    INT_LIST = "list<int>"
    DOUBLE_LIST = "list<double>"
    TIMESTAMP_LIST = "list<timestamp>"
    DURATION_LIST = "list<duration>"
    STRING_MAP = "map<string,string>"
    BOOL_MAP = "map<string,bool>"
    INT_MAP = "map<string,int>"
    DOUBLE_MAP = "map<string,double>"
    OPAQUE = "opaque"


LIST_OF: Final = {
    Kind.STRING: Kind.LIST,
    Kind.BOOL: Kind.BOOL_LIST,
    Kind.INT: Kind.INT_LIST,
    Kind.DOUBLE: Kind.DOUBLE_LIST,
    Kind.TIMESTAMP: Kind.TIMESTAMP_LIST,
    Kind.DURATION: Kind.DURATION_LIST,
}
"""Element to list. There are no lists of lists."""
MAP_OF: Final = {
    Kind.STRING: Kind.STRING_MAP,
    Kind.BOOL: Kind.BOOL_MAP,
    Kind.INT: Kind.INT_MAP,
    Kind.DOUBLE: Kind.DOUBLE_MAP,
}
"""Value to map; keys are text."""
ELEMENT_OF: Final = {held: element for element, held in LIST_OF.items()}
VALUE_OF: Final = {held: value for value, held in MAP_OF.items()}
SCALARS: Final = tuple(LIST_OF)


def a_kind(kind: Kind) -> str:
    """The kind in words."""
    return f"an {kind}" if kind is Kind.INT else f"a {kind}"
