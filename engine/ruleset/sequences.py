"""What generated code calls for lists, maps and texts.

Lists are tuples, maps are dicts; elements are never None. None is unknown: CEL's error. What could grow
without bound is bounded: a macro sees at most MAX_ELEMENTS elements, a made text has MAX_TEXT characters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
MAX_ELEMENTS: Final = 256
"""Macros over longer lists are unknown: two nested ones then cost milliseconds at most."""
MAX_TEXT: Final = 65_536
_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_TO_LOWER: Final = str.maketrans(_UPPER, _LOWER)
_TO_UPPER: Final = str.maketrans(_LOWER, _UPPER)
_BLANKS: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def fold_all(source: Collection[T], test: Callable[[T], bool | None]) -> bool | None:
    """`all`: false where one is, else unknown where one is."""
    if len(source) > MAX_ELEMENTS:
        return None
    unknown = False
    for element in source:
        truth = test(element)
        if truth is False:
            return False
        unknown |= truth is None
    return None if unknown else True


def fold_exists(source: Collection[T], test: Callable[[T], bool | None]) -> bool | None:
    """`exists`: true where one is, else unknown where one is."""
    if len(source) > MAX_ELEMENTS:
        return None
    unknown = False
    for element in source:
        truth = test(element)
        if truth:
            return True
        unknown |= truth is None
    return None if unknown else False


def fold_exists_one(source: Collection[T], test: Callable[[T], bool | None]) -> bool | None:
    """`exists_one`: unknown where any is."""
    if len(source) > MAX_ELEMENTS:
        return None
    truths = [test(element) for element in source]
    return None if None in truths else truths.count(True) == 1


def fold_filter(source: Sequence[T], test: Callable[[T], bool | None]) -> tuple[T, ...] | None:
    """`filter`: unknown where any test is."""
    if len(source) > MAX_ELEMENTS:
        return None
    truths = [test(element) for element in source]
    if None in truths:
        return None
    return tuple(e for e, truth in zip(source, truths, strict=True) if truth)


def fold_map(source: Sequence[T], value: Callable[[T], object]) -> tuple[object, ...] | None:
    """`map`: unknown where any value is."""
    if len(source) > MAX_ELEMENTS:
        return None
    values = tuple(value(element) for element in source)
    return None if any(v is None for v in values) else values


def element(values: Sequence[T], index: int) -> T | None:
    """One element, counted from 0."""
    return values[index] if 0 <= index < len(values) else None


def same(one: Sequence[object], other: Sequence[object]) -> bool:
    """Whether two lists are equal; not a number equals nothing, itself included."""
    return len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))


def within(item: object, values: Sequence[object]) -> bool:
    """Whether an element equals the item; see `same`."""
    return any(item == value for value in values)


def together(one: tuple[T, ...], other: tuple[T, ...]) -> tuple[T, ...] | None:
    """Two lists as one."""
    return one + other if len(one) + len(other) <= MAX_TEXT else None


def value_at(values: Mapping[str, T], key: str) -> T | None:
    """The value of a key."""
    return values.get(key)


def lower_ascii(text: str) -> str:
    """A to Z in lower case, the rest as it is."""
    return text.lower() if text.isascii() else text.translate(_TO_LOWER)


def upper_ascii(text: str) -> str:
    """A to z in upper case, the rest as it is."""
    return text.upper() if text.isascii() else text.translate(_TO_UPPER)


def trim(text: str) -> str:
    """The text without blanks around it."""
    return text.strip(_BLANKS)


def split(text: str, separator: str) -> tuple[str, ...]:
    """The parts between separators; without one, the characters."""
    return tuple(text.split(separator)) if separator else tuple(text) or ("",)


def replaced(text: str, old: str, new: str) -> str | None:
    """The text with every `old` made `new`."""
    grown = (len(text) + 1) * max(1, len(new))
    if grown > MAX_TEXT and len(text) + text.count(old) * (len(new) - len(old)) > MAX_TEXT:
        return None
    return text.replace(old, new)


def joined(texts: Sequence[str], separator: str) -> str | None:
    """The texts as one."""
    length = sum(map(len, texts)) + len(separator) * max(0, len(texts) - 1)
    return separator.join(texts) if length <= MAX_TEXT else None


def rest_of(text: str, start: int) -> str | None:
    """The characters from `start`."""
    return text[start:] if 0 <= start <= len(text) else None


COLLECTION_NAMES: Final[dict[str, object]] = {
    f.__name__: f
    for f in (
        fold_all, fold_exists, fold_exists_one, fold_filter, fold_map, element, same, within, together,
        value_at, lower_ascii, upper_ascii, trim, split, replaced, joined, rest_of,
    )
}  # fmt: skip
"""Names generated code may call."""
