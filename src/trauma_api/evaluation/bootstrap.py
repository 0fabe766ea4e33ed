"""Confidence intervals: percentile bootstrap, with patients as what is drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trauma_api.evaluation.metrics import Floats

RESAMPLES = 1000
SEED = 20230726
CONFIDENCE = 0.95

Statistic = Callable[[Floats], Floats]
"""From counts (resamples, patients) to one value a resample."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; None where there is nothing to compute it from."""

    value: float | None
    low: float | None
    high: float | None


def resample_counts(patients: int, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """How often each patient is in each resample of as many patients: float64 (resamples, patients)."""
    if patients == 0:
        return np.zeros((resamples, 0))
    drawn = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), size=resamples)
    return drawn.astype(np.float64)


def estimate(statistic: Statistic, counts: Floats) -> Estimate:
    """The figure on all patients, and the middle 95 % of its values over the resamples that define it.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    if counts.shape[1] == 0:
        return Estimate(None, None, None)
    value = float(statistic(np.ones((1, counts.shape[1])))[0])
    if not np.isfinite(value):
        return Estimate(None, None, None)
    drawn = statistic(counts)
    defined = drawn[np.isfinite(drawn)]
    if not len(defined):
        return Estimate(value, None, None)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
