"""Opening published versions: nothing is handed out that differs from what was published."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from model_registry.errors import FileRefused, ModelCorrupt, ModelNotFound
from model_registry.manifest import Manifest
from model_registry.places import Place
from model_registry.publishing import MAX_FILE_BYTES, explain_invalid, sha256_of
from model_registry.remote import MANIFEST
from model_registry.storage import Root, Storage, storage_of

MAX_MANIFEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One immutable version. `digest` is that of its manifest, and so of everything in it."""

    manifest: Manifest
    folder: Place
    digest: str
    storage: Storage

    def read(self, filename: str, *, from_store: bool = False) -> bytes:
        """The content of a listed file, checked against its digest; `from_store` leaves out any cache.

        Raises FileRefused where the file is not listed, leaves the folder or is too large, and
        ModelCorrupt where it is missing or changed.
        """
        path = self.folder / filename
        expected = self.manifest.files.get(filename)
        if expected is None:
            raise FileRefused(path, cause=f"not listed in {MANIFEST}; only listed files are read")
        content = self.storage.read(
            self.manifest.name,
            str(self.manifest.version),
            filename,
            max_bytes=MAX_FILE_BYTES,
            digest=None if from_store else expected,
        )
        found = sha256_of(content)
        if found != expected:
            raise ModelCorrupt(path, expected=expected, found=found)
        return content


def open_version(root: Root, name: str, version: int) -> PublishedModel:
    """The version `root/<name>/<version>/`, with its manifest read and checked.

    Raises ModelNotFound, FileRefused where the folder leaves the registry, ModelCorrupt where the manifest
    is missing, unreadable, or of another model, and StoreFailed.
    """
    storage = storage_of(root)
    _require(storage, name, version)
    content = storage.read(name, str(version), MANIFEST, max_bytes=MAX_MANIFEST_BYTES)
    folder = storage.place(name, str(version))
    manifest = parse_manifest(content, place=folder / MANIFEST)
    if (manifest.name, manifest.version) != (name, version):
        found = f"the manifest of {manifest.name} {manifest.version}"
        raise ModelCorrupt(folder / MANIFEST, expected=f"that of {name} {version}", found=found)
    return PublishedModel(manifest=manifest, folder=folder, digest=sha256_of(content), storage=storage)


def parse_manifest(content: bytes, *, place: Place) -> Manifest:
    """A manifest from its bytes. Raises ModelCorrupt naming `place` and every flaw."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ModelCorrupt(place, expected="a valid manifest", found=explain_invalid(error)) from error


def is_plain(name: str) -> bool:
    """Whether a model's name is no path and nothing hidden."""
    return bool(name) and "/" not in name and not name.startswith(".")


def _require(storage: Storage, name: str, version: int) -> None:
    """Raises ModelNotFound where there is no such version, FileRefused where it leaves the registry."""
    known = storage.versions(name) if is_plain(name) else ()
    if version not in known:
        raise ModelNotFound(
            f"model {name!r} has no version {version} in {storage.place()}: "
            f"published are {', '.join(map(str, known)) or 'none'}. "
            "Publish it, or ask for a version that is there."
        )
    storage.check_version(name, version)
