"""The steps of a decision that is looked at. The core says where it is, and knows no time."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """A step on the way of a decision, in order."""

    RESOLVE = "resolve"  # from an identity to the customer
    FETCH = "fetch"  # the customer's state, in one round trip to the store
    PREPARE = "prepare"  # what is left of budgets, and which models are for this customer
    CONSENT = "consent"  # inputs are laid out, and the gate
    POLICY = "policy"  # rules, those that read scores among them
    CHURN = "churn"  # the churn model
    PROPENSITY = "propensity"  # the propensity model, one batch of candidates
    CONTACT = "contact"  # caps, cool-downs, exclusions
    ARBITRATE = "arbitrate"  # priorities, order, cut
    EXPLAIN = "explain"  # reasons, those of models among them
    HOLD = "hold"  # contacts and budgets that are counted on decision
    LOG = "log"  # the record is in the log
    TELL = "tell"  # counters, shadows and drift are told
    REPLY = "reply"  # the answer is put into words


Passed = Callable[[Step], None]
"""Is told when a step has ended; the same step may end more than once."""
