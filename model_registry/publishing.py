"""Publishing: a model version appears whole, under its integer, and never changes again."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from model_registry.disk import sole_writer, sync_folder, write_durably
from model_registry.errors import ManifestInvalid, VersionExists
from model_registry.manifest import Manifest

MANIFEST = "manifest.json"
MAX_FILE_BYTES = 256 * 1024 * 1024
"""Largest file of a version: far above any tree model, far below what would exhaust a server."""

_UNFINISHED = ".publishing-"
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def sha256_of(content: bytes) -> str:
    """Digest in the form manifests use."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def published_versions(folder: Path) -> tuple[int, ...]:
    """Integer-named folders of one model, ascending; none where the model is not there."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(int(p.name) for p in folder.iterdir() if _VERSION.fullmatch(p.name) and p.is_dir()))


def publish(root: Path, manifest: Mapping[str, object], files: Mapping[str, bytes]) -> Path:
    """Publishes one model version and returns its folder, `root/<name>/<version>/`.

    `manifest` holds every manifest field but `files`, which is computed; without `version` the next
    integer is taken. Whatever fails, and wherever the process dies, nothing half-written is visible.
    Raises ManifestInvalid, and VersionExists where the version is taken.
    """
    draft = _validated(manifest, files)
    home = root / draft.name
    home.mkdir(parents=True, exist_ok=True)
    with sole_writer(home):
        _clear_unfinished(home)
        if "version" not in manifest:
            draft = draft.model_copy(update={"version": max(published_versions(home), default=0) + 1})
        folder = home / str(draft.version)
        if folder.exists() or folder.is_symlink():
            raise VersionExists(folder)
        _write_version(folder, draft, files)
    sync_folder(root)
    return folder


def explain_invalid(error: ValidationError) -> str:
    """Every problem of a manifest in one line, each with its place."""
    places = ((".".join(map(str, e["loc"])) or "manifest", e["msg"]) for e in error.errors())
    return "; ".join(f"{place}: {message}" for place, message in places)


def _validated(manifest: Mapping[str, object], files: Mapping[str, bytes]) -> Manifest:
    """The manifest with digests, exactly as it will be read back."""
    if "files" in manifest:
        raise ManifestInvalid("`files` is computed from the files given: leave it out of the manifest")
    if MANIFEST in files:
        raise ManifestInvalid(f"{MANIFEST} is written by the registry: leave it out of the files")
    for name, content in files.items():
        if len(content) > MAX_FILE_BYTES:
            raise ManifestInvalid(f"{name}: {len(content)} bytes; at most {MAX_FILE_BYTES} can be served")
    digests = {name: sha256_of(content) for name, content in files.items()}
    try:
        offered = Manifest.model_validate({"version": 1, **manifest, "files": digests})
        return Manifest.model_validate_json(offered.model_dump_json())
    except ValidationError as error:
        raise ManifestInvalid(f"manifest refused: {explain_invalid(error)}") from error


def _write_version(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Fills a hidden folder, then renames it: the rename is the publication."""
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_UNFINISHED))
    try:
        for name, content in files.items():
            write_durably(unfinished / name, content)
        write_durably(unfinished / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
        unfinished.chmod(0o755)  # mkdtemp gives 0700; the server may run as another user
        sync_folder(unfinished)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def _clear_unfinished(home: Path) -> None:
    """Removes what a killed publisher left; the caller is the only writer."""
    for left in home.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
