"""The area under a ROC curve, as trainings log it; `trauma_api.evaluation.metrics` has the one with intervals."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def area_under_roc(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float | None:
    """None where one of the two classes is missing."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return None
    ranks = rankdata(scores)[truth].sum()
    return round(float((ranks - positive * (positive + 1) / 2) / (positive * negative)), 4)
