"""The columns of exported decisions and outcomes. Imported where pyarrow is there, which is an extra."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_TIME: Final = pa.timestamp("ms", tz="UTC")
_TEXT_BY_NAME: Final = pa.map_(pa.string(), pa.string())
_REASONS: Final = pa.list_(
    pa.struct(
        {
            "code": pa.string(),
            "source": pa.string(),
            "rule_id": pa.string(),
            "model": pa.string(),
            "contribution": pa.float64(),
            "values": _TEXT_BY_NAME,
        }
    )
)
_CANDIDATES: Final = pa.list_(
    pa.struct(
        {
            "action_id": pa.string(),
            "returned": pa.bool_(),
            "rank": pa.int32(),
            "treatment_id": pa.string(),
            "stage": pa.string(),
            "priority": pa.float64(),
            "propensity": pa.float64(),
            "propensity_source": pa.string(),
            "weight": pa.float64(),
            "value": pa.float64(),
            "levers": pa.list_(pa.struct({"rule_id": pa.string(), "share": pa.float64()})),
            "reasons": _REASONS,
        }
    )
)
_CONSENTS: Final = pa.list_(
    pa.struct(
        {
            "purpose": pa.string(),
            "channel": pa.string(),
            "state": pa.string(),
            "legal_basis": pa.string(),
            "permitted": pa.bool_(),
            "since_ms": pa.int64(),
            "signal": pa.string(),
        }
    )
)
_EVIDENCE: Final = pa.list_(
    pa.struct(
        {
            "purpose": pa.string(),
            "channel": pa.string(),
            "state": pa.string(),
            "recorded_at_ms": pa.int64(),
            "source": pa.string(),
            "notice_version": pa.string(),
            "actor": pa.string(),
            "evidence": pa.string(),
        }
    )
)

DECISIONS: Final = pa.schema(
    {
        "decision_id": pa.string(),
        "decided_at": _TIME,
        "customer": pa.string(),
        "request_id": pa.string(),
        "identity_type": pa.string(),
        "channel": pa.string(),
        "placement": pa.string(),
        "language": pa.string(),
        "limit": pa.int32(),
        "global_privacy_control": pa.bool_(),
        "profiled": pa.bool_(),
        "degraded_by": pa.list_(pa.string()),
        "churn": pa.float64(),
        "churn_band": pa.string(),
        "churn_reasons": _REASONS,
        "no_action": pa.bool_(),
        "no_action_reasons": _REASONS,
        "candidates": _CANDIDATES,
        "consents": _CONSENTS,
        "evidence": _EVIDENCE,
        "missing_inputs": pa.list_(pa.struct({"name": pa.string(), "cause": pa.string()})),
        "shadow_rules": pa.list_(pa.string()),
        "context": _TEXT_BY_NAME,
        "features": pa.map_(pa.string(), pa.float32()),
        "signals": pa.map_(pa.string(), pa.bool_()),
        "rules_version": pa.string(),
        "catalogue_version": pa.string(),
        "feature_schema": pa.string(),
        "engine_version": pa.string(),
        "models": pa.map_(pa.string(), pa.int32()),
    }
)

OUTCOMES: Final = pa.schema(
    {
        "position": pa.int64(),
        "outcome_id": pa.string(),
        "decision_id": pa.string(),
        "action_id": pa.string(),
        "type": pa.string(),
        "at": _TIME,
        "received_at": _TIME,
    }
)
