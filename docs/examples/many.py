"""Decisions for a list of customers with asyncio, a few at a time: python many.py HOST:PORT CUSTOMER..."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from engine.client import AsyncArbiterClient, CallFailed

AT_ONCE = 8


async def decide(arbiter: AsyncArbiterClient, turn: asyncio.Semaphore, customer: str) -> str:
    """One line for one customer."""
    async with turn:
        try:
            decision = await arbiter.decide(customer_id=customer, channel="email", limit=1, detail="summary")
        except CallFailed as failed:
            return f"{customer}: {failed.reason or failed.code}"
    return f"{customer}: {decision.actions[0].action_id if decision.actions else 'nothing'}"


async def main(target: str, customers: Sequence[str]) -> None:
    """Prints a line for each, in their order. An overloaded server is asked again when it says."""
    turn = asyncio.Semaphore(AT_ONCE)
    async with AsyncArbiterClient(target, timeout_s=5.0, wait_when_overloaded=True) as arbiter:
        for line in await asyncio.gather(*(decide(arbiter, turn, customer) for customer in customers)):
            print(line)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
