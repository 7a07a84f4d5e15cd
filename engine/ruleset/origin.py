"""Where rule files come from: the git commit of their folder, and the files as a past revision had them.

Git is asked by its command. A folder that is not in git, or a machine without git, has no origin.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.ruleset.sources import RuleSources

_TIMEOUT_S: Final = 20.0
_MAX_ARCHIVE_BYTES: Final = 256 << 20


class RevisionUnknown(Exception):
    """Git does not know the revision, or the folder is not in git."""


@dataclass(frozen=True, slots=True)
class GitOrigin:
    """The commit a folder stood at; `dirty` where its files differed from that commit."""

    commit: str
    dirty: bool


def git_origin(folder: Path) -> GitOrigin | None:
    """The origin of a folder; None where there is no git, no repository or no commit yet."""
    try:
        commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD").decode().strip()
        changed = _git(folder, "status", "--porcelain", "--", ".")
    except _GitFailed:
        return None
    return GitOrigin(commit, bool(changed.strip()))


def sources_at(folder: Path, revision: str) -> RuleSources:
    """The rule files of a folder as a revision had them. Raises RevisionUnknown and RuleSetInvalid."""
    try:
        asked = f"{revision}^{{commit}}"
        commit = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", asked).decode().strip()
        packed = _git(folder, "archive", "--format=tar", commit, "--", ".")
    except _GitFailed as error:
        cause = f"git does not know {revision!r} for {folder}"
        raise RevisionUnknown(f"{cause}: {error}" if str(error) else cause) from error
    if len(packed) > _MAX_ARCHIVE_BYTES:
        raise RevisionUnknown(f"{folder} at {revision!r} is larger than {_MAX_ARCHIVE_BYTES:,} bytes")
    with tempfile.TemporaryDirectory(prefix="arbiter-rules-") as scratch:
        _unpack(packed, Path(scratch).resolve())
        return RuleSources.from_directory(Path(scratch))


def _unpack(packed: bytes, folder: Path) -> None:
    """Writes the plain files of an archive; links, and what would leave the folder, are left out.

    By hand, as the filters of `tarfile` are not in every Python 3.11.
    """
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        for member in files:
            place = (folder / member.name).resolve()
            content = files.extractfile(member) if member.isfile() else None
            if content is not None and place.is_relative_to(folder):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content.read())


class _GitFailed(Exception):
    """Git is absent, too slow, or said no."""


def _git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(  # noqa: S603  # no shell, and revisions cannot pass for options
            command, capture_output=True, timeout=_TIMEOUT_S, check=True
        )
    except subprocess.CalledProcessError as error:
        raise _GitFailed(error.stderr.decode(errors="replace").strip()) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _GitFailed(str(error)) from error
    return done.stdout
