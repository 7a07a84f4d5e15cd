"""Nothing of a customer stays behind who is erased while something is written of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from arbiter_at_work import AT_RISK, LOYAL, DemoCompany, query, settings_for

from engine.bootstrap import Application, late_writes, open_application, wall_clock_ms
from engine.decisionlog.erasure import entries_about, erasures
from engine.decisionlog.verifying import verify
from engine.errors import CustomerUnknown, DecisionUnknown
from engine.events.applying import Verdict
from engine.events.raw import RawEvent
from engine.events.types import Reason
from engine.logfiles import (
    CONSENTS,
    DECISIONS,
    IDENTITIES,
    MODEL_SHADOW,
    OUTCOMES,
    SHADOW,
    checkpoints_of,
    log_directory,
)
from engine.service import privacy
from engine.service.consents import Consents, ConsentSubmission
from engine.service.decisions import Decisions
from engine.service.erased import ErasedCustomers
from engine.service.events import Events
from engine.service.late_writes import RegisteredErasures
from engine.service.outcomes import OutcomeReport, Outcomes
from engine.service.privacy import Holdings
from feature_store.sealing import TextCipher
from feature_store.state import ConsentState, OutcomeType
from feature_store.store import OnlineStore

PROVEN = (DECISIONS, CONSENTS, OUTCOMES)
LOGS = (*PROVEN, SHADOW, MODEL_SHADOW, IDENTITIES)


@dataclass
class Overtaken:
    """What it wraps, where somebody else comes in once, before or after a call of one method."""

    wrapped: Any
    method: str
    meanwhile: Callable[[], object]
    before: bool = False
    happened: threading.Event = field(default_factory=threading.Event)

    def __getattr__(self, name: str) -> Any:
        called = getattr(self.wrapped, name)
        return called if name != self.method or self.happened.is_set() else self._overtaken(called)

    def _overtaken(self, called: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            self.happened.set()
            if self.before:
                self.meanwhile()
                return called(*arguments, **named)
            result = called(*arguments, **named)
            self.meanwhile()
            return result

        return call


@dataclass
class Company:
    """The demo company at work, and what erases its customers as `arbiter customer erase` does."""

    application: Application
    late: RegisteredErasures
    register: ErasedCustomers

    def holdings(self) -> Holdings:
        settings = self.application.settings
        return Holdings(
            store=self.application.store,
            log_directories={log: log_directory(settings, log) for log in LOGS},
            checkpoints_of=lambda log: checkpoints_of(settings, log),
            letters=self.application.letters,
            streams=(),
            erased=ErasedCustomers(settings.data_dir / "erased"),
            texts=TextCipher("text of a consent"),
            identity=lambda identity: identity,
        )

    def erase(self, customer_id: str) -> None:
        privacy.forget(self.holdings(), customer_id, actor="dpo", reason="request 7", now_ms=wall_clock_ms())

    def overtaken(self, wrapped: object, method: str, customer_id: str = LOYAL, **how: bool) -> Any:
        return Overtaken(wrapped, method, lambda: self.erase(customer_id), **how)

    def decisions(self, store: object) -> Decisions:
        return Decisions(
            live=self.application.live,
            store=cast(OnlineStore, store),
            log=self.application.log,
            clock=wall_clock_ms,
            request_id_ttl_ms=1_000,
            late=self.late,
        )

    def left(self, customer_id: str) -> list[str]:
        """The places that still hold something of a customer."""
        directories = {log: log_directory(self.application.settings, log) for log in LOGS}
        found = [log for log, path in directories.items() if list(entries_about(path, customer_id))]
        return found if privacy.held(self.holdings(), customer_id).nothing else [*found, "store"]

    def blanked(self, log: str) -> int:
        return len(erasures(log_directory(self.application.settings, log)))

    def is_whole(self) -> bool:
        settings = self.application.settings
        return all(verify(log_directory(settings, x), checkpoints_of(settings, x)).is_whole for x in PROVEN)


@pytest.fixture
def company(data_dir: Path) -> Iterator[Company]:
    settings = settings_for(data_dir)
    with open_application(settings) as application:
        register = ErasedCustomers(data_dir / "erased")
        yield Company(application, late_writes(settings, application.store, register), register)


def test_a_decision_that_an_erasure_overtook_is_not_given_and_not_kept(company: Company) -> None:
    """It was made from what had been read before; its record is zeros, and the log verifies."""
    decisions = company.decisions(company.overtaken(company.application.store, "read"))

    with pytest.raises(CustomerUnknown):
        decisions.decide(query(LOYAL))

    assert company.left(LOYAL) == []
    assert company.blanked(DECISIONS) == 1
    assert company.is_whole()


def test_an_erasure_concerns_nobody_else(company: Company) -> None:
    """Who is decided for meanwhile gets an answer, which is kept."""
    decisions = company.decisions(company.overtaken(company.application.store, "read", AT_RISK))

    answer = decisions.decide(query(LOYAL))

    assert company.application.log.read(answer.record.decision_id) is not None
    assert company.blanked(DECISIONS) == 0


def test_whose_erasure_has_begun_is_not_decided_for(company: Company) -> None:
    """The entry in the register is enough: their state goes in a moment. A readmission ends that."""
    company.register.add(LOYAL, actor="dpo", reason="7", now_ms=wall_clock_ms())

    with pytest.raises(CustomerUnknown):
        company.application.decisions.decide(query(LOYAL))
    company.register.add(LOYAL, actor="dpo", reason="8", now_ms=wall_clock_ms(), readmitted=True)
    answer = company.application.decisions.decide(query(LOYAL))

    assert answer.record.request.customer_id == LOYAL
    assert company.blanked(DECISIONS) == 0


def test_an_outcome_that_an_erasure_overtook_is_not_kept(company: Company) -> None:
    """Neither in its log nor as a contact in the store."""
    record = company.application.decisions.decide(query(LOYAL)).record
    application = company.application
    outcomes = Outcomes(
        live=application.live,
        store=application.store,
        decisions=company.overtaken(application.log, "read"),
        log=application.outcomes._log,
        clock=wall_clock_ms,
        late=company.late,
    )
    shown = OutcomeReport(
        "o-1", record.decision_id, record.decision.actions[0].action_id, OutcomeType.SHOWN, None
    )

    with pytest.raises(DecisionUnknown):
        outcomes.record(shown)

    assert company.left(LOYAL) == []
    assert company.blanked(OUTCOMES) == 1
    assert company.is_whole()


def test_a_consent_that_an_erasure_overtook_is_not_kept(company: Company) -> None:
    """Neither in the ledger nor in the store."""
    before = company.application.store.read(LOYAL)
    consents = Consents(
        live=company.application.live,
        store=company.overtaken(company.application.store, "read"),
        ledger=company.application.ledger,
        clock=wall_clock_ms,
        cipher=TextCipher("text of a consent"),
        late=company.late,
    )

    with pytest.raises(CustomerUnknown):
        consents.record(ConsentSubmission(LOYAL, "marketing", "any", ConsentState.OBJECTED))

    assert before is not None
    assert company.left(LOYAL) == []
    assert company.is_whole()


def test_an_event_that_an_erasure_overtook_is_not_kept(company: Company) -> None:
    """It had been found good; its sender is told that the customer was erased, and others' count."""
    application = company.application
    events = Events(
        live=application.live,
        store=company.overtaken(application.store, "update", before=True),
        consents=application.consents,
        outcomes=application.outcomes,
        rules_of=application.events._rules_of,
        signals=application.events._signals,
        clock=wall_clock_ms,
        erased=company.register,
        late=company.late,
    )

    mine, other = events.ingest([viewed("e-1", LOYAL), viewed("e-2", AT_RISK)])

    assert (mine.reason, other.verdict) == (Reason.CUSTOMER_ERASED, Verdict.APPLIED)
    assert company.left(LOYAL) == []


def test_who_was_due_and_is_erased_leaves_nothing(company: Company) -> None:
    """Looking at customers whom time changes makes nobody anew."""
    application = company.application
    application.intake.ingest([viewed("e-1", LOYAL)])
    events = Events(
        live=application.live,
        store=company.overtaken(application.store, "due"),
        consents=application.consents,
        outcomes=application.outcomes,
        rules_of=application.events._rules_of,
        signals=application.events._signals,
        clock=lambda: wall_clock_ms() + 86_400_000,
    )

    looked_at = events.refresh()

    assert looked_at > 0
    assert company.left(LOYAL) == []
    assert LOYAL not in application.store.due(now_ms=wall_clock_ms() + 86_400_000, limit=10_000)


def test_what_is_wrong_with_an_event_of_the_erased_makes_no_letter(company: Company) -> None:
    """They are refused before anything else is looked at."""
    company.erase(LOYAL)

    (fate,) = company.application.intake.ingest([viewed("e-1", LOYAL, type="never_declared")])

    assert fate.reason is Reason.CUSTOMER_ERASED
    assert list(company.application.letters.letters()) == []


class Deciders:
    """Threads that decide for customers and report outcomes, again and again until told to stop."""

    def __init__(self, application: Application, names: list[str]) -> None:
        self._application = application
        self._names = names
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(3)]
        self.decided = {name: threading.Semaphore(0) for name in names}
        self.failures: list[Exception] = []

    def __enter__(self) -> Deciders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                for name in self._names:
                    if decide_and_report(self._application, name):
                        self.decided[name].release()
        except Exception as error:
            self.failures.append(error)


def test_deciders_and_an_eraser_race(company: Company) -> None:
    """Customers are erased one by one while threads decide for all of them and report outcomes."""
    names = [f"R{number}" for number in range(4)]
    for name in names:
        DemoCompany(company.application.store).copy_customer(LOYAL, name)

    with Deciders(company.application, names) as deciders:
        for name in names:
            assert deciders.decided[name].acquire(timeout=60)
            company.erase(name)

    assert deciders.failures == []
    assert {name: left for name in names if (left := company.left(name))} == {}
    assert company.blanked(DECISIONS) >= len(names)
    assert company.is_whole()


def decide_and_report(application: Application, customer_id: str) -> bool:
    """Whether the customer was decided for."""
    try:
        record = application.decisions.decide(query(LOYAL, customer_id)).record
        action_id = record.decision.actions[0].action_id
        report = OutcomeReport(record.decision_id, record.decision_id, action_id, OutcomeType.SHOWN, None)
        application.outcomes.record(report)
    except (CustomerUnknown, DecisionUnknown):
        return False
    return True


def viewed(name: str, customer_id: str, type: str = "page_viewed") -> RawEvent:
    return RawEvent(
        id=name,
        type=type,
        customer_id=customer_id,
        identity=None,
        at_ms=None,
        attributes={"path": "/cancel"},
        received_ms=wall_clock_ms(),
    )
