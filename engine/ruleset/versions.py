"""Published versions of the rule set, and which of them serves.

A version is immutable and goes by the content address of its files. What serves is one small file,
`pointers.json`, replaced as a whole: it names the current and the shadow version and every change that
led there. It grows by about 300 bytes a change. Any number of processes may share the folder; those that
write take turns.

VersionError                 a person can act on its text
├── VersionUnknown           no published version goes by the name, or several do
├── NothingBefore            there is no version to roll back to
└── VersionsUnusable         the folder cannot be read or written, or a file in it is damaged
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from engine.ruleset.archive import ArchivedSet, RuleArchive
from engine.ruleset.origin import GitOrigin
from engine.ruleset.servers import ServerStates
from engine.ruleset.sources import RuleSources

SHORT: Final = 12
"""Hexadecimal digits that people are shown of a version."""
_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})\Z")
_ADDRESS: Final = "sha256:"

Record = TypeVar("Record")


class VersionError(Exception):
    """Something a person who publishes or activates can act on."""


class VersionUnknown(VersionError):
    """No published version goes by the name, or several do."""


class NothingBefore(VersionError):
    """There is no version to roll back to."""


class VersionsUnusable(VersionError):
    """The folder cannot be read or written, or a file in it is damaged."""


class ChangeKind(StrEnum):
    """What somebody did to the pointers."""

    ACTIVATE = "activate"
    ROLLBACK = "rollback"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One published rule set. `rules` is its content address; `git` None where it was not in git."""

    rules: str
    at_ms: int
    author: str
    message: str
    files: int
    git: GitOrigin | None = None

    @property
    def short(self) -> str:
        """The version as people write it."""
        return short(self.rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a pointer; `version` is where it points from then on, None for nowhere."""

    kind: ChangeKind
    version: str | None
    before: str | None
    at_ms: int
    author: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pointers:
    """What serves and what runs in its shadow, with all changes, oldest first.

    `prepare` is what somebody is about to activate; servers compile it while they serve what they have.
    """

    current: str | None = None
    shadow: str | None = None
    prepare: str | None = None
    changes: tuple[Change, ...] = ()

    def previous(self) -> str | None:
        """The version a rollback goes to: what served before the present one was activated."""
        served: list[str | None] = []
        for change in self.changes:
            if change.kind is ChangeKind.ACTIVATE:
                served.append(change.before)
            elif change.kind is ChangeKind.ROLLBACK:
                served[-1:] = []
        return served[-1] if served else None


def short(rules: str) -> str:
    """A content address as people write it."""
    return rules.removeprefix(_ADDRESS)[:SHORT]


class RuleVersions:
    """The versions published to one data directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = folder / "versions"
        self._pointers = folder / "pointers.json"
        self._archive = RuleArchive(folder)
        self.servers = ServerStates(folder / "servers")

    def publish(self, archived: ArchivedSet, *, feature_schema: str, version: Version) -> Version:
        """Stores a checked rule set and its record; one published before comes back as it was.

        `feature_schema` is the digest of the schema it was checked with. Raises VersionsUnusable.
        """
        with self._writing():
            self._archive.keep(archived, rules=version.rules, feature_schema=feature_schema)
            self.sources(version.rules)  # a damaged copy from before must not pass for published
            path = self._record_path(version.rules)
            if path.exists():
                return self._read(path, Version)
            _replace(path, msgspec.json.encode(version))
            return version

    def published(self) -> tuple[Version, ...]:
        """All versions, oldest first. Raises VersionsUnusable."""
        found = [self._read(path, Version) for path in self._records.glob("*.json")]
        return tuple(sorted(found, key=lambda version: (version.at_ms, version.rules)))

    def pointers(self) -> Pointers:
        """What serves now. Raises VersionsUnusable."""
        return self._read(self._pointers, Pointers) if self._pointers.exists() else Pointers()

    def find(self, name: str) -> Version:
        """The version that `latest`, `current`, `shadow` or the beginning of an address names."""
        versions = self.published()
        if name == "latest":
            if not versions:
                raise VersionUnknown("nothing is published yet; `arbiter rules publish` does it")
            return versions[-1]
        if name in ("current", "shadow"):
            return self._pointed(name, versions)
        prefix = _PREFIX.match(name)
        found = [v for v in versions if prefix and v.rules.startswith(_ADDRESS + prefix[1])]
        if len(found) == 1:
            return found[0]
        if found:
            raise VersionUnknown(f"{name} is the beginning of {len(found)} versions; write more of it")
        raise VersionUnknown(f"no published version begins with {name!r}; `arbiter rules history` lists them")

    def sources(self, rules: str) -> RuleSources:
        """The files of a version. Raises VersionsUnusable where they are not held intact."""
        found = self._archive.sources(rules)
        if found is None:
            cause = f"does not hold the files of version {short(rules)} intact"
            raise VersionsUnusable(f"{self._folder}: {cause}; restore the folder from a copy")
        return found

    def announce(self, rules: str) -> None:
        """Asks servers to prepare a version that is about to be activated. Raises VersionsUnusable."""
        with self._writing():
            held = self.pointers()
            if held.prepare != rules:
                _replace(self._pointers, msgspec.json.encode(replace(held, prepare=rules)))

    def activate(self, version: Version, *, at_ms: int, author: str, reason: str) -> Pointers:
        """Makes a version the one that serves. Raises VersionsUnusable."""
        return self._point(ChangeKind.ACTIVATE, version.rules, at_ms=at_ms, author=author, reason=reason)

    def shadow(self, version: Version | None, *, at_ms: int, author: str, reason: str) -> Pointers:
        """Makes a version run in the shadow of the one that serves; None for none."""
        rules = None if version is None else version.rules
        return self._point(ChangeKind.SHADOW, rules, at_ms=at_ms, author=author, reason=reason)

    def rollback(self, *, at_ms: int, author: str, reason: str) -> Pointers:
        """Goes back to what served before. Raises NothingBefore and VersionsUnusable."""
        return self._point(ChangeKind.ROLLBACK, None, at_ms=at_ms, author=author, reason=reason)

    def identity(self) -> tuple[object, ...]:
        """Differs whenever something was published or activated since; costs two looks at the disk."""
        return _identity(self._pointers), _identity(self._records)

    def _point(
        self, kind: ChangeKind, version: str | None, *, at_ms: int, author: str, reason: str
    ) -> Pointers:
        with self._writing():
            held = self.pointers()
            if kind is ChangeKind.ROLLBACK:
                version = held.previous()
                if version is None:
                    raise NothingBefore(
                        "no version served before this one; `arbiter rules activate VERSION` chooses any"
                    )
            before = held.shadow if kind is ChangeKind.SHADOW else held.current
            if version == before and kind is not ChangeKind.ROLLBACK:
                return held
            change = Change(
                kind=kind, version=version, before=before, at_ms=at_ms, author=author, reason=reason
            )
            pointed = replace(held, changes=(*held.changes, change))
            if kind is ChangeKind.SHADOW:
                pointed = replace(pointed, shadow=version)
            else:
                pointed = replace(pointed, current=version)
            _replace(self._pointers, msgspec.json.encode(pointed))
            return pointed

    def _pointed(self, name: str, versions: tuple[Version, ...]) -> Version:
        pointers = self.pointers()
        rules = pointers.current if name == "current" else pointers.shadow
        if rules is None:
            advice = "`arbiter rules activate`" if name == "current" else "`arbiter rules shadow`"
            raise VersionUnknown(f"there is no {name} version; {advice} chooses one")
        found = next((version for version in versions if version.rules == rules), None)
        if found is None:
            raise VersionsUnusable(f"{self._records}: lacks the record of {short(rules)}; restore it")
        return found

    def _record_path(self, rules: str) -> Path:
        return self._records / f"{rules.removeprefix(_ADDRESS)}.json"

    def _read(self, path: Path, kind: type[Record]) -> Record:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except OSError as error:
            raise VersionsUnusable(f"{path}: cannot be read: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise VersionsUnusable(f"{path}: damaged: {error}; restore it from a copy") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time over all processes. Raises VersionsUnusable for what the disk refuses."""
        try:
            self._records.mkdir(parents=True, exist_ok=True)
            with (self._folder / ".lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise VersionsUnusable(
                f"{self._folder}: cannot be written: {error.strerror}; nothing changed"
            ) from error


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def _replace(path: Path, content: bytes) -> None:
    """Puts a file in place as a whole, on the platter before it shows and after. Raises OSError."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(scratch).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
