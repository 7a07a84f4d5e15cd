"""What gates ask for: `<name>/gates.toml` in the registry, beside the aliases, or defaults."""

from __future__ import annotations

import tomllib
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.promotion.errors import LimitsInvalid
from model_registry import Root, storage_of
from model_registry.errors import RegistryError
from model_registry.publishing import explain_invalid

LIMITS: Final = "gates.toml"
MAX_LIMITS_BYTES: Final = 64 * 1024

Share = Annotated[float, Field(ge=0, le=1)]
GateName = Literal["auc", "log_loss", "calibration", "fairness", "latency"]


class FairnessLimits(BaseModel):
    """Largest gaps between groups of one attribute: in AUC, in true positives found, in customers chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auc: Share = 0.1
    tpr: Share = 0.2
    selection: Share = 0.2


class Limits(BaseModel):
    """Limits of the gates. `off` names gates that a company does without, which shows in every judgement.

    auc_loss, log_loss_gain   how much worse than the champion the bad end of the 95 % interval may be
    ece                       largest expected calibration error on the held-out rows
    parity                    largest difference of probabilities between ONNX and flat trees
    latency_ratio             time for one row, as a multiple of the champion's
    resamples, seed           of the bootstrap
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    auc_loss: Share = 0.01
    log_loss_gain: Share = 0.01
    ece: Share = 0.05
    parity: Annotated[float, Field(ge=0, le=1e-3)] = 1e-6
    fairness: FairnessLimits = FairnessLimits()
    latency_ratio: Annotated[float, Field(gt=0, le=1000)] = 2.0
    resamples: Annotated[int, Field(ge=200, le=10_000)] = 1_000
    seed: Annotated[int, Field(ge=0)] = 1
    off: frozenset[GateName] = frozenset()


def limits_of(root: Root, name: str) -> Limits:
    """The limits of a model. Raises LimitsInvalid."""
    storage = storage_of(root)
    place = storage.place(name, LIMITS)
    try:
        if not storage.has_file(name, LIMITS):
            return Limits()
        text = storage.read(name, LIMITS, max_bytes=MAX_LIMITS_BYTES).decode()
        return Limits.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise LimitsInvalid(f"{place}: {explain_invalid(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, RegistryError) as error:
        raise LimitsInvalid(f"{place}: cannot be read: {error}") from error
