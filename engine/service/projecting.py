"""Rebuilds the online consents from the ledger, while decisions and changes go on.

Each customer is replaced in one step, and only if the store still holds what was compared; so a decision sees
the consents before or those after, never a mixture and never more than one of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from engine.decisionlog.ledger import ConsentLedger
from feature_store.consents import prevailing
from feature_store.state import ConsentRecord, CustomerChange, CustomerRecord
from feature_store.store import OnlineStore

Projection = tuple[ConsentRecord, ...]
"""One customer's prevailing records, by purpose and channel."""

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
    store: OnlineStore, ledger: ConsentLedger, *, write: bool, told: Callable[[int], None] = lambda _n: None
) -> Rebuilt:
    """Compares every customer's online consents to the ledger and, if `write`, replaces those that differ.

    `told` gets the number of customers compared so far. Raises StoreError and LogError; what was replaced
    until then is right, and to begin again is harmless.
    """
    found = Rebuilt()
    projected = project(ledger)
    suspects: dict[str, Projection] = {}
    for page in _pages(_everybody(store, projected)):
        suspects |= _unlike(_stored(store, page), projected)
        found.customers += len(page)
        told(found.customers)
    found.differences = _confirmed(store, ledger, suspects)
    if write:
        _settle(store, ledger, {d.customer_id: d.stored for d in found.differences}, found)
    return found


def _confirmed(store: OnlineStore, ledger: ConsentLedger, suspects: Mapping[str, object]) -> list[Difference]:
    """Differences that are still there: a change that was on its way is not one."""
    wrong: dict[str, Projection] = {}
    expected: Mapping[str, Projection] = {}
    for _ in range(_LOOKS):
        if not suspects:
            return []
        stored = {c: held for page in _pages(suspects) for c, held in _stored(store, page).items()}
        expected = project(ledger, suspects)
        suspects = wrong = _unlike(stored, expected)
    return [Difference(c, held, expected.get(c, ())) for c, held in sorted(wrong.items())]


def _unlike(stored: Mapping[str, Projection], expected: Mapping[str, Projection]) -> dict[str, Projection]:
    """The customers of `stored` whose records are not those expected."""
    return {c: held for c, held in stored.items() if not same(held, expected.get(c, ()))}


def project(ledger: ConsentLedger, only: Mapping[str, object] | None = None) -> dict[str, Projection]:
    """What every customer said, or those of `only`, as stores would hold it."""
    kept: dict[str, dict[tuple[str, str], ConsentRecord]] = {}
    for position, entry in ledger.replay_places():
        if only is not None and entry.customer_id not in only:
            continue
        record = replace(entry.consent, position=position)
        own = kept.setdefault(entry.customer_id, {})
        place = _place(record)
        own[place] = prevailing(own[place], record) if place in own else record
    return {customer: tuple(own[place] for place in sorted(own)) for customer, own in kept.items()}


def same(stored: Sequence[ConsentRecord], expected: Sequence[ConsentRecord]) -> bool:
    """Whether both say the same, and the stored records know a place in the ledger."""
    return _said(stored) == _said(expected) and all(record.position for record in stored)


def _said(records: Sequence[ConsentRecord]) -> list[ConsentRecord]:
    """Without places: what a client sent twice may be known by either."""
    return [replace(record, position=0) for record in records]


def _settle(store: OnlineStore, ledger: ConsentLedger, wrong: dict[str, Projection], found: Rebuilt) -> None:
    """Replaces what differs. What changed since it was compared is compared again with the ledger as it is
    by then, which holds that change: it is on disk before any store sees it.
    """
    for _ in range(_ROUNDS):
        if not wrong:
            return
        expected = project(ledger, wrong)
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
