"""The roles file: which tokens and certificates may do what."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.errors import SetupInvalid
from engine.security.callers import Role
from engine.security.keeping import read_text

LARGEST: Final = 1 << 20
"""Bytes of a roles file: thousands of grants."""
_MAX_NAME: Final = 512

Name = Annotated[str, Field(min_length=1, max_length=_MAX_NAME)]
Roles = Annotated[tuple[Role, ...], Field(min_length=1)]
Claims = Mapping[str, Any]


class Grant(BaseModel):
    """Roles for who carries one mark: a token's subject, scope or claim, or a name of a certificate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roles: Roles
    subject: Name | None = None
    scope: Name | None = None
    claim: Name | tuple[Name, ...] | None = None
    value: Name | None = None
    certificate: Annotated[str, Field(pattern=r"^(uri|dns|cn):.", max_length=_MAX_NAME)] | None = None

    @model_validator(mode="after")
    def _one_mark(self) -> Grant:
        marks = [m for m in (self.subject, self.scope, self.claim, self.certificate) if m is not None]
        if len(marks) != 1:
            raise ValueError("give exactly one of subject, scope, claim or certificate")
        if (self.claim is None) != (self.value is None):
            raise ValueError("claim and value go together")
        return self


class _RolesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    everyone: tuple[Role, ...] = ()
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class RoleBook:
    """Who may do what. Grants add up; who has none may do what everyone may who proved who they are."""

    everyone: frozenset[Role]
    subjects: Mapping[str, frozenset[Role]]
    scopes: Mapping[str, frozenset[Role]]
    certificates: Mapping[str, frozenset[Role]]
    claims: Sequence[tuple[tuple[str, ...], str, frozenset[Role]]]

    def of_token(self, claims: Claims) -> frozenset[Role]:
        """What the bearer of a token with these claims may do."""
        roles = self.everyone | _held(self.subjects, [claims.get("sub")])
        roles |= _held(self.scopes, _scopes(claims))
        for path, value, granted in self.claims:
            if value in _texts(_at(claims, path)):
                roles |= granted
        return roles

    def of_certificate(self, names: Sequence[str]) -> frozenset[Role]:
        """What the holder of a certificate with these names may do; each begins with its kind."""
        return self.everyone | _held(self.certificates, names)


def read_roles(path: Path) -> RoleBook:
    """The book of a roles file. Raises SetupInvalid with every error in it."""
    return parse_roles(read_text(path, "ARBITER_ROLES_FILE", largest=LARGEST), source=str(path))


def parse_roles(text: str, *, source: str) -> RoleBook:
    """The book that a TOML text says. Raises SetupInvalid with every error in it."""
    try:
        said = _RolesFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SetupInvalid(f"{source}: is no TOML: {error}") from error
    except RecursionError:
        raise SetupInvalid(f"{source}: is nested too deeply") from None
    except ValidationError as error:
        wrong = "; ".join(f"{_place(e['loc'])}: {e['msg']}" for e in error.errors())
        raise SetupInvalid(f"{source}: {wrong}") from error
    return RoleBook(
        everyone=frozenset(said.everyone),
        subjects=_by_mark([(g.subject, g.roles) for g in said.grants]),
        scopes=_by_mark([(g.scope, g.roles) for g in said.grants]),
        certificates=_by_mark([(g.certificate, g.roles) for g in said.grants]),
        claims=[
            ((g.claim,) if isinstance(g.claim, str) else g.claim, g.value, frozenset(g.roles))
            for g in said.grants
            if g.claim is not None and g.value is not None
        ],
    )


def _place(location: Sequence[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "the file"


def _by_mark(grants: Sequence[tuple[str | None, Sequence[Role]]]) -> Mapping[str, frozenset[Role]]:
    held: dict[str, frozenset[Role]] = {}
    for mark, roles in grants:
        if mark is not None:
            held[mark] = held.get(mark, frozenset()) | frozenset(roles)
    return held


def _held(granted: Mapping[str, frozenset[Role]], marks: Sequence[object]) -> frozenset[Role]:
    none: frozenset[Role] = frozenset()
    return none.union(*(granted.get(mark, none) for mark in marks if isinstance(mark, str)))


def _scopes(claims: Claims) -> Sequence[str]:
    """Scopes as RFC 8693 writes them, parted by spaces, or `scp` as some issuers do."""
    said = claims.get("scope", claims.get("scp"))
    return said.split() if isinstance(said, str) else _texts(said)


def _at(claims: Claims, path: Sequence[str]) -> object:
    found: object = claims
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def _texts(said: object) -> Sequence[str]:
    if isinstance(said, str):
        return (said,)
    return [each for each in said if isinstance(each, str)] if isinstance(said, list) else ()
