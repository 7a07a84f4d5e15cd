"""Who may see and do what in the console."""

from __future__ import annotations

import pytest

from engine.service.audit import Act
from engine.web.console.access import Area, areas_of, may_do, may_see
from engine.web.sessions import PageRole, Session


def at(role: PageRole) -> Session:
    return Session("s", "ada", frozenset({role}), 1e12)


@pytest.mark.parametrize(
    ("role", "areas", "acts"),
    [
        (PageRole.AGENT, [], []),
        (PageRole.MARKETER, ["decisions", "rules"], ["rules.activate", "rules.rollback", "rules.shadow"]),
        (PageRole.PRIVACY, ["decisions", "consents", "audit"], ["customer.export", "customer.erase"]),
        (PageRole.SRE, ["overview", "rules", "models"], ["rules.rollback", "models.rollback"]),
    ],
)
def test_each_role_has_its_parts(role: PageRole, areas: list[str], acts: list[str]) -> None:
    """What docs/console.md says, and nothing besides."""
    session = at(role)

    allowed = [act for act in Act if act is not Act.RULES_PUBLISH and may_do(session, act)]

    assert areas_of(session) == tuple(areas)
    assert allowed == acts


def test_admin_sees_and_does_all() -> None:
    """But for publishing rules, which needs their files."""
    session = at(PageRole.ADMIN)

    assert all(may_see(session, area) for area in Area)
    assert all(may_do(session, act) for act in Act if act is not Act.RULES_PUBLISH)


def test_roles_add_up() -> None:
    """Who is two things sees what both do."""
    both = Session("s", "ada", frozenset({PageRole.SRE, PageRole.PRIVACY}), 1e12)

    assert may_see(both, Area.OVERVIEW)
    assert may_do(both, Act.CUSTOMER_ERASE)
