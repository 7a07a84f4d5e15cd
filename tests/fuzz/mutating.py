"""Changes of bytes and texts, by a seeded generator: the same seed, the same changes."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Final

HOSTILE = (
    "",
    "\x00",
    "a\x00b",
    "\r\n",
    "\u202egnp.exe",
    "\u200b\u2060",
    "\ufeff",
    "é" * 200,
    "e\u0301" * 100,
    "\U0001f600" * 64,
    "\U0010ffff",
    "A" * 129,
    "A" * 1025,
    "A" * 20_000,
    "%s%n%x%p",
    "{0.__class__}",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "$(id)",
    "`id`",
    "' OR '1'='1",
    '"; DROP TABLE customers; --',
    "*3\r\n$3\r\nDEL\r\n",
    "EVAL 'return 1' 0",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "file:///etc/passwd",
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 40,
    "null",
    "true",
    "__proto__",
    "C" * 128,
)
"""Texts that some program somewhere took for more than a text."""
ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1 << 31, 1 << 63, 10**30, -(10**300), 0.5, 1e308, float("inf"), float("nan"),
    [], {}, [[]], [None], {"": ""}, "", " ", [1, "a"], {"a": {"b": {"c": []}}}, "\ud800",
)  # fmt: skip
"""Values that are seldom meant."""
_NUMBERS = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff" * 9 + b"\x01", b"\x80" * 10, b"\x00" * 8, b"\xff" * 8)


class Mutator:
    """Makes inputs from good ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # to repeat, not to keep secret

    def data(self, seeds: Sequence[bytes]) -> bytes:
        """Bytes of a good input with one to four changes; now and then none of it."""
        choose = self.random
        if choose.random() < 0.02:
            return choose.randbytes(choose.randrange(200))
        content = bytearray(choose.choice(seeds))
        for _ in range(choose.randint(1, 4)):
            self._change(content, seeds)
        return bytes(content)

    def _change(self, content: bytearray, seeds: Sequence[bytes]) -> None:
        choose = self.random
        at = choose.randrange(len(content) + 1)
        end = min(len(content), at + choose.randint(1, 12))
        kind = choose.randrange(8)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << choose.randrange(8)
        elif kind == 1 and at < len(content):
            content[at] = choose.randrange(256)
        elif kind == 2:
            del content[at:end]
        elif kind == 3:
            content[at:at] = content[at:end] * choose.randint(1, 8)
        elif kind == 4:
            content[at:end] = choose.choice(_NUMBERS)
        elif kind == 5:
            content[at:at] = choose.choice(HOSTILE).encode("utf-8", "surrogatepass")[:3000]
        elif kind == 6:
            other = choose.choice(seeds)
            start = choose.randrange(len(other) + 1)
            content[at:end] = other[start : start + choose.randint(1, 60)]
        else:
            del content[at:]

    def text(self, seeds: Sequence[str], pieces: Sequence[str]) -> str:
        """A good text with one to three changes by pieces of its language, or hostile ones."""
        choose = self.random
        text = choose.choice(seeds)
        for _ in range(choose.randint(1, 3)):
            at = choose.randrange(len(text) + 1)
            end = min(len(text), at + choose.choice((0, 1, 4, 20, 200)))
            piece = choose.choice(pieces) if choose.random() < 0.7 else choose.choice(HOSTILE)
            if choose.random() < 0.15:  # a part of the text itself, elsewhere
                start = choose.randrange(len(text) + 1)
                piece = text[start : start + choose.randint(1, 200)]
            text = text[:at] + piece + text[end:]
        return text

    def hostile(self) -> str:
        """A hostile text, alone or with another."""
        first = self.random.choice(HOSTILE)
        return first + self.random.choice(HOSTILE) if self.random.random() < 0.3 else first

    def document(self, text: str) -> str:
        """A JSON document with one to three of its values replaced, taken out or doubled."""
        document = json.loads(text)
        for _ in range(self.random.randint(1, 3)):
            document = self._replaced(document)
        return json.dumps(document)

    def _replaced(self, value: Any) -> Any:
        """The value, or what it becomes where the way down ends here."""
        choose = self.random
        if not value or not isinstance(value, (dict, list)) or choose.random() < 0.1:
            return choose.choice(ODD) if choose.random() < 0.7 else self.hostile()
        if isinstance(value, list):
            at = choose.randrange(len(value))
            return [*value[:at], self._replaced(value[at]), *value[at + choose.randrange(2) :]]
        name = choose.choice(sorted(value))
        rest = {key: each for key, each in value.items() if key != name}
        if choose.random() < 0.2:
            return rest if choose.random() < 0.5 else {**rest, self.hostile(): value[name]}
        return {**value, name: self._replaced(value[name])}
