"""What can go wrong with published models; every text says what, where, and what to do.

RegistryError
├── ModelNotFound      no such model, or no such version of it
├── AliasUnknown       the model has no such alias
├── ChampionMoved      another champion came while a version was judged against the former one
├── NothingBefore      no version served before the present one
├── VersionExists      a published version is never overwritten
├── ManifestInvalid    the manifest offered for publication is refused
├── FileRefused        a file that must not be read: unlisted, outside the folder, too large
├── ArchiveRefused     a file offered for import is no archive of a version
├── ModelCorrupt       what is on disk is not what was published
└── StoreFailed        the store behind a registry's URL cannot be opened or did not answer
"""

from __future__ import annotations

from pathlib import Path

from model_registry.places import Place


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


class ChampionMoved(RegistryError):
    """Another champion came while a version was judged against the former one."""

    def __init__(self, *, name: str, judged_against: int, found: int) -> None:
        super().__init__(
            f"model {name}: the version was judged against champion {judged_against or 'none'}, and "
            f"meanwhile it is {found or 'none'}. Nothing was changed: promote again, to be judged anew."
        )


class NothingBefore(RegistryError):
    """No version served before the present one, so there is none to go back to."""

    def __init__(self, *, name: str, alias: str) -> None:
        super().__init__(
            f"model {name}: no version was {alias} before the present one. "
            "Promote the version that shall serve by its number."
        )


class VersionExists(RegistryError):
    """A published version is never overwritten."""

    def __init__(self, folder: Place) -> None:
        super().__init__(f"{folder}: already published. Versions are immutable: publish the next integer.")
        self.folder = folder


class ManifestInvalid(RegistryError):
    """The manifest offered for publication is refused."""


class FileRefused(RegistryError):
    """A file that must not be read: unlisted, outside the version folder, or too large."""

    def __init__(self, path: Place, *, cause: str) -> None:
        super().__init__(f"{path}: refused: {cause}")
        self.path = path


class StoreFailed(RegistryError):
    """The store behind a registry's URL cannot be opened, or did not do what it was asked."""

    def __init__(self, place: Place, *, cause: str) -> None:
        super().__init__(
            f"{place}: {cause.rstrip('.')}. Check the registry's URL, the credentials, and that the fsspec "
            "package of that store is installed (s3fs for s3://)."
        )
        self.place = place


class ArchiveRefused(RegistryError):
    """A file offered for import is no archive of a version."""

    def __init__(self, path: Path, *, cause: str) -> None:
        super().__init__(f"{path}: refused: {cause}. Export the version again, or fetch the file again.")
        self.path = path


class ModelCorrupt(RegistryError):
    """What is on disk is not what was published. `expected` and `found` say how it differs."""

    def __init__(self, path: Place, *, expected: str, found: str) -> None:
        super().__init__(
            f"{path}: expected {expected}, found {found}. "
            "Restore the folder from where it was published, or promote another version."
        )
        self.path = path
        self.expected = expected
        self.found = found
