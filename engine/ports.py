"""Ports that several of our processes share: the supervisor holds one, those it starts listen on it."""

from __future__ import annotations

import socket

from engine.errors import SetupInvalid

Address = tuple[str, int]


def held_port(address: Address, option: str) -> socket.socket:
    """A socket bound to an address nobody else has, not listening; `option` chooses another one.

    Raises SetupInvalid.
    """
    host, port = address
    try:
        with _tcp(host) as alone:  # a shared port would be shared with strangers as well, without a word
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
        return shared_port(address)
    except OSError as error:
        raise SetupInvalid(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another {option}"
        ) from error


def shared_port(address: Address) -> socket.socket:
    """A socket bound to an address that another process of ours may hold. Raises OSError."""
    shared = _tcp(address[0])
    try:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(address)
    except OSError:
        shared.close()
        raise
    return shared


def _tcp(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
