"""Imports consents: all rows are checked first, then each goes through the ledger, and none goes twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from typing import TypeVar

import msgspec

from engine.core.rulebook import Rulebook
from engine.decisionlog.ledger import ConsentEntry, ConsentLedger
from engine.errors import RequestInvalid
from engine.service.consent_files import ConsentRow, RowsPassedOver
from engine.service.consent_texts import sealed_texts, shown_texts
from engine.service.consents import CONSENTS, ConsentSubmission, checked_entry
from engine.service.late_writes import LateWrites
from feature_store.sealing import TextCipher
from feature_store.store import OnlineStore

_BATCH = 1000

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a row of the file cannot be imported."""

    line: int
    what: str


@dataclass(slots=True)
class Import:
    """What a file held, and what became of it."""

    rows: int = 0
    entries: list[ConsentEntry] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)
    known: int = 0  # in the ledger already, or twice in the file
    passed_over: RowsPassedOver = field(default_factory=RowsPassedOver)
    imported: int = 0


class ConsentImport:
    """Checks and imports the rows of one file."""

    def __init__(
        self,
        *,
        rulebook: Rulebook,
        store: OnlineStore,
        ledger: ConsentLedger,
        now_ms: int,
        allow_unknown: bool,
        cipher: TextCipher,
        late: LateWrites,
    ) -> None:
        """`allow_unknown` keeps what customers said who do not exist here yet; it shows once they do.

        `cipher` seals free texts. Nobody who was erased comes back.
        """
        self._rulebook = rulebook
        self._store = store
        self._ledger = ledger
        self._now_ms = now_ms
        self._allow_unknown = allow_unknown
        self._cipher = cipher
        self._writing = late.begin(CONSENTS)

    def check(self, rows: Iterable[ConsentRow], found: Import) -> None:
        """Checks every row against the rules, the customers and the ledger; changes nothing."""
        new: list[tuple[int, ConsentEntry]] = []
        for row in rows:
            found.rows += 1
            found.problems += [RowProblem(row.line, what) for what in row.problems]
            if row.submission is not None:
                entry = self._checked(row.line, row.submission, found)
                if entry is not None:
                    new.append((row.line, entry))
        found.problems += self._of_the_erased(new)
        if not self._allow_unknown:
            found.problems += self._of_unknown_customers(new)
        found.problems.sort(key=lambda problem: problem.line)
        found.entries = list(self._unknown_to_ledger([entry for _, entry in new], found))

    def _checked(self, line: int, submission: ConsentSubmission, found: Import) -> ConsentEntry | None:
        try:
            return checked_entry(submission, self._rulebook, self._now_ms)
        except RequestInvalid as error:
            found.problems += [RowProblem(line, f"{v.field} {v.description}") for v in error.violations]
            return None

    def _of_the_erased(self, new: Sequence[tuple[int, ConsentEntry]]) -> Iterator[RowProblem]:
        for line, entry in new:
            if self._writing.is_erased(entry.customer_id):
                words = f"customer {entry.customer_id} was erased; `arbiter customer readmit` lets them in"
                yield RowProblem(line, words)

    def _of_unknown_customers(self, new: Sequence[tuple[int, ConsentEntry]]) -> Iterator[RowProblem]:
        for batch in _batches(new):
            states = self._store.read_many([entry.customer_id for _, entry in batch])
            for (line, entry), state in zip(batch, states, strict=True):
                if state is None and not self._writing.is_erased(entry.customer_id):
                    yield RowProblem(line, f"there is no customer {entry.customer_id}")

    def _unknown_to_ledger(self, entries: Sequence[ConsentEntry], found: Import) -> Iterator[ConsentEntry]:
        """Those that the ledger does not hold; what is twice in the file comes once."""
        customers = {entry.customer_id for entry in entries}
        held = {self._content(entry) for entry in self._ledger.replay() if entry.customer_id in customers}
        for entry in entries:
            content = self._content(entry)
            if content in held:
                found.known += 1
            else:
                held.add(content)
                yield entry

    def append(self, found: Import) -> None:
        """Records what was checked: in the ledger and on the platter first, then online, batch by batch.

        Raises LogUnavailable and StoreError; what was imported until then is recorded, and to import the
        file again adds the rest only. After a StoreError, `arbiter consent rebuild` shows it online.
        """
        for batch in _batches(found.entries):
            kept = [sealed_texts(entry.consent, self._cipher) for entry in batch]
            positions = [
                self._ledger.append(replace(entry, consent=consent))
                for entry, consent in zip(batch, kept, strict=True)
            ]
            self._ledger.flush()
            self._store.put_consents(
                (entry.customer_id, replace(consent, position=position))
                for entry, consent, position in zip(batch, kept, positions, strict=True)
            )
            for entry, position in zip(batch, positions, strict=True):
                self._writing.took_back(entry.customer_id, position)
            found.imported += len(batch)

    def _content(self, entry: ConsentEntry) -> bytes:
        """What makes an entry the same as another: all but when it came in and where in a file it stood."""
        said = shown_texts(replace(entry.consent, evidence="", position=0), self._cipher)
        return blake2b(msgspec.json.encode((entry.customer_id, said, entry.terms)), digest_size=16).digest()


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
