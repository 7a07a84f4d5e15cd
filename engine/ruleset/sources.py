"""The texts of a rule set, whatever they come from, and their content address.

Two sets with the same files are the same version wherever they are read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final

from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic, RuleSetInvalid
from engine.ruleset.yamltree import is_text

MAX_FILE_BYTES: Final = 1_000_000
MAX_FILES: Final = 2_000
_NOT_RULES: Final = frozenset({"suites", "schema"})


class RuleSources(Mapping[str, str]):
    """Relative path (with `/`) to text; immutable, sorted by path."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts: Mapping[str, str] = MappingProxyType(dict(sorted(texts.items())))

    def __getitem__(self, path: str) -> str:
        return self._texts[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    @cached_property
    def digest(self) -> str:
        """Content address, `sha256:...`: changes with any byte of any path or file."""
        return self.digest_of(self)

    def digest_of(self, paths: Iterable[str]) -> str:
        """Content address of some of the files."""
        address = hashlib.sha256()
        for path in sorted(paths):
            for part in (path.encode(), self[path].encode()):
                address.update(len(part).to_bytes(8, "big") + part)
        return "sha256:" + address.hexdigest()

    @classmethod
    def from_mapping(cls, texts: Mapping[str, str]) -> RuleSources:
        """Sources from texts by path, e.g. from an archive. Raises RuleSetInvalid for one that cannot be."""
        sizes = {path: len(text.encode(errors="surrogatepass")) for path, text in texts.items()}
        problems = [_too_large(path) for path, size in sizes.items() if size > MAX_FILE_BYTES]
        problems += [_not_utf8(path, 1, 1) for path, text in texts.items() if not is_text(text)]
        if problems:
            raise RuleSetInvalid(problems)
        return cls(texts)

    @classmethod
    def from_directory(cls, folder: Path) -> RuleSources:
        """Reads every rule file of a folder. Raises RuleSetInvalid naming each that cannot be read."""
        texts: dict[str, str] = {}
        problems: list[Diagnostic] = []
        root = folder.resolve()
        for count, path in enumerate(_rule_files(root)):
            name = path.relative_to(root).as_posix()
            read = _read(root, path, name) if count < MAX_FILES else _too_many(name)
            if isinstance(read, Diagnostic):
                problems.append(read)
            else:
                texts[name] = read
            if count >= MAX_FILES:
                break
        if not texts and not problems:
            message = "the folder has no rule files" if root.is_dir() else "there is no such folder"
            problems.append(
                Diagnostic(str(folder), 1, 1, codes.UNREADABLE_FILE, message, "name the rules folder")
            )
        if problems:
            raise RuleSetInvalid(problems)
        return cls(texts)


def _rule_files(root: Path) -> Iterator[Path]:
    """All `*.yaml`, `*.yml` and `*.csv` below, sorted; no hidden ones, no suites and schemas at the top."""
    for current, folders, files in os.walk(root):  # does not follow links to folders
        top = Path(current) == root
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not (top and f in _NOT_RULES))
        for name in sorted(files):
            if name.endswith((".yaml", ".yml", ".csv")) and not name.startswith("."):
                yield Path(current) / name


def _read(root: Path, path: Path, name: str) -> str | Diagnostic:
    try:
        if not path.resolve(strict=True).is_relative_to(root):
            advice = "copy the file into the rules folder"
            return Diagnostic(name, 1, 1, codes.OUTSIDE_FOLDER, "a link that leaves the rules folder", advice)
        if not path.is_file():
            return Diagnostic(name, 1, 1, codes.UNREADABLE_FILE, "not a regular file", "remove it")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        return content.decode("utf-8") if len(content) <= MAX_FILE_BYTES else _too_large(name)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        return _not_utf8(name, line, column)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        cause = getattr(error, "strerror", None) or "a loop of links"
        return Diagnostic(
            name, 1, 1, codes.UNREADABLE_FILE, f"cannot be read: {cause}", "check its permissions"
        )


def _not_utf8(name: str, line: int, column: int) -> Diagnostic:
    return Diagnostic(name, line, column, codes.NOT_UTF8, "not UTF-8 text", "save the file as UTF-8")


def _too_large(name: str) -> Diagnostic:
    message = f"larger than {MAX_FILE_BYTES:,} bytes"
    return Diagnostic(name, 1, 1, codes.FILE_TOO_LARGE, message, "split it into several files")


def _too_many(name: str) -> Diagnostic:
    message = f"the folder holds more than {MAX_FILES:,} rule files"
    return Diagnostic(name, 1, 1, codes.FILE_TOO_LARGE, message, "join files, or name the rules folder")
