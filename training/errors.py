"""What can stop a training run; every text says what, where and what to do.

TrainingError
├── DataUnexpected   the source data is not what the mapping was written for
├── ExportRefused    a trained model cannot be exported exactly
└── GateFailed       a model was trained and is not good enough to publish
"""

from __future__ import annotations


class TrainingError(Exception):
    """Root of the tree: the run stops and nothing is published."""


class DataUnexpected(TrainingError):
    """The source data is not what the mapping was written for."""


class ExportRefused(TrainingError):
    """A trained model cannot be exported exactly."""


class GateFailed(TrainingError):
    """A model was trained and is not good enough to publish. `failures` has one sentence each."""

    def __init__(self, model: str, failures: tuple[str, ...]) -> None:
        super().__init__(f"{model}: not published: " + "; ".join(failures))
        self.model = model
        self.failures = failures
