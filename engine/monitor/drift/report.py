"""What a drift report says, as values: sections, what outcomes said, and the document that JSON shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from engine.monitor.drift.estimating import Performance
from engine.monitor.drift.examining import BASELINE, PREVIOUS, TRAINING, Section
from engine.monitor.drift.judging import Verdict

_SHOWN_BINS: Final = 20
"""Bins that people see of a score, which has a hundred."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What outcomes say of one model version over some time."""

    model: str
    from_ms: int
    until_ms: int
    performance: Performance


@dataclass(frozen=True, slots=True, eq=False)
class Drifting:
    """A variable over its threshold in windows of one length; `section` and `verdict` are the latest."""

    section: Section
    verdict: Verdict
    windows: int
    first_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class DriftReport:
    """All of it. `baseline` says who activated which baseline when, "" where there is none."""

    made_ms: int
    since_ms: int
    baseline: str
    sections: tuple[Section, ...]
    observed: tuple[Observed, ...]
    uncounted: int

    @property
    def drifting(self) -> list[Drifting]:
        """What drifts, what drifted last first."""
        runs: dict[tuple[str, str, str], Drifting] = {}
        for section in self.sections:
            for verdict in section.alarms:
                name = (section.subject, verdict.variable.name, section.window)
                before = runs.get(name)
                first_ms = section.from_ms if before is None else before.first_ms
                windows = 1 if before is None else before.windows + 1
                runs[name] = Drifting(section, verdict, windows, first_ms)
        return sorted(runs.values(), key=lambda run: (-run.section.until_ms, run.section.subject))

    def latest(self) -> list[Section]:
        """The last section of each subject and length of window that was judged, else the last there is.

        Those with alarms first, models next.
        """
        last: dict[tuple[str, str], Section] = {}
        for section in self.sections:
            name = (section.subject, section.window)
            if section.judged or name not in last or not last[name].judged:
                last[name] = section
        names = sorted(last, key=lambda name: (not last[name].alarms, "/" not in name[0], name))
        return [last[name] for name in names]


def moment(at_ms: int) -> str:
    """An instant as text, to the minute, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%MZ")


_WORDS: Final = {TRAINING: "training", PREVIOUS: "the windows before", BASELINE: "the baseline"}


def comparison(section: Section) -> str:
    """What a section was compared with, in words."""
    inputs, others = section.compared_with
    told = [f"inputs with {_WORDS[inputs]}"] if inputs else []
    what = "actions" if section.subject.startswith("channel ") else "scores"
    told += [f"{what} with {_WORDS[others]}"] if others else []
    return " and ".join(told) or "nothing to compare with yet"


def document(report: DriftReport) -> dict[str, object]:
    """The report as JSON has it; docs/drift.md names its fields."""
    return {
        "made": moment(report.made_ms),
        "since": moment(report.since_ms),
        "baseline": report.baseline or None,
        "uncounted": report.uncounted,
        "alarms": [
            {
                "subject": run.section.subject,
                "variable": run.verdict.variable.name,
                "window": run.section.window,
                "windows": run.windows,
                "first": moment(run.first_ms),
                "last": moment(run.section.from_ms),
                "measures": [measure.value for measure in run.verdict.alarms],
            }
            for run in report.drifting
        ],
        "sections": [_section(section) for section in report.sections],
        "performance": [
            {
                "model": each.model,
                "from": moment(each.from_ms),
                "until": moment(each.until_ms),
                **asdict(each.performance),
            }
            for each in report.observed
        ],
    }


def _section(section: Section) -> dict[str, object]:
    inputs, others = section.compared_with
    return {
        "subject": section.subject,
        "window": section.window,
        "from": moment(section.from_ms),
        "until": moment(section.until_ms),
        "decisions": section.decisions,
        "effective_customers": round(section.effective, 1),
        "compared_with": {"inputs": inputs or None, "scores_and_actions": others or None},
        "variables": [_variable(verdict) for verdict in section.verdicts],
        "estimates": {target: asdict(estimate) for target, estimate in section.estimates.items()},
    }


def _variable(verdict: Verdict) -> dict[str, object]:
    variable = verdict.variable
    now, reference = variable.now, variable.reference
    return {
        "name": variable.name,
        "kind": variable.kind.value,
        "alarm": bool(verdict.alarms),
        "measures": {measure.value: asdict(measured) for measure, measured in verdict.measures.items()},
        "missing": {"now": now.share(now.missing), "reference": reference.share(reference.missing)},
        "unknown": {"now": now.share(now.unknown), "reference": reference.share(reference.unknown)},
    }


def shares(verdict: Verdict) -> list[tuple[str, float, float]]:
    """Each bin by name with its share in the reference and now, missing and unknown among them."""
    variable = verdict.variable
    edges, at_once = variable.edges, 1
    if len(edges) > _SHOWN_BINS:
        at_once = (len(edges) + 1) // _SHOWN_BINS
        edges = edges[at_once - 1 :: at_once]
    names: Sequence[str] = variable.labels or _ranges(edges)
    befores, afters = variable.reference.bins, variable.now.bins
    rows = []
    for place, name in enumerate(names):
        bins = slice(place * at_once, (place + 1) * at_once)
        before, after = float(befores[bins].sum()), float(afters[bins].sum())
        rows.append((name, variable.reference.share(before), variable.now.share(after)))
    for name, before, after in (
        ("missing", variable.reference.missing, variable.now.missing),
        ("unknown", variable.reference.unknown, variable.now.unknown),
    ):
        if before or after:
            rows.append((name, variable.reference.share(before), variable.now.share(after)))
    return rows


def _ranges(edges: Sequence[float]) -> list[str]:
    """Bins between edges in words: `< 2`, `2 to 6`, `from 6`."""
    if not edges:
        return ["all"]
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"< {edges[0]:g}", *inner, f"from {edges[-1]:g}"]
