"""What can go wrong with published models; every text says what, where, and what to do.

RegistryError
├── ModelNotFound      no such model, or no such version of it
├── AliasUnknown       the model has no such alias
├── VersionExists      a published version is never overwritten
├── ManifestInvalid    the manifest offered for publication is refused
├── FileRefused        a file that must not be read: unlisted, outside the folder, too large
└── ModelCorrupt       what is on disk is not what was published
"""

from __future__ import annotations

from pathlib import Path


class RegistryError(Exception):
    """Root of the tree: catch it to go on without the model."""


class ModelNotFound(RegistryError):
    """No such model, or no such version of it."""


class AliasUnknown(RegistryError):
    """The model has no such alias."""

    def __init__(self, *, name: str, alias: str, known: tuple[str, ...]) -> None:
        has = f"it has {', '.join(known)}" if known else "it has none"
        super().__init__(
            f"model {name} has no alias {alias!r}: {has}. "
            f"Promote a published version to {alias!r}, or ask for an alias it has."
        )
        self.name = name
        self.alias = alias


class VersionExists(RegistryError):
    """A published version is never overwritten."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder}: already published. Versions are immutable: publish the next integer.")
        self.folder = folder


class ManifestInvalid(RegistryError):
    """The manifest offered for publication is refused."""


class FileRefused(RegistryError):
    """A file that must not be read: unlisted, outside the version folder, or too large."""

    def __init__(self, path: Path, *, cause: str) -> None:
        super().__init__(f"{path}: refused: {cause}")
        self.path = path


class ModelCorrupt(RegistryError):
    """What is on disk is not what was published. `expected` and `found` say how it differs."""

    def __init__(self, path: Path, *, expected: str, found: str) -> None:
        super().__init__(
            f"{path}: expected {expected}, found {found}. "
            "Restore the folder from where it was published, or promote another version."
        )
        self.path = path
        self.expected = expected
        self.found = found
