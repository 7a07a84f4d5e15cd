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
    "C0131": Scene(
        title="at risk, with consent, calls to cancel",
        channel="call_center",
        placement="screen_pop",
        consents=_said(GRANTED, GRANTED),
        context={"call_reason": "cancel"},
    ),
    "C0133": Scene(
        title="loyal, with consent, opens the account page",
        channel="web",
        placement="account_banner",
        consents=_said(GRANTED, GRANTED),
    ),
    "C0239": Scene(
        title="objected to marketing, opens the account page",
        channel="web",
        placement="account_banner",
        consents=_said(OBJECTED, GRANTED),
    ),
    "C0060": Scene(
        title="denied profiling but not marketing, opens the account page",
        channel="web",
        placement="account_banner",
        consents=_said(GRANTED, DENIED),
    ),
    "C0334": Scene(
        title="new and at risk, with consent, opens the app in French",
        channel="app",
        placement="home_card",
        consents=_said(GRANTED, GRANTED),
        language="fr",
    ),
}
