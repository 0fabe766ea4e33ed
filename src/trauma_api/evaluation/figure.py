"""One figure with its interval, and the ways in which figures are made of rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trauma_api.evaluation import metrics
from trauma_api.evaluation.bootstrap import Estimate, Statistic, estimate
from trauma_api.evaluation.cohort import Scored
from trauma_api.evaluation.metrics import Floats


@dataclass(frozen=True)
class Figure:
    """A figure, its unit, and of how many patients, studies or slices; ``positives`` where there are two classes."""

    estimate: Estimate
    unit: str
    rows: int
    positives: int | None = None


Section = Mapping[str, Figure]


def plain_figure(statistic: Statistic, over: Floats, unit: str = "") -> Figure:
    """A figure of rows; ``over`` are the counts of the rows, (resamples, rows)."""
    return Figure(estimate(statistic, over), unit, over.shape[1])


def two_class_figure(rows: Scored, statistic: Statistic, over: Floats) -> Figure:
    """A figure of rows that are positive or negative."""
    return Figure(estimate(statistic, over), "", len(rows.rows), int(rows.truth.sum()))


def auroc_of(rows: Scored) -> Statistic:
    """AUROC of patients."""
    owners = np.arange(len(rows.rows), dtype=np.intp)
    return lambda counts: metrics.auroc(rows.scores, rows.truth, owners, counts)


def sensitivity_at(rows: Scored, wanted: float) -> Statistic:
    """Sensitivity of patients at a specificity."""
    return lambda counts: metrics.sensitivity_at_specificity(rows.scores, rows.truth, wanted, counts)


def called_figures(rows: Scored, over: Floats) -> dict[str, Figure]:
    """Sensitivity and specificity of what was called."""
    return {
        "sensitivity": two_class_figure(rows, lambda c: metrics.sensitivity(rows.truth, rows.called, c), over),
        "specificity": two_class_figure(rows, lambda c: metrics.specificity(rows.truth, rows.called, c), over),
    }


def mean_of(values: Floats) -> Statistic:
    """Mean of the rows' values."""
    return lambda counts: metrics.mean(values, counts)


def quantile_of(values: Floats, share: float) -> Statistic:
    """Quantile of the rows' values."""
    return lambda counts: metrics.quantile(values, share, counts)
