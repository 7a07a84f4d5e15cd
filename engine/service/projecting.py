"""Rebuilds the online consents from the ledger, while decisions and changes go on.

Each customer is replaced in one step, and only if the store still holds what was compared; so a decision sees
the consents before or those after, never a mixture and never more than one of the two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from engine.decisionlog.ledger import ConsentLedger
from engine.service.merges import Merge, persons, standing
from feature_store.consents import prevailing
from feature_store.merging import said_together, united_consents
from feature_store.state import ConsentRecord, CustomerChange, CustomerRecord
from feature_store.store import OnlineStore

Projection = tuple[ConsentRecord, ...]
"""One customer's prevailing records, by purpose and channel."""

Merges = Callable[[], Sequence[Merge]]
"""Every merge as the log of identities has it now."""

_PAGE = 500
_ROUNDS = 10
_LOOKS = 2


@dataclass(frozen=True, slots=True)
class Difference:
    """One customer whose online consents are not those of the ledger."""

    customer_id: str
    stored: Projection
    ledger: Projection

    @property
    def kind(self) -> str:
        """Whether records are `missing` online, are there beyond the ledger (`extra`), or `differ`.

        `unplaced` ones say the same, without their place in the ledger, as earlier engines kept them.
        """
        if _said(self.stored) == _said(self.ledger):
            return "unplaced"
        if {_place(r) for r in self.stored} < {_place(r) for r in self.ledger}:
            return "missing"
        return "extra" if {_place(r) for r in self.ledger} < {_place(r) for r in self.stored} else "differ"


@dataclass(slots=True)
class Rebuilt:
    """What was compared and replaced. `unsettled` customers changed each time they were to be replaced."""

    customers: int = 0
    differences: list[Difference] = field(default_factory=list)
    replaced: int = 0
    unsettled: tuple[str, ...] = ()


def rebuild(
    store: OnlineStore,
    ledger: ConsentLedger,
    *,
    write: bool,
    told: Callable[[int], None] = lambda _n: None,
    merges: Merges = tuple,
) -> Rebuilt:
    """Compares every customer's online consents to the ledger and, if `write`, replaces those that differ.

    `told` gets the number of customers compared so far; `merges` gives those of the log of identities. Raises
    StoreError and LogError; what was replaced until then is right, and to begin again is harmless.
    """
    found = Rebuilt()
    projected = project(ledger, merges=merges())
    suspects: dict[str, Projection] = {}
    for page in _pages(_everybody(store, projected)):
        suspects |= _unlike(_stored(store, page), projected)
        found.customers += len(page)
        told(found.customers)
    found.differences = _confirmed(store, ledger, merges, suspects)
    if write:
        _settle(store, ledger, merges, {d.customer_id: d.stored for d in found.differences}, found)
    return found


def _confirmed(
    store: OnlineStore, ledger: ConsentLedger, merges: Merges, suspects: Mapping[str, object]
) -> list[Difference]:
    """Differences that are still there: a change that was on its way is not one."""
    wrong: dict[str, Projection] = {}
    expected: Mapping[str, Projection] = {}
    for _ in range(_LOOKS):
        if not suspects:
            return []
        stored = {c: held for page in _pages(suspects) for c, held in _stored(store, page).items()}
        expected = project(ledger, suspects, merges())
        suspects = wrong = _unlike(stored, expected)
    return [Difference(c, held, expected.get(c, ())) for c, held in sorted(wrong.items())]


def _unlike(stored: Mapping[str, Projection], expected: Mapping[str, Projection]) -> dict[str, Projection]:
    """The customers of `stored` whose records are not those expected."""
    return {c: held for c, held in stored.items() if not same(held, expected.get(c, ()))}


def project(
    ledger: ConsentLedger, only: Iterable[str] | None = None, merges: Iterable[Merge] = ()
) -> dict[str, Projection]:
    """What every customer said, or those of `only`, as stores would hold it.

    Who is merged into another has what the two said together, as if merges that were undone had never been.
    """
    lasting = standing(merges)
    wanted = None if only is None else persons(lasting, only)
    said = _Said(lasting)
    for position, entry in ledger.replay_places():
        if wanted is None or entry.customer_id in wanted:
            said.hear(entry.customer_id, replace(entry.consent, position=position), entry.received_at_ms)
    return said.by_customer()


class _Said:
    """What customers said, in the order it came in, and became one person in the order of merges."""

    def __init__(self, merges: Sequence[Merge]) -> None:
        self._to_come = deque(merges)
        self._into: dict[str, str] = {}
        self._merged_at_ms: dict[str, int] = {}
        self._kept: dict[str, dict[tuple[str, str], ConsentRecord]] = {}

    def hear(self, customer_id: str, record: ConsentRecord, received_at_ms: int) -> None:
        """Takes in one more record."""
        self._merge_until(received_at_ms)
        person = self._person(customer_id)
        merged_at_ms, own = self._merged_at_ms.get(person), self._kept.setdefault(person, {})
        if merged_at_ms is not None:
            self._keep(person, said_together(own.values(), record, merged_at_ms=merged_at_ms))
            return
        place = _place(record)
        own[place] = prevailing(own[place], record) if place in own else record

    def by_customer(self) -> dict[str, Projection]:
        """The records of each, by purpose and channel."""
        while self._to_come:
            self._merge(self._to_come.popleft())
        found = {person: tuple(own[place] for place in sorted(own)) for person, own in self._kept.items()}
        return found | {merged: found.get(self._person(merged), ()) for merged in self._into}

    def _merge_until(self, now_ms: int) -> None:
        while self._to_come and self._to_come[0].at_ms <= now_ms:
            self._merge(self._to_come.popleft())

    def _merge(self, merge: Merge) -> None:
        person, other = self._person(merge.into), merge.customer_id
        kept = [tuple(self._kept.pop(name, {}).values()) for name in (person, other)]
        self._keep(person, united_consents(*kept, at_ms=merge.at_ms))
        self._into[other] = merge.into
        self._merged_at_ms[person] = merge.at_ms

    def _keep(self, person: str, records: Iterable[ConsentRecord]) -> None:
        self._kept[person] = {_place(record): record for record in records}

    def _person(self, customer_id: str) -> str:
        while customer_id in self._into:
            customer_id = self._into[customer_id]
        return customer_id


def same(stored: Sequence[ConsentRecord], expected: Sequence[ConsentRecord]) -> bool:
    """Whether both say the same, and the stored records know a place in the ledger."""
    return _said(stored) == _said(expected) and all(record.position for record in stored)


def _said(records: Sequence[ConsentRecord]) -> list[ConsentRecord]:
    """Without places, as what a client sent twice may be known by either, and without the texts that no
    decision sees: the same ones may be sealed under different keys.
    """
    return [replace(record, position=0, actor="", evidence="") for record in records]


def _settle(
    store: OnlineStore, ledger: ConsentLedger, merges: Merges, wrong: dict[str, Projection], found: Rebuilt
) -> None:
    """Replaces what differs. What changed since it was compared is compared again with the ledger as it is
    by then, which holds that change: it is on disk before any store sees it.
    """
    for _ in range(_ROUNDS):
        if not wrong:
            return
        expected = project(ledger, wrong, merges())
        changed: dict[str, Projection] = {}
        for page in _pages(iter(wrong)):
            swap = _Swap(wrong, expected)
            store.update(page, swap.change)
            found.replaced += len(page) - len(swap.missed)
            changed |= swap.missed
        wrong = changed
    found.unsettled = tuple(sorted(wrong))


class _Swap:
    """An update that replaces a customer's consents where they are still those compared."""

    def __init__(self, seen: Mapping[str, Projection], expected: Mapping[str, Projection]) -> None:
        self.missed: dict[str, Projection] = {}
        self._seen = seen
        self._expected = expected

    def change(self, customer_id: str, record: CustomerRecord) -> CustomerChange | None:
        """The replacement; may be asked again for the same customer, and the last answer counts."""
        self.missed.pop(customer_id, None)
        if record.consents != self._seen[customer_id]:
            self.missed[customer_id] = record.consents
            return None
        return CustomerChange(consents=self._expected.get(customer_id, ()))


def _everybody(store: OnlineStore, projected: Mapping[str, Projection]) -> Iterator[str]:
    """Whoever is in the ledger, then whoever is only in the store."""
    yield from projected
    yield from (customer_id for customer_id in store.customers() if customer_id not in projected)


def _stored(store: OnlineStore, customer_ids: Sequence[str]) -> dict[str, Projection]:
    """What the store holds, of customers that do not exist yet, too."""
    held: dict[str, Projection] = {}

    def look(customer_id: str, record: CustomerRecord) -> None:
        held[customer_id] = record.consents

    store.update(customer_ids, look)
    return held


def _pages(customer_ids: Iterable[str]) -> Iterator[list[str]]:
    ids = iter(customer_ids)
    while page := list(islice(ids, _PAGE)):
        yield page


def _place(record: ConsentRecord) -> tuple[str, str]:
    return record.purpose, record.channel
