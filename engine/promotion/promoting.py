"""Promotion through the gates: judged, and then promoted or refused; what was forced is remembered."""

from __future__ import annotations

from engine.promotion.errors import PromotionRefused
from engine.promotion.gates import judge
from engine.promotion.judgement import Judgement
from engine.promotion.limits import limits_of
from model_registry import PublishedModel, Root, open_alias, open_version, promote
from model_registry.aliases import CHAMPION, read_aliases

PASSED = "passed the gates"


def judge_version(root: Root, name: str, version: int, *, alias: str = CHAMPION) -> Judgement:
    """What the gates say of a version. Raises RegistryError where it is not there, LimitsInvalid."""
    published = open_version(root, name, version)
    return judge(published, champion=champion_of(root, name), alias=alias, limits=limits_of(root, name))


def promote_through_gates(
    root: Root,
    name: str,
    version: int,
    *,
    alias: str = CHAMPION,
    reason: str = PASSED,
    actor: str | None = None,
    force: bool = False,
) -> Judgement:
    """Promotes a version that passes, or that is forced, and returns what the gates said.

    Whoever forces says who they are and why; both are kept with the gates they overrode. A version that does
    not load is never promoted. Raises PromotionRefused, LimitsInvalid, RegistryError, and ValueError where
    it is forced without actor.
    """
    if force and not actor:
        raise ValueError("forcing needs an actor: it is kept who overrode the gates")
    judgement = judge_version(root, name, version, alias=alias)
    refusing = judgement.refusing
    if refusing and not (force and judgement.may_be_forced):
        raise PromotionRefused(judgement)
    promote(
        root,
        name,
        version,
        alias=alias,
        reason=reason,
        actor=actor,
        overridden=refusing,
        judged_against=judgement.champion or 0,
    )
    return judgement


def champion_of(root: Root, name: str) -> PublishedModel | None:
    """The champion as promoted; None before the first. Raises RegistryError where it is damaged."""
    return open_alias(root, name) if CHAMPION in read_aliases(root, name).aliases else None
