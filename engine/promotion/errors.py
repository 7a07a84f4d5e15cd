"""Why a version is not promoted, or cannot be judged.

PromotionError
├── LimitsInvalid      gates.toml cannot be read
├── EvidenceInvalid    a file of the version that gates judge by is not what it must be
└── PromotionRefused   gates did not pass
"""

from __future__ import annotations

from engine.promotion.judgement import Judgement


class PromotionError(Exception):
    """Root of the tree: nothing was promoted."""


class LimitsInvalid(PromotionError):
    """The file of a model's limits is refused."""


class EvidenceInvalid(PromotionError):
    """A file that gates judge by is not what it must be."""


class PromotionRefused(PromotionError):
    """Gates did not pass, and nobody forced it."""

    def __init__(self, judgement: Judgement) -> None:
        gates = [gate for gate in judgement.gates if gate.name in judgement.refusing]
        told = "; ".join(f"{gate.name} {gate.verdict}: {gate.words}" for gate in gates)
        advice = (
            "Publish a version that loads"
            if not judgement.may_be_forced
            else "Publish a better version, or repeat with --force, --actor and --reason, which are kept"
        )
        super().__init__(f"{judgement.model}/{judgement.version} is not promoted: {told}. {advice}.")
        self.judgement = judgement
