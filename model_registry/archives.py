"""A version as one file, to carry it to another registry: a tar.gz whose bytes depend on the version only."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model_registry.errors import ArchiveRefused, FileRefused, ModelCorrupt, VersionExists
from model_registry.manifest import Manifest
from model_registry.places import Place
from model_registry.publishing import MAX_FILE_BYTES, sha256_of
from model_registry.remote import MANIFEST
from model_registry.storage import Root, storage_of
from model_registry.versions import MAX_MANIFEST_BYTES, open_version, parse_manifest

MAX_UNPACKED_BYTES: Final = 512 * 1024 * 1024
MAX_PACKED_BYTES: Final = 512 * 1024 * 1024
MAX_MEMBERS: Final = 64
_COMPRESSION: Final = 6


@dataclass(frozen=True, slots=True)
class Imported:
    """Where an archive's version lies. `is_new` is false where the very same one was there already."""

    manifest: Manifest
    place: Place
    is_new: bool


def export_version(root: Root, name: str, version: int) -> bytes:
    """A published version as a tar.gz. Raises what `open_version` and `read` raise."""
    published = open_version(root, name, version)
    storage = published.storage
    manifest = storage.read(name, str(version), MANIFEST, max_bytes=MAX_MANIFEST_BYTES)
    files = {filename: published.read(filename, from_store=True) for filename in published.manifest.files}
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=_COMPRESSION, mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for filename, content in sorted({**files, MANIFEST: manifest}.items()):
            member = tarfile.TarInfo(f"{name}-{version}/{filename}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def import_version(root: Root, packed: bytes, *, source: Path) -> Imported:
    """Publishes the version of an archive under its own number, with every digest checked.

    `source` names the archive in errors. Raises ArchiveRefused, ModelCorrupt where it is not what its
    manifest says, and VersionExists where another version of that number is there.
    """
    files = _members(packed, source=source)
    content = files.pop(MANIFEST, None)
    if content is None:
        raise ArchiveRefused(source, cause=f"it holds no {MANIFEST}")
    manifest = parse_manifest(content, place=source / MANIFEST)
    _check(manifest, files, source=source)
    storage = storage_of(root)
    place = storage.place(manifest.name, str(manifest.version))
    try:
        storage.add_version(manifest.name, manifest.version, lambda _: {**files, MANIFEST: content})
    except VersionExists:
        if open_version(root, manifest.name, manifest.version).digest != sha256_of(content):
            raise
        return Imported(manifest, place, is_new=False)
    return Imported(manifest, place, is_new=True)


def _check(manifest: Manifest, files: Mapping[str, bytes], *, source: Path) -> None:
    unlisted = sorted(files.keys() - manifest.files.keys())
    if unlisted:
        raise FileRefused(source / unlisted[0], cause=f"not listed in {MANIFEST}")
    for filename, expected in manifest.files.items():
        found = sha256_of(files[filename]) if filename in files else "no such file"
        if found != expected:
            raise ModelCorrupt(source / filename, expected=expected, found=found)


def _members(packed: bytes, *, source: Path) -> dict[str, bytes]:
    """Plain files of the one folder of an archive, by name. Raises ArchiveRefused."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpacked(packed, source=source)), mode="r:") as archive:
            for member in archive:
                folder, _, filename = member.name.partition("/")
                if not member.isreg() or not folder or not filename or "/" in filename or filename in files:
                    raise ArchiveRefused(source, cause=f"{member.name!r} is no plain file of one folder")
                if len(files) == MAX_MEMBERS or member.size > MAX_FILE_BYTES:
                    raise ArchiveRefused(source, cause=f"{member.name!r} is too large, or one file too many")
                extracted = archive.extractfile(member)
                files[filename] = extracted.read() if extracted else b""
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise ArchiveRefused(source, cause=f"it is no whole tar.gz: {error}") from error
    return files


def _unpacked(packed: bytes, *, source: Path) -> bytes:
    """The tar of a tar.gz, at most MAX_UNPACKED_BYTES, whatever its headers say."""
    inflating = zlib.decompressobj(wbits=31)
    try:
        content = inflating.decompress(packed, MAX_UNPACKED_BYTES + 1)
    except zlib.error as error:
        raise ArchiveRefused(source, cause=f"it is no whole tar.gz: {error}") from error
    if len(content) > MAX_UNPACKED_BYTES:
        raise ArchiveRefused(source, cause=f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    if not inflating.eof:
        raise ArchiveRefused(source, cause="its bytes end too early")
    return content
