"""A registry in an object store, or in anything else that fsspec opens by URL.

A store has no folders to rename and no locks. A publisher claims its number by creating an object that must
not exist, writes the files, and the manifest last: a version without manifest is none. Aliases are one
object, replaced whole, and read back. Two who promote from different machines at the same moment may lose
one of the two promotions; the later one stands.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from model_registry.cache import FileCache
from model_registry.errors import FileRefused, ModelCorrupt, ModelNotFound, StoreFailed, VersionExists
from model_registry.local import VERSION
from model_registry.places import RemotePlace

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

MANIFEST: Final = "manifest.json"
CLAIM: Final = ".claim"
"""Object that takes a version number before the version is there."""

_WRITERS: Final[dict[str, threading.RLock]] = defaultdict(threading.RLock)
"""Locks by model folder, for the writers of this process."""


class RemoteStorage:
    """`model_registry.storage.Storage` of a URL."""

    def __init__(self, files: AbstractFileSystem, *, path: str, url: str, cache: FileCache) -> None:
        """`path` is what the file system calls `url`."""
        self._files = files
        self._path = path.rstrip("/")
        self._url = RemotePlace(url.rstrip("/"))
        self._cache = cache

    @classmethod
    def open(cls, url: str) -> Self:
        """The storage of a URL. Raises StoreFailed where nothing here opens it."""
        from fsspec.core import url_to_fs  # here, as most registries are folders

        try:
            files, path = url_to_fs(url, use_listings_cache=False)
        except Exception as error:  # backends share no base class
            raise StoreFailed(RemotePlace(url), cause=_told(error)) from error
        return cls(files, path=str(path), url=url, cache=FileCache.of_this_user())

    def place(self, *parts: str) -> RemotePlace:
        """A URL below the root."""
        return RemotePlace("/".join((self._url.url, *parts)))

    def folders(self) -> tuple[str, ...]:
        """First parts of the objects' names."""
        try:
            with self._store_errors():
                entries = self._files.ls(self._path, detail=True)
        except FileNotFoundError as error:
            raise ModelNotFound(f"{self._url}: nothing is there: correct the registry path or URL") from error
        names = (str(e["name"]).rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory")
        return tuple(name for name in names if not name.startswith("."))

    def has_model(self, name: str) -> bool:
        """Whether any object is below the model's name."""
        return bool(self._names(name))

    def has_file(self, name: str, filename: str) -> bool:
        """Whether there is such an object."""
        with self._store_errors():
            return bool(self._files.isfile(self._key(name, filename)))

    def versions(self, name: str) -> tuple[int, ...]:
        """Integers below which there is a manifest."""
        return tuple(sorted({number for number, filename in self._numbered(name) if filename == MANIFEST}))

    def check_version(self, name: str, version: int) -> None:
        """A store has no links."""

    def read(self, *parts: str, max_bytes: int, digest: str | None = None) -> bytes:
        """The object, or its copy in the cache where the digest is known."""
        kept = self._cache.find(digest, max_bytes=max_bytes) if digest else None
        if kept is not None:
            return kept
        place = self.place(*parts)
        try:
            with self._store_errors():
                content = bytes(self._files.cat_file(self._key(*parts), end=max_bytes + 1))
        except FileNotFoundError as error:
            raise ModelCorrupt(place, expected="a file", found="none") from error
        if len(content) > max_bytes:
            raise FileRefused(place, cause=f"more than {max_bytes} bytes; at most {max_bytes} are read")
        if digest:
            self._cache.keep(digest, content)
        return content

    def add_version(
        self, name: str, version: int | None, files_of: Callable[[int], Mapping[str, bytes]]
    ) -> int:
        """Claims a number, writes the files, and the manifest last."""
        with self.sole_writer(name):
            number = self._claim(name, version)
            *files, last = files_of(number).items()
            written = [CLAIM]
            try:
                for filename, content in files:
                    written.append(filename)
                    self._put(content, name, str(number), filename)
            except BaseException:
                self._clear(name, number, written)
                raise
            self._put(last[1], name, str(number), last[0])
        return number

    def replace(self, name: str, filename: str, content: bytes) -> None:
        """Replaces the object and reads it back. Raises StoreFailed where another's content is there."""
        self._put(content, name, filename)
        if self.read(name, filename, max_bytes=len(content)) != content:
            cause = "another writer replaced it at the same moment; look at it, then repeat the change"
            raise StoreFailed(self.place(name, filename), cause=cause)

    @contextmanager
    def sole_writer(self, name: str) -> Iterator[None]:
        """The only writer of this process; others are not kept out."""
        with _WRITERS[str(self.place(name))]:
            yield

    def _claim(self, name: str, version: int | None) -> int:
        """A version number nobody else has. Raises VersionExists where the one asked for is taken."""
        while True:
            taken = {number for number, _ in self._numbered(name)}
            number = version or max(taken, default=0) + 1
            if number in taken:
                raise VersionExists(self.place(name, str(number)))
            try:
                with self._store_errors():
                    self._files.pipe_file(self._key(name, str(number), CLAIM), b"claimed\n", mode="create")
            except FileExistsError as error:
                if version:
                    raise VersionExists(self.place(name, str(number))) from error
                continue
            return number

    def _put(self, content: bytes, *parts: str) -> None:
        with self._store_errors():
            self._files.pipe_file(self._key(*parts), content)

    def _clear(self, name: str, number: int, written: list[str]) -> None:
        """Takes back what has no manifest yet; what cannot be removed is no version either."""
        for filename in reversed(written):
            try:
                self._files.rm_file(self._key(name, str(number), filename))
            except Exception:  # noqa: S112 # the first error is the one to tell
                continue

    def _numbered(self, name: str) -> list[tuple[int, str]]:
        """Version number and file name of each object in a version's folder."""
        split = (found.partition("/") for found in self._names(name))
        return [(int(number), filename) for number, _, filename in split if VERSION.fullmatch(number)]

    def _names(self, name: str) -> list[str]:
        """Names of all objects below a model's, without it."""
        home = self._key(name)
        with self._store_errors():
            found: Any = self._files.find(home)
        return [str(path).rpartition(f"{home}/")[2] for path in found]

    def _key(self, *parts: str) -> str:
        return "/".join((self._path, *parts))

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        """What a store says otherwise than that a file is there or not, is the store's failure."""
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:  # backends share no base class
            raise StoreFailed(self._url, cause=_told(error)) from error


def _told(error: Exception) -> str:
    """The first line of what a backend says."""
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__
