"""Why a model is not loaded.

ModelRefused      it does not fit its manifest, the schema, or its own golden rows
(scoring itself fails with `engine.core.scoring.ScoringError`)
"""

from __future__ import annotations


class ModelRefused(Exception):
    """A model that must not serve; nothing of it is used. The last good snapshot stays."""

    def __init__(self, model: str, *, cause: str) -> None:
        super().__init__(
            f"model {model} refused: {cause.rstrip('.')}. "
            f"Publish a corrected version, or promote one that loads."
        )
        self.model = model
        self.cause = cause
