"""Opening published versions: nothing is handed out that differs from what was published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from model_registry.errors import FileRefused, ModelCorrupt, ModelNotFound
from model_registry.manifest import Manifest
from model_registry.publishing import (
    MANIFEST,
    MAX_FILE_BYTES,
    explain_invalid,
    published_versions,
    sha256_of,
)

MAX_MANIFEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One immutable version on disk. `digest` is that of its manifest, and so of everything in it."""

    manifest: Manifest
    folder: Path
    digest: str

    def read(self, filename: str) -> bytes:
        """The content of a listed file, checked against its digest.

        Raises FileRefused where the file is not listed, leaves the folder or is too large, and
        ModelCorrupt where it is missing or changed.
        """
        path = self.folder / filename
        expected = self.manifest.files.get(filename)
        if expected is None:
            raise FileRefused(path, cause=f"not listed in {MANIFEST}; only listed files are read")
        content = read_inside(self.folder, filename, max_bytes=MAX_FILE_BYTES)
        found = sha256_of(content)
        if found != expected:
            raise ModelCorrupt(path, expected=expected, found=found)
        return content


def open_version(root: Path, name: str, version: int) -> PublishedModel:
    """The version `root/<name>/<version>/`, with its manifest read and checked.

    Raises ModelNotFound, FileRefused where the folder leaves the registry, and ModelCorrupt where the
    manifest is missing, unreadable, or of another model.
    """
    folder = version_folder(root, name, version)
    content = read_inside(folder, MANIFEST, max_bytes=MAX_MANIFEST_BYTES)
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ModelCorrupt(path, expected="a valid manifest", found=explain_invalid(error)) from error
    if (manifest.name, manifest.version) != (name, version):
        found = f"the manifest of {manifest.name} {manifest.version}"
        raise ModelCorrupt(path, expected=f"that of {name} {version}", found=found)
    return PublishedModel(manifest=manifest, folder=folder, digest=sha256_of(content))


def version_folder(root: Path, name: str, version: int) -> Path:
    """Where a published version lives. Raises ModelNotFound, or FileRefused where it leaves `root`."""
    folder = root / name / str(version)
    if "/" in name or name.startswith(".") or not folder.is_dir():
        known = ", ".join(map(str, published_versions(root / name))) if "/" not in name else ""
        raise ModelNotFound(
            f"model {name!r} has no version {version} in {root}: published are {known or 'none'}. "
            "Publish it, or ask for a version that is there."
        )
    if not folder.resolve().is_relative_to(root.resolve()):
        raise FileRefused(folder, cause="a link that leaves the registry; publish the model here instead")
    return folder


def read_inside(folder: Path, filename: str, *, max_bytes: int) -> bytes:
    """The content of a regular file that really lies in `folder`. Raises FileRefused or ModelCorrupt."""
    path = folder / filename
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(folder.resolve()):
            raise FileRefused(path, cause="it lies outside the version folder")
        if not real.is_file():
            raise FileRefused(path, cause="not a regular file")
        size = real.stat().st_size
        if size > max_bytes:
            raise FileRefused(path, cause=f"{size} bytes; at most {max_bytes} are read")
        return real.read_bytes()
    except FileNotFoundError as error:
        raise ModelCorrupt(path, expected="a file", found="none") from error
    except OSError as error:
        raise ModelCorrupt(path, expected="a readable file", found=str(error.strerror)) from error
