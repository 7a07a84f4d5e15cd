"""What a command shows to a protected server, from the files its options name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from engine.cli.console import EXIT_ERRORS, fail
from engine.protection import is_loopback

if TYPE_CHECKING:  # imported when called, so that --help is quick
    from engine.client import Access


@dataclass(frozen=True, slots=True)
class AccessFiles:
    """The options --tls-ca, --tls-cert, --tls-key and --token-file."""

    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None

    def given(self) -> bool:
        """Whether any was."""
        return any((self.tls_ca, self.tls_cert, self.tls_key, self.token_file))

    def read(self, target: str) -> Access:
        """What they hold. Ends the command where it cannot be, or where a token would go in the clear."""
        from engine.client import Access

        if (self.tls_cert is None) != (self.tls_key is None):
            raise typer.BadParameter("--tls-cert and --tls-key go together")
        if self.tls_cert and not self.tls_ca:
            raise typer.BadParameter("--tls-cert goes with --tls-ca: certificates are shown over TLS only")
        if self.token_file and not self.tls_ca and not is_loopback(target.rpartition(":")[0]):
            raise typer.BadParameter(
                f"the token would go to {target} in the clear; name the server's authorities with --tls-ca"
            )
        token = _content(self.token_file)
        return Access(
            authorities=_content(self.tls_ca),
            certificate=_content(self.tls_cert),
            key=_content(self.tls_key),
            token=None if token is None else _token(token, self.token_file),
        )


NO_ACCESS_FILES: Final = AccessFiles()
"""For a server that asks for nothing."""


def _content(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}", EXIT_ERRORS)


def _token(content: bytes, path: Path | None) -> str:
    """The token without the line end that editors add."""
    text = content.decode("ascii", "replace").strip()
    if not text or not text.isprintable() or " " in text or not text.isascii():
        fail(f"{path}: holds no token: one line of ASCII without blanks", EXIT_ERRORS)
    return text
