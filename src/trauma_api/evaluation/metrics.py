"""Figures of merit over resampled patients: pure functions of arrays.

Every function takes ``counts``, float64 of shape (resamples, rows): how often each row is in each resample. Ones give
the plain figure. The result has one value a resample, NaN where the resample has nothing to compute it from. So a
thousand bootstrap resamples are a few matrix products.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_CONFIDENCE_Z = 1.96
_TINY = 1e-9


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient; NaN where the denominator is 0. Any one shape."""
    result = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


def mean(values: Floats, counts: Floats) -> Floats:
    """Mean of ``values`` (rows,)."""
    return ratio(counts @ values, counts.sum(axis=1))


def sensitivity(truth: Flags, called: Flags, counts: Floats) -> Floats:
    """Share of the rows with the finding that were called."""
    return ratio(counts @ (truth & called), counts @ truth)


def specificity(truth: Flags, called: Flags, counts: Floats) -> Floats:
    """Share of the rows without the finding that were not called."""
    return ratio(counts @ (~truth & ~called), counts @ ~truth)


def concordant_pairs(scores: Floats, truth: Flags, owners: NDArray[np.intp], owner_count: int) -> Floats:
    """For the AUROC of items in groups: float64 (owners, owners).

    ``scores`` and ``truth`` are of the items, ``owners`` says whose each is. Element (i, j) counts the pairs of a
    positive item of i and a negative one of j in which the positive one scores higher, ties as a half (Mann and Whitney
    1947). Any resample of owners is then a quadratic form of this matrix.
    """
    positives, positive_owners = scores[truth], owners[truth]
    pairs = np.zeros((owner_count, owner_count))
    for owner in range(owner_count):
        negatives = np.sort(scores[~truth & (owners == owner)])
        if len(negatives):
            below = np.searchsorted(negatives, positives, "left") + np.searchsorted(negatives, positives, "right")
            pairs[:, owner] = np.bincount(positive_owners, below / 2, owner_count)
    return pairs


def auroc(scores: Floats, truth: Flags, owners: NDArray[np.intp], counts: Floats) -> Floats:
    """Area under the ROC curve of items that belong to owners; ``counts`` is of shape (resamples, owners)."""
    owner_count = counts.shape[1]
    pairs = concordant_pairs(scores, truth, owners, owner_count)
    positives = np.bincount(owners[truth], minlength=owner_count)
    negatives = np.bincount(owners[~truth], minlength=owner_count)
    return ratio(((counts @ pairs) * counts).sum(axis=1), (counts @ positives) * (counts @ negatives))


def sensitivity_at_specificity(scores: Floats, truth: Flags, wanted: float, counts: Floats) -> Floats:
    """The highest sensitivity of any threshold whose specificity is at least ``wanted``. Rows are single scores."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    # A threshold takes all rows of the same score or none.
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    true_positives = np.cumsum(counts[:, order] * truth[order], axis=1)[:, ends]
    false_positives = np.cumsum(counts[:, order] * ~truth[order], axis=1)[:, ends]
    positives, negatives = counts @ truth, counts @ ~truth
    allowed = false_positives <= (1 - wanted) * negatives[:, None] + _TINY
    best = np.where(allowed, true_positives, 0.0).max(axis=1, initial=0.0)
    return np.where(negatives > 0, ratio(best, positives), np.nan)


def confusion(truth: NDArray[np.intp], called: NDArray[np.intp], classes: int, counts: Floats) -> Floats:
    """Float64 (resamples, classes, classes): rows of the matrix are the truth, columns what was called."""
    cells = np.eye(classes * classes)[truth * classes + called].reshape(len(truth), classes * classes)
    return np.asarray((counts @ cells).reshape(-1, classes, classes))


def macro_f1(truth: NDArray[np.intp], called: NDArray[np.intp], classes: int, counts: Floats) -> Floats:
    """Mean F1 over the classes. A class that is neither true nor called in a resample is left out of its mean."""
    matrix = confusion(truth, called, classes, counts)
    hits = np.diagonal(matrix, axis1=1, axis2=2)
    f1 = ratio(2 * hits, matrix.sum(axis=1) + matrix.sum(axis=2))
    return ratio(np.nansum(f1, axis=1), np.isfinite(f1).sum(axis=1).astype(np.float64))


def quantile(values: Floats, share: float, counts: Floats) -> Floats:
    """Inverse of the empirical distribution function, averaged at its steps (R's type 2); at 0.5 the median."""
    if not len(values):
        return np.full(len(counts), np.nan)
    order = np.argsort(values)
    rising, below = values[order], np.cumsum(counts[:, order], axis=1)
    place = share * below[:, -1]
    low = (below < place[:, None] - _TINY).sum(axis=1)
    high = (below < place[:, None] + _TINY).sum(axis=1)
    last = len(values) - 1
    found = (rising[np.minimum(low, last)] + rising[np.minimum(high, last)]) / 2
    return np.where(below[:, -1] > 0, found, np.nan)


def icc_2_1(ratings: Floats, counts: Floats) -> Floats:
    """ICC(2,1): two-way random effects, absolute agreement, single rating. ``ratings`` is (rows, raters).

    Shrout and Fleiss, Psychol Bull 1979;86:420-428.
    """
    raters = ratings.shape[1]
    rows = counts.sum(axis=1)
    row_means = ratings.mean(axis=1)
    rater_means = ratio(counts @ ratings, np.repeat(rows[:, None], raters, axis=1))
    grand = rater_means.mean(axis=1)
    between_rows = raters * (counts * (row_means - grand[:, None]) ** 2).sum(axis=1)
    between_raters = rows * ((rater_means - grand[:, None]) ** 2).sum(axis=1)
    total = np.einsum("br,brk->b", counts, (ratings[None] - grand[:, None, None]) ** 2)
    mean_rows = ratio(between_rows, rows - 1)
    mean_raters = between_raters / (raters - 1)
    mean_error = ratio(total - between_rows - between_raters, (rows - 1) * (raters - 1))
    spread = mean_rows + (raters - 1) * mean_error + raters * ratio(mean_raters - mean_error, rows)
    return ratio(mean_rows - mean_error, spread)


def limits_of_agreement(differences: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Lower and upper 95 % limits: mean difference -/+ 1.96 standard deviations.

    Bland and Altman, Lancet 1986;1:307-310.
    """
    bias = mean(differences, counts)
    squares = (counts * (differences - bias[:, None]) ** 2).sum(axis=1)
    width = _CONFIDENCE_Z * np.sqrt(ratio(squares, counts.sum(axis=1) - 1))
    return bias - width, bias + width


def bias_percent(truth: Floats, measured: Floats, counts: Floats) -> Floats:
    """Mean difference in percent of the mean truth."""
    return 100 * ratio(counts @ (measured - truth), counts @ truth)


def brier(probabilities: Floats, truth: Flags, counts: Floats) -> Floats:
    """Mean squared difference of probability and truth. Brier, Mon Weather Rev 1950;78:1-3."""
    return mean((probabilities - truth) ** 2, counts)


def bin_of(probabilities: Floats, bins: int) -> NDArray[np.intp]:
    """In which of ``bins`` bins of equal width over 0 to 1 each probability lies; 1 lies in the last."""
    return np.minimum((probabilities * bins).astype(np.intp), bins - 1)


def calibration_error(probabilities: Floats, truth: Flags, counts: Floats, bins: int = 10) -> Floats:
    """Expected calibration error: over bins of equal width, the mean gap of probability and frequency.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    members = np.eye(bins)[bin_of(probabilities, bins)].reshape(len(probabilities), bins)
    gaps = np.abs(counts @ (members * (probabilities - truth)[:, None]))
    return ratio(gaps.sum(axis=1), counts.sum(axis=1))


def weighted_log_loss(
    probabilities: Floats, truth: NDArray[np.intp], weights: Sequence[float], counts: Floats
) -> Floats:
    """Log loss of ``probabilities`` (rows, classes), each row weighted by the weight of its true class."""
    row_weights = np.asarray(weights, dtype=np.float64)[truth]
    losses = -np.log(probabilities[np.arange(len(truth)), truth])
    return ratio(counts @ (row_weights * losses), counts @ row_weights)
