"""What a load test shows to a protected server, from the files that its options name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.client import Access
from loadtest.errors import FileInvalid

TlsCa = Annotated[
    Path | None,
    typer.Option("--tls-ca", help="Authorities that certify the server, in PEM; for calls over TLS."),
]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", help="Own certificate, in PEM, for a server that asks for one.")
]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="Key of that certificate, in PEM.")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="File with the bearer token to send with each call.")
]


def read_access(
    target: str, *, authorities: Path | None, certificate: Path | None, key: Path | None, token: Path | None
) -> Access:
    """What the files hold. Raises FileInvalid, and typer.BadParameter where a token would go in the clear."""
    shown = _token(token)
    try:
        access = Access(
            authorities=_content(authorities),
            certificate=_content(certificate),
            key=_content(key),
            token=shown,
        )
        access.refuse_to_leak(target)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return access


def _token(path: Path | None) -> str | None:
    """The token without the line end that editors add."""
    content = _content(path)
    if content is None:
        return None
    text = content.decode("ascii", "replace").strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise FileInvalid(path, "holds no token: one line of ASCII without blanks")
    return text


def _content(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise FileInvalid(path, f"cannot be read: {error.strerror}") from error
