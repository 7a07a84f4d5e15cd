"""Aliases: which version serves. Promotion, rollback and release change `root/<name>/aliases.json` only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from model_registry.errors import AliasUnknown, ChampionMoved, ModelCorrupt, ModelNotFound, NothingBefore
from model_registry.manifest import Digest
from model_registry.publishing import explain_invalid
from model_registry.remote import MANIFEST
from model_registry.storage import Root, Storage, storage_of
from model_registry.versions import PublishedModel, is_plain, open_version

ALIASES = "aliases.json"
CHAMPION = "champion"
CHALLENGER = "challenger"
SHADOW = "shadow"
MAX_ALIASES_BYTES = 4 * 1024 * 1024

Alias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Version = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Promotion(_Strict):
    """One change of an alias. `manifest` pins the content that was promoted.

    `version` and `manifest` are None where the alias was taken away. `gates` are those that did not pass
    and were overridden by `actor`, who forced it.
    """

    alias: Alias
    version: Version | None
    previous: Version | None
    at: datetime
    reason: Annotated[str, Field(min_length=1)]
    manifest: Digest | None
    actor: str | None = None
    forced: bool = False
    gates: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.version is None) != (self.manifest is None):
            raise ValueError("`version` and `manifest` belong together")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leaves out what nobody said, so that files without it stay as they are."""
        told: dict[str, object] = dump(self)
        return {name: value for name, value in told.items() if name not in _ADDED or getattr(self, name)}


_ADDED = ("actor", "forced", "gates")


class AliasFile(_Strict):
    """`aliases.json`: alias to version, and how it came to be, oldest first."""

    format: Literal[1] = 1
    aliases: Mapping[Alias, Version] = {}
    history: tuple[Promotion, ...] = ()

    @model_validator(mode="after")
    def _history_leads_here(self) -> Self:
        if _led_to(self.history) != dict(self.aliases):
            raise ValueError("`aliases` is not where `history` leads; change it by promoting only")
        return self

    def pinned(self, alias: str) -> Promotion:
        """The promotion that `alias` stands on."""
        return next(p for p in reversed(self.history) if p.alias == alias)

    def before(self, alias: str) -> int | None:
        """The version that served before the present one; None where there is none to go back to.

        Going back to an earlier version undoes all that came after it: two rollbacks go two versions back.
        """
        stack: list[int] = []
        for version in (p.version for p in self.history if p.alias == alias):
            if version is None:
                stack.clear()
            elif version in stack:
                del stack[stack.index(version) + 1 :]
            else:
                stack.append(version)
        return stack[-2] if len(stack) > 1 else None

    def changed_by(self, promotion: Promotion) -> AliasFile:
        """The file after one more promotion."""
        history = (*self.history, promotion)
        return AliasFile(aliases=_led_to(history), history=history)


def _led_to(history: tuple[Promotion, ...]) -> dict[str, int]:
    latest = {p.alias: p.version for p in history}
    return {alias: version for alias, version in latest.items() if version is not None}


def promote(
    root: Root,
    name: str,
    version: int,
    *,
    alias: str = CHAMPION,
    reason: str,
    at: datetime | None = None,
    actor: str | None = None,
    overridden: tuple[str, ...] = (),
    judged_against: int | None = None,
) -> None:
    """Points an alias at a published version; going back is promoting the earlier one.

    The version's files are all read and checked first, so a broken one never serves. `at` is now unless
    given. `overridden` are the gates it did not pass and is promoted in spite of; `engine.promotion` judges
    them, and says against which champion, 0 for none. Raises ModelNotFound, ModelCorrupt, StoreFailed,
    ChampionMoved, and ValueError where alias or reason is not usable.
    """
    published = open_version(root, name, version)
    for filename in published.manifest.files:
        published.read(filename, from_store=True)

    def promotion_of(known: AliasFile) -> Promotion:
        champion = known.aliases.get(CHAMPION, 0)
        if judged_against not in (None, champion):
            raise ChampionMoved(name=name, judged_against=judged_against or 0, found=champion)
        return Promotion(
            alias=alias,
            version=version,
            previous=known.aliases.get(alias),
            at=at or _now(),
            reason=reason,
            manifest=published.digest,
            actor=actor,
            forced=bool(overridden),
            gates=overridden,
        )

    _change(root, name, promotion_of)


def release(root: Root, name: str, *, alias: str, reason: str, actor: str | None = None) -> None:
    """Takes an alias away, such as the shadow when it has been seen enough. Raises AliasUnknown."""
    resolve(root, name, alias)
    _change(
        root,
        name,
        lambda known: Promotion(
            alias=alias,
            version=None,
            previous=known.aliases.get(alias),
            at=_now(),
            reason=reason,
            manifest=None,
            actor=actor,
        ),
    )


def roll_back(
    root: Root, name: str, *, alias: str = CHAMPION, reason: str, actor: str | None = None
) -> tuple[int, int]:
    """Goes back to the version that served before, and returns both: from, to.

    Raises NothingBefore, and what `promote` raises where the earlier version is no longer whole.
    """
    known = read_aliases(root, name)
    earlier = known.before(alias)
    if earlier is None:
        raise NothingBefore(name=name, alias=alias)
    promote(root, name, earlier, alias=alias, reason=reason, actor=actor)
    return known.aliases[alias], earlier


def _change(root: Root, name: str, promotion_of: Callable[[AliasFile], Promotion]) -> None:
    storage = storage_of(root)
    with storage.sole_writer(name):
        known = _read(storage, name)
        changed = known.changed_by(promotion_of(known))
        storage.replace(name, ALIASES, changed.model_dump_json(indent=2).encode() + b"\n")


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def resolve(root: Root, name: str, alias: str = CHAMPION) -> int:
    """The version an alias stands for. Raises ModelNotFound, AliasUnknown or ModelCorrupt."""
    aliases = read_aliases(root, name).aliases
    if alias not in aliases:
        raise AliasUnknown(name=name, alias=alias, known=tuple(sorted(aliases)))
    return aliases[alias]


def open_alias(root: Root, name: str, alias: str = CHAMPION) -> PublishedModel:
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


def read_aliases(root: Root, name: str) -> AliasFile:
    """The aliases of a model; empty where nothing was promoted. Raises ModelNotFound or ModelCorrupt."""
    return _read(storage_of(root), name)


def _read(storage: Storage, name: str) -> AliasFile:
    if not is_plain(name) or not storage.has_file(name, ALIASES):
        if is_plain(name) and storage.has_model(name):
            return AliasFile()
        raise ModelNotFound(
            f"no model {name!r} in {storage.place()}: publish it, or correct the registry path"
        )
    content = storage.read(name, ALIASES, max_bytes=MAX_ALIASES_BYTES)
    try:
        return AliasFile.model_validate_json(content)
    except ValidationError as error:
        found = explain_invalid(error)
        raise ModelCorrupt(storage.place(name, ALIASES), expected="valid aliases", found=found) from error
