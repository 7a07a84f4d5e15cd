"""`arbiter rules publish`, `activate`, `rollback`, `shadow` and `history`: versions of the rule set."""

from __future__ import annotations

import getpass
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from engine import publishing
from engine.cli.console import effective_settings, out, setup_errors
from engine.cli.options import AsJson, DataDir, Registry, Rules
from engine.errors import SetupInvalid
from engine.ruleset.servers import ServerState
from engine.ruleset.versions import ChangeKind, Pointers, Version, VersionError, short
from engine.settings import Settings
from engine.snapshots import rule_versions

Author = Annotated[str, typer.Option(help="Who does it. By default the user of this shell.")]
Reason = Annotated[str, typer.Option(help="Why, for the history.")]
VersionName = Annotated[
    str, typer.Argument(help="Beginning of a version, or latest.", metavar="VERSION|latest")
]

_DONE = {
    ChangeKind.ACTIVATE: "activated",
    ChangeKind.ROLLBACK: "rolled back to",
    ChangeKind.SHADOW: "in shadow",
}


def register(app: typer.Typer) -> None:
    """Adds the commands to `arbiter rules`."""
    for command in (publish, activate, rollback, shadow, history):
        app.command()(command)


def publish(
    message: Annotated[str, typer.Option(help="What changed and why, in a line.")],
    author: Author = "",
    rules: Rules = None,
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Check the rules folder and keep it as a version that never changes. It does not serve yet."""
    settings = effective_settings(rules=rules, data_dir=data_dir, registry=registry, log_level="warning")
    with setup_errors():
        version, new = publishing.publish(settings, author=_author(author), message=message)
    if as_json:
        _print({**_version_document(version), "new": new})
        return
    told = "published" if new else f"published already, on {_day(version.at_ms)} by {version.author}:"
    out.print(f"{told} {version.short}: {version.files} files{_git_words(version)}", soft_wrap=True)


def activate(
    version: VersionName,
    reason: Reason = "",
    author: Author = "",
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the one that serves: every running server switches within a second."""
    settings = effective_settings(data_dir=data_dir, registry=registry, log_level="warning")
    with setup_errors():
        pointers = publishing.activate(settings, version, author=_author(author), reason=reason)
    _tell(pointers, as_json=as_json)


def rollback(
    reason: Reason = "",
    author: Author = "",
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the version that served before."""
    settings = effective_settings(data_dir=data_dir, registry=registry, log_level="warning")
    with setup_errors():
        pointers = publishing.rollback(settings, author=_author(author), reason=reason)
    _tell(pointers, as_json=as_json)


def shadow(
    version: Annotated[
        str, typer.Argument(help="Beginning of a version, latest, or off.", metavar="VERSION|latest|off")
    ],
    reason: Reason = "",
    author: Author = "",
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Let a version decide in the shadow of the one that serves; no reply ever shows it."""
    settings = effective_settings(data_dir=data_dir, registry=registry, log_level="warning")
    with setup_errors():
        pointers = publishing.shadow(settings, version, author=_author(author), reason=reason)
    _tell(pointers, as_json=as_json)


def history(rules: Rules = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show what serves, every published version, and every change of what served."""
    settings = effective_settings(rules=rules, data_dir=data_dir, log_level="warning")
    with setup_errors():
        versions, pointers = _read(settings)
    servers = rule_versions(settings).servers.running()
    serving = short(pointers.current) if pointers.current else f"the folder {settings.rules}"
    if as_json:
        _print(_history_document(settings, versions, pointers, servers))
        return
    out.print(f"serving {serving}; shadow {short(pointers.shadow) if pointers.shadow else 'off'}")
    if versions:
        out.print(_versions_table(versions, pointers))
    if pointers.changes:
        out.print(_changes_table(pointers))
    for server in servers:
        out.print(_server(server), soft_wrap=True)


def _read(settings: Settings) -> tuple[tuple[Version, ...], Pointers]:
    try:
        store = rule_versions(settings)
        return store.published(), store.pointers()
    except VersionError as error:
        raise SetupInvalid(str(error)) from error


def _tell(pointers: Pointers, *, as_json: bool) -> None:
    if as_json:
        _print(_pointers_document(pointers))
        return
    if not pointers.changes:
        out.print("nothing changed")
        return
    last = pointers.changes[-1]
    before = short(last.before) if last.before else "the rules folder"
    if last.kind is ChangeKind.SHADOW:
        before = short(last.before) if last.before else "none"
    now = short(last.version) if last.version else "off"
    out.print(f"{_DONE[last.kind]} {now} (before: {before})")


def _versions_table(versions: tuple[Version, ...], pointers: Pointers) -> Table:
    table = Table("version", "", "published", "by", "message", "git")
    for version in reversed(versions):
        marks = [
            name
            for name, held in (("current", pointers.current), ("shadow", pointers.shadow))
            if held == version.rules
        ]
        git = (
            "" if version.git is None else version.git.commit[:10] + (" +edits" if version.git.dirty else "")
        )
        row = (version.short, " ".join(marks), _time(version.at_ms), version.author, version.message, git)
        table.add_row(*row)
    return table


def _changes_table(pointers: Pointers) -> Table:
    table = Table("when", "what", "version", "before", "by", "reason")
    for change in reversed(pointers.changes):
        now, before = (short(v) if v else "-" for v in (change.version, change.before))
        table.add_row(_time(change.at_ms), change.kind.value, now, before, change.author, change.reason)
    return table


def _history_document(
    settings: Settings,
    versions: tuple[Version, ...],
    pointers: Pointers,
    servers: tuple[ServerState, ...],
) -> dict[str, object]:
    return {
        "serving": "version" if pointers.current else "folder",
        "folder": str(settings.rules),
        **_pointers_document(pointers),
        "versions": [_version_document(version) for version in versions],
        "servers": [{**asdict(server), "prepared": sorted(server.prepared)} for server in servers],
    }


def _server(server: ServerState) -> str:
    words = f"server process {server.pid} serves {short(server.serving)}"
    if server.shadow:
        words += (
            f"; in its shadow {server.shadow_evaluated:,} decisions, {server.shadow_differing:,} otherwise"
        )
    if server.last_error:
        words += f"; {server.failed_reloads} failed reloads, the last: {server.last_error.splitlines()[0]}"
    return words


def _version_document(version: Version) -> dict[str, object]:
    return {**asdict(version), "at": _iso(version.at_ms)}


def _pointers_document(pointers: Pointers) -> dict[str, object]:
    changes = [{**asdict(change), "at": _iso(change.at_ms)} for change in pointers.changes]
    return {"current": pointers.current, "shadow": pointers.shadow, "changes": changes}


def _print(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _author(given: str) -> str:
    if given:
        return given
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in some containers
        return "unknown"


def _git_words(version: Version) -> str:
    if version.git is None:
        return ", not in git"
    edits = " with edits that are not committed" if version.git.dirty else ""
    return f", commit {version.git.commit[:10]}{edits}"


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%SZ}"


def _day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}"
