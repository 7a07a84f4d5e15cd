"""The plots of a training report, one page of four per model."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from training.boosting import contributions, log_odds
from training.calibration import sigmoid
from training.candidate import Candidate
from training.dataset import Floats

BLUE: Final = "#1f5fa8"
ORANGE: Final = "#c4621a"
GREY: Final = "#8a8f98"
_BINS: Final = 10
_EXPLAINED_ROWS: Final = 1500


def draw_model(candidate: Candidate, path: Path, *, dpi: int) -> None:
    """ROC, precision and recall, calibration, and what drives the score, as one PNG."""
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.6, 7.2), layout="constrained")
        ((roc, recall), (calibration, drivers)) = figure.subplots(2, 2)
        _draw_roc(roc, candidate)
        _draw_precision(recall, candidate)
        _draw_calibration(calibration, candidate)
        _draw_drivers(drivers, candidate)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dpi, metadata={"Software": None})


def _draw_roc(axes: Axes, candidate: Candidate) -> None:
    test = candidate.task.test
    margins = log_odds(candidate.booster, test.rows)
    false_alarms, found, _ = roc_curve(test.labels, margins)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(false_alarms, found, color=BLUE, label=f"all rows, AUC {candidate.metrics['auc_test']:.3f}")
    targets = candidate.task.targets
    each = [candidate.metrics[f"auc_test_{target}"] for target in targets]
    for place in range(len(targets)):
        kept = test.targets == place
        alarms, hits, _ = roc_curve(test.labels[kept], margins[kept])
        label = f"each target, AUC {min(each):.3f} to {max(each):.3f}" if place == 0 else None
        axes.plot(alarms, hits, color=GREY, linewidth=0.6, alpha=0.7, label=label)
    axes.set(title="ROC, held-out customers", xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right", frameon=False)


def _draw_precision(axes: Axes, candidate: Candidate) -> None:
    test = candidate.task.test
    precision, recall, _ = precision_recall_curve(test.labels, log_odds(candidate.booster, test.rows))
    rate = float(test.labels.mean())
    axes.axhline(rate, color=GREY, linewidth=0.8, linestyle=":", label=f"chance, {rate:.2f}")
    axes.plot(recall[:-1], precision[:-1], color=BLUE)
    axes.set(title="Precision and recall", xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    axes.legend(loc="lower left", frameon=False)


def _draw_calibration(axes: Axes, candidate: Candidate) -> None:
    test = candidate.task.test
    margins = log_odds(candidate.booster, test.rows)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for label, color, marker, values in (
        (f"before, ECE {candidate.metrics['ece_test_uncalibrated']:.3f}", ORANGE, "x", sigmoid(margins)),
        (
            f"after, ECE {candidate.metrics['ece_test']:.3f}",
            BLUE,
            "o",
            candidate.calibration.score(margins),
        ),
    ):
        promised, seen, error = _rates(values, test.labels)
        axes.errorbar(
            promised, seen, yerr=error, color=color, marker=marker, ms=4, lw=1, elinewidth=0.6, label=label
        )
    axes.set(title="Calibration, ten bins of equally many rows", xlabel="promised", ylabel="seen (1.96 s.e.)")
    axes.legend(loc="upper left", frameon=False)


def _rates(probabilities: Floats, labels: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean promise, rate and its half interval in each bin, shape (bins,) each."""
    bins = np.array_split(np.argsort(probabilities, kind="stable"), _BINS)
    promised = np.array([probabilities[b].mean() for b in bins])
    seen = np.array([labels[b].mean() for b in bins])
    sizes = np.array([len(b) for b in bins])
    return promised, seen, 1.96 * np.sqrt(seen * (1 - seen) / sizes)


def _draw_drivers(axes: Axes, candidate: Candidate) -> None:
    """Mean absolute Shapley value of each concept, beside the gain of its splits."""
    task = candidate.task
    rng = np.random.default_rng(candidate.seed)
    rows = task.test.rows
    rows = rows[rng.permutation(len(rows))[:_EXPLAINED_ROWS]]
    shares = contributions(candidate.booster, rows)
    gains = np.asarray(candidate.booster.feature_importance("gain"), dtype=np.float64)
    place = {model_input.name: i for i, model_input in enumerate(task.inputs)}
    columns = [[place[name] for name in concept.inputs] for concept in task.concepts]
    strength = np.array([np.abs(shares[:, c].sum(axis=1)).mean() for c in columns])
    gain = np.array([gains[c].sum() for c in columns]) / gains.sum()
    order = np.argsort(strength)
    lines = np.arange(len(order))
    names = [task.concepts[i].name for i in order]
    axes.barh(lines + 0.2, strength[order] / strength.sum(), 0.38, color=BLUE, label="mean |Shapley value|")
    axes.barh(lines - 0.2, gain[order], 0.38, color=GREY, label="gain of splits")
    axes.set_yticks(lines, names)
    axes.set(title="What drives the score, by concept", xlabel="share")
    axes.legend(loc="lower right", frameon=False)
