"""Stylesheets, scripts and pictures of pages, each under a name of its content: browsers keep them."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_WEB: Final = Path(__file__).resolve().parents[1]
_SERVED: Final = frozenset({".css", ".js", ".svg", ".png"})
_FOR_GOOD: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str
    digest: str


class Assets:
    """Every file of the folders named static, read when the process starts."""

    def __init__(self) -> None:
        self._held: Mapping[str, _Asset] = {
            f"{path.parents[1].name}/{path.name}": _read(path)
            for path in sorted(_WEB.glob("*/static/*"))
            if path.suffix in _SERVED
        }

    def address(self, name: str) -> str:
        """Where the page finds an asset such as "look/arbiter.css". Raises KeyError where there is none."""
        return f"/static/{self._held[name].digest}/{name}"

    def route(self) -> Route:
        """Serves them all; a digest that is not today's finds nothing, as no page names it."""

        async def serve(request: Request) -> Response:
            asset = self._held.get(request.path_params["name"])
            if asset is None or asset.digest != request.path_params["digest"]:
                return PlainTextResponse("there is no such file\n", status_code=404)
            return Response(asset.content, media_type=asset.media_type, headers={"Cache-Control": _FOR_GOOD})

        return Route("/static/{digest}/{name:path}", serve)


def _read(path: Path) -> _Asset:
    content = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _Asset(content, kind, hashlib.blake2b(content, digest_size=8).hexdigest())
