"""A server in a process of its own, and what strangers send to its port."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from arbiter_at_work import RunningServer
from google.protobuf.message import Message
from grpc_status import rpc_status
from mutating import Mutator
from requests_fuzzed import judged
from surfaces import Finding, refuse_inside

from engine._pb.arbiter.v1 import decision_service_pb2

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_BY_THE_LIBRARY = {
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
"""Codes that gRPC answers with before a handler is there, so without our reasons."""
MAX_GROWTH_BYTES = 200 << 20
"""Of the server's memory over a run. Buffers of connections come and go; what stays would add up to more."""


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """A frame of HTTP/2."""
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + content


_CONVERSATIONS = (
    _PREFACE + frame(4, 0, 0, b""),
    _PREFACE + frame(4, 0, 0, b"") + frame(8, 0, 0, b"\x7f\xff\xff\xff"),
    _PREFACE + frame(4, 0, 0, b"\x00\x03\xff\xff\xff\xff" * 20),
    _PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, b"\x83\x86\x44\x01/\x41\x09localhost"),
    _PREFACE + frame(4, 0, 0, b"") + frame(1, 0, 1, b"\x83") + frame(9, 0, 1, b"a" * 4000) * 6,
    _PREFACE + frame(4, 0, 0, b"") + frame(6, 0, 0, b"12345678") * 50,
    _PREFACE + frame(4, 0, 0, b"") + b"".join(frame(3, 0, n, b"\x00\x00\x00\x08") for n in range(1, 99, 2)),
    _PREFACE + frame(4, 0, 0, b"") + frame(0, 1, 1, b"\x00\xff\xff\xff\xff"),
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /arbiter.v1.DecisionService/Decide HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32) + b"\x20" + bytes(32),
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
    b"\x00" * 64,
)


class Served:
    """A running server, a channel to it, and how well it is."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(server.target)
        self.memory_bytes = self._memory()

    def _memory(self) -> int:
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def answer(self, method: str, content: bytes, metadata: Sequence[tuple[str, str]] = ()) -> str:
        """What became of raw bytes sent to a method."""
        call: Any = self.channel.unary_unary(method)  # bytes as they are
        try:
            call(content, timeout=30, metadata=metadata)
        except grpc.RpcError as error:
            return self._refusal(error)
        return "answered"

    def _refusal(self, error: Any) -> str:
        status = rpc_status.from_call(error)
        if status is not None:
            return judged(status)
        code: grpc.StatusCode = error.code()
        refuse_inside(str(error.details()))
        if code not in _BY_THE_LIBRARY:
            raise Finding(f"{code.name} by the library: {error.details()}")
        return f"{code.name} by the library"

    def check(self) -> None:
        """That the server lives, answers a good request, and has not grown. Raises Finding."""
        if self.server.process.poll() is not None:
            raise Finding(
                f"the server has ended with {self.server.process.returncode}: {self.server.log[-2000:]}"
            )
        request = decision_service_pb2.DecideRequest(customer_id="C0133", channel="web")
        call: Any = self.channel.unary_unary("/arbiter.v1.DecisionService/Decide")
        reply = decision_service_pb2.DecideResponse.FromString(
            call(request.SerializeToString(), timeout=30, wait_for_ready=True)
        )
        if not reply.decision_id or reply.customer_id != "C0133":
            raise Finding(f"a good request is answered with {reply}")
        growth = self._memory() - self.memory_bytes
        if growth > MAX_GROWTH_BYTES:
            raise Finding(f"the server has grown by {growth >> 20} MiB")
        if "Traceback" in self.server.log or "call.failed" in self.server.log:
            raise Finding(f"the log holds a failure: {self.server.log[-3000:]}")


class WireRequests:
    """Mutated messages over real channels, with hostile methods and metadata among them."""

    name = "wire: messages and metadata"

    def __init__(self, served: Served, messages: dict[str, list[Message]]) -> None:
        self._served = served
        self._seeds = {method: [m.SerializeToString() for m in many] for method, many in messages.items()}
        self._methods = list(self._seeds)

    def run(self, mutator: Mutator) -> str:
        """One call."""
        choose = mutator.random
        method = choose.choice(self._methods)
        content = mutator.data(self._seeds[method])
        if choose.random() < 0.05:
            method += choose.choice(("x", "/", "/../x", "%00", "?a=b"))
        if choose.random() < 0.005:
            content = bytes(1 << 21)
        metadata = []
        if choose.random() < 0.2:
            text = "".join(c for c in mutator.hostile() if " " <= c <= "~")
            metadata = [(choose.choice(("authorization", "arbiter-priority", "x-evil")), text[:20_000])]
        return self._served.answer(method, content, metadata)

    def check(self) -> None:
        """That the server is well."""
        self._served.check()


class Port:
    """Raw bytes on the port: garbage, half frames, other protocols, and clients that stop in the middle."""

    name = "port: raw bytes"

    def __init__(self, served: Served) -> None:
        self._served = served
        self._address = ("127.0.0.1", served.server.port)

    def run(self, mutator: Mutator) -> str:
        """One connection."""
        content = mutator.data(_CONVERSATIONS)
        with closing(socket.create_connection(self._address, timeout=30)) as connection:
            connection.settimeout(0.002)
            with suppress(OSError):
                connection.sendall(content)
            with suppress(OSError):
                refuse_inside(connection.recv(65_536).decode("latin-1"))
        return "closed"

    def check(self) -> None:
        """That the server is well."""
        self._served.check()


@contextmanager
def slow_clients(served: Served, many: int) -> Iterator[None]:
    """As many connections that say a byte and then nothing, while the block runs."""
    address = ("127.0.0.1", served.server.port)
    with ExitStack() as stack:
        for number in range(many):
            connection = stack.enter_context(closing(socket.create_connection(address, timeout=30)))
            connection.sendall(_CONVERSATIONS[number % len(_CONVERSATIONS)][: number % 40])
        yield
