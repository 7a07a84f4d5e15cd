"""What two customers are together who are one person: pure, and never looser than either was alone.

What was recorded before the merge is the history of two; of that the more restrictive counts. What is said
afterwards, through either id, is said by the one person. Why so: docs/adr/0019-merged-customers.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from feature_store.aggregates import MAX_DISTINCT
from feature_store.consents import deciding, is_refusal, more_restrictive
from feature_store.keeping import merged_consents
from feature_store.schema import FeatureSchema
from feature_store.state import (
    ANY_CHANNEL,
    ConsentRecord,
    ConsentState,
    ContactEvent,
    ContactHistory,
    FeatureVector,
    MergedPart,
)
from feature_store.streaming import Tallies, Tally

_Row = tuple[ContactEvent, bytes]
_Consents = Mapping[tuple[str, str], ConsentRecord]


def united_contacts(own: ContactHistory, parts: Sequence[MergedPart]) -> ContactHistory:
    """All contacts in order of time; one that stands in several histories word for word counts once."""
    if not parts:
        return own
    rows = dict.fromkeys([*_rows(own), *(row for part in parts for row in _rows(part.contacts))])
    return _history(sorted(rows, key=lambda row: row[0].at_ms))


def parted_contacts(
    changed: ContactHistory, own: ContactHistory, parts: Sequence[MergedPart], *, under: str
) -> tuple[ContactHistory, tuple[MergedPart, ...]]:
    """A changed history of all, in the histories it came from.

    What takes the place of a contact stays where that was; what is new goes to the part `under`, else to
    the customer's own.
    """
    wanted = dict.fromkeys(_rows(changed))
    histories = {"": own} | {part.customer_id: part.contacts for part in parts}
    kept = {name: [row for row in _rows(held) if row in wanted] for name, held in histories.items()}
    gone = {
        key: name
        for name, held in histories.items()
        for event, key in _rows(held)
        if (event, key) not in wanted
    }
    known = {row for rows in kept.values() for row in rows}
    home = under if under in histories else ""
    for row in wanted:
        if row not in known:
            kept[gone.get(row[1], home)].append(row)
    ordered = {name: _history(sorted(rows, key=lambda row: row[0].at_ms)) for name, rows in kept.items()}
    return ordered[""], tuple(replace(part, contacts=ordered[part.customer_id]) for part in parts)


def _rows(history: ContactHistory) -> Iterator[_Row]:
    return zip(history.events, history.keys, strict=True)


def _history(rows: Sequence[_Row]) -> ContactHistory:
    return ContactHistory(tuple(event for event, _ in rows), tuple(key for _, key in rows))


def united_consents(
    one: Iterable[ConsentRecord], other: Iterable[ConsentRecord], *, at_ms: int
) -> tuple[ConsentRecord, ...]:
    """The wills of two who are one person from `at_ms` on, by purpose and channel.

    On each channel the more restrictive of what decided for each of them; who said nothing about a purpose
    restricts nothing. What was said since then comes after that.
    """
    first, second = tuple(one), tuple(other)
    before = [{_place(r): r for r in records if r.recorded_at_ms < at_ms} for records in (first, second)]
    since = sorted(
        (r for r in (*first, *second) if r.recorded_at_ms >= at_ms),
        key=lambda r: (r.recorded_at_ms, r.position),
    )
    united = [
        record
        for place in sorted({*before[0], *before[1]})
        if (record := _united(before[0], before[1], place, at_ms)) is not None
    ]
    kept = [record for record in united if not _is_overruled(record, united, at_ms)]
    return tuple(merged_consents(kept, since))


def _united(one: _Consents, other: _Consents, place: tuple[str, str], at_ms: int) -> ConsentRecord | None:
    """The record for a place; None where a channel is left to the record for `any`, which is stricter."""
    stricter = more_restrictive(one.get(place), other.get(place))
    if stricter is None or stricter.channel == ANY_CHANNEL or is_refusal(stricter):
        return stricter
    decisive = more_restrictive(*(_deciding(held.values(), place, at_ms) for held in (one, other)))
    return None if decisive is not None and decisive.channel == ANY_CHANNEL else stricter


def _is_overruled(record: ConsentRecord, united: Iterable[ConsentRecord], at_ms: int) -> bool:
    """Whether a grant for a channel yields to the record for `any` as the two of them are united now."""
    if record.channel == ANY_CHANNEL or is_refusal(record):
        return False
    decisive = _deciding(united, _place(record), at_ms)
    return decisive is not None and decisive.channel == ANY_CHANNEL


def _deciding(records: Iterable[ConsentRecord], place: tuple[str, str], at_ms: int) -> ConsentRecord | None:
    purpose, channel = place
    return deciding(records, purpose=purpose, channel=channel, now_ms=at_ms)


def said_together(
    current: Iterable[ConsentRecord], record: ConsentRecord, *, merged_at_ms: int | None
) -> tuple[ConsentRecord, ...]:
    """The wills of customers merged at an instant (None where nobody was) once one more is known.

    A yes that was given before the merge and comes to light after it counts only where nothing is on
    record: had it come in time, the other's will might have been the stricter.
    """
    kept = tuple(current)
    late = merged_at_ms is not None and record.recorded_at_ms < merged_at_ms
    if late and record.state is ConsentState.GRANTED and _on_record(kept, record):
        return kept
    return tuple(merged_consents(kept, [record]))


def _on_record(records: Iterable[ConsentRecord], offered: ConsentRecord) -> bool:
    return any(
        record.purpose == offered.purpose and record.channel in (offered.channel, ANY_CHANNEL)
        for record in records
    )


def _place(record: ConsentRecord) -> tuple[str, str]:
    return record.purpose, record.channel


def filled(own: FeatureVector, others: Sequence[FeatureVector], schema: FeatureSchema) -> FeatureVector:
    """The features with views of others, each whole and as old as it is, where it has nothing in a view.

    Computed features are never taken from others: they are computed of all events. All vectors are of
    `schema`; those that are not are passed over.
    """
    values, times, unread = own.values, list(own.view_times_ms), set(own.unread)
    usable = [other for other in others if other.schema_version == own.schema_version == schema.digest]
    for view in range(len(schema.view) if usable else 0):
        places = np.flatnonzero(schema.view_index == view)
        computed = any(schema.feature[place].aggregate is not None for place in places)
        if computed or not np.isnan(own.values[places]).all() or not unread.isdisjoint(places.tolist()):
            continue
        for other in usable:
            if not np.isnan(other.values[places]).all():
                values = np.array(values, dtype=np.float32)
                values[places] = other.values[places]
                times[view] = other.view_times_ms[view]
                unread |= set(other.unread) & set(places.tolist())
                break
    if values is own.values:
        return own
    return FeatureVector(own.schema_version, tuple(times), values, tuple(sorted(unread)))


def united_tallies(own: Tallies, others: Iterable[Tallies]) -> Tallies:
    """What all have tallied, as if the events had been one customer's; those given are left as they are.

    Counts and sums of a step add up, of a distinct value and of the latest event the later counts. Tallies
    of a feature that was defined otherwise are passed over.
    """
    united = dict(own)
    for tallies in others:
        for name, tally in tallies.items():
            before = united.get(name)
            if before is None:
                united[name] = tally
            elif before.definition == tally.definition:
                united[name] = _added(before, tally)
    return united


def _added(one: Tally, other: Tally) -> Tally:
    newest = {
        value: max(one.newest.get(value, step), other.newest.get(value, step))
        for value, step in (one.newest | other.newest).items()
    }
    latest = sorted(newest, key=lambda value: (newest[value], value))[-MAX_DISTINCT:]
    return Tally(
        one.definition,
        _sum(one.counts, other.counts),
        _sum(one.sums, other.sums),
        {value: newest[value] for value in latest},
        max(one.last_ms, other.last_ms),
    )


def _sum(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    return {step: one.get(step, 0) + other.get(step, 0) for step in one.keys() | other.keys()}
