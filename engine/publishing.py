"""What `arbiter rules publish`, `activate`, `rollback` and `shadow` do to a data directory."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from engine.bootstrap import wall_clock_ms
from engine.decisionlog.errors import LogError
from engine.errors import SetupInvalid
from engine.logfiles import audit_log
from engine.rulefiles import champions, model_reasons, read_files
from engine.ruleset.archive import ArchivedSet
from engine.ruleset.build import build_rulebook
from engine.ruleset.diagnostics import RuleSetInvalid
from engine.ruleset.origin import RevisionUnknown, git_origin, sources_at
from engine.ruleset.sources import RuleSources
from engine.ruleset.versions import Pointers, RuleVersions, Version, VersionError, short
from engine.service.audit import COMMAND, Act, Witnessed
from engine.settings import Settings
from engine.snapshots import rule_versions, version_snapshot
from feature_store.schema import SchemaError, parse_schema
from model_registry.errors import RegistryError

_log = structlog.get_logger("engine.publishing")

PREPARE_S: Final = 15.0
"""How long an activation waits for servers to have the version ready: a busy one compiles for seconds."""
_LOOK_S: Final = 0.05
_REVISION: Final = "git:"
_NAMES: Final = ("current", "shadow", "latest")
_ADDRESS = re.compile(r"(?:sha256:)?[0-9a-f]{4,64}\Z")


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A rule set somebody named, and how people would call it."""

    label: str
    archived: ArchivedSet


def publish(settings: Settings, *, author: str, message: str) -> tuple[Version, bool]:
    """Checks and stores the rules folder; the version, and whether it is new.

    Raises SetupInvalid, with every problem of a set that is wrong.
    """
    archived = read_files(settings)
    try:
        schema = parse_schema(archived.feature_schema, source=str(settings.feature_schema))
        codes = model_reasons(settings.registry, champions(settings.registry))
        build_rulebook(archived.sources, schema, model_reasons=codes)
    except (SchemaError, RuleSetInvalid, RegistryError) as error:
        raise SetupInvalid(str(error)) from error
    version = Version(
        rules=archived.sources.digest,
        at_ms=wall_clock_ms(),
        author=author,
        message=message,
        files=len(archived.sources),
        git=git_origin(settings.rules),
    )
    try:
        with _witnessed(settings, Act.RULES_PUBLISH, author, message, COMMAND) as told:
            told.after["version"] = version.short
            stored = rule_versions(settings).publish(archived, feature_schema=schema.digest, version=version)
    except VersionError as error:
        raise SetupInvalid(str(error)) from error
    return stored, stored == version


def activate(settings: Settings, name: str, *, author: str, reason: str, by: str = COMMAND) -> Pointers:
    """Makes a version serve, once it is proven to work here. Raises SetupInvalid; then nothing changed.

    This and what follows is in the audit log, with the way `by` which it was asked for.
    """
    versions = rule_versions(settings)
    try:
        version = versions.find(name)
        version_snapshot(settings, version.rules)
        with _witnessed(settings, Act.RULES_ACTIVATE, author, reason, by) as told:
            _prepare_servers(versions, version.rules)
            told.after["rules"] = version.short
            return versions.activate(version, at_ms=wall_clock_ms(), author=author, reason=reason)
    except VersionError as error:
        raise SetupInvalid(str(error)) from error


def rollback(settings: Settings, *, author: str, reason: str, by: str = COMMAND) -> Pointers:
    """Makes the version serve that did before. Raises SetupInvalid; then nothing changed."""
    versions = rule_versions(settings)
    try:
        before = versions.pointers().previous()
        if before is None:
            return versions.rollback(at_ms=wall_clock_ms(), author=author, reason=reason)
        version_snapshot(settings, before)
        with _witnessed(settings, Act.RULES_ROLLBACK, author, reason, by) as told:
            _prepare_servers(versions, before)
            pointers = versions.rollback(at_ms=wall_clock_ms(), author=author, reason=reason)
            told.after["rules"] = _named(pointers.current)
            return pointers
    except VersionError as error:
        raise SetupInvalid(str(error)) from error


def shadow(settings: Settings, name: str, *, author: str, reason: str, by: str = COMMAND) -> Pointers:
    """Makes a version, or with `off` none, run in the shadow. Raises SetupInvalid; then nothing changed."""
    versions = rule_versions(settings)
    try:
        version = None if name == "off" else versions.find(name)
        if version is not None:
            version_snapshot(settings, version.rules)
        with _witnessed(settings, Act.RULES_SHADOW, author, reason, by) as told:
            told.before["shadow"] = _named(versions.pointers().shadow, nothing="off")
            told.after["shadow"] = "off" if version is None else version.short
            return versions.shadow(version, at_ms=wall_clock_ms(), author=author, reason=reason)
    except VersionError as error:
        raise SetupInvalid(str(error)) from error


@contextmanager
def _witnessed(settings: Settings, act: Act, author: str, reason: str, by: str) -> Iterator[Witnessed]:
    """Notes a change of rules in the audit log. Raises SetupInvalid where that cannot be written."""
    before = {"rules": _named(rule_versions(settings).pointers().current)}
    try:
        with audit_log(settings).change(act, who=author, by=by, reason=reason, before=before) as told:
            yield told
    except LogError as error:
        raise SetupInvalid(f"the audit log cannot be written: {error}") from error


def _named(rules: str | None, *, nothing: str = "the rules folder") -> str:
    return nothing if rules is None else short(rules)


def _prepare_servers(versions: RuleVersions, rules: str) -> None:
    """Waits until every running server has a version ready, or for some time. Raises SetupInvalid."""
    versions.announce(rules)
    deadline = time.monotonic() + PREPARE_S
    while True:
        waiting = [s for s in versions.servers.running() if rules not in s.prepared and s.serving != rules]
        for server in waiting:
            if rules in server.refused:
                cause = f"server process {server.pid} cannot serve {short(rules)}"
                raise SetupInvalid(f"{cause}, so nothing changed: {server.refused[rules]}")
        if not waiting:
            return
        if time.monotonic() >= deadline:
            pids = [server.pid for server in waiting]
            _log.warning(
                "rules.servers_not_ready", pids=pids, advice="they switch once they have compiled it"
            )
            return
        time.sleep(_LOOK_S)


def named_set(settings: Settings, name: str) -> NamedSet:
    """The set a name means: a version, `current`, `latest`, `shadow`, `git:REVISION` or a folder.

    `current` where nothing is active is the rules folder, which then serves. Raises SetupInvalid.
    """
    try:
        if name.startswith(_REVISION):
            sources = sources_at(settings.rules, name.removeprefix(_REVISION))
            return NamedSet(name, _with_schema(settings, sources))
        if Path(name).is_dir():
            return NamedSet(name, _with_schema(settings, RuleSources.from_directory(Path(name))))
        if name not in _NAMES and not _ADDRESS.match(name):
            advice = "name a folder, git:REVISION, current, latest, shadow or the beginning of a version"
            raise SetupInvalid(f"{name}: there is no such folder; {advice}")
        return _published(settings, name)
    except (VersionError, RevisionUnknown, RuleSetInvalid) as error:
        raise SetupInvalid(f"{name}: {error}") from error


def _published(settings: Settings, name: str) -> NamedSet:
    versions = rule_versions(settings)
    if name == "current" and versions.pointers().current is None:
        return NamedSet(f"current ({settings.rules})", read_files(settings))
    version = versions.find(name)
    label = f"{name} ({version.short})" if name in _NAMES else version.short
    return NamedSet(label, _with_schema(settings, versions.sources(version.rules)))


def _with_schema(settings: Settings, sources: RuleSources) -> ArchivedSet:
    try:
        return ArchivedSet(sources, settings.feature_schema.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SetupInvalid(f"{settings.feature_schema}: cannot be read: {error}") from error
