"""What other processes do in the tests of reservations; started by spawn."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from contact_company import company, open_store, returned, service

from engine.decisionlog.log import DecisionLog

Answer = tuple[str, list[str], tuple[str, ...]]
"""A customer, the actions returned, and what the answer did without."""


def decide_all(
    place: str, pack: str, logs: Path, customers: list[str], threads: int, pipe: Connection
) -> None:
    """Opens the store, says so, and at a word decides for every customer in many threads at once."""
    store, together = open_store(place), threading.Barrier(threads)

    def decide(thread: int) -> list[Answer]:
        together.wait()
        mine = [opened.decide(customer) for customer in customers[thread::threads]]
        return [(r.request.customer_id, returned(r), r.decision.degraded_by) for r in mine]

    with service(store, company(pack), logs) as opened, ThreadPoolExecutor(threads) as pool:
        pipe.send("open")
        pipe.recv()
        pipe.send([answer for answers in pool.map(decide, range(threads)) for answer in answers])
    store.close()


def hold_and_wait(place: str, pack: str, logs: Path, pipe: Connection) -> None:
    """Decides, and stops before the decision is logged; waits to be killed."""

    def stop(_log: DecisionLog, *, now_ms: int) -> NoReturn:
        pipe.send(f"held at {now_ms}")
        pipe.recv()
        raise AssertionError("not killed")

    DecisionLog.next = stop  # type: ignore[assignment,method-assign]  # in this process only
    store = open_store(place)
    with service(store, company(pack), logs) as opened:
        opened.decide("C1")
