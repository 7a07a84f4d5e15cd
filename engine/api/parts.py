"""Parts of a reply that are the same in every language: consents, versions, priorities, missing inputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from struct import Struct
from typing import Final, TypeVar

from engine._pb.arbiter.v1 import decision_service_pb2, types_pb2
from engine.api.wire import instant, real, sized, tags, text, whole, whole_map
from engine.domain import ConsentUsed, Lever, MissingInput, Priority, PropensitySource, Versions
from feature_store.state import ConsentState

CONSENT_STATES: Final = {state: getattr(types_pb2, f"CONSENT_STATE_{state.name}") for state in ConsentState}
_PROPENSITIES: Final = {
    source: getattr(decision_service_pb2, f"PROPENSITY_SOURCE_{source.name}") for source in PropensitySource
}
_PRIORITY: Final = tags(decision_service_pb2.Priority)
_LEVER: Final = tags(decision_service_pb2.Lever)
_MISSING: Final = tags(decision_service_pb2.MissingInput)
_CONSENT: Final = tags(types_pb2.ConsentUsed)
_VERSIONS: Final = tags(types_pb2.Versions)
_FACTORS: Final = Struct("<cdcdcBcdcd").pack
"""The numbers of a Priority, each after its tag; the source takes one byte."""
_MOST_KEPT: Final = 8_192
"""Parts of one kind that are kept: some MB; the demo company has 1,400. Beyond it all are made anew."""

Key = TypeVar("Key", bound=Hashable)
Part = TypeVar("Part")


class Kept(dict[Key, Part]):
    """Parts by what they follow from, each made when it is first asked for. Safe for threads."""

    def __init__(self, make: Callable[[Key], Part], *, most: int = _MOST_KEPT) -> None:
        super().__init__()
        self._make = make
        self._most = most

    def __missing__(self, key: Key) -> Part:
        if len(self) >= self._most:
            self.clear()
        part = self[key] = self._make(key)
        return part


def currency_part(currency: str) -> bytes:
    """The currency of a Priority."""
    return text(_PRIORITY.currency, currency)


def priority_part(priority: Priority, currency: bytes) -> bytes:
    """A Priority: what an action is ordered by. `currency` is its own part."""
    factors = priority.priority, priority.propensity, priority.weight, priority.value
    encode = _factors if all(factors) else _factors_with_zeros
    told = encode(*factors, _PROPENSITIES[priority.propensity_source]) + currency
    levers = priority.levers
    return told if not levers else told + b"".join([_lever(each) for each in levers])


def _factors(priority: float, propensity: float, weight: float, value: float, source: int) -> bytes:
    return _FACTORS(
        _PRIORITY.priority, priority,
        _PRIORITY.propensity, propensity,
        _PRIORITY.propensity_source, source,
        _PRIORITY.weight, weight,
        _PRIORITY.value, value,
    )  # fmt: skip


def _factors_with_zeros(
    priority: float, propensity: float, weight: float, value: float, source: int
) -> bytes:
    return b"".join(
        (
            real(_PRIORITY.priority, priority),
            real(_PRIORITY.propensity, propensity),
            whole(_PRIORITY.propensity_source, source),
            real(_PRIORITY.weight, weight),
            real(_PRIORITY.value, value),
        )
    )


def _lever(lever: Lever) -> bytes:
    """A share of 0 is not kept, as -0.0 would be found under it."""
    key = lever.rule_id, lever.share
    return _levers[key] if lever.share else _encode_lever(key)


def _encode_lever(key: tuple[str, float]) -> bytes:
    rule_id, share = key
    return sized(_PRIORITY.levers, text(_LEVER.rule_id, rule_id) + real(_LEVER.share, share))


def consent_part(used: ConsentUsed) -> bytes:
    """A ConsentUsed: the effective consent for one purpose."""
    known = _consents[used.purpose, used.channel, used.state, used.legal_basis, used.permitted]
    since_ms = used.since_ms
    return b"".join(
        (
            known,
            b"" if since_ms is None else sized(_CONSENT.since, instant(since_ms)),
            whole(_CONSENT.ledger_position, used.position),
            text(_CONSENT.signal, used.signal),
        )
    )


def versions_part(versions: Versions) -> bytes:
    """A Versions: what a decision was made with."""
    models = (*versions.models.items(),)
    return _versions[versions.rules, versions.catalogue, versions.feature_schema, models, versions.engine]


def missing_part(missing: MissingInput) -> bytes:
    """A MissingInput."""
    return _missing[missing.name, missing.cause]


_VersionsKey = tuple[str, str, str, tuple[tuple[str, int], ...], str]


def _encode_versions(key: _VersionsKey) -> bytes:
    rules, catalogue, feature_schema, models, engine = key
    body = (
        text(_VERSIONS.rules, rules),
        text(_VERSIONS.catalogue, catalogue),
        text(_VERSIONS.feature_schema, feature_schema),
        whole_map(_VERSIONS.models, dict(models)),
        text(_VERSIONS.engine, engine),
    )
    return b"".join(body)


def _encode_missing(key: tuple[str, str]) -> bytes:
    name, cause = key
    return text(_MISSING.name, name) + text(_MISSING.cause, cause)


_ConsentKey = tuple[str, str, ConsentState, str, bool]


def _encode_consent(key: _ConsentKey) -> bytes:
    purpose, channel, state, legal_basis, permitted = key
    return b"".join(
        (
            text(_CONSENT.purpose, purpose),
            text(_CONSENT.channel, channel),
            whole(_CONSENT.state, CONSENT_STATES[state]),
            text(_CONSENT.legal_basis, legal_basis),
            whole(_CONSENT.permitted, permitted),
        )
    )


_versions: Final = Kept(_encode_versions)
_levers: Final = Kept(_encode_lever)
_missing: Final = Kept(_encode_missing)
_consents: Final = Kept(_encode_consent)
