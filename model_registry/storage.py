"""Where a registry lies: a folder, or a URL that fsspec knows; the rest of the package does not care which.

A folder keeps what a folder can: writes survive a power cut, appear whole, and writers keep each other out.
An object store keeps what it can: objects are written whole, a version's manifest comes last, and a version
number is claimed by creating an object that must not exist. See docs/adr/0023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from model_registry.local import LocalStorage
from model_registry.places import Place
from model_registry.remote import RemoteStorage

Root = str | Path
"""A folder, as text or path, or a URL such as s3://bucket/models."""

_FILE_URL: Final = "file://"


class Storage(Protocol):
    """A registry's files, each in the folder of a model or of a version of it.

    Raises RegistryError of what is read and of a store that cannot be reached, OSError of a folder that
    cannot be written.
    """

    def place(self, *parts: str) -> Place:
        """Where something is, for people and their errors."""
        ...

    def folders(self) -> tuple[str, ...]:
        """Names of the folders below the root. Raises ModelNotFound where there is no root."""
        ...

    def has_model(self, name: str) -> bool:
        """Whether anything is there of a model of that name."""
        ...

    def has_file(self, name: str, filename: str) -> bool:
        """Whether the folder of a model holds a file, readable or not."""
        ...

    def versions(self, name: str) -> tuple[int, ...]:
        """Published versions of a model, ascending; none where the model is not there."""
        ...

    def check_version(self, name: str, version: int) -> None:
        """Raises FileRefused where the version's folder is not really in this registry."""
        ...

    def read(self, *parts: str, max_bytes: int, digest: str | None = None) -> bytes:
        """The content of a file, at most `max_bytes`.

        With `digest` a copy kept nearby may answer, if it has that digest; what the store itself answers
        is handed out as it is. Raises FileRefused or ModelCorrupt.
        """
        ...

    def add_version(self, name: str, version: int | None, files_of: FilesOf) -> int:
        """Publishes a version, the next where none is named, whole or not at all. Raises VersionExists."""
        ...

    def replace(self, name: str, filename: str, content: bytes) -> None:
        """Replaces a file in the folder of a model at once: readers see the old content or the new."""
        ...

    def sole_writer(self, name: str) -> AbstractContextManager[None]:
        """Keeps other writers of a model out, as far as the store can (docs/models.md)."""
        ...


FilesOf = Callable[[int], Mapping[str, bytes]]
"""The files of a version by name, for the number it gets; the last one makes it a version."""


def storage_of(root: Root) -> Storage:
    """The storage of a registry. Raises StoreFailed where a URL is of no store that can be opened here."""
    where = registry_root(root)
    return LocalStorage(where) if isinstance(where, Path) else RemoteStorage.open(where)


def registry_root(root: Root) -> Root:
    """A folder as a path, a URL as text: `file://` and plain text are folders."""
    if isinstance(root, Path):
        return root
    if root.startswith(_FILE_URL):
        return Path(root.removeprefix(_FILE_URL))
    return root if "://" in root or "::" in root else Path(root)
