"""The card of a model: one page of Markdown for those who decide whether, and for what, it may be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from training.calibration import Isotonic, Platt
from training.evaluation.groups import gaps_of, groups_of
from training.own.evidence import Figures
from training.own.run import TrainedModel
from training.own.seam import groups_of_test, held_out

_BESIDE = {"auc_test": "baseline_auc_test", "cv_auc": "baseline_cv_auc"}


def model_card(trained: TrainedModel) -> str:
    """The page; the same model gives the same bytes."""
    plan, candidate = trained.prepared.plan, trained.candidate
    blocks = [
        f"# {plan.metadata.name}\n",
        f"**Intended use.** {plan.metadata.intended_use}\n",
        f"**Owner.** {plan.metadata.owner}. **Kind.** {trained.task.kind}.\n",
        _limits(trained),
        _inputs(trained),
        _table(("data", ""), candidate.training_data.items()),
        _figures(trained),
        _table(
            ("gate", "figure", "limit", ""),
            ((g.name, g.figure, g.limit, "passed" if g.passed else "FAILED") for g in trained.gates),
        ),
        *_signs(trained),
        *_groups(trained),
    ]
    return "\n".join(blocks)


def _limits(trained: TrainedModel) -> str:
    parts = trained.prepared.plan.split.by
    period = (
        "It was tested on later rows than it was trained on."
        if parts == "time"
        else "Rows were dealt out at random: nothing here says how it does a year on."
    )
    said = (
        "It ranks and promises rates; it does not say what would change them."
        if trained.evidence is None
        else trained.evidence.limits()
    )
    return (
        f"**Limits.** {said} Reasons are what "
        f"the score rests on, not causes. {period} Every figure is of rows that neither boosting nor "
        "calibration saw, unless it says otherwise.\n"
    )


def _inputs(trained: TrainedModel) -> str:
    classes: dict[str, list[str]] = {}
    features = {f.name: f for f in trained.task.schema.feature}
    for model_input in trained.task.inputs:
        feature = features.get(model_input.name)
        kind = "of what is proposed" if feature is None else feature.data_class.value
        classes.setdefault(kind, []).append(f"`{model_input.name}`")
    told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in classes.items())
    return f"**Inputs.** {told}.\n"


def _figures(trained: TrainedModel) -> str:
    metrics, calibration = trained.candidate.metrics, trained.candidate.calibration
    beside = set(_BESIDE.values())
    lines = [
        (f"`{name}`", f"{value:.4f}", f"{metrics[_BESIDE[name]]:.4f}" if name in _BESIDE else "")
        for name, value in sorted(metrics.items())
        if name not in beside
    ]
    if not isinstance(calibration, Platt | Isotonic):
        return _table(("figure", "model", ""), [*_beside(trained), *lines])
    how = (
        f"probability = sigmoid({calibration.slope:.4f} * margin {calibration.intercept:+.4f})"
        if isinstance(calibration, Platt)
        else f"isotonic, {len(calibration.margins)} knots"
    )
    return _table(("figure", "model", "logistic regression"), lines) + f"\nCalibration: {how}.\n"


def _beside(trained: TrainedModel) -> list[tuple[str, str, str]]:
    """What such a kind says first, with what stands beside it."""
    told = [] if trained.evidence is None else trained.evidence.told()
    return [(name, figure, f"beside it: {other}" if other else "") for name, figure, other in told]


def _signs(trained: TrainedModel) -> list[str]:
    if not trained.prepared.signs:
        return []
    return ["**Signs of leakage.**\n", *(f"- {sign}" for sign in trained.prepared.signs), ""]


def _groups(trained: TrainedModel) -> list[str]:
    if trained.evidence is not None:
        return _groups_of_evidence(trained.evidence.segments(groups_of_test(trained)))
    held = held_out(trained)
    groups = groups_of(held)
    if not groups:
        return []
    of_groups = _table(
        ("group", "rows", "rate", "mean probability", "ECE", "AUC"),
        (
            (
                f"{g.attribute} = {g.value}",
                str(g.rows),
                f"{g.rate:.3f}",
                f"{g.mean_probability:.3f}",
                f"{g.ece:.3f}",
                "–" if g.auc is None else f"{g.auc.value:.3f}",
            )
            for g in groups
        ),
    )
    of_gaps = _table(
        ("attribute", "gap", "size (95 % interval)"),
        ((gap.attribute, gap.measure, str(gap.size)) for gap in gaps_of(held, seed=trained.candidate.seed)),
    )
    return [of_groups, of_gaps]


def _groups_of_evidence(segments: Mapping[str, Figures]) -> list[str]:
    """A line for each group, a column for each figure."""
    if not segments:
        return []
    names = tuple(next(iter(segments.values())))
    lines = [
        (group, *("–" if figures[name] is None else f"{figures[name]:g}" for name in names))
        for group, figures in segments.items()
    ]
    return [_table(("group", *names), lines)]


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rule = ("---", *("---:" for _ in head[1:]))
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *cells)) + "\n"
