"""Places in a registry: paths of a folder, or URLs, which look alike to those who only name them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SECRET: Final = re.compile(r"//[^/@]*@")


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """A URL below a registry's root, with the few manners of a path that naming it needs."""

    url: str

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> RemotePlace:
        """The place it lies in."""
        return RemotePlace(self.url.rpartition("/")[0])

    def __truediv__(self, part: str) -> RemotePlace:
        return RemotePlace(f"{self.url}/{part}")

    def __str__(self) -> str:
        """The URL without user and password."""
        return _SECRET.sub("//", self.url)


Place = Path | RemotePlace
