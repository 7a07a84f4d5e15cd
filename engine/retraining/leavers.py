"""Who left when, from a company's own file."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.retraining.errors import PlanUnusable
from engine.retraining.plan import Left
from training.instants import read_instant_ms


@dataclass(frozen=True, slots=True)
class Leavers:
    """When each customer left, the first time; the digest of the file; until when it is complete."""

    left_ms: Mapping[str, int]
    digest: str
    complete_until_ms: int | None


NOBODY = Leavers({}, "", None)


def read_leavers(left: Left, *, folder: Path) -> Leavers:
    """Raises PlanUnusable with the line where the file cannot be read."""
    path = folder / left.path
    try:
        content = path.read_bytes()
        rows = csv.DictReader(content.decode("utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise PlanUnusable(f"{path}: cannot be read: {error}") from error
    absent = [name for name in (left.customer, left.at) if name not in (rows.fieldnames or ())]
    if absent:
        raise PlanUnusable(f"{path}: has no column {' and no '.join(absent)}; name it in `task.left`")
    left_ms: dict[str, int] = {}
    for row in rows:
        try:
            at_ms = read_instant_ms(row[left.at])
        except ValueError as error:
            raise PlanUnusable(f"{path}: line {rows.line_num}: column {left.at}: {error}") from error
        customer_id = row[left.customer]
        left_ms[customer_id] = min(at_ms, left_ms.get(customer_id, at_ms))
    try:
        complete = None if left.complete_until is None else read_instant_ms(left.complete_until)
    except ValueError as error:
        raise PlanUnusable(f"task.left.complete_until: {error}") from error
    return Leavers(left_ms, "sha256:" + hashlib.sha256(content).hexdigest(), complete)
