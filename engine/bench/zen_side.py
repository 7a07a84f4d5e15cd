"""zen-engine on the same decision table, with the hit policy that gives every row that holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from engine.bench.cases import COLUMNS, Customer, Row


def table_reader(rows: Sequence[Row]) -> Callable[[Customer], list[int]]:
    """A function from a customer to the rows that hold. Raises ImportError without zen-engine."""
    import zen

    decision = zen.ZenEngine().create_decision(json.dumps(_model(rows)))

    def holding(customer: Customer) -> list[int]:
        return [hit["row"] for hit in decision.evaluate(dict(customer))["result"]]

    return holding


def _model(rows: Sequence[Row]) -> dict[str, object]:
    written = [
        {"_id": str(i), **row.cells, "row": str(i)}  # a number by itself is an expression
        for i, row in enumerate(rows)
    ]
    content = {
        "hitPolicy": "collect",
        "inputs": [{"id": name, "name": name, "field": name} for name in COLUMNS],
        "outputs": [{"id": "row", "name": "row", "field": "row"}],
        "rules": written,
    }
    return {
        "nodes": [
            {"id": "in", "type": "inputNode", "name": "in", "position": {"x": 0, "y": 0}},
            {
                "id": "table",
                "type": "decisionTableNode",
                "name": "table",
                "position": {"x": 0, "y": 0},
                "content": content,
            },
            {"id": "out", "type": "outputNode", "name": "out", "position": {"x": 0, "y": 0}},
        ],
        "edges": [
            {"id": "a", "sourceId": "in", "targetId": "table", "type": "edge"},
            {"id": "b", "sourceId": "table", "targetId": "out", "type": "edge"},
        ],
    }
