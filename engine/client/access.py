"""How to reach a protected server, and what to show to it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

import grpc

_SCHEME: Final = re.compile(r"^(dns:(//[^/]*/)?|ipv4:|ipv6:)")


@dataclass(frozen=True, slots=True)
class Access:
    """PEM texts, and a token; without authorities the connection is in the clear."""

    authorities: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuses halves. Raises ValueError."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key go together")
        if self.certificate is not None and self.authorities is None:
            raise ValueError("certificates are shown over TLS only: give the server's authorities as well")

    def refuse_to_leak(self, target: str) -> None:
        """Raises ValueError where a token would leave this machine in the clear."""
        if self.token is not None and self.authorities is None and not stays_here(target):
            raise ValueError(
                f"the token would go to {target} in the clear; give the server's authorities for TLS"
            )

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Those of a channel; None for one in the clear."""
        if self.authorities is None:
            return None
        return grpc.ssl_channel_credentials(self.authorities, self.key, self.certificate)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)


def stays_here(target: str) -> bool:
    """Whether what is sent to a gRPC target stays on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    places = _SCHEME.sub("", target).split(",")
    return all(_is_loopback(_host(place)) for place in places)


def _host(place: str) -> str:
    """The host of HOST:PORT, HOST, [ADDRESS]:PORT or ADDRESS."""
    if place.startswith("["):
        return place[1:].partition("]")[0]
    return place.partition(":")[0] if place.count(":") == 1 else place


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
