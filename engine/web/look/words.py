"""What pages say, in the languages that they speak: one file a language and part, read once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

LANGUAGES: Final = ("en", "fr")
"""The first is spoken to those who ask for none of them."""
_WEB: Final = Path(__file__).resolve().parents[1]


class Words:
    """The texts of one language by dotted name, such as "pop.accept"."""

    def __init__(self, language: str, texts: Mapping[str, str]) -> None:
        self.language = language
        self._texts = texts

    def __call__(self, name: str, /, **values: object) -> str:
        """The text of that name, with `{placeholders}` filled. Raises KeyError where there is none."""
        text = self._texts[name]
        return text.format(**values) if values else text

    def known(self, name: str, otherwise: str) -> str:
        """The text of that name; for names that rule sets make up, what else to say."""
        return self._texts.get(name, otherwise)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)


@cache
def words_of(language: str) -> Words:
    """All parts of the pages in one language."""
    texts: dict[str, str] = {}
    for path in sorted(_WEB.glob(f"*/words/{language}.toml")):
        texts |= _flat(tomllib.loads(path.read_text(encoding="utf-8")))
    return Words(language, texts)


def _flat(table: Mapping[str, Any], within: str = "") -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            texts |= _flat(value, f"{within}{name}.")
        else:
            texts[within + name] = value
    return texts


def spoken(accepted: str, chosen: str = "") -> str:
    """The language for a reader: the one they chose, else the first of `Accept-Language` that is spoken."""
    if chosen in LANGUAGES:
        return chosen
    wanted = sorted((_preference(part) for part in accepted.split(",")[:20]), key=lambda w: -w[1])
    return next((tag for tag, weight in wanted if tag in LANGUAGES and weight > 0), LANGUAGES[0])


def _preference(part: str) -> tuple[str, float]:
    tag, _, weight = part.partition(";q=")
    try:
        return tag.strip().lower().partition("-")[0], float(weight) if weight else 1.0
    except ValueError:
        return "", 0.0
