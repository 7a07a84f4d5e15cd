"""What events make of a customer's record: pure, so that a store may ask again and again.

Everything but consents changes in one update: what is remembered of the events, features, contacts and the
due mark, or nothing of it. Applying an event again finds its id and changes nothing.

Signals need the engine's worker process, so they are evaluated after the update. Until their values are
stored, the update leaves the customer due at once: whatever dies in between, they are evaluated soon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from engine.core.rulebook import Rulebook
from engine.events.checking import CheckedEvent, EventCheck
from engine.events.memory import (
    Earlier,
    KeptEvent,
    Memory,
    read_earlier,
    read_memory,
    too_old_ms,
    write_memory,
)
from engine.events.relevance import Relevance
from engine.events.types import EventTypes, Reason
from engine.signals.patterns import SignalPatterns
from feature_store.contacts import DEFAULT_HISTORY_MS, extended
from feature_store.schema import FeatureSchema
from feature_store.state import (
    ContactHistory,
    CustomerChange,
    CustomerRecord,
    FeatureVector,
    Signal,
)
from feature_store.streaming import StreamingFeatures

UNKNOWN_AGAIN_MS: Final = 3_600_000
"""When to look again at a customer with events who does not exist yet: features show once it does."""


class Verdict(StrEnum):
    """What became of an event."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one event; `reason` and `words` say why it was refused."""

    verdict: Verdict
    reason: Reason | None = None
    words: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class EventRules:
    """Everything that events are judged and applied by: one rule set and one schema."""

    version: str
    types: EventTypes
    check: EventCheck
    patterns: SignalPatterns
    relevance: Relevance
    streaming: StreamingFeatures

    @classmethod
    def of(
        cls, rulebook: Rulebook, types: EventTypes, patterns: SignalPatterns, schema: FeatureSchema
    ) -> EventRules:
        """The rules of a snapshot."""
        check = EventCheck(types, rulebook, schema)
        streaming = StreamingFeatures(schema)
        return cls(rulebook.version, types, check, patterns, Relevance(patterns), streaming)

    def too_old_ms(self, now_ms: int) -> int:
        """What happened before this instant is refused, unless it is replayed."""
        return too_old_ms(horizon_ms=self.types.horizon_ms, now_ms=now_ms)


@dataclass(frozen=True, slots=True, eq=False)
class Unsettled:
    """A customer whose signals are to be evaluated on these events; `stream` was stored with them."""

    events: tuple[KeptEvent, ...]
    now_ms: int
    stream: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Application:
    """A change, the fate of each event, and whether signals are to be evaluated after it."""

    change: CustomerChange | None
    fates: tuple[Fate, ...]
    unsettled: Unsettled | None = None


_APPLIED: Final = Fate(Verdict.APPLIED)
_DUPLICATE: Final = Fate(Verdict.DUPLICATE)
_PAST_FLOOR: Final = Fate(
    Verdict.REFUSED, Reason.TOO_LATE, "is older than the ids that are remembered, so it may be a repetition"
)


def apply_events(
    rules: EventRules, record: CustomerRecord, events: Sequence[CheckedEvent], *, now_ms: int
) -> Application:
    """Applies the events of one customer, in any order and however often. Raises StoreCorrupt."""
    memory, earlier = read_memory(record.stream), read_earlier(record)
    floor_ms = max(memory.floor_ms, earlier.floor_ms, rules.too_old_ms(now_ms))
    fates = [_fate(memory, earlier, event, floor_ms) for event in events]
    new = [event for event, fate in zip(events, fates, strict=True) if fate is _APPLIED]
    if not new:
        return Application(None, tuple(fates))
    now_ms = max(now_ms, memory.looked_ms, memory.watermark_ms)
    kept = [rules.relevance.kept(e.type.name, e.at_ms, e.digest, e.attributes) for e in new]
    for event in new:
        rules.streaming.apply(memory.tallies, event.type.name, event.at_ms, event.attributes, now_ms=now_ms)
    memory.events.extend(event for event in kept if event is not None)
    relevant = any(event is not None for event in kept)
    features = _set_features(rules, record.features, memory, new)
    contacts = _with_contacts(record.contacts, new, now_ms)
    return _changed(
        rules,
        memory,
        earlier,
        features,
        now_ms=now_ms,
        contacts=contacts,
        fates=tuple(fates),
        evaluate=relevant,
    )


def look_again(
    rules: EventRules, record: CustomerRecord, *, now_ms: int, evaluate: bool = False
) -> Application:
    """What time alone makes of a customer; with `evaluate` signals are evaluated, due or not.

    The new due mark lies ahead, unless signals are to be evaluated, which then set it. Raises StoreCorrupt.
    """
    memory, earlier = read_memory(record.stream), read_earlier(record)
    now_ms = max(now_ms, memory.looked_ms, memory.watermark_ms)
    due = memory.signals_due_ms != 0 and memory.signals_due_ms <= now_ms
    return _changed(
        rules,
        memory,
        earlier,
        record.features,
        now_ms=now_ms,
        contacts=None,
        fates=(),
        evaluate=due or evaluate,
    )


def settle_signals(
    rules: EventRules, record: CustomerRecord, unsettled: Unsettled, found: Sequence[Signal]
) -> CustomerChange | None:
    """Stores evaluated signals, unless the customer has changed since: whoever changed it sees to them."""
    if record.stream != unsettled.stream:
        return None
    memory, earlier = read_memory(record.stream), read_earlier(record)
    now_ms, events = unsettled.now_ms, earlier.events_with(memory)
    memory.signals_due_ms = rules.relevance.next_change_ms(events, now_ms=now_ms) or 0
    others = [signal for signal in record.signals if signal.name not in rules.relevance.names]
    standing = [signal for signal in found if signal.value]
    return CustomerChange(
        signals=tuple(sorted((*others, *standing), key=lambda signal: signal.name)),
        stream=write_memory(memory),
        due_at_ms=_due_at_ms(rules, memory, earlier, record.features, now_ms),
    )


def postpone_signals(
    rules: EventRules, record: CustomerRecord, unsettled: Unsettled, *, until_ms: int
) -> CustomerChange | None:
    """Sets when to evaluate signals again that could not be evaluated, unless the customer has changed."""
    if record.stream != unsettled.stream:
        return None
    memory = read_memory(record.stream)
    memory.signals_due_ms = until_ms
    due_at_ms = _due_at_ms(rules, memory, read_earlier(record), record.features, unsettled.now_ms)
    return CustomerChange(stream=write_memory(memory), due_at_ms=due_at_ms)


def _fate(memory: Memory, earlier: Earlier, event: CheckedEvent, floor_ms: int) -> Fate:
    """What becomes of an event; one that is applied is remembered, so that a second copy is a duplicate."""
    if memory.knows(event.digest) or earlier.knows(event.digest):
        return _DUPLICATE
    if event.at_ms < floor_ms and not event.late:
        return _PAST_FLOOR
    memory.note(event.digest, received_ms=event.received_ms)
    return _APPLIED


def _changed(
    rules: EventRules,
    memory: Memory,
    earlier: Earlier,
    features: FeatureVector | None,
    *,
    now_ms: int,
    contacts: ContactHistory | None,
    fates: tuple[Fate, ...],
    evaluate: bool,
) -> Application:
    memory.looked_ms = now_ms
    _forget(rules, memory, now_ms)
    if evaluate:
        memory.signals_due_ms = now_ms
    if features is not None and features.schema_version == rules.streaming.schema.digest:
        features = rules.streaming.written(features, earlier.tallies_with(memory), now_ms=now_ms)
    stream = _stored(memory, features)
    change = CustomerChange(
        features=features,
        contacts=contacts,
        stream=stream,
        due_at_ms=_due_at_ms(rules, memory, earlier, features, now_ms),
    )
    if not evaluate:
        return Application(change, fates)
    events = rules.relevance.pruned(earlier.events_with(memory), now_ms=now_ms)
    unsettled = Unsettled(tuple(events), now_ms, stream)
    return Application(change, fates, unsettled)


def _forget(rules: EventRules, memory: Memory, now_ms: int) -> None:
    """Drops, in place, what is beyond its time: ids, tallies, and events no signal is made of any more."""
    memory.forget_ids(horizon_ms=rules.types.horizon_ms, now_ms=now_ms)
    memory.events = rules.relevance.pruned(memory.events, now_ms=now_ms)
    rules.streaming.forget(memory.tallies, now_ms=now_ms)


def _stored(memory: Memory, features: FeatureVector | None) -> bytes:
    """The bytes to store; none of who does not exist and of whom nothing is remembered."""
    return b"" if features is None and memory.is_idle else write_memory(memory)


def tidied(rules: EventRules, record: CustomerRecord, *, now_ms: int) -> tuple[CustomerChange | None, int]:
    """What `retention` does to a customer: whatever is remembered beyond its time goes, and ended signals.

    Returns how many ids, tallies, events and signals went. Raises StoreCorrupt.
    """
    if not (record.stream or record.signals):
        return None, 0
    memory, earlier = read_memory(record.stream), read_earlier(record)
    held = memory.held
    _forget(rules, memory, max(now_ms, memory.looked_ms, memory.watermark_ms))
    standing = tuple(signal for signal in record.signals if signal.valid_until_ms > now_ms)
    gone = held - memory.held + len(record.signals) - len(standing)
    if not (standing or earlier.events_with(memory)):
        memory.signals_due_ms = 0  # there is nothing to make one of, nor one to end
    stream = _stored(memory, record.features)
    if not gone and len(stream) >= len(record.stream):
        return None, 0
    return (
        CustomerChange(
            signals=standing,
            stream=stream,
            due_at_ms=_due_at_ms(rules, memory, earlier, record.features, now_ms),
        ),
        gone,
    )


def _due_at_ms(
    rules: EventRules, memory: Memory, earlier: Earlier, features: FeatureVector | None, now_ms: int
) -> int:
    """The first instant at which time alone may change something; 0 for never."""
    instants = [memory.signals_due_ms] if memory.signals_due_ms else []
    ids_go_ms = memory.ids_go_ms(horizon_ms=rules.types.horizon_ms)
    if ids_go_ms is not None:
        instants.append(max(ids_go_ms, now_ms + 1))
    if features is None:
        instants += [] if memory.is_idle else [now_ms + UNKNOWN_AGAIN_MS]
    elif rules.streaming.views:
        change = rules.streaming.next_change_ms(earlier.tallies_with(memory), now_ms=now_ms)
        instants += [now_ms + rules.streaming.half_fresh_ms, *([] if change is None else [change])]
    return min(instants, default=0)


def _set_features(
    rules: EventRules, vector: FeatureVector | None, memory: Memory, events: Sequence[CheckedEvent]
) -> FeatureVector | None:
    """Features that events set: of each the latest event's, unless the view was loaded after it."""
    given = sorted(
        ((event.at_ms, event.digest, place, value) for event in events for place, value in event.features),
        key=lambda row: row[:3],
    )
    schema = rules.streaming.schema
    if vector is None or not given or vector.schema_version != schema.digest:
        return vector
    values = np.array(vector.values, dtype=np.float32)
    for at_ms, digest, place, value in given:
        name, view = schema.feature[place].name, int(schema.view_index[place])
        loaded_ms = 0 if view in rules.streaming.views else vector.view_times_ms[view]
        before = memory.set_at.get(name)
        if at_ms >= loaded_ms and (before is None or tuple(before) < (at_ms, digest)):
            values[place] = value
            memory.set_at[name] = (at_ms, digest)
    return FeatureVector(vector.schema_version, vector.view_times_ms, values)


def _with_contacts(
    history: ContactHistory, events: Sequence[CheckedEvent], now_ms: int
) -> ContactHistory | None:
    """The history with the contacts that events are; None where none is. Counted once for each event id.

    Outcomes of decisions are not among them: they were counted where they settled what was held.
    """
    longer: ContactHistory | None = None
    for event in events:
        if event.contact is not None and event.contact.decision_id is None:
            counted = extended(
                longer or history,
                event.contact.event,
                key=event.id,
                now_ms=now_ms,
                keep_ms=DEFAULT_HISTORY_MS,
            )
            longer = counted or longer
    return longer
