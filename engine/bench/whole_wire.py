"""Calls at little cost to the caller: as much of HTTP/2 and HTTP/1.1 as a load generator needs.

gRPC's Python client takes as much of a processor for a call as its server does, so it cannot show how fast a
server is. Here requests are bytes that were made before, and of a reply only what tells that it is whole is
looked at: a gRPC server sends a message to a unary call exactly when the call succeeded.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final, Protocol

from engine.bench.parts import PartMissing

_WINDOW: Final = (1 << 31) - 1
_FIRST_WINDOW: Final = 65_535
_REFILL_BYTES: Final = 1 << 30
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_FRAME_HEAD: Final = 9
_AT_ONCE: Final = 1 << 18
_SAMPLED: Final = 50
"""Of so many replies one is kept."""
_MESSAGE_HEAD: Final = 5
_TOO_MUCH: Final = b"grpc-status\x018"
"""RESOURCE_EXHAUSTED, as it stands where headers are not compressed."""
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
METHOD: Final = "/arbiter.v1.DecisionService/Decide"


class CallLost(PartMissing):
    """A server that is measured refused a call or closed a connection."""


class Connection(Protocol):
    """One connection to a server; calls are told apart by a number."""

    most: int
    """Calls that may be under way at once."""
    samples: list[bytes]
    """Some of the replies, for who wants to see what was answered under load."""
    refused: int
    """Calls that ended without a reply, as the server had too much to do."""

    def fileno(self) -> int:
        """For `select`."""
        ...

    def send(self, request: bytes) -> int:
        """Sends a request; the number of its call."""
        ...

    def ended(self) -> list[int]:
        """The calls that what has come in ends, refused ones too. Raises CallLost."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


def _connected(port: int) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port), timeout=10)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.settimeout(None)
    return opened


def _received(opened: socket.socket) -> bytes:
    content = opened.recv(_AT_ONCE)
    if not content:
        raise CallLost("a server that is measured closed a connection; its log says why")
    return content


class GrpcConnection:
    """Unary gRPC calls of one method over HTTP/2, without compression of headers."""

    most = 64

    def __init__(self, port: int, method: str = METHOD) -> None:
        self._socket = _connected(port)
        self._next, self._kept, self._unacknowledged = 1, b"", 0
        self._answered: set[int] = set()
        self._sampled = b""
        self.samples: list[bytes] = []
        self.refused = 0
        self._headers = _request_headers(port, method)
        settings = struct.pack(
            ">HIHIHI", 1, 0, 2, 0, 4, _WINDOW
        )  # no table of headers, no push, large windows
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _refill(_WINDOW - _FIRST_WINDOW))

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def send(self, request: bytes) -> int:
        """Sends a request; the number of its stream."""
        stream = self._next
        self._next += 2
        message = struct.pack(">BI", 0, len(request)) + request
        head = _frame(_HEADERS, _END_HEADERS, stream, self._headers)
        self._socket.sendall(head + _frame(_DATA, _END_STREAM, stream, message))
        return stream

    def ended(self) -> list[int]:
        """The streams that have ended. Raises CallLost."""
        content = self._kept + _received(self._socket)
        self._unacknowledged += len(content) - len(self._kept)
        done = []
        place = 0
        for kind, flags, stream, start, end in _frames(content):
            place = end
            if kind == _DATA:
                self._answered.add(stream)
                if stream % (2 * _SAMPLED) == 1:
                    self._sampled += content[start:end]
            elif kind == _HEADERS and flags & _END_STREAM:
                self._end(stream, content[start:end])
                done.append(stream)
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                self._socket.sendall(_frame(kind, _ACK, 0, content[start:end] if kind == _PING else b""))
            elif kind in (_RESET, _GOAWAY):
                raise CallLost(f"a server that is measured ended a call: {content[start:end]!r}")
        self._kept = content[place:]
        self._refill()
        return done

    def _end(self, stream: int, trailers: bytes) -> None:
        if stream not in self._answered:
            if _TOO_MUCH not in trailers:
                raise CallLost(f"a call failed: {trailers!r}")
            self.refused += 1
            return
        self._answered.remove(stream)
        if stream % (2 * _SAMPLED) == 1:
            self.samples.append(self._sampled[_MESSAGE_HEAD:])
            self._sampled = b""

    def _refill(self) -> None:
        if self._unacknowledged > _REFILL_BYTES:
            self._socket.sendall(_refill(self._unacknowledged))
            self._unacknowledged = 0

    def close(self) -> None:
        """Ends it."""
        self._socket.close()


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def _refill(count: int) -> bytes:
    return _frame(8, 0, 0, struct.pack(">I", count))


def _frames(content: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Kind, flags, stream, and where the content starts and ends, of each whole frame."""
    place, size = 0, len(content)
    while size - place >= _FRAME_HEAD:
        start = place + _FRAME_HEAD
        end = start + int.from_bytes(content[place : place + 3])
        if end > size:
            return
        stream = int.from_bytes(content[place + 5 : start])
        yield content[place + 3], content[place + 4], stream, start, end
        place = end


def _request_headers(port: int, method: str) -> bytes:
    """The headers of every request, written out or by their number in the static table (RFC 7541)."""

    def text(value: str) -> bytes:
        return bytes([len(value)]) + value.encode()

    post, http, path, authority, content_type = b"\x83", b"\x86", b"\x04", b"\x01", b"\x0f\x10"
    return (
        post
        + http
        + path + text(method)
        + authority + text(f"localhost:{port}")
        + b"\x00" + text("te") + text("trailers")
        + content_type + text("application/grpc")
    )  # fmt: skip


class HttpConnection:
    """POSTs of JSON to one path over HTTP/1.1, one after the other on a connection that stays."""

    most = 1

    def __init__(self, port: int, path: str) -> None:
        self._socket = _connected(port)
        self._next, self._kept = 0, b""
        self.samples: list[bytes] = []
        self.refused = 0
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
            "Content-Length: "
        ).encode()

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def send(self, request: bytes) -> int:
        """Sends a request; its number."""
        self._next += 1
        self._socket.sendall(self._head + str(len(request)).encode() + b"\r\n\r\n" + request)
        return self._next

    def ended(self) -> list[int]:
        """The number of the request, if its reply is whole now. Raises CallLost."""
        self._kept += _received(self._socket)
        head, between, body = self._kept.partition(b"\r\n\r\n")
        if not between or len(body) < _content_length(head):
            return []
        if not head.startswith(b"HTTP/1.1 200 "):
            raise CallLost(f"a call failed: {self._kept[:500]!r}")
        if self._next % _SAMPLED == 1:
            self.samples.append(body)
        self._kept = b""
        return [self._next]

    def close(self) -> None:
        """Ends it."""
        self._socket.close()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise CallLost(f"a reply without a length: {head[:500]!r}")
