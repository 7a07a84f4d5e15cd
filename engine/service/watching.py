"""What a server tells of itself while it works, to whoever counts it; by default nobody does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from engine.core.steps import Step
from engine.domain import Decision


class Look(Protocol):
    """One decision that is looked at on its way, by the thread that decides; must neither wait nor raise."""

    def passed(self, step: Step) -> None:
        """A step has ended: its time is what went by since the one before."""
        ...

    def ended(self, decision_id: str, channel: str, decision: Decision) -> None:
        """The decision was logged and put into words; one that ends in an error never gets here."""
        ...


class Watch(Protocol):
    """Told of every call, decision and reload, in the thread that makes it; must neither wait nor raise.

    Nothing it is told is about a person, and every text is one of few: methods and status codes of the
    contract, channels of the vocabulary, versions that served.
    """

    def called(self, method: str, code: str, seconds: float) -> None:
        """A call was answered with a gRPC status code, after so long."""
        ...

    def started(self, waited_s: float) -> None:
        """A handler begins a call that waited so long for it; `called` follows, once."""
        ...

    def refused(self, method: str, reason: str) -> None:
        """A call, or an item of a batch, ended in an error: the stable `reason` of an `ArbiterError`."""
        ...

    def look(self) -> Look | None:
        """Who looks at the decision that begins now; None for most."""
        ...

    def decided(self, channel: str, outcome: str) -> None:
        """A decision was logged: with an `action` or `no_action`."""
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

    def shed(self, priority: str, reason: str) -> None:
        """A call was turned away unanswered, to protect the others: of which priority, and why."""
        ...

    def degraded(self, by: str) -> None:
        """An answer was less than it could be; `by` is a text of `degraded_by`, e.g. `model:churn`."""
        ...

    def ready(self, service: str, *, ready: bool) -> None:
        """Whether a service of this process can do its work."""
        ...

    def store_asked(self, seconds: float | None) -> None:
        """The store answered a read after so long; None where it did not."""
        ...

    def security_reread(self, what: str, *, well: bool) -> None:
        """Certificates, roles or token keys were read anew, or refused."""
        ...

    def certified(self, *, until_s: float) -> None:
        """The server's certificate is valid until then, in seconds since the epoch."""
        ...

    def exposed(self, *, open_to_all: bool) -> None:
        """Whether other machines may call everything without proving who they are."""
        ...


class Unwatched:
    """Counts nothing."""

    def called(self, method: str, code: str, seconds: float) -> None:
        """As the port says."""

    def started(self, waited_s: float) -> None:
        """As the port says."""

    def refused(self, method: str, reason: str) -> None:
        """As the port says."""

    def look(self) -> Look | None:
        """As the port says."""
        return None

    def decided(self, channel: str, outcome: str) -> None:
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

    def shed(self, priority: str, reason: str) -> None:
        """As the port says."""

    def degraded(self, by: str) -> None:
        """As the port says."""

    def ready(self, service: str, *, ready: bool) -> None:
        """As the port says."""

    def store_asked(self, seconds: float | None) -> None:
        """As the port says."""

    def security_reread(self, what: str, *, well: bool) -> None:
        """As the port says."""

    def certified(self, *, until_s: float) -> None:
        """As the port says."""

    def exposed(self, *, open_to_all: bool) -> None:
        """As the port says."""


UNWATCHED: Final = Unwatched()
