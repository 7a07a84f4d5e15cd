"""Exactly zero over-serve: many decisions at once, over threads and processes, on both stores."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from contact_company import GIFT, MINUTE_MS, NOW_MS, company, open_store, returned, service, vector
from contact_workers import Answer, decide_all, hold_and_wait

from feature_store.state import OutcomeType

SPAWN = multiprocessing.get_context("spawn")
PROCESSES, THREADS, DECISIONS = 3, 20, 1_000
ONCE = """
policies:
  - {id: cap.gift, kind: cap, applies_to: {actions: [gift]}, per: action, counts: [reserved, shown],
     limit: 1, window: 7d, reserve_for: 30m, reason: TOO_OFTEN}
"""
SEVEN = """
policies:
  - {id: budget.gift, kind: budget, applies_to: {actions: [gift]}, per: overall, counts: [reserved, shown],
     limit: 7, window: 7d, reserve_for: 30m, reason: SPENT}
"""


@contextmanager
def worker(target: object, *arguments: object) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that runs a function of contact_workers."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(*arguments, there), daemon=True)  # type: ignore[arg-type]  # a function
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        process.kill()
        process.join()


def decided_at_once(place: str, pack: str, logs: Path, customers: list[str]) -> list[Answer]:
    """The answers for all customers, from several processes with many threads each."""
    started = [
        worker(decide_all, place, pack, logs, customers[number::PROCESSES], THREADS)
        for number in range(PROCESSES)
    ]
    answers: list[Answer] = []
    opened = [each.__enter__() for each in started]
    try:
        for _, pipe in opened:
            assert pipe.recv() == "open"
        for _, pipe in opened:
            pipe.send("go")
        for _, pipe in opened:
            answers += pipe.recv()
    finally:
        for each in started:
            each.__exit__(None, None, None)
    return answers


def put_customers(place: str, *names: str) -> None:
    """Customers that exist before anybody decides."""
    store = open_store(place)
    store.put_customers((name, vector()) for name in names)
    store.close()


def test_a_cap_of_one_serves_one_customer_once(place: str, tmp_path: Path) -> None:
    """A thousand decisions on one customer, at once: one returns the gift, and all are answered."""
    put_customers(place, "C1")

    answers = decided_at_once(place, ONCE, tmp_path / "logs", ["C1"] * DECISIONS)

    assert len(answers) == DECISIONS
    assert sum(GIFT in actions for _, actions, _ in answers) == 1
    assert all(actions for _, actions, _ in answers)
    assert {degraded for _, _, degraded in answers} == {()}
    store = open_store(place)
    state = store.read("C1")
    store.close()
    assert state is not None
    assert [event.outcome for event in state.contacts] == [OutcomeType.RESERVED]


def test_a_budget_of_seven_serves_seven_customers(place: str, tmp_path: Path) -> None:
    """A thousand customers at once: seven get the gift, no matter whose process decided."""
    customers = [f"C{i}" for i in range(DECISIONS)]
    put_customers(place, *customers)

    answers = decided_at_once(place, SEVEN, tmp_path / "logs", customers)

    assert len(answers) == DECISIONS
    assert sum(GIFT in actions for _, actions, _ in answers) == 7
    assert {degraded for _, _, degraded in answers} == {()}


@pytest.mark.parametrize("pack", [ONCE, SEVEN.replace("limit: 7", "limit: 1")], ids=["cap", "budget"])
def test_what_a_killed_process_held_ends_by_itself(place: str, tmp_path: Path, pack: str) -> None:
    """Killed between holding and logging: nobody was served, nobody is until the hold ends, then one is."""
    put_customers(place, "C1")
    with worker(hold_and_wait, place, pack, tmp_path / "logs") as (process, pipe):
        assert pipe.recv() == f"held at {NOW_MS}"
        process.kill()
        process.join()

    store = open_store(place)
    with service(store, company(pack), tmp_path / "logs") as opened:
        opened.clock.now_ms = NOW_MS + 30 * MINUTE_MS - 1
        before = opened.decide()
        opened.clock.now_ms = NOW_MS + 31 * MINUTE_MS
        after = opened.decide()
    store.close()

    assert GIFT not in returned(before)
    assert GIFT in returned(after)
