"""Reason codes the engine gives by itself, and the placeholders their texts may use.

A rule set must have words for every one of them (`arbiter rules check` says which are missing).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from engine.domain import ReasonText

NOT_ON_CHANNEL: Final = "NOT_ON_CHANNEL"
NOT_ON_PLACEMENT: Final = "NOT_ON_PLACEMENT"
NOT_VALID_NOW: Final = "NOT_VALID_NOW"
NOT_REQUESTED: Final = "NOT_REQUESTED"
CONSENT_DENIED: Final = "CONSENT_DENIED"
CONSENT_WITHDRAWN: Final = "CONSENT_WITHDRAWN"
CONSENT_OBJECTED: Final = "CONSENT_OBJECTED"
CONSENT_EXPIRED: Final = "CONSENT_EXPIRED"
CONSENT_UNKNOWN: Final = "CONSENT_UNKNOWN"
CONSENT_UNREADABLE: Final = "CONSENT_UNREADABLE"
CONSENT_SIGNALLED: Final = "CONSENT_SIGNALLED"
DECISION_UNRECORDED: Final = "DECISION_UNRECORDED"
INPUT_MISSING: Final = "INPUT_MISSING"
INPUT_WITHHELD: Final = "INPUT_WITHHELD"
CONDITION_FAILED: Final = "CONDITION_FAILED"
BELOW_THRESHOLD: Final = "BELOW_THRESHOLD"
GROUP_FULL: Final = "GROUP_FULL"
EXCLUDED_BY_BETTER: Final = "EXCLUDED_BY_BETTER"
BEYOND_LIMIT: Final = "BEYOND_LIMIT"
BEST_VALUE: Final = "BEST_VALUE"
PRIOR_ONLY: Final = "PRIOR_ONLY"

PLACEHOLDERS: Final[Mapping[str, frozenset[str]]] = {
    NOT_ON_CHANNEL: frozenset({"channel"}),
    NOT_ON_PLACEMENT: frozenset({"placement"}),
    NOT_VALID_NOW: frozenset(),
    NOT_REQUESTED: frozenset(),
    CONSENT_DENIED: frozenset({"purpose", "channel"}),
    CONSENT_WITHDRAWN: frozenset({"purpose", "channel"}),
    CONSENT_OBJECTED: frozenset({"purpose", "channel"}),
    CONSENT_EXPIRED: frozenset({"purpose", "channel"}),
    CONSENT_UNKNOWN: frozenset({"purpose", "channel"}),
    CONSENT_UNREADABLE: frozenset({"purpose", "channel"}),  # it may be on record, and cannot be read now
    CONSENT_SIGNALLED: frozenset({"purpose", "channel"}),  # Global Privacy Control in the request
    DECISION_UNRECORDED: frozenset({"purpose", "channel"}),  # permitted, but nothing could prove it later
    INPUT_MISSING: frozenset({"inputs", "rule"}),  # a rule needs inputs that are absent or stale
    INPUT_WITHHELD: frozenset({"inputs", "rule"}),  # a rule needs inputs withheld without profiling
    CONDITION_FAILED: frozenset({"rule"}),  # a condition could not be computed, e.g. division by zero
    BELOW_THRESHOLD: frozenset({"threshold", "currency"}),
    GROUP_FULL: frozenset({"group", "max_per_group"}),
    EXCLUDED_BY_BETTER: frozenset({"better"}),  # id of the exclusive action that ranked higher
    BEYOND_LIMIT: frozenset({"limit"}),
    BEST_VALUE: frozenset(),  # given to a returned action no rule or model has a reason for
    PRIOR_ONLY: frozenset(),  # propensity is the population's rate, not this customer's
}
"""Code to the names its texts may use in braces. `purpose` and the like are ids."""

STAND_INS: Final[Mapping[str, tuple[str, str]]] = {
    CONSENT_UNREADABLE: (
        "The customer's consents cannot be read now, so {purpose} ({channel}) is taken as refused.",
        "We cannot look up your choices at the moment, so we propose nothing that depends on them.",
    ),
    DECISION_UNRECORDED: (
        "Decisions cannot be logged now, so nothing is done for {purpose} ({channel}) that must be proven.",
        "For technical reasons we make no such proposal at the moment.",
    ),
    CONSENT_SIGNALLED: (
        "The customer's browser objects to {purpose} (Global Privacy Control).",
        "Your browser's privacy setting asks us not to do this, and we respect that.",
    ),
}
"""Words for the agent and the customer of codes younger than the first rule sets, which may lack them; so
every past version still compiles. A rule set's own words come first.
"""


def stand_ins(languages: Collection[str]) -> dict[str, ReasonText]:
    """The words above, the same in every language."""
    return {
        code: ReasonText(code, dict.fromkeys(languages, agent), dict.fromkeys(languages, customer))
        for code, (agent, customer) in STAND_INS.items()
    }


MODEL_PLACEHOLDERS: Final = frozenset({"value", "typical"})
"""Placeholders of reasons that models give (codes named in model manifests)."""
