"""A realistic decision record to log."""

import numpy as np

from engine.decisionlog.record import DecisionRecord
from engine.domain import (
    ChurnRisk,
    ConsentUsed,
    Decision,
    DecisionRequest,
    LegalBasis,
    Lever,
    MissingCause,
    MissingInput,
    Priority,
    PropensitySource,
    RankedAction,
    Reason,
    ReasonSource,
    Stage,
    SuppressedAction,
    Versions,
)
from feature_store.state import (
    ConsentRecord,
    ConsentState,
    ContactEvent,
    CustomerState,
    FeatureVector,
    OutcomeType,
    Signal,
)

NOW_MS = 1_780_000_000_000


def decision_record(
    decision_id: str = "0" * 26, *, now_ms: int = NOW_MS, customer_id: str = "c-1", request_id: str = ""
) -> DecisionRecord:
    """A decision over 33 actions as the demo company makes it, about 10 kB as logged."""
    return DecisionRecord(
        decision_id=decision_id,
        now_ms=now_ms,
        request=DecisionRequest(customer_id, "web", "home_hero", {"reason": "cancel", "basket_value": 12.5}),
        state=_state(customer_id),
        decision=_decision(),
        identity_type="phone",
        request_id=request_id,
        request_fingerprint="f" * 64 if request_id else "",
    )


def _state(customer_id: str) -> CustomerState:
    vector = np.arange(30, dtype=np.float32) / 7
    vector[::5] = np.nan
    return CustomerState(
        customer_id,
        FeatureVector("sha256:" + "c" * 64, (NOW_MS - 5, NOW_MS - 9), vector),
        tuple(
            ConsentRecord(purpose, "any", ConsentState.GRANTED, NOW_MS - 1000, None, "web:preferences", "v3")
            for purpose in ("marketing", "profiling", "service")
        ),
        tuple(
            ContactEvent(NOW_MS - i, f"action_{i}", "retention", "web", "marketing", OutcomeType.SHOWN)
            for i in range(4)
        ),
        (Signal("payment_trouble", True, NOW_MS - 10, NOW_MS + 10),),
    )


def _decision() -> Decision:
    priority = Priority(8.125, 0.1, PropensitySource.MODEL, 1.0, 65.0, (Lever("levers.loyal", 0.25),))
    model = Reason("ADDON_FITS", ReasonSource.MODEL, "", "propensity/2", 0.125, {"value": "84.50"})
    rule = Reason(
        "CHURN_RISK_LOW", ReasonSource.RULE, "retention.at-risk-only", values={"features.tenure_months": "3"}
    )
    suppressed = [SuppressedAction(f"action_{i}", Stage.ELIGIBILITY, (rule,)) for i in range(30)]
    return Decision(
        versions=Versions(*("sha256:" + c * 64 for c in "abc"), {"propensity": 2, "churn": 3}, "0.1.0"),
        actions=tuple(
            RankedAction(f"best_{i}", f"best_{i}.web", i, priority, (model,) * 4) for i in (1, 2, 3)
        ),
        suppressed=tuple(suppressed),
        no_action=None,
        consents=(
            ConsentUsed("marketing", "any", ConsentState.GRANTED, LegalBasis.CONSENT, True, NOW_MS - 1000),
        ),
        profiled=True,
        degraded_by=(),
        missing_inputs=(MissingInput("features.support_calls_30d", MissingCause.STALE),),
        churn=ChurnRisk(0.41, "medium", (model,) * 4),
    )
