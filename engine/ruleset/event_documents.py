"""The kind `EventPack`: what happens to customers, and what an event does when it comes in."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from engine.ruleset.documents import Document, Milliseconds, Name, Strict, Text
from engine.ruleset.signal_documents import AttributeEntry, Plain

DEFAULT_LATENESS_MS: Final = 7 * 86_400_000
"""How late an event may be where nobody says so: a week covers an app that was offline on a journey."""
MAX_LATENESS_MS: Final = 31 * 86_400_000
"""Ids are remembered for as long as the latest event may be late, so this bounds what a customer takes."""


def _lateness(written_ms: int) -> int:
    if written_ms > MAX_LATENESS_MS:
        raise PydanticCustomError("lateness", "is longer than 31d, for which ids of events are remembered")
    return written_ms


class FromAttribute(Strict):
    """A value that every event brings with it."""

    attribute: Name


Source = FromAttribute | Text
"""An attribute of the event, or the same text for all."""


class ContactEffect(Strict):
    """The event is a contact that policies count; with `decision`, the outcome of that decision."""

    action: Source
    channel: Source
    outcome: Source
    decision: FromAttribute | None = None


class ConsentEffect(Strict):
    """The event is the customer's will; it goes to the ledger like every other."""

    purpose: Source
    channel: Source
    state: Source


class Effects(Strict):
    """What an event changes besides signals and streaming features."""

    contact: ContactEffect | None = None
    consent: ConsentEffect | None = None
    features: Annotated[dict[Name, FromAttribute | Plain], Field(max_length=50)] = Field(default={})

    @model_validator(mode="after")
    def _says_something(self) -> Effects:
        if self.contact is None and self.consent is None and not self.features:
            raise PydanticCustomError("empty", "says nothing; write contact, consent or features")
        return self


class DeclaredAttribute(AttributeEntry):
    """One attribute that events of a type may carry, or must."""

    required: bool = False
    description: Text | None = None


class DeclaredEvent(Strict):
    """A type of event: what it carries, how late it may come, what it does."""

    type: Name
    description: Text
    attributes: Annotated[tuple[DeclaredAttribute, ...], Field(max_length=50)] = ()
    max_lateness: Annotated[Milliseconds, AfterValidator(_lateness)] = DEFAULT_LATENESS_MS
    effects: Effects | None = None


class EventPackDocument(Document):
    """Types of events that belong together."""

    kind: Literal["EventPack"]
    events: Annotated[tuple[DeclaredEvent, ...], Field(max_length=500)]
