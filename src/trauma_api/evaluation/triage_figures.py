"""Triage: how well suspicion tells slices and studies apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trauma_api.evaluation import metrics
from trauma_api.evaluation.bootstrap import Statistic, estimate
from trauma_api.evaluation.cohort import ANY_INJURY, Patient, scored
from trauma_api.evaluation.figure import Figure, Section, auroc_of, called_figures, sensitivity_at, two_class_figure
from trauma_api.evaluation.metrics import Floats

SPECIFICITIES = (0.85, 0.90)


def triage_figures(patients: Sequence[Patient], counts: Floats) -> Section:
    """Slices and studies, by suspicion."""
    slices = _slices(patients)
    study = scored(patients, ANY_INJURY, lambda patient: patient.study_score, _is_suspicious)
    over = counts[:, study.rows]
    figures = {
        "slice AUROC": _of_slices(slices, _slice_auroc(slices), counts),
        "slice sensitivity at the threshold": _of_slices(slices, _slice_share(slices, positive=True), counts),
        "slice specificity at the threshold": _of_slices(slices, _slice_share(slices, positive=False), counts),
        "study AUROC": two_class_figure(study, auroc_of(study), over),
    }
    for wanted in SPECIFICITIES:
        figures[f"study sensitivity at specificity {wanted:.2f}"] = two_class_figure(
            study, sensitivity_at(study, wanted), over
        )
    return {**figures, **{f"study {name} at the threshold": item for name, item in called_figures(study, over).items()}}


@dataclass(frozen=True)
class _Slices:
    """Slices of known truth: whose, how suspicious, whether at the threshold, and the truth."""

    owners: NDArray[np.intp]
    suspicion: Floats
    called: NDArray[np.bool_]
    truth: NDArray[np.bool_]


def _slices(patients: Sequence[Patient]) -> _Slices:
    rows = [
        (index, suspicion, suspicion >= study.triage.threshold, known)
        for index, patient in enumerate(patients)
        for study in patient.studies
        if study.triage is not None and study.slice_truth is not None
        for suspicion, known in zip(study.triage.suspicion, study.slice_truth, strict=True)
        if known is not None
    ]
    return _Slices(
        np.array([row[0] for row in rows], dtype=np.intp),
        np.array([row[1] for row in rows], dtype=np.float64),
        np.array([row[2] for row in rows], dtype=np.bool_),
        np.array([row[3] for row in rows], dtype=np.bool_),
    )


def _slice_auroc(slices: _Slices) -> Statistic:
    return lambda counts: metrics.auroc(slices.suspicion, slices.truth, slices.owners, counts)


def _slice_share(slices: _Slices, *, positive: bool) -> Statistic:
    """Sensitivity or specificity: sums over each patient's slices first, so that a resample is one product."""
    of = slices.truth == positive
    right = of & (slices.called == positive)

    def statistic(counts: Floats) -> Floats:
        hits, total = (np.bincount(slices.owners[item], minlength=counts.shape[1]) for item in (right, of))
        return metrics.ratio(counts @ hits, counts @ total)

    return statistic


def _of_slices(slices: _Slices, statistic: Statistic, counts: Floats) -> Figure:
    return Figure(estimate(statistic, counts), "", len(slices.truth), int(slices.truth.sum()))


def _is_suspicious(patient: Patient) -> bool:
    thresholds = [study.triage.threshold for study in patient.studies if study.triage is not None]
    return patient.study_score is not None and patient.study_score >= thresholds[0]
