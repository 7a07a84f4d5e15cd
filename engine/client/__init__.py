"""Calls Arbiter from Python: `ArbiterClient`, and `AsyncArbiterClient` for asyncio.

It needs grpcio, protobuf and googleapis-common-protos, and of the engine only the generated messages.
"""

from engine.client.access import Access
from engine.client.asynchronous import AsyncArbiterClient
from engine.client.errors import (
    AccessDenied,
    CallFailed,
    DeadlinePassed,
    NotAnswered,
    NotFound,
    Overloaded,
    RequestRefused,
    ServerFailed,
    Unavailable,
)
from engine.client.requests import event
from engine.client.service_config import SERVICE_CONFIG
from engine.client.synchronous import ArbiterClient

__all__ = [
    "SERVICE_CONFIG",
    "Access",
    "AccessDenied",
    "ArbiterClient",
    "AsyncArbiterClient",
    "CallFailed",
    "DeadlinePassed",
    "NotAnswered",
    "NotFound",
    "Overloaded",
    "RequestRefused",
    "ServerFailed",
    "Unavailable",
    "event",
]
