"""Regular expressions: the part of RE2 that Python's `re` reads the same, and runs in bounded time.

CEL's `matches` is RE2, which is linear in the text; Python's is backtracking. So a pattern may hold
at most two unbounded repetitions, none inside a repeated group, and texts are bounded (`runtime.search`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

MAX_PATTERN: Final = 200
MAX_UNBOUNDED: Final = 2
_MAX_REPEAT: Final = 100
_CLASSES: Final = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
_CONTROL: Final = frozenset("tnfr")
_COUNT = re.compile(r"\{(\d{1,3})(?:(,)(\d{0,3}))?\}")
_SIGNS: Final = frozenset(r"\.+*?()|[]{}^$-/:@#&=<>~!%,;'" + '" _`')


class PatternRefused(Exception):
    """The pattern is not RE2, or is outside the part of it that is allowed."""


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A Python pattern that finds what RE2 finds. Raises PatternRefused."""
    if len(pattern) > MAX_PATTERN:
        raise PatternRefused(f"the pattern is longer than {MAX_PATTERN} characters")
    return re.compile(_Translation(pattern).run(), re.ASCII)


@dataclass(slots=True)
class _Group:
    repeats: bool = False  # holds a repetition or alternatives


class _Translation:
    """One pass over the pattern, piece by piece."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.unbounded = 0
        self.groups = [_Group()]
        self.closed: _Group | None = None  # the group that ended just before
        self.can_repeat = False

    def run(self) -> str:
        written = []
        while self.at < len(self.pattern):
            written.append(self._piece(self.pattern[self.at]))
        if len(self.groups) > 1:
            raise PatternRefused("a `(` is not closed")
        return "".join(written)

    def _piece(self, sign: str) -> str:
        if sign in "*+?{":
            return self._repetition(sign)
        self.closed, self.can_repeat = None, sign not in "(|^$"
        match sign:
            case "(":
                return self._open()
            case ")":
                return self._close()
            case "[":
                return self._set()
            case "\\":
                return self._escape(inside=False)
            case "]" | "}":
                raise PatternRefused(f"a `{sign}` stands alone; write `\\{sign}`")
        self.at += 1
        if sign == "|":
            self.groups[-1].repeats = True
        return r"\Z" if sign == "$" else sign

    def _open(self) -> str:
        self.at += 1
        self.groups.append(_Group())
        if self.pattern.startswith("?:", self.at):
            self.at += 2
        elif self.pattern.startswith("?", self.at):
            raise PatternRefused("`(?` is allowed as `(?:` only")
        return "(?:"

    def _close(self) -> str:
        self.at += 1
        if len(self.groups) == 1:
            raise PatternRefused("a `)` closes nothing")
        self.closed = self.groups.pop()
        self.groups[-1].repeats |= self.closed.repeats
        return ")"

    def _repetition(self, sign: str) -> str:
        if not self.can_repeat:
            raise PatternRefused(f"nothing stands before `{sign}` to repeat")
        written, unbounded = (sign, sign in "*+") if sign != "{" else self._count()
        self.at += len(written)
        if self.closed is not None and self.closed.repeats and written != "?":
            raise PatternRefused("a repeated group holds a repetition or alternatives")
        self.unbounded += unbounded
        if self.unbounded > MAX_UNBOUNDED:
            raise PatternRefused(f"more than {MAX_UNBOUNDED} unbounded repetitions")
        self.groups[-1].repeats = True
        self.can_repeat, self.closed = False, None
        if self.pattern.startswith("?", self.at):  # lazy or greedy: the same answer to "is there one"
            self.at += 1
        return written

    def _count(self) -> tuple[str, bool]:
        found = _COUNT.match(self.pattern, self.at)
        if found is None:
            raise PatternRefused("a `{` stands alone; write `\\{`")
        low, high = int(found[1]), int(found[3]) if found[3] else int(found[1])
        if low > high or max(low, high) > _MAX_REPEAT:
            raise PatternRefused(f"`{found[0]}` must count upwards and to {_MAX_REPEAT} at most")
        return found[0], found[2] is not None and not found[3]

    def _escape(self, *, inside: bool) -> str:
        letter = self.pattern[self.at + 1 : self.at + 2]
        self.at += 2
        if letter in _CLASSES and letter:
            return _CLASSES[letter] if inside else f"[{_CLASSES[letter]}]"
        if letter.lower() in _CLASSES and letter and not inside:
            return f"[^{_CLASSES[letter.lower()]}]"
        if letter and (letter in _CONTROL or letter in _SIGNS):
            return f"\\{letter}" if letter in _CONTROL else re.escape(letter)
        raise PatternRefused(f"the escape `\\{letter}` is not allowed")

    def _set(self) -> str:
        self.at += 1
        start = "["
        if self.pattern.startswith("^", self.at):
            start, self.at = "[^", self.at + 1
        written: list[str] = []
        while self.at < len(self.pattern) and self.pattern[self.at] != "]":
            written.append(self._set_piece())
        if self.at >= len(self.pattern) or not written:
            raise PatternRefused("a `[` is not closed, or holds nothing")
        self.at += 1
        if any(
            one == other == "-" for one, other in pairwise(written[1:])
        ):  # `re` may read it otherwise one day
            raise PatternRefused("a `--` inside a set; write `\\-`")
        try:
            re.compile(start + "".join(written) + "]")
        except re.error as error:
            raise PatternRefused(f"a set is wrong: {error.msg}") from None
        return start + "".join(written) + "]"

    def _set_piece(self) -> str:
        sign = self.pattern[self.at]
        if sign == "\\":
            return self._escape(inside=True)
        self.at += 1
        if sign == "[":
            raise PatternRefused("a `[` inside a set; write `\\[`")
        return f"\\{sign}" if sign in "&~|^" else sign
