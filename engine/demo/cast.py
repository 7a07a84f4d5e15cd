"""The demo's telling customers: who they are, what they said, and where they are met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from feature_store.state import ANY_CHANNEL, ConsentState

GRANTED, DENIED, OBJECTED = ConsentState.GRANTED, ConsentState.DENIED, ConsentState.OBJECTED


@dataclass(frozen=True, slots=True)
class Scene:
    """One customer on one channel; `context` values are text."""

    title: str
    channel: str
    placement: str
    consents: Mapping[tuple[str, str], ConsentState]
    context: Mapping[str, str] = field(default_factory=dict)
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Household:
    """Customers who share a phone number, so that a call from it does not say who calls."""

    phone: str
    customers: tuple[str, ...]


def _said(marketing: ConsentState, profiling: ConsentState) -> dict[tuple[str, str], ConsentState]:
    return {("marketing", ANY_CHANNEL): marketing, ("profiling", ANY_CHANNEL): profiling}


TOLD_APART = Household("+41790000000", ("C0003", "C0004"))

CAST: Mapping[str, Scene] = {
    "C0005": Scene(
        title="At risk, with consent: she calls to cancel",
        channel="call_center",
        placement="screen_pop",
        consents=_said(GRANTED, GRANTED),
        context={"call_reason": "cancel"},
    ),
}
