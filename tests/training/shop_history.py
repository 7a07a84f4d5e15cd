"""A shop with one loaded view, one computed from events and one that comes with the request."""

from __future__ import annotations

from collections.abc import Mapping

from feature_store.schema import FeatureValue, parse_schema
from training.pointintime import Event, Observation, Snapshot

NOW_MS = 1_800_000_000_000
HOUR_MS, DAY_MS = 3_600_000, 86_400_000

SCHEMA_TOML = """
name = "shop"
version = 1
[[view]]
name = "billing"
kind = "batch"
owner = "t"
freshness_hours = 72
description = "d"
[[view]]
name = "behaviour"
kind = "streaming"
owner = "t"
freshness_hours = 48
description = "d"
[[view]]
name = "visit"
kind = "request"
owner = "t"
description = "d"
[[feature]]
name = "charges"
view = "billing"
type = "double"
data_class = "billing"
description = "d"
[[feature]]
name = "plan"
view = "billing"
type = "category"
categories = ["basic", "plus"]
default = "basic"
data_class = "contractual"
description = "d"
[[feature]]
name = "contacts"
view = "behaviour"
type = "bool"
data_class = "behavioural"
description = "d"
[[feature]]
name = "basket"
view = "visit"
type = "int"
default = 0
data_class = "behavioural"
description = "d"
"""

_COMPUTED = {
    "purchases": ("int", 'function = "count", events = ["bought"], window = "3d"'),
    "exact": ("int", 'function = "count", events = ["bought", "viewed"], window = "90m", step = "1ms"'),
    "spent": ("double", 'function = "sum", events = ["bought"], attribute = "amount", window = "4d"'),
    "distinct": ("int", 'function = "distinct", events = ["bought"], attribute = "amount", window = "2d"'),
    "since": ("int", 'function = "last_seen", events = ["bought"], unit = "1h", window = "3d"'),
    "warmth": (
        "double",
        'function = "decay", events = ["viewed"], half_life = "12h", window = "4d", step = "1h"',
    ),
    "rfm": (
        "int",
        'function = "rfm", events = ["bought"], attribute = "amount", window = "4d", '
        "cuts = { recency_days = [0.5, 2], frequency = [2, 4], monetary = [20, 100] }",
    ),
}
SCHEMA_TOML += "".join(
    f'[[feature]]\nname = "{name}"\nview = "behaviour"\ntype = "{kind}"\ndata_class = "behavioural"\n'
    f'description = "d"\naggregate = {{ {aggregate} }}\n'
    for name, (kind, aggregate) in _COMPUTED.items()
)
SCHEMA = parse_schema(SCHEMA_TOML, source="shop")
BILLING = 0


def bought(
    age_ms: int, *, id: str = "e", late_ms: int = 0, type: str = "bought", amount: float = 5.0
) -> Event:
    """An event of C1, so long before now, received `late_ms` after."""
    at_ms = NOW_MS - age_ms
    return Event(id, type, "C1", at_ms, at_ms + late_ms, {"amount": amount})


def loaded(
    age_ms: int,
    delay_ms: int = 0,
    *,
    charges: float | None = 10.0,
    plan: str | None = "plus",
    whole: bool = False,
    customer_id: str = "C1",
) -> Snapshot:
    """A snapshot of the billing view, loaded `delay_ms` after its view time; `whole` has every view."""
    given: dict[str, FeatureValue | None] = {"charges": charges, "plan": plan}
    if whole:
        given["contacts"] = True
    stored = {SCHEMA.index[name]: SCHEMA.feature[SCHEMA.index[name]].encode(v) for name, v in given.items()}
    at_ms = NOW_MS - age_ms
    return Snapshot(customer_id, at_ms, at_ms + delay_ms, (0, 1) if whole else (0,), stored)


def row(
    age_ms: int,
    *,
    label: float = 1.0,
    known_after_ms: int = DAY_MS,
    label_from_ms: int | None = None,
    context: Mapping[str, FeatureValue | None] | None = None,
) -> Observation:
    """A row of C1, so long before now."""
    at_ms = NOW_MS - age_ms
    return Observation("C1", at_ms, label, at_ms + known_after_ms, label_from_ms, context or {})
