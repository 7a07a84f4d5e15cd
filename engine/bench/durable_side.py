"""durable-rules on the same rules, in a process of its own: `python -m engine.bench.durable_side`.

Each customer is a fact under a fresh session, deleted after: a stateless evaluation that fires every rule
that holds. A session that is not deleted counts against the 1,024 that durable-rules can have at a time.

Prints JSON objects, one a line: first the rows that held for each customer, then, for each line it is
given, the microseconds per customer of one more spell.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from engine.bench.cases import Customer, customers, table
from engine.bench.timing import per_item_us

_ROUNDS: Final = 8
_AT_ONCE: Final = 3
"""Customers that take about as long as all of them take us, see `timing.py`."""


def main() -> None:
    """Answers, then measures whenever asked."""
    holding, everybody = _table_reader(), customers()
    _say({"held": [holding(customer) for customer in everybody]})
    for _ in sys.stdin:
        _say({"us": per_item_us(holding, everybody, rounds=_ROUNDS, at_once=_AT_ONCE)})


def _say(found: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def _table_reader() -> Callable[[Customer], list[int]]:
    """A function from a customer to the rows that hold. Raises ImportError without durable-rules."""
    from durable.engine import MessageNotHandledException

    fired: list[int] = []
    host = _host(fired)
    number = 0

    def holding(customer: Customer) -> list[int]:
        nonlocal number
        number += 1
        fired.clear()
        with suppress(MessageNotHandledException):  # its word for: no rule holds
            host.assert_fact("table", {**customer, "sid": f"s{number}", "id": number})
        host.delete_state("table", f"s{number}")
        return sorted(fired)

    return holding


def _host(fired: list[int]) -> Any:  # noqa: ANN401  # durable has no types
    from durable import engine as durable

    class Quiet(durable.Host):  # type: ignore[misc]  # durable has no types
        """A host without background threads."""

        def _run(self) -> None:
            """Starts nothing."""

    def firing(place: int) -> Callable[[object], None]:  # of one argument: with two, durable waits for a call
        return lambda _: fired.append(place)

    rules = {f"r{i}": {"all": [{"m": row.pattern}], "run": firing(i)} for i, row in enumerate(table())}
    return Quiet({"table": rules})


if __name__ == "__main__":
    main()
