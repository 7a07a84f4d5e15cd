"""Business concepts: which inputs are added up into one reason, and the reason's codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from model_registry.manifest import Concept, ModelInput

INPUTS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "price": ("monthly_charges", "total_charges"),
    "commitment": ("contract",),
    "loyalty": ("tenure_months",),
    "internet": ("internet_service",),
    "phone": ("phone_service", "multiple_lines"),
    "protection": ("online_security", "online_backup", "device_protection", "tech_support"),
    "streaming": ("streaming_tv", "streaming_movies"),
    "payment": ("payment_method", "paperless_billing"),
}
TARGET: Final = "target"
"""The concept of what is asked about; it is no property of the customer and is not told."""


def concepts_of(inputs: tuple[ModelInput, ...], *, prefix: str) -> tuple[Concept, ...]:
    """Concepts of a model, with codes `<prefix>_<CONCEPT>_RAISES` and `_LOWERS`.

    Raises ValueError for a feature that belongs to no concept: a reason would be lost.
    """
    names = tuple(i.name for i in inputs if i.source == "feature")
    homeless = set(names) - {name for members in INPUTS_OF.values() for name in members}
    if homeless:
        raise ValueError(f"no concept has {', '.join(sorted(homeless))}: add them to training/concepts.py")
    told = tuple(
        _told(concept, tuple(n for n in members if n in names), prefix)
        for concept, members in INPUTS_OF.items()
        if any(n in names for n in members)
    )
    asked = tuple(i.name for i in inputs if i.source == "target")
    silent = Concept(name=TARGET, inputs=asked, reason_raises="", reason_lowers="")
    return (*told, silent) if asked else told


def _told(concept: str, members: tuple[str, ...], prefix: str) -> Concept:
    code = f"{prefix}_{concept.upper()}"
    return Concept(
        name=concept, inputs=members, reason_raises=f"{code}_RAISES", reason_lowers=f"{code}_LOWERS"
    )
