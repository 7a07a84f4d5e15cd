"""What a server tells of itself while it works, to whoever counts it; by default nobody does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol


class Watch(Protocol):
    """Told of every call, decision and reload, in the thread that makes it; must neither wait nor raise.

    Nothing it is told is about a person, and every text is one of few: methods and status codes of the
    contract, channels of the vocabulary, versions that served.
    """

    def called(self, method: str, code: str, seconds: float) -> None:
        """A call was answered with a gRPC status code, after so long."""
        ...

    def decided(self, channel: str, outcome: str) -> None:
        """A decision was logged: with an `action` or `no_action`."""
        ...

    def degraded(self, by: str) -> None:
        """A decision was made with less than all: what it did without, as its reply says."""
        ...

    def unrecorded(self, outcome: str) -> None:
        """A decision that the log did not take was `answered`, then `logged` later, or `lost`."""
        ...

    def serving(self, rules: str) -> None:
        """A version of the rules serves from now on."""
        ...

    def reloaded(self, *, well: bool) -> None:
        """Rules and models were loaded anew, or refused."""
        ...

    def checkpointed(self, *, well: bool) -> None:
        """Heads of the hash chains were noted outside the logs, or those of one could not be."""
        ...

    def scoring(self, models: Mapping[str, int]) -> None:
        """These versions of models score whoever is in no challenger's share, from now on."""
        ...

    def models_switched(self) -> None:
        """Other versions of models score, or a challenger another share."""
        ...

    def model_refused(self, model: str) -> None:
        """A version of a model was to serve and cannot."""
        ...

    def shadow_scored(self, model: str, result: str) -> None:
        """What became of a decision in the shadow of a model (`engine.service.model_shadow.Scored`)."""
        ...

    def rollout_changed(self, model: str, kind: str) -> None:
        """A rollout was changed by this process, by itself (`model_registry.rollout.ChangeKind`)."""
        ...


class Unwatched:
    """Counts nothing."""

    def called(self, method: str, code: str, seconds: float) -> None:
        """As the port says."""

    def decided(self, channel: str, outcome: str) -> None:
        """As the port says."""

    def degraded(self, by: str) -> None:
        """As the port says."""

    def unrecorded(self, outcome: str) -> None:
        """As the port says."""

    def serving(self, rules: str) -> None:
        """As the port says."""

    def reloaded(self, *, well: bool) -> None:
        """As the port says."""

    def checkpointed(self, *, well: bool) -> None:
        """As the port says."""

    def scoring(self, models: Mapping[str, int]) -> None:
        """As the port says."""

    def models_switched(self) -> None:
        """As the port says."""

    def model_refused(self, model: str) -> None:
        """As the port says."""

    def shadow_scored(self, model: str, result: str) -> None:
        """As the port says."""

    def rollout_changed(self, model: str, kind: str) -> None:
        """As the port says."""


UNWATCHED: Final = Unwatched()
