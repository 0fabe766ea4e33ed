"""Plots as PNG, by matplotlib, which is an extra of its own: without it there are none."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trauma_api.evaluation import metrics
from trauma_api.evaluation.ablation import ablation_scores
from trauma_api.evaluation.cohort import (
    ANY_INJURY,
    EXTRAVASATION,
    FINDINGS,
    Finding,
    Patient,
    Scored,
    scored,
    scored_by_reading,
)
from trauma_api.evaluation.figures import volumes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INSTALL = "Plots need matplotlib: pip install 'trauma-api[evaluate]'."
BINS = 10
_COLUMNS = 5
_SIDE_INCH = 2.6
_DPI = 120


class PlotsUnavailableError(Exception):
    """matplotlib is not installed; the text says what to install."""


def write_plots(folder: Path, patients: Sequence[Patient]) -> list[str]:
    """Write the plots that there are results for. Returns their names. Raises PlotsUnavailableError."""
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise PlotsUnavailableError(INSTALL) from error
    drawn: list[tuple[str, Canvas]] = []
    rows = {finding.name: scored_by_reading(patients, finding) for finding in FINDINGS}
    known = {name: item for name, item in rows.items() if item.truth.any() and not item.truth.all()}
    if known:
        drawn += [("roc.png", _grid(Canvas, known, _draw_roc)), ("reliability.png", _grid(Canvas, known, _draw_bins))]
    for finding in (ANY_INJURY, EXTRAVASATION):
        curves = _ablation(patients, finding)
        if curves:
            drawn.append((f"ablation_{finding.name}.png", _ablation_canvas(Canvas, curves)))
    if len(volumes_of(patients).rows):
        drawn.append(("volume.png", _volume_canvas(Canvas, patients)))
    for name, canvas in drawn:
        canvas.savefig(folder / name, dpi=_DPI)
    return [name for name, _ in drawn]


def _grid(kind: type["Canvas"], rows: dict[str, Scored], draw: Callable[["Axes", Scored], None]) -> "Canvas":
    width = min(len(rows), _COLUMNS)
    height = -(-len(rows) // width)
    canvas = kind(figsize=(width * _SIDE_INCH, height * _SIDE_INCH), layout="constrained")
    for place, (name, item) in enumerate(rows.items()):
        axes = canvas.add_subplot(height, width, place + 1)
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.set_aspect("equal")
        draw(axes, item)
    return canvas


def _draw_roc(axes: "Axes", rows: Scored) -> None:
    false_positives, true_positives = roc(rows)
    area = metrics.auroc(rows.scores, rows.truth, np.arange(len(rows.rows)), np.ones((1, len(rows.rows))))[0]
    axes.plot(false_positives, true_positives, label=f"AUROC {area:.2f}")
    axes.set_xlabel("1 - specificity", fontsize=8)
    axes.set_ylabel("sensitivity", fontsize=8)
    axes.legend(fontsize=7, loc="lower right")


def _draw_bins(axes: "Axes", rows: Scored) -> None:
    bins = metrics.bin_of(rows.scores, BINS)
    total = np.bincount(bins, minlength=BINS)
    used = total > 0
    said = np.bincount(bins, rows.scores, BINS)[used] / total[used]
    seen = np.bincount(bins, rows.truth.astype(np.float64), BINS)[used] / total[used]
    axes.scatter(said, seen, s=10 + 90 * total[used] / total.sum())
    axes.plot(said, seen, linewidth=0.8)
    axes.set_xlabel("probability", fontsize=8)
    axes.set_ylabel("frequency", fontsize=8)


def roc(rows: Scored) -> tuple[metrics.Floats, metrics.Floats]:
    """1 - specificity and sensitivity as the threshold falls, from (0, 0) to (1, 1)."""
    order = np.argsort(-rows.scores, kind="stable")
    scores, truth = rows.scores[order], rows.truth[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    true_positives, false_positives = np.cumsum(truth)[ends], np.cumsum(~truth)[ends]
    return (
        np.append(0.0, false_positives / max(1, int((~truth).sum()))),
        np.append(0.0, true_positives / max(1, int(truth.sum()))),
    )


def _ablation(patients: Sequence[Patient], finding: Finding) -> dict[str, Scored]:
    curves = {name: scored(patients, finding, score) for name, score in ablation_scores(finding).items()}
    return {name: item for name, item in curves.items() if item.truth.any() and not item.truth.all()}


def _ablation_canvas(kind: type["Canvas"], curves: dict[str, Scored]) -> "Canvas":
    canvas = kind(figsize=(2 * _SIDE_INCH, 2 * _SIDE_INCH), layout="constrained")
    axes = canvas.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for name, rows in curves.items():
        axes.plot(*roc(rows), label=name)
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    axes.legend(loc="lower right")
    return canvas


def _volume_canvas(kind: type["Canvas"], patients: Sequence[Patient]) -> "Canvas":
    """Measured against true millilitres, and their differences against their means (Bland and Altman)."""
    volumes = volumes_of(patients)
    differences = volumes.measured_ml - volumes.truth_ml
    canvas = kind(figsize=(4 * _SIDE_INCH, 2 * _SIDE_INCH), layout="constrained")
    left, right = canvas.subplots(1, 2)
    top = max(1.0, float(max(volumes.truth_ml.max(), volumes.measured_ml.max())))
    left.plot([0, top], [0, top], color="0.8", linewidth=1)
    left.scatter(volumes.truth_ml, volumes.measured_ml, s=10)
    left.set_xlabel("true mL")
    left.set_ylabel("measured mL")
    right.scatter((volumes.measured_ml + volumes.truth_ml) / 2, differences, s=10)
    low, high = metrics.limits_of_agreement(differences, np.ones((1, len(differences))))
    for value, style in ((low[0], "--"), (differences.mean(), "-"), (high[0], "--")):
        if np.isfinite(value):
            right.axhline(float(value), color="0.4", linestyle=style, linewidth=1)
    right.set_xlabel("mean of true and measured mL")
    right.set_ylabel("measured - true mL")
    return canvas
