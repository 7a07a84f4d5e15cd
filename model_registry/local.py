"""A registry in a folder: what is published here survives a power cut, and is whole or absent."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from model_registry.disk import replace_durably, sole_writer, sync_folder, write_durably
from model_registry.errors import FileRefused, ModelCorrupt, ModelNotFound, VersionExists

VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_UNFINISHED: Final = ".publishing-"


class LocalStorage:
    """`model_registry.storage.Storage` of a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def place(self, *parts: str) -> Path:
        """A path below the folder."""
        return self._root.joinpath(*parts)

    def folders(self) -> tuple[str, ...]:
        """Folders in it, but for hidden ones."""
        if not self._root.is_dir():
            raise ModelNotFound(f"{self._root}: no such folder: correct the registry path")
        return tuple(p.name for p in self._root.iterdir() if p.is_dir() and not p.name.startswith("."))

    def has_model(self, name: str) -> bool:
        """Whether the model's folder is there."""
        return self.place(name).is_dir()

    def has_file(self, name: str, filename: str) -> bool:
        """Whether there is such a file, or a link in its place."""
        path = self.place(name, filename)
        return path.exists() or path.is_symlink()

    def versions(self, name: str) -> tuple[int, ...]:
        """Integer-named folders."""
        home = self.place(name)
        if not home.is_dir():
            return ()
        return tuple(sorted(int(p.name) for p in home.iterdir() if VERSION.fullmatch(p.name) and p.is_dir()))

    def check_version(self, name: str, version: int) -> None:
        """Refuses a link that leaves the registry."""
        folder = self.place(name, str(version))
        if not folder.resolve().is_relative_to(self._root.resolve()):
            raise FileRefused(folder, cause="a link that leaves the registry; publish the model here instead")

    def read(self, *parts: str, max_bytes: int, digest: str | None = None) -> bytes:
        """The content of a regular file that really lies in its folder."""
        del digest  # a copy would be no nearer than the file
        path = self.place(*parts)
        try:
            real = path.resolve(strict=True)
            if not real.is_relative_to(path.parent.resolve()):
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

    def add_version(
        self, name: str, version: int | None, files_of: Callable[[int], Mapping[str, bytes]]
    ) -> int:
        """Fills a hidden folder, then renames it: the rename is the publication."""
        home = self.place(name)
        home.mkdir(parents=True, exist_ok=True)
        with sole_writer(home):
            _clear_unfinished(home)
            number = version or max(self.versions(name), default=0) + 1
            folder = home / str(number)
            if folder.exists() or folder.is_symlink():
                raise VersionExists(folder)
            _write_version(folder, files_of(number))
        sync_folder(self._root)
        return number

    def replace(self, name: str, filename: str, content: bytes) -> None:
        """Atomically and durably."""
        replace_durably(self.place(name, filename), content)

    def sole_writer(self, name: str) -> AbstractContextManager[None]:
        """The only writer of all processes of this machine."""
        return sole_writer(self.place(name))


def _write_version(folder: Path, files: Mapping[str, bytes]) -> None:
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_UNFINISHED))
    try:
        for name, content in files.items():
            write_durably(unfinished / name, content)
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
