"""Changes of consent and decisions at the same time, and what each decision may have seen.

Every customer has one party that changes its consent, version after version; anybody decides for it. The
version a decision obeyed is known from the time of the record it rested on. It must not be older than what
was acknowledged before the decision began, nor newer than what was begun before it ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable, MutableSequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

from arbiter_at_work import UNPROFILED

from engine.bootstrap import Application, open_application
from engine.decisionlog.reading import is_live
from engine.service.consents import ConsentSubmission
from engine.service.requests import DecisionQuery
from engine.settings import Settings
from feature_store.embedded import open_embedded
from feature_store.state import ANY_CHANNEL, ConsentState
from feature_store.store import OnlineStore

CHANNEL = "web"
PURPOSE = "marketing"
FIRST_MS = 1_700_000_000_000
SAID = (
    ConsentState.GRANTED,
    ConsentState.WITHDRAWN,
    ConsentState.GRANTED,
    ConsentState.OBJECTED,
    ConsentState.GRANTED,
    ConsentState.DENIED,
)
_TIDY_EVERY = 2000


def said(version: int) -> ConsentState:
    """What the customer says in a version."""
    return SAID[version % len(SAID)]


def channel_of(customer: int) -> str:
    """Where a customer's consents are recorded: for all channels, or for the one decided on."""
    return ANY_CHANNEL if customer % 2 else CHANNEL


def name_of(customer: int) -> str:
    """Customer id."""
    return f"O{customer:04d}"


@dataclass(frozen=True)
class Obeyed:
    """What a decision says of the consent it rested on."""

    since_ms: int | None
    state: ConsentState
    permitted: bool
    advertised: bool  # whether it returned an action for the purpose


@dataclass
class Board:
    """What was begun and what was acknowledged, by customer; shared by all parties."""

    begun: MutableSequence[int]
    acknowledged: MutableSequence[int]

    @classmethod
    def shared(cls, customers: int) -> Board:
        """A board that processes share; nobody has said anything."""
        return cls(RawArray("q", [-1] * customers), RawArray("q", [-1] * customers))


@dataclass
class Tally:
    """What one party did, and every decision that broke the rule."""

    changes: int = 0
    decisions: int = 0
    fresh: int = 0  # decisions that rested on the latest acknowledged version
    refused: int = 0
    broken: list[str] = field(default_factory=list)


def take_part(
    board: Board,
    *,
    party: int,
    parties: int,
    operations: int,
    change_share: float,
    change: Callable[[int, int], object],
    decide: Callable[[int], Obeyed],
) -> Tally:
    """Changes and decides in turn, at random; every decision is judged."""
    dice, tally = random.Random(party), Tally()
    customers = len(board.begun)
    own = range(party, customers, parties)
    for customer in own:
        _change(board, customer, change, tally)
    for _ in range(operations - len(own)):
        if dice.random() < change_share:
            _change(board, dice.choice(own), change, tally)
        else:
            _decide(board, dice.randrange(customers), decide, tally)
    return tally


def _change(board: Board, customer: int, change: Callable[[int, int], object], tally: Tally) -> None:
    version = board.begun[customer] + 1
    board.begun[customer] = version
    change(customer, version)
    board.acknowledged[customer] = version
    tally.changes += 1


def _decide(board: Board, customer: int, decide: Callable[[int], Obeyed], tally: Tally) -> None:
    before = board.acknowledged[customer]
    obeyed = decide(customer)
    after = board.begun[customer]
    version = -1 if obeyed.since_ms is None else obeyed.since_ms - FIRST_MS
    expected = ConsentState.UNKNOWN if version < 0 else said(version)
    granted = expected is ConsentState.GRANTED
    lawful = obeyed.state is expected and obeyed.permitted is granted and (granted or not obeyed.advertised)
    if not (before <= version <= after and lawful):
        tally.broken.append(f"{name_of(customer)}: {before} <= {version} <= {after}: {obeyed}")
    tally.decisions += 1
    tally.fresh += version == before
    tally.refused += not granted


def populate(data_dir: Path, customers: int, store: OnlineStore | None = None) -> None:
    """Customers without consents, in the demo company's store or another, with features of one of its own."""
    with closing(open_embedded(data_dir / "store")) as demo:
        model = demo.read(UNPROFILED)
        assert model is not None
        assert model.features is not None
        (store or demo).put_customers([(name_of(n), model.features) for n in range(customers)])


def open_party(application: Application) -> tuple[Callable[[int, int], object], Callable[[int], Obeyed]]:
    """A party that works in this process, by the services that servers use."""
    advertising = {a.id for a in application.live.current.rulebook.actions if a.purpose == PURPOSE}
    made = 0

    def change(customer: int, version: int) -> object:
        return application.consents.record(
            ConsentSubmission(
                customer_id=name_of(customer),
                purpose=PURPOSE,
                channel=channel_of(customer),
                state=said(version),
                recorded_at_ms=FIRST_MS + version,
            )
        )

    def decide(customer: int) -> Obeyed:
        nonlocal made
        made += 1
        if made % _TIDY_EVERY == 0:
            drop_ended_segments(application.settings.data_dir / "decisions")
        decision = application.decisions.decide(
            DecisionQuery(customer_id=name_of(customer), channel=CHANNEL, limit=1)
        ).record.decision
        used = next(used for used in decision.consents if used.purpose == PURPOSE)
        returned = any(action.action_id in advertising for action in decision.actions)
        return Obeyed(used.since_ms, used.state, used.permitted, returned)

    return change, decide


def drop_ended_segments(directory: Path) -> None:
    """Makes room: a million logged decisions are ten gigabytes that nobody reads here."""
    for path in directory.glob("*.seg"):
        try:
            if not is_live(path):
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue


def work(settings: Settings, board: Board, told: Any, **share: Any) -> None:  # a queue, numbers
    """The life of a party that is a process of its own, on the store of the settings."""
    with open_application(settings) as application:
        change, decide = open_party(application)
        told.put(take_part(board, change=change, decide=decide, **share))
