"""The immutable bundle that one request sees from start to end: rules, catalogue, schema, models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.core import contact
from engine.core.canary import Share
from engine.core.catalogue import Catalogue, lay_out
from engine.core.inputs import CHURN_SCORE, InputLayout, layout_of
from engine.core.policy import PolicyStage, prepare
from engine.core.rulebook import Mask, Rulebook
from engine.core.scoring import Scorer
from engine.domain import Versions
from feature_store.schema import FeatureSchema


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything a decision needs besides the request and the customer, laid out once."""

    rulebook: Rulebook
    schema: FeatureSchema
    scorer: Scorer
    versions: Versions
    catalogue: Catalogue
    layout: InputLayout
    before_scores: PolicyStage
    after_scores: PolicyStage
    limits: contact.Limits
    judged_by_churn: Mask  # actions in scope of a rule that reads the churn score, (actions,)
    canaries: Canaries | None = None

    def for_customer(self, customer_id: str) -> Snapshot:
        """What decides for a customer: this snapshot, or one with models that are tried on their share."""
        return self if self.canaries is None else self.canaries.for_customer(customer_id) or self

    def each(self) -> tuple[Snapshot, ...]:
        """The snapshot itself, and those that decide for shares of the customers."""
        return (self,) if self.canaries is None else (self, *self.canaries.snapshots)


@dataclass(frozen=True, slots=True, eq=False)
class Canaries:
    """Challengers, each with its share of the customers.

    `snapshots` go by the set of shares that a customer is in, the first share being bit 0, less one.
    """

    shares: tuple[Share, ...]
    snapshots: tuple[Snapshot, ...]

    def for_customer(self, customer_id: str) -> Snapshot | None:
        """The snapshot for the shares that hold a customer; None where none does."""
        place = 0
        for number, share in enumerate(self.shares):
            place |= share.holds(customer_id) << number
        return self.snapshots[place - 1] if place else None


def assemble(*, rulebook: Rulebook, schema: FeatureSchema, scorer: Scorer, engine_version: str) -> Snapshot:
    """Lays rules, catalogue and models out for many decisions."""
    catalogue = lay_out(rulebook.actions, rulebook.vocabulary.channels)
    layout = layout_of(rulebook)
    return Snapshot(
        rulebook=rulebook,
        schema=schema,
        scorer=scorer,
        versions=Versions(
            rules=rulebook.version,
            catalogue=rulebook.catalogue_version,
            feature_schema=schema.digest,
            models=dict(scorer.versions),
            engine=engine_version,
        ),
        catalogue=catalogue,
        layout=layout,
        before_scores=prepare(rulebook.before_scores, rulebook),
        after_scores=prepare(rulebook.after_scores, rulebook),
        limits=contact.lay_out(rulebook.contact, catalogue, layout),
        judged_by_churn=_judged_by_churn(rulebook),
    )


def _judged_by_churn(rulebook: Rulebook) -> Mask:
    program = rulebook.after_scores
    mask: Mask = np.zeros(len(rulebook.actions), dtype=np.bool_)
    for rule, scope in zip(program.rules, program.scope, strict=True):
        if CHURN_SCORE in rule.reads:
            mask |= scope
    return mask
