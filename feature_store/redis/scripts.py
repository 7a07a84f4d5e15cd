"""What runs inside the server: each script is a file beside this one, named by its SHA-1 when called."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

Word = bytes | str | int
"""One part of a command as redis-py packs it."""

Command = tuple[Word, ...]
"""A command with its arguments."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the name the server knows it by once it has seen it."""

    text: str
    digest: str

    def call(self, keys: tuple[bytes, ...], arguments: tuple[Word, ...]) -> Command:
        """The command that runs it where the server has seen it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)

    def introduced(self, call: Command) -> Command:
        """The same call with the text, for a server that has not."""
        return ("EVAL", self.text, *call[2:])


def _script(name: str) -> Script:
    text = files("feature_store.redis").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


REPLACE = _script("replace")
MERGE = _script("merge")
ERASE = _script("erase")
CLAIM = _script("claim")
RELEASE = _script("release")
TAKE = _script("take")
SETTLE = _script("settle")
MARK = _script("mark")
KEEP = _script("keep")
