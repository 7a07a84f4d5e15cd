"""Aliases: which version serves. Promotion and rollback change `root/<name>/aliases.json` only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_registry.disk import replace_durably, sole_writer
from model_registry.errors import AliasUnknown, ModelCorrupt, ModelNotFound
from model_registry.manifest import Digest
from model_registry.publishing import MANIFEST, explain_invalid
from model_registry.versions import PublishedModel, open_version, read_inside

ALIASES = "aliases.json"
CHAMPION = "champion"
MAX_ALIASES_BYTES = 4 * 1024 * 1024

Alias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Version = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Promotion(_Strict):
    """One change of an alias. `manifest` pins the content that was promoted."""

    alias: Alias
    version: Version
    previous: Version | None
    at: datetime
    reason: Annotated[str, Field(min_length=1)]
    manifest: Digest


class AliasFile(_Strict):
    """`aliases.json`: alias to version, and how it came to be, oldest first."""

    format: Literal[1] = 1
    aliases: Mapping[Alias, Version] = {}
    history: tuple[Promotion, ...] = ()

    @model_validator(mode="after")
    def _history_leads_here(self) -> Self:
        if {p.alias: p.version for p in self.history} != dict(self.aliases):
            raise ValueError("`aliases` is not where `history` leads; change it by promoting only")
        return self

    def pinned(self, alias: str) -> Promotion:
        """The promotion that `alias` stands on."""
        return next(p for p in reversed(self.history) if p.alias == alias)


def promote(
    root: Path,
    name: str,
    version: int,
    *,
    alias: str = CHAMPION,
    reason: str,
    at: datetime | None = None,
) -> None:
    """Points an alias at a published version; going back is promoting the earlier one.

    The version's files are all read and checked first, so a broken one never serves. `at` is now
    unless given. Raises ModelNotFound, ModelCorrupt, and ValueError where alias or reason is not usable.
    """
    published = open_version(root, name, version)
    for filename in published.manifest.files:
        published.read(filename)
    with sole_writer(root / name):
        known = read_aliases(root, name)
        promotion = Promotion(
            alias=alias,
            version=version,
            previous=known.aliases.get(alias),
            at=at or datetime.now(UTC).replace(microsecond=0),
            reason=reason,
            manifest=published.digest,
        )
        changed = AliasFile(aliases={**known.aliases, alias: version}, history=(*known.history, promotion))
        replace_durably(root / name / ALIASES, changed.model_dump_json(indent=2).encode() + b"\n")


def resolve(root: Path, name: str, alias: str = CHAMPION) -> int:
    """The version an alias stands for. Raises ModelNotFound, AliasUnknown or ModelCorrupt."""
    aliases = read_aliases(root, name).aliases
    if alias not in aliases:
        raise AliasUnknown(name=name, alias=alias, known=tuple(sorted(aliases)))
    return aliases[alias]


def open_alias(root: Path, name: str, alias: str = CHAMPION) -> PublishedModel:
    """The version an alias stands for, with the very manifest that was promoted.

    Raises what `resolve` and `open_version` raise, and ModelCorrupt where the manifest was changed
    after the promotion: digests in it could not be trusted then.
    """
    published = open_version(root, name, resolve(root, name, alias))
    expected = read_aliases(root, name).pinned(alias).manifest
    if published.digest != expected:
        path = published.folder / MANIFEST
        raise ModelCorrupt(path, expected=f"the promoted content {expected}", found=published.digest)
    return published


def read_aliases(root: Path, name: str) -> AliasFile:
    """The aliases of a model; empty where nothing was promoted. Raises ModelNotFound or ModelCorrupt."""
    folder = root / name
    if "/" in name or name.startswith(".") or not folder.is_dir():
        raise ModelNotFound(f"no model {name!r} in {root}: publish it, or correct the registry path")
    path = folder / ALIASES
    if not path.exists() and not path.is_symlink():
        return AliasFile()
    try:
        content = read_inside(folder, ALIASES, max_bytes=MAX_ALIASES_BYTES)
        return AliasFile.model_validate_json(content)
    except ValidationError as error:
        raise ModelCorrupt(path, expected="valid aliases", found=explain_invalid(error)) from error
