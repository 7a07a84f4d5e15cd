"""Which versions of models should score, as the registry says now, and the snapshot that has them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from engine.core.canary import Share
from engine.core.snapshot import Canaries, Snapshot, assemble
from engine.errors import SetupInvalid
from engine.models.errors import ModelRefused
from engine.models.scorer import build_scorer
from engine.models.shelf import ModelShelf
from engine.rulefiles import MODELS, model_reasons
from engine.service.model_shadow import ShadowModel
from model_registry import PublishedModel, Root, open_alias, open_version, registry_root, storage_of
from model_registry.aliases import ALIASES, CHALLENGER, CHAMPION, MAX_ALIASES_BYTES, SHADOW, read_aliases
from model_registry.errors import RegistryError
from model_registry.rollout import MAX_ROLLOUT_BYTES, ROLLOUT, Rollout, RolloutState, read_rollouts

_log = structlog.get_logger("engine.lineup")

Compiled = Callable[[str, str, Mapping[str, int]], Snapshot]
"""A snapshot of a rule set and a schema, by their addresses, with versions of models. Raises SetupInvalid."""

_FILES: Final = ((ALIASES, MAX_ALIASES_BYTES), (ROLLOUT, MAX_ROLLOUT_BYTES))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the registry asks for. `rollouts` are those whose challenger scores customers, by model.

    `next` are versions that may be asked for soon. `unreadable` says of models what is wrong with their
    aliases or rollouts.
    """

    champions: Mapping[str, PublishedModel]
    rollouts: Mapping[str, Rollout]
    shadows: tuple[tuple[str, int], ...]
    next: tuple[tuple[str, int], ...]
    unreadable: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LinedUp:
    """A snapshot that decides with the versions wanted, but for those refused; `refused` says why.

    Versions go by name and number, such as churn/3. `shadows` score beside it.
    """

    snapshot: Snapshot
    refused: Mapping[str, str] = field(default_factory=dict)
    shadows: tuple[ShadowModel, ...] = ()


class Lineups:
    """Turns what a registry says into snapshots; what was proven once stays on the shelf."""

    def __init__(self, registry: Root, *, compiled: Compiled, shelf: ModelShelf) -> None:
        self._registry = registry
        self._compiled = compiled
        self._shelf = shelf

    def identity(self) -> tuple[object, ...]:
        """Differs whenever a version was published, promoted or given a share since.

        Costs three looks at a local disk for each model; of another store, small files are read.
        """
        root = registry_root(self._registry)
        if isinstance(root, Path):
            return tuple(_seen(root / name / part) for name in MODELS for part in (".", ALIASES, ROLLOUT))
        storage = storage_of(root)
        contents = (
            storage.read(name, file, max_bytes=limit) if storage.has_file(name, file) else b""
            for name in MODELS
            for file, limit in _FILES
        )
        versions = tuple(storage.versions(name) for name in MODELS)
        return (*versions, *(hashlib.sha256(content).digest() for content in contents))

    def wanted(self) -> Wanted:
        """What the registry asks for now. Never raises for a model: that is unreadable."""
        champions, rollouts, unreadable = {}, {}, {}
        shadows: list[tuple[str, int]] = []
        following: list[tuple[str, int]] = []
        for name in MODELS:
            try:
                champion = open_alias(self._registry, name, CHAMPION)
                known = read_rollouts(self._registry, name)
                aliases = read_aliases(self._registry, name)
                published = storage_of(self._registry).versions(name)
            except RegistryError as error:
                unreadable[name] = str(error)
                continue
            champions[name] = champion
            serving = {champion.manifest.version}
            if known.active is not None and known.active.version not in serving:
                rollouts[name] = known.active
                serving.add(known.active.version)
            shadowed = _shadowed(aliases.aliases, tuple(known.rollouts), serving)
            shadows.extend((name, version) for version in shadowed)
            before = aliases.before(CHAMPION)
            soon = (*aliases.aliases.values(), *published[-1:], *(() if before is None else (before,)))
            following.extend((name, v) for v in dict.fromkeys(soon) if v not in (*serving, *shadowed))
        return Wanted(champions, rollouts, tuple(shadows), tuple(following), unreadable)

    def line_up(self, base: Snapshot, wanted: Wanted) -> LinedUp:
        """The rules of a snapshot with the versions wanted.

        What cannot serve is refused: a champion leaves the one that `base` has, a challenger leaves its
        customers to the champion, a shadow is not there. Never raises for what is wrong with a version.
        """
        refused = dict(wanted.unreadable)
        models = dict(base.versions.models)
        for name, champion in wanted.champions.items():
            if self._proves(champion, refused):
                models[name] = champion.manifest.version
        main = self._main(base, models, refused)
        shares = list(self._shares(main, wanted, refused))
        try:
            lined = replace(main, canaries=self._canaries(main, shares))
        except SetupInvalid as error:  # each can serve, but not together
            refused.update({f"{share.model}/{rollout.version}": str(error) for share, rollout in shares})
            lined = main
        return LinedUp(lined, refused, tuple(self._shadows(main, wanted, refused)))

    def prepare(self, name: str, version: int) -> str | None:
        """Loads and proves a version for later; why it cannot serve, None where it can."""
        refused: dict[str, str] = {}
        try:
            self._proves(open_version(self._registry, name, version), refused)
        except RegistryError as error:
            return str(error)
        return next(iter(refused.values()), None)

    def _proves(self, published: PublishedModel, refused: dict[str, str]) -> bool:
        manifest = published.manifest
        try:
            self._shelf.load(published)
        except ModelRefused as error:
            refused[f"{manifest.name}/{manifest.version}"] = str(error)
            return False
        return True

    def _main(self, base: Snapshot, models: dict[str, int], refused: dict[str, str]) -> Snapshot:
        try:
            return self._with(base, models)
        except SetupInvalid as error:
            changed = {name: v for name, v in models.items() if base.versions.models.get(name) != v}
            refused.update({f"{name}/{version}": str(error) for name, version in changed.items()})
            return replace(base, canaries=None)

    def _shares(
        self, main: Snapshot, wanted: Wanted, refused: dict[str, str]
    ) -> Iterator[tuple[Share, Rollout]]:
        for name, rollout in wanted.rollouts.items():
            if self._accepts(main, name, rollout.version, refused, manifest=rollout.manifest):
                yield Share.of(name, salt=rollout.id, percent=rollout.percent), rollout

    def _canaries(self, main: Snapshot, shares: list[tuple[Share, Rollout]]) -> Canaries | None:
        if not shares:
            return None
        models = main.versions.models
        snapshots = []
        for place in range(1, 1 << len(shares)):
            tried = {
                share.model: rollout.version
                for number, (share, rollout) in enumerate(shares)
                if place >> number & 1
            }
            snapshots.append(self._with(main, {**models, **tried}))
        return Canaries(tuple(share for share, _ in shares), tuple(snapshots))

    def _shadows(self, main: Snapshot, wanted: Wanted, refused: dict[str, str]) -> Iterator[ShadowModel]:
        for name, version in wanted.shadows:
            if self._accepts(main, name, version, refused):
                models = {**main.versions.models, name: version}
                yield ShadowModel(name, version, self._with(main, models))

    def _accepts(
        self, main: Snapshot, name: str, version: int, refused: dict[str, str], manifest: str | None = None
    ) -> bool:
        """Whether a version can decide with the rules of a snapshot; else it is refused."""
        try:
            published = open_version(self._registry, name, version)
            if manifest not in (None, published.digest):
                raise SetupInvalid(f"{published.folder}: is not what the rollout began with")
            if not self._proves(published, refused):
                return False
            self._with(main, {**main.versions.models, name: version})
        except (RegistryError, SetupInvalid) as error:
            refused[f"{name}/{version}"] = str(error)
            return False
        return True

    def _with(self, base: Snapshot, models: Mapping[str, int]) -> Snapshot:
        """The rules of a snapshot with other versions of models. Raises SetupInvalid."""
        held = base.versions.models
        if dict(models) == dict(held):
            return replace(base, canaries=None)
        try:
            if model_reasons(self._registry, models) != model_reasons(self._registry, held):
                return self._compiled(base.versions.rules, base.versions.feature_schema, models)
            scorer = build_scorer(
                registry_root=self._registry,
                versions=models,
                schema=base.schema,
                actions=base.rulebook.actions,
                load=self._shelf.load,
            )
        except (RegistryError, ModelRefused) as error:
            raise SetupInvalid(str(error)) from error
        return assemble(
            rulebook=base.rulebook,
            schema=base.schema,
            scorer=scorer,
            engine_version=base.versions.engine,
        )


def same_lineup(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots decide alike for every customer."""
    shares = [None if s.canaries is None else s.canaries.shares for s in (one, other)]
    versions = [[each.versions for each in s.each()] for s in (one, other)]
    return shares[0] == shares[1] and versions[0] == versions[1]


def _shadowed(
    aliases: Mapping[str, int], rollouts: tuple[Rollout, ...], serving: set[int]
) -> tuple[int, ...]:
    """Versions to score in the shadow: that alias, and a challenger before its rollout."""
    found = [aliases[SHADOW]] if SHADOW in aliases else []
    challenger = aliases.get(CHALLENGER)
    went_back = {r.version for r in rollouts if r.state is RolloutState.ROLLED_BACK}
    if challenger is not None and challenger not in went_back:
        found.append(challenger)
    return tuple(version for version in dict.fromkeys(found) if version not in serving)


def _seen(path: Path) -> tuple[int, ...] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
