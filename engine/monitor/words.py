"""Words that may become label values: few, short, and never a text that somebody sent."""

from __future__ import annotations

import re
from typing import Final

OTHER: Final = "other"
"""Stands for every word that is not taken up."""
MOST: Final = 16
"""Words that are told apart: more of them would be a series each, kept for the life of the process."""
PLAIN: Final = re.compile(r"[a-z][a-z0-9_.-]{0,39}", re.ASCII)
"""The form of a word of ours."""
REASON: Final = re.compile(r"[A-Z][A-Z_]{1,39}", re.ASCII)
"""The form of the reason of an error."""


class FewWords:
    """The first words of a kind keep their names; what comes later, or is not of the form, is `other`."""

    def __init__(self, *, form: re.Pattern[str] = PLAIN, most: int = MOST) -> None:
        self._form = form
        self._most = most
        self._known: dict[str, str] = {}

    def of(self, word: str) -> str:
        """The word to count under."""
        known = self._known.get(word)
        if known is not None:
            return known
        if len(self._known) >= self._most or not self._form.fullmatch(word):
            return OTHER
        return self._known.setdefault(word, word)
