"""A store in which whoever was merged into another is found there: either id is answered by the same one.

A customer who is not merged costs nothing more: that somebody is shows in the very values that are read or
replaced (`CustomerMerged`), and only then is the other asked, one round trip for each merge in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from feature_store.contacts import DEFAULT_HISTORY_MS, extended
from feature_store.errors import CustomerMerged, StoreUnavailable
from feature_store.keeping import merged_signals
from feature_store.merging import said_together
from feature_store.state import (
    ConsentRecord,
    ContactEvent,
    CustomerChange,
    CustomerRecord,
    CustomerState,
    Identity,
    Signal,
)
from feature_store.store import OnlineStore, Update

MAX_STEPS: Final = 100
"""From one id to the next; merges never form a ring, but may be made and undone meanwhile."""

Answer = TypeVar("Answer")


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MergingStore:
    """A store that follows merges; all else is the store's. `own` is the store as it is, by id."""

    def __init__(
        self,
        own: OnlineStore,
        *,
        contact_history_ms: int = DEFAULT_HISTORY_MS,
        clock: Callable[[], int] = _wall_clock_ms,
    ) -> None:
        self.own = own
        self._contact_history_ms = contact_history_ms
        self._clock = clock

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the store has
        return getattr(self.own, name)

    def read(self, customer_id: str) -> CustomerState | None:
        """What a decision needs, of the customer who answers for the id; the state says who that is."""
        try:
            return self.own.read(customer_id)
        except CustomerMerged as merged:
            return _followed(self.own.read, merged.into)

    def read_many(self, customer_ids: Sequence[str]) -> list[CustomerState | None]:
        """`read` of many customers; one by one where any of them is merged."""
        try:
            return self.own.read_many(customer_ids)
        except CustomerMerged:
            return [self.read(customer_id) for customer_id in customer_ids]

    def update(self, customer_ids: Sequence[str], change: Update) -> None:
        """Replaces what `change` returns for each id, from the record of who answers for it.

        Two ids of one customer are changed one after the other; `change` is given the id that was asked for.
        """
        merged: dict[str, None] = {}

        def unmerged(customer_id: str, record: CustomerRecord) -> CustomerChange | None:
            merged.pop(customer_id, None)
            if record.merged_into:
                merged[customer_id] = None
                return None
            return change(customer_id, record)

        self.own.update(customer_ids, unmerged)
        for customer_id in merged:
            self._update_one(customer_id, change)

    def _update_one(self, customer_id: str, change: Update) -> None:
        """Changes who answers for an id, as long as that one does."""
        target = customer_id
        for _ in range(MAX_STEPS):
            step = _Step(customer_id, change)
            self.own.update([target], step)
            if step.is_done:
                return
            target = step.next_id
        raise _restless(customer_id)

    def resolve(self, identity: Identity) -> tuple[str, ...]:
        """Ids of the customers that carry the identity, sorted.

        Several of one customer are that customer's id. A single one is not looked at, as whoever reads it
        learns who answers for it.
        """
        found = self.own.resolve(identity)
        if len(found) < 2:
            return found
        states = zip(found, self.read_many(found), strict=True)
        return tuple(sorted({name if state is None else state.customer_id for name, state in states}))

    def put_consents(self, records: Iterable[tuple[str, ConsentRecord]]) -> None:
        """Projects consents; those of merged customers into what the one customer said."""
        offered: dict[str, list[ConsentRecord]] = {}
        for customer_id, record in records:
            offered.setdefault(customer_id, []).append(record)
        merged: dict[str, list[ConsentRecord]] = {}
        while offered:
            try:
                self.own.put_consents((name, record) for name, said in offered.items() for record in said)
                break
            except CustomerMerged as found:
                merged[found.customer_id] = offered.pop(found.customer_id)
        for customer_id, said in merged.items():
            self._update_one(customer_id, _saying(said))

    def put_signals(self, customer_id: str, signals: Iterable[Signal]) -> None:
        """Replaces signals of the same names, of who answers for the id."""
        new = tuple(signals)
        try:
            self.own.put_signals(customer_id, new)
        except CustomerMerged:
            self._update_one(
                customer_id,
                lambda _, record: CustomerChange(signals=tuple(merged_signals(record.signals, new))),
            )

    def record_contact(
        self, customer_id: str, event: ContactEvent, *, key: str, settles: str | None = None
    ) -> bool:
        """Counts a contact once for each customer and `key`; it stays with the id it came in under."""
        try:
            return self.own.record_contact(customer_id, event, key=key, settles=settles)
        except CustomerMerged:
            return self._record_contact(customer_id, event, key, settles)

    def _record_contact(self, customer_id: str, event: ContactEvent, key: str, settles: str | None) -> bool:
        now_ms, counted = self._clock(), True

        def longer(_: str, record: CustomerRecord) -> CustomerChange | None:
            nonlocal counted
            history = extended(
                record.contacts,
                event,
                key=key,
                now_ms=now_ms,
                keep_ms=self._contact_history_ms,
                settles=settles,
            )
            counted = history is not None
            return None if history is None else CustomerChange(contacts=history)

        self._update_one(customer_id, longer)
        return counted


class _Step:
    """An update by way of an id: of who is asked now if that one answers for the id, else it says who may."""

    def __init__(self, customer_id: str, change: Update) -> None:
        self._customer_id = customer_id
        self._change = change
        self.is_done = False
        self.next_id = customer_id

    def __call__(self, asked: str, record: CustomerRecord) -> CustomerChange | None:
        """The change; may be asked again, and the last answer counts."""
        self.is_done = False
        self.next_id = record.merged_into or self._customer_id
        own = asked == self._customer_id
        if record.merged_into or not (own or any(p.customer_id == self._customer_id for p in record.parts)):
            return None
        self.is_done = True
        made = self._change(self._customer_id, record)
        return made if made is None or own else replace(made, under=self._customer_id)


def _saying(said: Sequence[ConsentRecord]) -> Update:
    def change(_: str, record: CustomerRecord) -> CustomerChange:
        consents = record.consents
        latest_ms = max((part.at_ms for part in record.parts), default=None)
        for one in said:
            consents = said_together(consents, one, merged_at_ms=latest_ms)
        return CustomerChange(consents=consents)

    return change


def _followed(ask: Callable[[str], Answer], customer_id: str) -> Answer:
    asked = customer_id
    for _ in range(MAX_STEPS):
        try:
            return ask(asked)
        except CustomerMerged as merged:
            asked = merged.into
    raise _restless(customer_id)


def _restless(customer_id: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"customer {customer_id!r}: merges were followed {MAX_STEPS} times without an end; try again, and "
        "look at `arbiter customer merges`"
    )
