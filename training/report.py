"""The training report and the model cards: the same text, with figures, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from training.calibration import Isotonic, Platt
from training.candidate import Candidate
from training.figures import draw_model
from training.links import Link
from training.parity import Parity
from training.publication import Publication
from training.segments import Segment, segments_of
from training.telco import Telco


@dataclass(frozen=True, slots=True)
class Trained:
    """One model of a run. `publication` is None where the run publishes nothing."""

    candidate: Candidate
    parity: Parity
    publication: Publication | None


def write_report(page: Path, *, models: tuple[Trained, ...], telco: Telco, dpi: int) -> None:
    """Writes one Markdown page, and its figures into `figures/` beside it."""
    sections = [_HEAD]
    for trained in models:
        name = trained.candidate.task.name
        draw_model(trained.candidate, page.parent / "figures" / f"{name}.png", dpi=dpi)
        sections.append(_section(trained, telco))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(sections), encoding="utf-8")


_HEAD = """# Model cards

Written by `python -m training all`; do not edit. Every figure is of customers that neither boosting nor
calibration saw, unless it says otherwise. The data is a public sample of one company at one time: there is
no later period to test on, and nothing here says how a model does a year on.

Neither model reads gender, age, partner or dependents, and neither reads the behavioural features, which are
synthetic in the demo.
"""


def _section(trained: Trained, telco: Telco) -> str:
    candidate, task = trained.candidate, trained.candidate.task
    version = f" {trained.publication.version}" if trained.publication else " (not published)"
    blocks = [
        f"## {task.name}{version}\n",
        f"**Intended use.** {task.intended_use}\n",
        _lineage(candidate),
        _LIMITS[task.name],
        _metric_table(candidate),
        *([_target_table(candidate)] if task.targets else []),
        f"![ROC, precision, calibration and drivers of {task.name}](figures/{task.name}.png)\n",
        _segment_table(segments_of(candidate, telco)),
        _parity(trained.parity),
    ]
    return "\n".join(blocks)


_LIMITS = {
    "churn": (
        "**Limits.** It ranks; it does not say what would keep a customer. Reasons are what the score rests "
        "on, not causes. A fifth of the customers gives an AUC that scatters by about 0.007 from split to "
        "split; the cross-validated figure is the steadier one. The shape of the trees was chosen among five "
        "by the mean test AUC of twelve splits, this one among them; the five differed by 0.001. "
        "It does not know age, and promises customers "
        "of 65 and older a little less risk than they have (see `senior_citizen` below).\n"
    ),
    "propensity": (
        "**Limits.** The label is ownership, not the answer to an offer: replace the model when outcomes "
        "have been collected. `one_year_contract` means a commitment of at least one year. A logistic "
        "regression for each target alone ranks as well; one boosted model is kept because it needs no "
        "imputation where values are missing and is explained like the other. Calibration is of all targets "
        "together; of one target alone it is looser (see ECE below).\n"
    ),
}


def _lineage(candidate: Candidate) -> str:
    data = candidate.training_data
    return (
        f"**Training.** {data['source']}; {data['customers']} customers; {data['split']}; "
        f"seed {data['seed']}. LightGBM, {candidate.metrics['trees']:.0f} trees, stopped and calibrated on "
        f"the validation customers: {_calibration(candidate.calibration)}. Inputs: "
        + ", ".join(f"`{i.name}`" for i in candidate.task.inputs if i.source == "feature")
        + ".\n"
    )


def _calibration(calibration: Link) -> str:
    if isinstance(calibration, Platt):
        return f"probability = sigmoid({calibration.slope:.4f} * margin {calibration.intercept:+.4f})"
    if isinstance(calibration, Isotonic):
        return f"isotonic, {len(calibration.margins)} knots"
    return calibration.output


def _metric_table(candidate: Candidate) -> str:
    told = {
        name: value
        for name, value in candidate.metrics.items()
        if not any(name.endswith(f"_test_{target}") for target in candidate.task.targets)
    }
    return _table(
        ("metric", "value"), ((f"`{name}`", f"{value:.4f}") for name, value in sorted(told.items()))
    )


def _target_table(candidate: Candidate) -> str:
    metrics = candidate.metrics
    lines = (
        (
            f"`{target}`",
            f"{metrics[f'auc_test_{target}']:.3f}",
            f"{metrics[f'baseline_auc_test_{target}']:.3f}",
            f"{metrics[f'ece_test_{target}']:.3f}",
            ", ".join(candidate.task.hidden[target]),
        )
        for target in candidate.task.targets
    )
    return _table(("target", "AUC", "AUC of its own logistic regression", "ECE", "hidden"), lines)


def _segment_table(segments: tuple[Segment, ...]) -> str:
    lines = (
        (
            f"{s.feature} = {s.value}",
            str(s.rows),
            f"{s.rate:.3f}",
            f"{s.mean_probability:.3f}",
            f"{s.ece:.3f}",
            "–" if s.auc is None else f"{s.auc:.3f}",
        )
        for s in segments
    )
    return _table(("segment", "rows", "rate seen", "mean probability", "ECE", "AUC"), lines)


def _parity(parity: Parity) -> str:
    return (
        f"**Export.** On {parity.rows} rows (held-out, and six at every split) the ONNX model and "
        "`trees.npz` give LightGBM's margins bit for bit; probabilities differ by at most "
        f"{parity.largest_difference:.1e}.\n"
    )


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rule = ("---", *("---:" for _ in head[1:]))
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines)) + "\n"
