"""Who may see which part of the console, and who may change what; docs/console.md has the same as a table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from engine.service.audit import Act
from engine.web.sessions import PageRole, Session


class Area(StrEnum):
    """A part of the console."""

    OVERVIEW = "overview"
    DECISIONS = "decisions"
    RULES = "rules"
    MODELS = "models"
    CONSENTS = "consents"
    AUDIT = "audit"


_MARKETER, _PRIVACY, _SRE, _ADMIN = PageRole.MARKETER, PageRole.PRIVACY, PageRole.SRE, PageRole.ADMIN

SEES: Final[Mapping[Area, frozenset[PageRole]]] = {
    Area.OVERVIEW: frozenset({_SRE}),
    Area.DECISIONS: frozenset({_MARKETER, _PRIVACY}),
    Area.RULES: frozenset({_MARKETER, _SRE}),
    Area.MODELS: frozenset({_SRE}),
    Area.CONSENTS: frozenset({_PRIVACY}),
    Area.AUDIT: frozenset({_PRIVACY}),
}
"""Roles that see a part, besides the admin, who sees all. Agents work at the screen pop and see none."""

DOES: Final[Mapping[Act, frozenset[PageRole]]] = {
    Act.RULES_ACTIVATE: frozenset({_MARKETER}),
    Act.RULES_ROLLBACK: frozenset({_MARKETER, _SRE}),
    Act.RULES_SHADOW: frozenset({_MARKETER}),
    Act.MODELS_PROMOTE: frozenset(),
    Act.MODELS_ROLLBACK: frozenset({_SRE}),
    Act.CUSTOMER_EXPORT: frozenset({_PRIVACY}),
    Act.CUSTOMER_ERASE: frozenset({_PRIVACY}),
}
"""Roles that may do a thing, besides the admin. Who is called at night may go back, and nothing else."""


def may_see(session: Session, area: Area) -> bool:
    """Whether somebody sees a part of the console."""
    return session.may(PageRole.ADMIN) or any(session.may(role) for role in SEES[area])


def may_do(session: Session, act: Act) -> bool:
    """Whether somebody may do a thing in the console."""
    return session.may(PageRole.ADMIN) or any(session.may(role) for role in DOES[act])


def areas_of(session: Session) -> tuple[Area, ...]:
    """The parts somebody sees, in their order."""
    return tuple(area for area in Area if may_see(session, area))
