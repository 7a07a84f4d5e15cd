"""Publishing: a model version appears whole, under its integer, and never changes again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import overload

from pydantic import ValidationError

from model_registry.errors import ManifestInvalid
from model_registry.manifest import Manifest
from model_registry.places import Place
from model_registry.remote import MANIFEST
from model_registry.storage import Root, storage_of

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Largest file of a version: far above any tree model, far below what would exhaust a server."""


def sha256_of(content: bytes) -> str:
    """Digest in the form manifests use."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@overload
def publish(root: Path, manifest: Mapping[str, object], files: Mapping[str, bytes]) -> Path: ...


@overload
def publish(root: Root, manifest: Mapping[str, object], files: Mapping[str, bytes]) -> Place: ...


def publish(root: Root, manifest: Mapping[str, object], files: Mapping[str, bytes]) -> Place:
    """Publishes one model version and returns its place, `root/<name>/<version>/`.

    `manifest` holds every manifest field but `files`, which is computed; without `version` the next
    integer is taken. Whatever fails, and wherever the process dies, nothing half-written is visible.
    Raises ManifestInvalid, VersionExists where the version is taken, and StoreFailed.
    """
    draft = _validated(manifest, files)
    storage = storage_of(root)

    def files_of(number: int) -> Mapping[str, bytes]:
        numbered = draft.model_copy(update={"version": number})
        return {**files, MANIFEST: numbered.model_dump_json(indent=2).encode() + b"\n"}

    wanted = draft.version if "version" in manifest else None
    return storage.place(draft.name, str(storage.add_version(draft.name, wanted, files_of)))


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
        offered = Manifest.model_validate({"version": 1, "format": 2, **manifest, "files": digests})
        if "format" not in manifest and not offered.needs_format_2:
            offered = offered.model_copy(update={"format": 1})
        return Manifest.model_validate_json(offered.model_dump_json())
    except ValidationError as error:
        raise ManifestInvalid(f"manifest refused: {explain_invalid(error)}") from error
