"""What an operator sees of a Redis, and what must be right about it before a decision rests on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

from feature_store.errors import StoreUnavailable
from feature_store.oversight import KindStats, StoreCondition, StoreStats, mebibytes
from feature_store.redis.keys import Keys
from feature_store.redis.requests import Requests, batches

SAMPLE = 50_000
"""Keys looked at for statistics; more are estimated from these, which SCAN gives in no order."""

_KEEPS = "noeviction"
"""The one policy under which neither an objection nor a unit of a budget vanishes when memory is full."""

_KINDS: Mapping[bytes, str] = {
    b"f": "features",
    b"c": "consents",
    b"h": "contacts",
    b"s": "signals",
    b"m": "parts",
    b"e": "stream",
    b"i": "identities",
}


def check_eviction(requests: Requests, *, where: str) -> None:
    """Raises StoreUnavailable for a server that may throw away consents when its memory is full."""
    for info in _infos(requests, "memory"):
        policy = info.get("maxmemory_policy", _KEEPS)
        if policy != _KEEPS:
            raise StoreUnavailable(
                f"{where}: its maxmemory-policy {policy} throws away what limits contacts, objections too, "
                f"when memory is short; set it to {_KEEPS}"
            )


def condition_of(requests: Requests, *, place: str, history_days: int) -> StoreCondition:
    """Version, memory and persistence of the servers; of several, the figures of all together."""
    infos = _infos(requests, "default")
    first = infos[0]
    used, most = (sum(int(info.get(name, 0)) for info in infos) for name in ("used_memory", "maxmemory"))
    facts = {
        "servers": str(len(infos)),
        "memory": mebibytes(used),
        "largest memory": mebibytes(most) if most else "not limited",
        "when memory is full": first.get("maxmemory_policy", "not told"),
        "writes": _persistence(first),
        "replicas": str(sum(int(info.get("connected_slaves", 0)) for info in infos)),
        "contact history": f"{history_days} days",
    }
    return StoreCondition(
        engine="Valkey" if "valkey_version" in first else "Redis",
        version=first.get("valkey_version") or first.get("redis_version", ""),
        place=place,
        facts=facts,
        warnings=tuple(dict.fromkeys(warning for info in infos for warning in _warnings(info))),
    )


def _infos(requests: Requests, section: str) -> list[dict[str, str]]:
    """What each server says of itself."""
    replies = requests.ask_each(("INFO", section))
    return [_fields(reply.decode(errors="replace")) for reply in replies if isinstance(reply, bytes)]


def _fields(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, found, value in lines if found}


def _persistence(info: Mapping[str, str]) -> str:
    if info.get("aof_enabled") == "1":
        return "appended to a file; its appendfsync setting says how soon that is on disk"
    return "kept in memory, and in snapshots if the server makes any"


def _warnings(info: Mapping[str, str]) -> list[str]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    warnings = []
    if info.get("maxmemory_policy", _KEEPS) != _KEEPS:
        warnings.append(f"what limits contacts may be thrown away: set maxmemory-policy to {_KEEPS}")
    if most and used > most * 9 // 10:
        warnings.append(f"{mebibytes(used)} of {mebibytes(most)} are used: raise maxmemory")
    if info.get("aof_enabled") != "1":
        warnings.append(
            "what was written since the last snapshot is lost with the server: set appendonly yes"
        )
    elif info.get("aof_last_write_status", "ok") != "ok":
        warnings.append("its last write to disk failed: see its log")
    return warnings


def sampled_stats(requests: Requests, keys: Keys) -> StoreStats:
    """Counts the keys where there are few, else those of a sample, scaled to all keys of the servers."""
    found = list(islice(requests.scan(b"*"), SAMPLE + 1))
    is_estimate = len(found) > SAMPLE
    sample = list(dict.fromkeys(found[:SAMPLE]))
    scale = 1.0
    if is_estimate:
        total = sum(size for size in requests.ask_each(("DBSIZE",)) if isinstance(size, int))
        scale = max(1.0, total / len(sample))
    count: Counter[bytes] = Counter()
    size: Counter[bytes] = Counter()
    values = [key for key in sample if keys.kind_of(key) in _KINDS]
    for key, length in zip(values, _numbers(requests, "STRLEN", values), strict=True):
        count[keys.kind_of(key)] += 1
        size[keys.kind_of(key)] += length
    identities = [key for key in sample if keys.is_identity(key)]
    links = sum(_numbers(requests, "SCARD", identities))
    budgets = {key.rpartition(b":")[0] for key in sample if keys.is_budget(key)}
    return StoreStats(
        customers=round(count[b"f"] * scale),
        kinds={
            name: KindStats(round(count[kind] * scale), round(size[kind] * scale))
            for kind, name in _KINDS.items()
        },
        identities=round(links * scale),
        budgets=len(budgets),
        is_estimate=is_estimate,
    )


def _numbers(requests: Requests, command: str, keys: Sequence[bytes]) -> list[int]:
    replies = [reply for batch in batches(keys) for reply in requests.ask([(command, key) for key in batch])]
    return [reply if isinstance(reply, int) else 0 for reply in replies]
