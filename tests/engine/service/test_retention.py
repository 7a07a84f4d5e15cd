"""What is too old goes, what is in force stays, and the logs verify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.compressing import compress
from engine.decisionlog.ledger import ConsentEntry, OutcomeEntry, consent_ledger, outcome_log
from engine.decisionlog.verifying import verify
from engine.events.deadletters import DeadLetter, DiskDeadLetters
from engine.service.projecting import project
from engine.service.retention import AGED_LOGS, CONSENTS, CONTACTS, Ageing, Retention, enforce
from feature_store.embedded import open_embedded
from feature_store.state import (
    ConsentRecord,
    ConsentState,
    ContactEvent,
    FeatureVector,
    OutcomeType,
    Reservation,
)
from feature_store.store import OnlineStore

DAY_MS = 86_400_000
NOW_MS = 1_000 * DAY_MS
GRANTED, WITHDRAWN, OBJECTED = ConsentState.GRANTED, ConsentState.WITHDRAWN, ConsentState.OBJECTED


@dataclass(frozen=True)
class Company:
    """A data directory with a store of one customer."""

    folder: Path
    store: OnlineStore

    def checkpoints(self, log: str) -> Checkpoints:
        return Checkpoints(self.folder / "checkpoints", log, key=b"")

    def enforce(self, days: Mapping[str, int | None], *, write: bool = True) -> dict[str, int]:
        places = Ageing(
            store=self.store,
            log_directories={log: self.folder / log for log in (*AGED_LOGS, CONSENTS)},
            checkpoints_of=self.checkpoints,
        )
        return enforce(places, Retention(days=days), now_ms=NOW_MS, write=write)

    def say(self, *said: tuple[int, ConsentState], purpose: str = "marketing") -> None:
        """What the customer said so many days ago."""
        with consent_ledger(self.folder / CONSENTS, checkpoints=self.checkpoints(CONSENTS)) as ledger:
            for days_ago, state in said:
                at_ms = NOW_MS - days_ago * DAY_MS
                record = ConsentRecord(purpose, "any", state, at_ms)
                ledger.append(ConsentEntry(customer_id="c1", consent=record, received_at_ms=at_ms))

    def said(self) -> list[tuple[str, ConsentState]]:
        entries = consent_ledger(self.folder / CONSENTS).replay()
        return [(entry.consent.purpose, entry.consent.state) for entry in entries]


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    store = open_embedded(tmp_path / "store", clock=lambda: NOW_MS)
    yield Company(tmp_path, store)
    store.close()


def outcome(name: str, days_ago: int) -> OutcomeEntry:
    at_ms = NOW_MS - days_ago * DAY_MS
    return OutcomeEntry(
        outcome_id=name,
        decision_id="d",
        action_id="a",
        type=OutcomeType.SHOWN,
        at_ms=at_ms,
        received_at_ms=at_ms,
    )


def contact(days_ago: int, outcome: OutcomeType = OutcomeType.SHOWN, **fields: int) -> ContactEvent:
    return ContactEvent(
        NOW_MS - days_ago * DAY_MS, f"a{days_ago}", "g", "web", "marketing", outcome, **fields
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_old_entries_go_and_the_chain_holds(company: Company, compressed: bool) -> None:
    """Only those older than the limit; a dry run counts them, and again finds none."""
    checkpoints = company.checkpoints("outcomes")
    with outcome_log(company.folder / "outcomes", checkpoints=checkpoints) as log:
        for days_ago in (40, 31, 30, 1):
            log.append(outcome(f"o-{days_ago}" + "-" * 2_000, days_ago))
    if compressed:
        assert len(list(compress(company.folder / "outcomes", ended_before_s=1e12))) == 1
    limits = {"outcomes": 30}

    counted = company.enforce(limits, write=False)
    before = len(list(outcome_log(company.folder / "outcomes").replay()))
    gone, again = company.enforce(limits), company.enforce(limits)

    found = verify(company.folder / "outcomes", checkpoints)
    left = [entry.outcome_id.rstrip("-") for entry in outcome_log(company.folder / "outcomes").replay()]
    assert (counted, before) == ({"outcomes": 2}, 4)
    assert (gone, again) == ({"outcomes": 2}, {"outcomes": 0})
    assert left == ["o-30", "o-1"]
    assert (found.is_whole, found.records, found.erased) == (True, 4, 2)


def test_without_a_limit_nothing_goes(company: Company) -> None:
    """Everything is kept for good by default; logs that are not there are no error."""
    company.say((900, GRANTED), (800, WITHDRAWN))

    assert company.enforce(dict.fromkeys((*AGED_LOGS, CONSENTS, CONTACTS))) == {}
    assert company.enforce({"decisions": 1, "shadow": 1}) == {"decisions": 0, "shadow": 0}
    assert len(company.said()) == 2


def test_a_withdrawn_consent_goes_after_its_time_and_the_withdrawal_stays(company: Company) -> None:
    """Counted from when another record took its place; what is in force stays, however old."""
    company.say((900, GRANTED), (100, WITHDRAWN))
    company.say((900, OBJECTED), purpose="profiling")
    company.say((900, GRANTED), (20, WITHDRAWN), purpose="sharing")

    gone = company.enforce({CONSENTS: 30})

    checkpoints = company.checkpoints(CONSENTS)
    assert gone == {CONSENTS: 1}
    assert sorted(company.said()) == [
        ("marketing", WITHDRAWN),
        ("profiling", OBJECTED),
        ("sharing", GRANTED),
        ("sharing", WITHDRAWN),
    ]
    assert verify(company.folder / CONSENTS, checkpoints).is_whole


@settings(max_examples=15, deadline=None)
@given(
    said=st.lists(
        st.tuples(
            st.integers(1, 60),
            st.sampled_from([GRANTED, ConsentState.DENIED, WITHDRAWN, OBJECTED]),
            st.sampled_from(["marketing", "profiling"]),
        ),
        max_size=12,
    )
)
def test_what_decisions_see_is_the_same_afterwards(
    said: list[tuple[int, ConsentState, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever was said, in whatever order: the rebuilt projection does not change."""
    folder = tmp_path_factory.mktemp("said")
    store = open_embedded(folder / "store", map_size_bytes=1 << 24)
    company = Company(folder, store)
    for days_ago, state, purpose in said:
        company.say((days_ago, state), purpose=purpose)
    before = project(consent_ledger(folder / CONSENTS)) if said else {}

    company.enforce({CONSENTS: 30})

    after = project(consent_ledger(folder / CONSENTS)) if said else {}
    store.close()
    assert after == before


def test_old_contacts_go_and_reservations_stay(company: Company) -> None:
    """The keys of those kept stay with them: none is counted twice later."""
    nothing = FeatureVector("sha256:" + "0" * 64, (), np.zeros(0, dtype=np.float32))
    company.store.put_customers([("c1", nothing)])
    for days_ago in (50, 31, 30, 2):
        company.store.record_contact("c1", contact(days_ago), key=f"k{days_ago}")
    state = company.store.read("c1")
    assert state is not None
    held = contact(45, OutcomeType.RESERVED, until_ms=NOW_MS + 1)
    assert company.store.reserve(state, [Reservation(held, "held")])

    counted = company.enforce({CONTACTS: 30}, write=False)
    gone = company.enforce({CONTACTS: 30})

    after = company.store.read("c1")
    assert after is not None
    assert (counted, gone) == ({CONTACTS: 2}, {CONTACTS: 2})
    assert [event.action_id for event in after.contacts] == ["a45", "a30", "a2"]
    assert not company.store.record_contact("c1", contact(30), key="k30")


def test_old_dead_letters_go(company: Company) -> None:
    """What was refused before the limit."""
    with DiskDeadLetters(company.folder / "dead-letters") as letters:
        letters.put(
            [
                DeadLetter(f"event {days}", "REASON", "words", 0, NOW_MS - days * DAY_MS)
                for days in (40, 31, 3)
            ]
        )

    gone = company.enforce({"dead-letters": 30})

    with DiskDeadLetters(company.folder / "dead-letters") as letters:
        left = [letter.event for letter in letters.letters()]
    assert gone == {"dead-letters": 2}
    assert left == ["event 3"]
