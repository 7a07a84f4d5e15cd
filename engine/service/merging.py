"""Merges customers who are one person, and parts them again: first in the log, then in the store.

Joining: the other's history is laid beside the customer's own, in one step; then the merged id is made to
point there, only if nothing came in under it meanwhile, else once more. Until then each id is answered by
what was recorded under it, and never by less. Parting goes the other way round. Whatever is cut short is
finished by doing it again.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from engine.decisionlog.ledger import ConsentLedger
from engine.errors import StateUnavailable
from engine.service.identities import IdentityChange, IdentityEntry, IdentityLog
from engine.service.merges import Merge, merges_in, persons, standing
from engine.service.projecting import Projection, project
from feature_store import layout
from feature_store.consents import is_refusal
from feature_store.keeping import merged_signals
from feature_store.merged import MergingStore
from feature_store.merging import united_consents, united_contacts
from feature_store.state import ConsentRecord, CustomerChange, CustomerRecord, MergedPart

_ROUNDS: Final = 200
_AT_ONCE_MS: Final = 1
"""A due mark long past."""


class MergeRefused(Exception):
    """Customers cannot be merged or parted as asked; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merging:
    """Merges and parts customers. `refreshed` computes features and signals of customers anew."""

    store: MergingStore
    log: IdentityLog
    ledger: ConsentLedger
    is_erased: Callable[[str], object]
    refreshed: Callable[[Sequence[str]], object]

    def merge(self, customer_id: str, into: str, *, actor: str, reason: str, now_ms: int) -> Merge:
        """Makes `into` answer for both; again is harmless, and finishes what was cut short.

        Raises MergeRefused, LogError, StoreError and StateUnavailable.
        """
        with _one_at_a_time(self.log.directory):
            merge = self._checked(customer_id, into)
            if merge is None:
                entry = _entry(IdentityChange.MERGED, customer_id, into, actor, reason, now_ms)
                self.log.append(entry)
                (merge,) = merges_in([entry])
            self._join(merge)
            self.refreshed([into])
            return merge

    def unmerge(self, customer_id: str, *, actor: str, reason: str, now_ms: int) -> Merge:
        """Makes two customers of one again; what it was undoes. Finishes what was cut short.

        Raises MergeRefused, LogError, StoreError and StateUnavailable.
        """
        with _one_at_a_time(self.log.directory):
            merge = self._last_of(customer_id)
            if merge is None or (merge.undone is not None and not self._is_joined(merge)):
                raise MergeRefused(_not_merged(customer_id, merge, self._look(customer_id)))
            if merge.undone is None:
                self._join(merge)
                self._require_proven(merge)
                self._hand_on_refusals(merge, now_ms)
                entry = _entry(IdentityChange.UNMERGED, customer_id, merge.into, actor, reason, now_ms)
                self.log.append(entry)
                merge = replace(merge, undone=entry)
            self._hand_on_refusals(merge, now_ms)
            root = self._root(merge.into)
            self._part(merge, root)
            for name in (customer_id, root):
                self._settle(name)
            self.refreshed([customer_id, root])
            return merge

    def merges(self) -> list[Merge]:
        """Every merge of the log."""
        return merges_in(self.log.replay())

    def _last_of(self, customer_id: str) -> Merge | None:
        return next((m for m in reversed(self.merges()) if m.customer_id == customer_id), None)

    def _checked(self, customer_id: str, into: str) -> Merge | None:
        """The merge where it was begun before. Raises MergeRefused where it cannot be."""
        if customer_id == into:
            raise MergeRefused(f"{customer_id}: a customer cannot be merged into itself")
        for name in (customer_id, into):
            if self.is_erased(name):
                raise MergeRefused(f"{name}: was erased; nothing may be kept of it")
        begun = next((m for m in standing(self.merges()) if m.customer_id == customer_id), None)
        there = (begun.into if begun else "") or self._look(customer_id).merged_into
        if there and (begun is None or there != into):
            raise MergeRefused(
                f"{customer_id}: is merged into {there} already; `arbiter customer unmerge` parts them"
            )
        self._check_target(customer_id, into)
        for name in (customer_id, into):
            record = self._look(name)
            if record.features is None and not record.merged_into:
                raise MergeRefused(f"{name}: there is no such customer")
        return begun

    def _check_target(self, customer_id: str, into: str) -> None:
        target = self._look(into).merged_into
        if target and self._root(into) == customer_id:
            raise MergeRefused(f"{into}: is merged into {customer_id} already; `customer unmerge` parts them")
        if target:
            raise MergeRefused(f"{into}: is itself merged into {target}; merge into that one instead")

    def _join(self, merge: Merge) -> None:
        for _ in range(_ROUNDS):
            seen = self._look(merge.customer_id)
            if seen.merged_into:
                return
            self.store.own.update([merge.into], _TakeIn(merge, seen))
            leaving = _Leave(merge, seen)
            self.store.own.update([merge.customer_id], leaving)
            if leaving.left:
                return
        raise _contended(merge.customer_id)

    def _is_joined(self, merge: Merge) -> bool:
        """Whether anything of a merge is still in the store."""
        if self._look(merge.customer_id).merged_into:
            return True
        parts = self._look(self._root(merge.into)).parts
        return any(part.customer_id == merge.customer_id for part in parts)

    def _part(self, merge: Merge, root: str) -> None:
        """Gives the customer back what it was and what came in under its id, then takes it from `root`."""
        name = merge.customer_id
        for _ in range(_ROUNDS):
            whole = self._look(root)
            part = next((part for part in whole.parts if part.customer_id == name), None)
            if part is None:
                return
            expected = self._expected(name, root)
            inner = _under(name, whole.parts)
            self.store.own.update([name], _restoring(part, inner, expected[name]))
            taking = _TakeOut(part, inner, whole.consents, expected[root])
            self.store.own.update([root], taking)
            if taking.taken:
                return
        raise _contended(name)

    def _require_proven(self, merge: Merge) -> None:
        """Raises MergeRefused where decisions see a will that is not in this ledger: it would be lost."""
        root = self._root(merge.into)
        person = persons(standing(self.merges()), [root])
        said = [entry.consent for entry in self.ledger.replay() if entry.customer_id in person]
        known = {word for record in said for word in _words(record)}
        if any(not known.issuperset(_words(record)) for record in self._look(root).consents):
            raise MergeRefused(
                f"{root}: decisions see consents that this ledger does not hold; see `arbiter consent "
                "rebuild --check`, or part them on the machine whose ledger has them"
            )

    def _hand_on_refusals(self, merge: Merge, now_ms: int) -> None:
        """Writes what was refused while they were one, through either id, to the ledger as the other's."""
        until_ms = now_ms if merge.undone is None else merge.undone.received_at_ms
        merges = standing(self.merges())
        own = {merge.customer_id, *_inner_ids(merge.customer_id, merges)}
        said = [e for e in self.ledger.replay() if merge.at_ms <= e.received_at_ms]
        others = {merge.into, *_inner_ids(merge.into, merges), *self._outer_ids(merge.into)} - own
        for heirs, by, heir in ((own, others, merge.customer_id), (others, own, merge.into)):
            known = {_word(entry.consent) for entry in said if entry.customer_id in heirs}
            for entry in said:
                together = merge.at_ms <= entry.consent.recorded_at_ms and entry.received_at_ms <= until_ms
                is_common = together and entry.customer_id in by
                word = _word(entry.consent)
                if is_common and is_refusal(entry.consent) and word not in known:
                    known.add(word)
                    self.ledger.append(replace(entry, customer_id=heir, received_at_ms=now_ms))

    def _outer_ids(self, customer_id: str) -> list[str]:
        """Whom a customer was merged into, and whom that one, to the last."""
        found, record = [], self._look(customer_id)
        while record.merged_into and record.merged_into not in found:
            found.append(record.merged_into)
            record = self._look(record.merged_into)
        return found

    def _root(self, customer_id: str) -> str:
        """Who answers for an id now."""
        return ([customer_id, *self._outer_ids(customer_id)])[-1]

    def _settle(self, customer_id: str) -> None:
        """Makes the consents in the store those of the ledger, with what was on its way meanwhile."""
        for _ in range(_ROUNDS):
            seen = self._look(customer_id)
            expected = self._expected(customer_id)[customer_id]
            if seen.merged_into or _wills(seen.consents) == _wills(expected):
                return
            self.store.own.update([customer_id], _replacing(seen.consents, expected))
        raise _contended(customer_id)

    def _expected(self, *customer_ids: str) -> Mapping[str, Projection]:
        projected = project(self.ledger, customer_ids, self.merges())
        return {name: projected.get(name, ()) for name in customer_ids}

    def _look(self, customer_id: str) -> CustomerRecord:
        seen = [CustomerRecord()]

        def look(_: str, record: CustomerRecord) -> None:
            seen[0] = record

        self.store.own.update([customer_id], look)
        return seen[0]


class _TakeIn:
    """Lays a customer's history beside that of another; done again it replaces what it laid there."""

    def __init__(self, merge: Merge, seen: CustomerRecord) -> None:
        self._merge = merge
        self._seen = seen
        self._parts = (_as_part(merge, seen), *seen.parts)

    def __call__(self, customer_id: str, record: CustomerRecord) -> CustomerChange:
        """The change. Raises MergeRefused where the other was merged away meanwhile."""
        if record.merged_into:
            raise MergeRefused(f"{customer_id}: was merged into {record.merged_into} meanwhile; unmerge that")
        new = {part.customer_id for part in self._parts}
        return CustomerChange(
            parts=(*(part for part in record.parts if part.customer_id not in new), *self._parts),
            consents=united_consents(record.consents, self._seen.consents, at_ms=self._merge.at_ms),
            signals=tuple(merged_signals(self._seen.signals, record.signals)),
            due_at_ms=_AT_ONCE_MS,
        )


class _Leave:
    """Makes an id point to another customer, if nothing came in under it since it was seen."""

    def __init__(self, merge: Merge, seen: CustomerRecord) -> None:
        self._merge = merge
        self._seen = seen
        self.left = False

    def __call__(self, _: str, record: CustomerRecord) -> CustomerChange | None:
        """The change; may be asked again, and the last answer counts."""
        self.left = bool(record.merged_into) or self._is_as_seen(record)
        if not self.left or record.merged_into:
            return None
        return CustomerChange(merged_into=self._merge.into, due_at_ms=0)

    def _is_as_seen(self, record: CustomerRecord) -> bool:
        kept = [
            (_stored((_as_part(self._merge, each), *each.parts)), each.consents)
            for each in (record, self._seen)
        ]
        return kept[0] == kept[1]


class _TakeOut:
    """Takes a part away from a customer, if it and the consents are still those seen."""

    def __init__(
        self, part: MergedPart, inner: Sequence[MergedPart], seen: Projection, expected: Projection
    ) -> None:
        self._parts = _stored((part, *inner))
        self._gone = {part.customer_id, *(each.customer_id for each in inner)}
        self._signals = part.signals
        self._seen = seen
        self._expected = expected
        self.taken = False

    def __call__(self, _: str, record: CustomerRecord) -> CustomerChange | None:
        """The change; may be asked again, and the last answer counts."""
        held = [part for part in record.parts if part.customer_id in self._gone]
        self.taken = _stored(held) == self._parts and record.consents == self._seen
        if not self.taken:
            return None
        return CustomerChange(
            parts=tuple(part for part in record.parts if part.customer_id not in self._gone),
            consents=self._expected,
            signals=tuple(signal for signal in record.signals if signal not in self._signals),
            due_at_ms=_AT_ONCE_MS,
        )


def _restoring(
    part: MergedPart, inner: Sequence[MergedPart], consents: Projection
) -> Callable[[str, CustomerRecord], CustomerChange]:
    """Gives a customer its history back; one that has it gets the contacts that came in since."""

    def change(_: str, record: CustomerRecord) -> CustomerChange:
        if not record.merged_into:
            return CustomerChange(contacts=united_contacts(record.contacts, [part]))
        return CustomerChange(
            merged_into="",
            consents=consents,
            contacts=part.contacts,
            parts=tuple(inner),
            signals=part.signals,
            stream=part.stream,
            due_at_ms=_AT_ONCE_MS,
        )

    return change


def _replacing(
    seen: Projection, expected: Projection
) -> Callable[[str, CustomerRecord], CustomerChange | None]:
    def change(_: str, record: CustomerRecord) -> CustomerChange | None:
        return CustomerChange(consents=expected) if record.consents == seen else None

    return change


def _as_part(merge: Merge, record: CustomerRecord) -> MergedPart:
    return MergedPart(
        merge.customer_id,
        merge.into,
        merge.at_ms,
        record.features,
        record.own_contacts,
        record.signals,
        record.stream,
    )


def _stored(parts: Sequence[MergedPart]) -> bytes | None:
    """Parts in bytes, to be compared: alike where the parts are."""
    ordered = sorted(parts, key=lambda part: part.customer_id)
    return layout.encode_parts("compared", ordered)


def _under(customer_id: str, parts: Sequence[MergedPart]) -> tuple[MergedPart, ...]:
    """The parts that came with a customer, in their order."""
    found = {customer_id}
    while more := {part.customer_id for part in parts if part.into in found} - found:
        found |= more
    return tuple(part for part in parts if part.customer_id in found - {customer_id})


def _inner_ids(customer_id: str, merges: Sequence[Merge]) -> set[str]:
    """Who was merged into a customer, and who into those."""
    found = {customer_id}
    while more := {merge.customer_id for merge in merges if merge.into in found} - found:
        found |= more
    return found - {customer_id}


def _words(said: ConsentRecord) -> tuple[tuple[object, ...], ...]:
    """What it says, and when: of an objection that was renewed, these are of two entries of the ledger."""
    place = said.purpose, said.channel
    return (*place, said.state), (*place, said.recorded_at_ms)


def _word(said: ConsentRecord) -> tuple[str, str, str, int]:
    return said.purpose, said.channel, said.state, said.recorded_at_ms


def _wills(records: Sequence[ConsentRecord]) -> list[object]:
    """What was said, whatever is noted beside it."""
    return [(r.purpose, r.channel, r.state, r.recorded_at_ms, r.valid_until_ms) for r in records]


def _entry(
    change: IdentityChange, customer_id: str, into: str, actor: str, reason: str, now_ms: int
) -> IdentityEntry:
    return IdentityEntry(
        customer_id=customer_id,
        change=change,
        into=into,
        actor=actor,
        reason=reason,
        received_at_ms=now_ms,
    )


def _not_merged(customer_id: str, last: Merge | None, record: CustomerRecord) -> str:
    if record.merged_into:
        return (
            f"{customer_id}: is merged into {record.merged_into}, but not by this data directory; part them "
            "on the machine whose log has the merge"
        )
    return f"{customer_id}: is not merged" + (f"; it was parted from {last.into}" if last else "")


def _contended(customer_id: str) -> StateUnavailable:
    return StateUnavailable(f"{customer_id}: others keep changing it; try again")


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Keeps another process of this data directory from merging at the same time."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "merging.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
