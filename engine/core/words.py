"""Puts reasons into words: placeholders filled, values labelled in the language of the reader."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from engine.domain import Reason, ReasonText, Texts

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_.]*)\}")


@lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[str, ...]:
    """Text and placeholder names in turn, text first."""
    return tuple(_PLACEHOLDER.split(text))


def placeholders(text: ReasonText) -> frozenset[str]:
    """Names in braces in any of a reason's texts."""
    texts = (*text.agent.values(), *text.customer.values())
    return frozenset(name for each in texts for name in _parts(each)[1::2])


def fill(text: str, values: Mapping[str, str], labels: Mapping[str, Texts], language: str) -> str:
    """The text with each `{name}` replaced by its value's label, or the value itself."""
    parts = _parts(text)
    if len(parts) == 1:
        return text
    filled = list(parts)
    for i in range(1, len(parts), 2):
        filled[i] = _labelled(values.get(parts[i], "missing"), labels, language)
    return "".join(filled)


def _labelled(value: str, labels: Mapping[str, Texts], language: str) -> str:
    """The value's label; that of each member of a list; that of the unit after a number; or the value."""
    label = labels.get(value)
    if label is not None:
        return label[language]
    if ", " in value:
        return ", ".join(_labelled(each, labels, language) for each in value.split(", "))
    number, space, unit = value.partition(" ")
    label = labels.get(unit) if space else None
    return value if label is None else f"{number} {label[language]}"


def tell(reason: Reason, texts: ReasonText, labels: Mapping[str, Texts], language: str) -> tuple[str, str]:
    """The agent's and the customer's sentence for one reason."""
    agent = fill(texts.agent[language], reason.values, labels, language)
    customer = fill(texts.customer[language], reason.values, labels, language)
    return agent, customer
