"""A part of the demo company in a store that is measured, and what happens to its customers."""

from __future__ import annotations

import csv
import gzip
import itertools
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.bootstrap import Application, open_application, wall_clock_ms
from engine.demo.cast import CAST
from engine.demo.company import consents_of
from engine.demo.happenings import events_of
from engine.domain import Decision
from engine.events.raw import RawEvent
from engine.service.requests import DecisionQuery
from engine.settings import Settings
from feature_store.loading import CUSTOMER_ID, load_customers
from feature_store.state import CustomerChange, CustomerRecord

MODEL: Final = next(iter(CAST))
"""The customer that newcomers are made like."""
_TOLD_AT_ONCE: Final = 500
_TIMEOUT_MS: Final = 5_000
"""Nothing is to fail because other work keeps the machine busy."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the stores, and the application on it."""

    name: str
    application: Application


@contextmanager
def opened_side(data_dir: Path, name: str, store: str) -> Iterator[Side]:
    """An application on an empty store, as a server has it."""
    settings = Settings(data_dir=data_dir, store=store, store_timeout_ms=_TIMEOUT_MS)
    with open_application(settings) as application:
        application.events.prepare()
        yield Side(name, application)


def fill(side: Side, count: int) -> list[str]:
    """Puts the company's first customers there and MODEL, with consents and events; their ids."""
    application, now_ms = side.application, wall_clock_ms()
    schema = application.live.current.schema
    everybody = load_customers(_customer_file(application.settings), schema=schema, as_of_ms=now_ms)
    customers = [
        (name, vector) for place, (name, vector) in enumerate(everybody) if place < count or name == MODEL
    ]
    application.store.put_customers(customers)
    application.store.put_consents(
        (name, record) for name, _ in customers for record in consents_of(name, now_ms)
    )
    told: list[RawEvent] = []
    for name, vector in customers:
        dice = random.Random(name)  # noqa: S311  # reproducible, not secret
        told += events_of(name, vector, schema, now_ms, dice=dice)
    for start in range(0, len(told), _TOLD_AT_ONCE):
        application.events.ingest(told[start : start + _TOLD_AT_ONCE])
    application.events.refresh_all(name for name, _ in customers)
    return [name for name, _ in customers]


def copy(source: Side, target: Side, names: Sequence[str]) -> None:
    """Puts customers of one store into the other as they are."""
    found: dict[str, CustomerRecord] = {}

    def looked_at(name: str, record: CustomerRecord) -> None:
        found[name] = record

    def same(name: str, _: CustomerRecord) -> CustomerChange:
        record = found[name]
        return CustomerChange(
            record.features, record.consents, record.contacts, record.signals, record.stream
        )

    source.application.store.update(names, looked_at)
    target.application.store.update(names, same)


def newcomer(side: Side, name: str) -> DecisionQuery:
    """Creates a customer like MODEL, to whom nothing happened; a request where travelling matters."""
    store = side.application.store
    state = store.read(MODEL)
    assert state is not None  # it is filled
    assert state.features is not None
    store.put_customers([(name, state.features)])
    store.put_consents((name, record) for record in state.consents)
    return DecisionQuery(customer_id=name, channel="app")


def departure(name: str) -> RawEvent:
    """The customer goes abroad."""
    now_ms = wall_clock_ms()
    return RawEvent(f"abroad-{name}", "roaming_session", name, None, now_ms, {"country": "IT"}, now_ms)


def is_at_home(decision: Decision) -> bool:
    """Whether a decision says that the customer is not travelling."""
    return any(reason.code == "NOT_TRAVELLING" for action in decision.suppressed for reason in action.reasons)


def write_newcomers(path: Path, settings: Settings, count: int, prefix: str) -> None:
    """A CSV of so many customers with ids of their own and the features of the company's."""
    with gzip.open(_customer_file(settings), "rt", encoding="utf-8", newline="") as source:
        header, *rows = csv.reader(source)
    place = header.index(CUSTOMER_ID)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number, row in enumerate(itertools.islice(itertools.cycle(rows), count)):
            writer.writerow([*row[:place], f"{prefix}{number:07}", *row[place + 1 :]])


def _customer_file(settings: Settings) -> Path:
    return settings.feature_schema.parent / "customers.csv.gz"
