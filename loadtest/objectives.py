"""What was promised, and whether a step kept it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from loadtest.errors import FileInvalid
from loadtest.profiles import read_yaml
from loadtest.results import Step, latency_ms

FOLDER: Final = Path(__file__).resolve().parent / "slo"
DEFAULT: Final = "interactive"
KEPT_UP: Final = 0.95
"""Share of the offered rate that a server must answer to have kept up with it."""

Milliseconds = Annotated[float, Field(gt=0)]
Budget = Annotated[float, Field(ge=0, le=1)]


class Objectives(BaseModel):
    """Limits of one step; what is not given is not judged. Shares are of all calls of the step."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str
    p50_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    p99_9_ms: Annotated[Milliseconds | None, Field(alias="p99.9_ms")] = None
    errors: Budget = 0.0
    shed: Budget = 0.0


@dataclass(frozen=True, slots=True)
class Judged:
    """One objective: what was found, what is allowed, whether it was kept."""

    objective: str
    found: float
    limit: float
    kept: bool


def load_objectives(name: str) -> Objectives:
    """Objectives by path, or those that Arbiter brings by their name. Raises FileInvalid."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
            raise FileInvalid(
                name, f"no such objectives: Arbiter brings {known}; or give a path ending in .yaml"
            )
    return read_yaml(path, Objectives)


def judge(step: Step, objectives: Objectives) -> tuple[Judged, ...]:
    """Every objective against a step. Where nothing was answered no latency was kept."""
    latencies = step.latencies()
    silent = latencies.get_total_count() == 0
    found = []
    for name, percentile, limit in (
        ("p50_ms", 50.0, objectives.p50_ms),
        ("p99_ms", 99.0, objectives.p99_ms),
        ("p99.9_ms", 99.9, objectives.p99_9_ms),
    ):
        if limit is not None:
            at_ms = latency_ms(latencies, percentile)
            found.append(Judged(name, at_ms, limit, at_ms <= limit and not silent))
    for name, share, budget in (
        ("errors", step.failed_share, objectives.errors),
        ("shed", step.shed_share, objectives.shed),
    ):
        found.append(Judged(name, share, budget, share <= budget))
    return tuple(found)


def kept(step: Step, objectives: Objectives) -> bool:
    """Whether a step kept every objective and the server kept up."""
    kept_up = step.answered_rate >= KEPT_UP * step.calls / step.seconds
    return kept_up and all(judged.kept for judged in judge(step, objectives))


def knee(steps: Sequence[Step], objectives: Objectives) -> Step | None:
    """The step with the highest rate below which none failed; None where already the first did."""
    best = None
    for step in sorted(steps, key=lambda step: step.rate):
        if not kept(step, objectives):
            break
        best = step
    return best
