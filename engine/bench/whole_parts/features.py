"""Feast with its Redis store: one view of all that is known of a customer, read at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Array, Bool, Float32, Int64

from engine.bench.whole_parts.plan import Plan

CONSENTS: Final = ("marketing", "personalization", "profiling")
CONTACTS: Final = ("shown_14d", "declined_90d")
"""How often each offer was shown and declined lately."""
_KEY: Final = "customer_id"


class KnownCustomers:
    """Reads what is known of a customer from the online store."""

    def __init__(self, plan: Plan) -> None:
        self._store = _opened(plan)
        self._service = self._store.get_feature_service("decision")

    def read(self, customer_id: str) -> Mapping[str, Any]:
        """Values by name; None where the customer is unknown."""
        found = self._store.get_online_features(self._service, [{_KEY: customer_id}]).to_dict()
        return {name: values[0] for name, values in found.items()}


def load(plan: Plan) -> int:
    """Declares the view and writes all customers to the online store; how many."""
    Path(plan.repository).mkdir(parents=True, exist_ok=True)
    store = _opened(plan)
    store.apply(_declared(plan))
    with np.load(plan.customers) as kept:
        columns = {feature.name: kept["values"][:, place] for place, feature in enumerate(plan.features)}
        columns |= {name: np.ones(len(kept["ids"]), dtype=bool) for name in CONSENTS}
        columns |= {name: list(kept[name]) for name in CONTACTS}
        now = datetime.now(UTC)
        frame = pd.DataFrame({_KEY: kept["ids"], "event_timestamp": now, "created": now, **columns})
    store.write_to_online_store("customer", frame)
    return len(frame)


def _opened(plan: Plan) -> FeatureStore:
    return FeatureStore(
        config=RepoConfig(
            project="whole",
            provider="local",
            registry=str(Path(plan.repository) / "registry.db"),
            online_store={"type": "redis", "connection_string": plan.redis},
            entity_key_serialization_version=3,
        )
    )


def _declared(plan: Plan) -> list[Any]:
    fields = [Field(name=feature.name, dtype=Float32) for feature in plan.features]
    fields += [Field(name=name, dtype=Bool) for name in CONSENTS]
    fields += [Field(name=name, dtype=Array(Int64)) for name in CONTACTS]
    customer = Entity(name="customer", join_keys=[_KEY], value_type=ValueType.STRING)
    view = FeatureView(
        name="customer",
        entities=[customer],
        schema=fields,
        ttl=timedelta(days=45),
        source=FileSource(
            path=str(Path(plan.repository) / "customers.parquet"),  # never read: rows are written online
            timestamp_field="event_timestamp",
            created_timestamp_column="created",
        ),
    )
    return [customer, view, FeatureService(name="decision", features=[view])]
