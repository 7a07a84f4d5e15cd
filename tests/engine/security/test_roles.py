"""The roles file: what grants mean, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import SetupInvalid
from engine.security.callers import Role
from engine.security.roles import parse_roles, read_roles

BOOK = parse_roles(
    """
    everyone = ["decide"]

    [[grants]]
    subject = "shop"
    roles = ["outcome"]

    [[grants]]
    scope = "arbiter:events"
    roles = ["events"]

    [[grants]]
    claim = "department"
    value = "privacy"
    roles = ["consent", "read_log"]

    [[grants]]
    claim = ["realm_access", "roles"]
    value = "arbiter-admin"
    roles = ["admin"]

    [[grants]]
    certificate = "uri:spiffe://company/shop"
    roles = ["outcome", "events"]

    [[grants]]
    certificate = "cn:shop"
    roles = ["admin"]
    """,
    source="roles.toml",
)


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({"sub": "nobody"}, set()),
        ({"sub": "shop"}, {Role.OUTCOME}),
        ({"sub": ["shop"]}, set()),
        ({"scope": "openid arbiter:events"}, {Role.EVENTS}),
        ({"scope": ["arbiter:events"]}, {Role.EVENTS}),
        ({"scp": ["arbiter:events", 7]}, {Role.EVENTS}),
        ({"scope": "arbiter:events2"}, set()),
        ({"department": "privacy"}, {Role.CONSENT, Role.READ_LOG}),
        ({"department": ["sales", "privacy"]}, {Role.CONSENT, Role.READ_LOG}),
        ({"department": {"privacy": 1}}, set()),
        ({"realm_access": {"roles": ["arbiter-admin"]}}, {Role.ADMIN}),
        ({"realm_access": "arbiter-admin"}, set()),
        ({"sub": "shop", "scope": "arbiter:events"}, {Role.OUTCOME, Role.EVENTS}),
    ],
)
def test_marks_of_a_token_add_up(claims: dict[str, object], roles: set[Role]) -> None:
    """Subject, scopes and claims each give what they say, besides what everyone may."""
    assert BOOK.of_token(claims) == {Role.DECIDE, *roles}


def test_certificate_is_known_by_any_of_its_names() -> None:
    """And a name of one kind is not that of another."""
    assert BOOK.of_certificate(["dns:a", "uri:spiffe://company/shop"]) == {
        Role.DECIDE,
        Role.OUTCOME,
        Role.EVENTS,
    }
    assert BOOK.of_certificate(["dns:shop"]) == {Role.DECIDE}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grants = 1 2", "is no TOML: "),
        ('role = "x"', "role: Extra inputs are not permitted"),
        ('everyone = ["decider"]', "everyone[0]: Input should be 'decide'"),
        ('[[grants]]\nroles = ["decide"]', "give exactly one of subject, scope, claim or certificate"),
        ('[[grants]]\nroles = ["decide"]\nsubject = "a"\nscope = "b"', "give exactly one of"),
        ('[[grants]]\nroles = ["decide"]\nclaim = "a"', "claim and value go together"),
        ('[[grants]]\nroles = []\nsubject = "a"', "grants[0].roles: "),
        ('[[grants]]\nroles = ["decide"]\nsubject = ""', "grants[0].subject: "),
        ('[[grants]]\nroles = ["decide"]\ncertificate = "shop"', "grants[0].certificate: "),
        ("a = " + "[" * 5000, "is"),
    ],
)
def test_wrong_file_is_refused_in_words(text: str, words: str) -> None:
    """With the place of each error."""
    with pytest.raises(SetupInvalid) as refusal:
        parse_roles(text, source="roles.toml")

    assert str(refusal.value).startswith("roles.toml: ")
    assert words in str(refusal.value)


def test_every_error_is_told_at_once(tmp_path: Path) -> None:
    """Two wrong grants, two sentences."""
    path = tmp_path / "roles.toml"
    path.write_text('[[grants]]\nroles = ["x"]\nsubject = "a"\n[[grants]]\nroles = ["y"]\nsubject = "b"\n')

    with pytest.raises(SetupInvalid, match=r"grants\[0\].*; grants\[1\]"):
        read_roles(path)


@pytest.mark.parametrize(("content", "words"), [(b"\xff", "is not UTF-8"), (b" " * (1 << 21), "more than")])
def test_file_that_is_no_roles_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """Such as another file that was named by mistake."""
    path = tmp_path / "roles.toml"
    path.write_bytes(content)

    with pytest.raises(SetupInvalid, match=words):
        read_roles(path)


def test_missing_file_is_an_error_of_setup(tmp_path: Path) -> None:
    """It names the file and the setting."""
    with pytest.raises(SetupInvalid, match=r"roles\.toml: the file of ARBITER_ROLES_FILE cannot be read"):
        read_roles(tmp_path / "roles.toml")
