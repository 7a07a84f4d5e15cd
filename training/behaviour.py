"""Synthetic behaviour: counts the Telco data does not have, made from a seed so that the demo can show them.

They lean on the churn label and on the services a customer has, to look plausible. No model ever
reads them: they would leak the label they were made from. Rules and signals may.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from training.telco import MADE_UP, Telco

SEED: Final = 20_260_101
ABSENT_SHARE: Final = 0.03
"""Share of values left out, so that the demo shows decisions on missing data."""

BehaviourValue = int | float | None
Floats = npt.NDArray[np.float64]


def synthesise(telco: Telco, *, seed: int = SEED) -> tuple[Mapping[str, BehaviourValue], ...]:
    """The five behavioural features of every customer, in customer order; None where absent."""
    rng = np.random.default_rng(seed)
    columns = {
        "support_calls_30d": rng.poisson(_support_calls(telco)),
        "failed_payments_90d": rng.poisson(_failed_payments(telco)),
        "app_sessions_30d": rng.poisson(_app_sessions(telco) * rng.gamma(2.0, 0.5, len(telco.ids))),
        "cancel_page_visits_7d": rng.poisson(np.where(telco.churned, 0.55, 0.03)),
        "data_usage_gb_30d": np.round(_data_usage(telco) * rng.lognormal(0.0, 0.5, len(telco.ids)), 1),
    }
    assert tuple(columns) == MADE_UP
    absent = {name: rng.random(len(telco.ids)) < ABSENT_SHARE for name in columns}
    lists = {
        name: [None if gone else value for value, gone in zip(column.tolist(), absent[name], strict=True)]
        for name, column in columns.items()
    }
    return tuple(dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True))


def _support_calls(telco: Telco) -> Floats:
    supported = telco.column("tech_support") > 0
    return 0.25 + 0.9 * telco.churned + 0.35 * _has(telco, "internet_service", "fiber") * ~supported


def _failed_payments(telco: Telco) -> Floats:
    return 0.05 + 0.35 * telco.churned + 0.2 * _has(telco, "payment_method", "electronic-check")


def _app_sessions(telco: Telco) -> Floats:
    mean = 4.0 + 5.0 * (telco.column("paperless_billing") > 0)
    return np.asarray(np.where(telco.churned, 0.6, 1.0) * mean, dtype=np.float64)


def _data_usage(telco: Telco) -> Floats:
    streams = (telco.column("streaming_tv") > 0) | (telco.column("streaming_movies") > 0)
    access = 70.0 * _has(telco, "internet_service", "dsl") + 180.0 * _has(telco, "internet_service", "fiber")
    return access * np.where(streams, 1.8, 1.0)


def _has(telco: Telco, feature: str, category: str) -> npt.NDArray[np.bool_]:
    declared = telco.schema.feature[telco.schema.index[feature]]
    return np.asarray(telco.column(feature) == declared.encode(category), dtype=np.bool_)
