"""durable-rules on the same rules, in a process of its own: `python -m engine.bench.durable_side`.

Each customer is a fact under a fresh session, deleted after: a stateless evaluation that fires every rule
that holds. Prints one JSON object: microseconds per customer, and the rows that held for each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from engine.bench.cases import Customer, customers, table
from engine.bench.timing import per_item_us


def main() -> None:
    """Measures and prints."""
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

    everybody = customers()
    held = [holding(customer) for customer in everybody]
    sys.stdout.write(json.dumps({"us": per_item_us(holding, everybody), "held": held}) + "\n")


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
