"""What is published, and whether all of it is intact: behind `arbiter models list` and `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model_registry.aliases import ALIASES, open_alias, read_aliases
from model_registry.errors import RegistryError
from model_registry.storage import Root, storage_of
from model_registry.versions import open_version


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model with its versions, ascending, and where each alias points."""

    name: str
    versions: tuple[int, ...]
    aliases: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class VerifiedVersion:
    """One row of verification: a version with its aliases, and every problem found; none is good."""

    name: str
    version: int
    aliases: tuple[str, ...]
    problems: tuple[str, ...]


def list_models(root: Root) -> tuple[ListedModel, ...]:
    """All models under `root`, by name. Raises ModelNotFound without a root, ModelCorrupt on bad aliases."""
    storage = storage_of(root)
    return tuple(
        ListedModel(
            name=name,
            versions=storage.versions(name),
            aliases=dict(read_aliases(root, name).aliases),
        )
        for name in model_names(root)
    )


def verify(root: Root) -> tuple[VerifiedVersion, ...]:
    """Reads every file of every version against its digest, and every alias; one row a version.

    Never raises for a damaged model: that is a row with problems. Aliases that cannot be read give
    a row of version 0. Raises ModelNotFound without a root.
    """
    return tuple(row for name in model_names(root) for row in _verify_model(root, name))


def model_names(root: Root) -> tuple[str, ...]:
    """Folders that hold a model: aliases or integer-named versions. The registry's own code is none."""
    storage = storage_of(root)
    return tuple(
        sorted(
            name for name in storage.folders() if storage.has_file(name, ALIASES) or storage.versions(name)
        )
    )


def _verify_model(root: Root, name: str) -> tuple[VerifiedVersion, ...]:
    try:
        aliases = read_aliases(root, name).aliases
    except RegistryError as error:
        unreadable = VerifiedVersion(name=name, version=0, aliases=(), problems=(str(error),))
        return (unreadable, *_verify_versions(root, name, {}))
    return _verify_versions(root, name, aliases)


def _verify_versions(root: Root, name: str, aliases: Mapping[str, int]) -> tuple[VerifiedVersion, ...]:
    versions = sorted({*storage_of(root).versions(name), *aliases.values()})
    rows = []
    for version in versions:
        held_by = tuple(sorted(alias for alias, target in aliases.items() if target == version))
        problems = _problems(root, name, version, held_by)
        rows.append(VerifiedVersion(name=name, version=version, aliases=held_by, problems=problems))
    return tuple(rows)


def _problems(root: Root, name: str, version: int, aliases: tuple[str, ...]) -> tuple[str, ...]:
    try:
        published = open_version(root, name, version)
    except RegistryError as error:
        return (str(error),)
    found = []
    for filename in published.manifest.files:
        try:
            published.read(filename, from_store=True)
        except RegistryError as error:
            found.append(str(error))
    for alias in aliases:
        try:
            open_alias(root, name, alias)
        except RegistryError as error:
            found.append(str(error))
    return tuple(dict.fromkeys(found))
