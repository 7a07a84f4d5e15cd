"""What Redis and the network say, in the errors of the feature store: what, where, and what to do."""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MaxConnectionsError,
    NoScriptError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from feature_store.errors import StoreCorrupt, StoreError, StoreFull, StoreUnavailable
from feature_store.redis.connecting import WrongServer

_RIGHTS = "its user lacks a right; docs/redis.md lists what each user needs"
_REPLIES: tuple[tuple[str, type[StoreError], str], ...] = (
    (
        "WRONGTYPE",
        StoreCorrupt,
        "a key of Arbiter holds another data type; look who else writes under its prefix",
    ),
    ("OOM command", StoreFull, "it is out of memory: nothing was written; raise maxmemory"),
    (
        "MISCONF",
        StoreUnavailable,
        "it cannot save to its disk and takes no writes; free space there, or see its log",
    ),
    (
        "READONLY",
        StoreUnavailable,
        "it is a read-only replica; name the primary, or use redis+sentinel:// or redis+cluster://",
    ),
    ("NOPERM", StoreUnavailable, _RIGHTS),
    (
        "can't run this command",
        StoreUnavailable,
        _RIGHTS,
    ),
    ("can't access", StoreUnavailable, _RIGHTS),
    ("NOAUTH", StoreUnavailable, "it wants a password; give user and password"),
    ("NOREPLICAS", StoreUnavailable, "too few replicas are in touch with it to take writes; look at them"),
    ("MASTERDOWN", StoreUnavailable, "it has lost its primary; look at the primary"),
    ("CLUSTERDOWN", StoreUnavailable, "the cluster does not serve all slots; look at its nodes"),
    ("TRYAGAIN", StoreUnavailable, "the slot is being moved; try again"),
    ("CROSSSLOT", StoreUnavailable, "keys of one call lie in several slots; keep {} out of the key prefix"),
    ("BUSY", StoreUnavailable, "a script keeps it busy; look which client runs one"),
    ("unknown command", StoreUnavailable, "it lacks a command; Redis 6.2 or newer, or Valkey, is needed"),
)


def is_unknown_script(reply: object) -> bool:
    """Whether the server has not seen the script it was to run."""
    return isinstance(reply, NoScriptError)


def is_read_only(reply: object) -> bool:
    """Whether the server turned a write down because it is a replica."""
    return isinstance(reply, ResponseError) and "READONLY" in _text(reply)


def reply_fault(reply: ResponseError, *, where: str, what: str = "") -> StoreError:
    """The error for what the server replied to a command."""
    text = _text(reply)
    subject = f"{where}: {what}: " if what else f"{where}: "
    for sign, kind, advice in _REPLIES:
        if sign in text:
            return kind(f"{subject}{advice} ({_shortened(text)})")
    return StoreUnavailable(f"{subject}it replied {_shortened(text)!r}; see the server's version and log")


def call_fault(error: RedisError | OSError, *, where: str, timeout_ms: int) -> StoreUnavailable:
    """The error for a call that brought no reply."""
    return StoreUnavailable(f"{where}: {call_cause(error, timeout_ms=timeout_ms)}")


def call_cause(error: RedisError | OSError, *, timeout_ms: int) -> str:
    """Why a call brought no reply, and what to do."""
    text = _shortened(str(error))
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_ms} ms; look at the server and the network, or allow it more time"
    if isinstance(error, WrongServer):
        return str(error)
    if isinstance(error, BusyLoadingError):
        return "it is still loading its data; wait"
    if isinstance(error, AuthenticationError):
        return f"it does not let this user in ({text}); see user and password"
    if isinstance(error, MaxConnectionsError) or "max number of clients" in text:
        return f"it takes no more connections ({text}); raise its maxclients"
    if isinstance(error, ResponseError):
        return str(reply_fault(error, where="the handshake"))
    return f"no connection ({text}); see that it runs and can be reached"


def _text(reply: ResponseError) -> str:
    """redis-py cuts known codes off the text; the class then says them."""
    name = type(reply).__name__
    codes = {
        "ReadOnlyError": "READONLY ",
        "OutOfMemoryError": "OOM ",
        "NoPermissionError": "NOPERM ",
        "ClusterDownError": "CLUSTERDOWN ",
        "MasterDownError": "MASTERDOWN ",
        "TryAgainError": "TRYAGAIN ",
        "ClusterCrossSlotError": "CROSSSLOT ",
    }
    return codes.get(name, "") + str(reply)


def _shortened(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "..."
