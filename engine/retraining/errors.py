"""Why a model is not retrained; every text says what, why and what to do.

RetrainingError
├── PlanUnusable        the plan names what is not there
├── LearntFromRefused   the logs hold too little to learn from, or rows that nobody may learn from
├── ModelRefused        a model was trained and is not good enough to register
├── ChallengerBusy      the version is registered, and customers are being scored by another challenger
└── RunUnderway         another process retrains a model of this data directory
"""

from __future__ import annotations


class RetrainingError(Exception):
    """Root of the tree: no challenger was made."""


class PlanUnusable(RetrainingError):
    """The plan names what is not there."""


class LearntFromRefused(RetrainingError):
    """The logs hold too little to learn from."""


class ModelRefused(RetrainingError):
    """A model was trained, and its plan's gates or those of promotion did not pass."""


class ChallengerBusy(RetrainingError):
    """Another challenger has customers: taking its alias away would hide which one they are scored by."""


class RunUnderway(RetrainingError):
    """Another process retrains a model of this data directory."""
