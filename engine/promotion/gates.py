"""The gates: a version is judged by what is registered with it, and by the champion, alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.core.scoring import ScoringError
from engine.models.errors import ModelRefused
from engine.models.loading import ServingModel, load_model, read_golden, read_version_trees
from engine.models.parity import boundary_rows, compare_trees
from engine.models.trees import Rows
from engine.promotion.errors import EvidenceInvalid
from engine.promotion.evidence import (
    HOLDOUT,
    Holdout,
    Incomparable,
    latency_ratio,
    probabilities,
    read_holdout,
    rows_for,
)
from engine.promotion.figures import Compared, Scored, compare
from engine.promotion.judgement import LOADS, Gate, Interval, Judgement, Verdict
from engine.promotion.limits import Limits
from model_registry import PublishedModel
from model_registry.aliases import SHADOW

JUDGED_KINDS: Final = ("churn", "propensity")
"""Kinds whose labels are 0 and 1, and whose scores are their probabilities."""


@dataclass(frozen=True, slots=True, eq=False)
class _Rival:
    """The champion, and a row of its own to time it with."""

    model: ServingModel
    sample: Rows


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """A version that loads, its evidence, and the champion it is held to; what is missing says why."""

    published: PublishedModel
    model: ServingModel
    sample: Rows
    holdout: Holdout | str
    champion: _Rival | str


def judge(
    published: PublishedModel, *, champion: PublishedModel | None, alias: str, limits: Limits
) -> Judgement:
    """Every gate of a version. A shadow answers nobody, so it needs to load and to be one model only."""
    try:
        model = load_model(published)
    except ModelRefused as error:
        gates: tuple[Gate, ...] = (Gate(LOADS, Verdict.FAILED, error.cause),)
    else:
        sample = read_golden(published).rows
        case = _Case(published, model, sample, _holdout_of(published), _rival(champion))
        loads = Gate(LOADS, Verdict.PASSED, "files are whole, golden rows reproduce")
        gates = (loads, _parity(case, limits))
        if alias != SHADOW:
            gates = (*gates, *_served_gates(case, limits))
    return Judgement(
        model=published.manifest.name,
        version=published.manifest.version,
        alias=alias,
        champion=champion.manifest.version if champion else None,
        gates=gates,
    )


def _served_gates(case: _Case, limits: Limits) -> tuple[Gate, ...]:
    against = _against_champion(case, limits)
    judged: tuple[tuple[str, Callable[[], Gate]], ...] = (
        ("auc", lambda: _auc(against, limits, note=_seen_by_champion(case))),
        ("log_loss", lambda: _log_loss(against, limits)),
        ("calibration", lambda: _calibration(case, limits)),
        ("fairness", lambda: _fairness(case, limits)),
        ("latency", lambda: _latency(case, limits)),
    )
    off = "switched off in gates.toml"
    return tuple(Gate(name, Verdict.OFF, off) if name in limits.off else gate() for name, gate in judged)


def _parity(case: _Case, limits: Limits) -> Gate:
    trees = read_version_trees(case.published)
    at_splits = boundary_rows(trees, like=case.sample[0], seed=limits.seed)
    held_out = case.holdout.rows if isinstance(case.holdout, Holdout) else case.sample
    try:
        found = compare_trees(case.model, trees, rows=np.vstack([at_splits, held_out]))
    except ScoringError as error:
        return Gate("parity", Verdict.FAILED, str(error))
    fits = found.other_margin == 0 and found.largest_difference <= limits.parity
    words = f"{found.other_margin} of {found.rows} rows at splits and held out have another margin"
    return Gate("parity", _verdict(fits), words, figure=found.largest_difference, limit=limits.parity)


def _auc(against: Compared | str, limits: Limits, *, note: str) -> Gate:
    if isinstance(against, str):
        return Gate("auc", Verdict.NOT_KNOWN, against, limit=-limits.auc_loss)
    gain = against.auc_gain
    words = (
        f"AUC {against.auc[0].value:.4f}, the champion's {against.auc[1].value:.4f} on the same rows{note}"
    )
    return _difference("auc", gain, gain.low >= -limits.auc_loss, words, limit=-limits.auc_loss)


def _log_loss(against: Compared | str, limits: Limits) -> Gate:
    if isinstance(against, str):
        return Gate("log_loss", Verdict.NOT_KNOWN, against, limit=limits.log_loss_gain)
    gain = against.log_loss_gain
    one, other = against.log_loss
    words = f"log loss {one.value:.4f}, the champion's {other.value:.4f} on the same rows"
    return _difference("log_loss", gain, gain.high <= limits.log_loss_gain, words, limit=limits.log_loss_gain)


def _difference(name: str, gain: Interval, fits: bool, words: str, *, limit: float) -> Gate:
    return Gate(name, _verdict(fits), words, gain.value, (gain.low, gain.high), limit)


def _calibration(case: _Case, limits: Limits) -> Gate:
    if isinstance(case.holdout, str):
        return Gate("calibration", Verdict.NOT_KNOWN, case.holdout, limit=limits.ece)
    try:
        scored = Scored.of(probabilities(case.model, case.holdout.rows), case.holdout.labels)
    except ScoringError as error:
        return Gate("calibration", Verdict.FAILED, str(error), limit=limits.ece)
    ece = scored.ece()
    words = f"expected calibration error on {len(case.holdout.labels)} held-out rows"
    return Gate("calibration", _verdict(ece <= limits.ece), words, figure=ece, limit=limits.ece)


def _fairness(case: _Case, limits: Limits) -> Gate:
    allowed = {"gap_auc": limits.fairness.auc, "gap_tpr": limits.fairness.tpr}
    allowed["gap_selection"] = limits.fairness.selection
    gaps = [
        (abs(float(gap)) / max(allowed[figure], 1e-12), f"{attribute} {figure} {abs(float(gap)):.3f}")
        for attribute, figures in case.published.manifest.fairness.items()
        for figure, gap in figures.items()
        if figure in allowed and gap is not None
    ]
    if not gaps:
        return Gate("fairness", Verdict.NOT_KNOWN, "the manifest says nothing of fairness", limit=1.0)
    worst, where = max(gaps)
    words = f"widest of {len(gaps)} gaps, as a multiple of its limit: {where}"
    return Gate("fairness", _verdict(worst <= 1.0), words, figure=worst, limit=1.0)


def _latency(case: _Case, limits: Limits) -> Gate:
    if isinstance(case.champion, str):
        return Gate("latency", Verdict.NOT_KNOWN, case.champion, limit=limits.latency_ratio)
    rival = case.champion
    ratio = latency_ratio((case.model.session, case.sample[:1]), (rival.model.session, rival.sample[:1]))
    words = "time for one row, as a multiple of the champion's"
    return Gate(
        "latency", _verdict(ratio <= limits.latency_ratio), words, figure=ratio, limit=limits.latency_ratio
    )


def _against_champion(case: _Case, limits: Limits) -> Compared | str:
    """Both models on the same held-out rows; a text says why there is no comparison."""
    if isinstance(case.champion, str):
        return case.champion
    if isinstance(case.holdout, str):
        return case.holdout
    try:
        return compare_models(case.model, case.champion.model, case.holdout, limits=limits)
    except (Incomparable, ScoringError) as error:
        return str(error)


def compare_models(
    candidate: ServingModel, champion: ServingModel, holdout: Holdout, *, limits: Limits
) -> Compared:
    """Both models on the candidate's held-out rows. Raises Incomparable or ScoringError."""
    shared, rival_rows = rows_for(champion.manifest, candidate.manifest, holdout)
    if len(np.unique(shared.labels)) != 2:
        raise Incomparable("the held-out rows that both models can score have one label only")
    return compare(
        Scored.of(probabilities(candidate, shared.rows), shared.labels),
        Scored.of(probabilities(champion, rival_rows), shared.labels),
        groups=shared.groups,
        resamples=limits.resamples,
        seed=limits.seed,
    )


def _seen_by_champion(case: _Case) -> str:
    """Words where the champion learnt from the same data, split otherwise: it has seen some of these rows."""
    if isinstance(case.champion, str):
        return ""
    one, other = case.published.manifest.training_data, case.champion.model.manifest.training_data
    same_data = "fingerprint" in one and one["fingerprint"] == other.get("fingerprint")
    split_alike = all(one.get(part) == other.get(part) for part in ("split", "seed"))
    if not same_data or split_alike:
        return ""
    return "; the champion learnt from the same data split otherwise and has seen some, which favours it"


def _holdout_of(published: PublishedModel) -> Holdout | str:
    kind = published.manifest.kind
    if kind not in JUDGED_KINDS:
        return f"gates cannot judge a model of kind {kind} by its held-out rows"
    try:
        return read_holdout(published) or f"the version has no {HOLDOUT}"
    except EvidenceInvalid as error:
        return str(error)


def _rival(champion: PublishedModel | None) -> _Rival | str:
    if champion is None:
        return "there is no champion yet"
    try:
        return _Rival(load_model(champion), read_golden(champion).rows)
    except ModelRefused as error:
        return f"the champion does not load: {error.cause}"


def _verdict(fits: bool) -> Verdict:
    return Verdict.PASSED if fits else Verdict.FAILED
