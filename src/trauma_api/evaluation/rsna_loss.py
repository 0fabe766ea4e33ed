"""The weighted log loss of the RSNA 2023 Abdominal Trauma Detection challenge.

For each of five groups, and for any injury, the log loss weighted by the class of truth; the score is their mean.
Weights: healthy 1, bowel injury 2, extravasation 6, low 2, high 4, any injury 6. The prediction of any injury is the
highest 1 - p(healthy) of the groups. See https://www.kaggle.com/competitions/rsna-2023-abdominal-trauma-detection.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trauma_api.evaluation.cohort import GRADES, ORGANS, TRUE_GRADES, Patient
from trauma_api.evaluation.metrics import Floats, weighted_log_loss

GROUPS = ("bowel", "extravasation", "kidneys", "liver", "spleen")
WEIGHTS: dict[str, tuple[float, ...]] = {
    "bowel": (1, 2),
    "extravasation": (1, 6),
    "kidneys": (1, 2, 4),
    "liver": (1, 2, 4),
    "spleen": (1, 2, 4),
    "any_injury": (1, 6),
}
SMALLEST = 5e-5
"""Probabilities are published with four decimals: 0.0000 stands for anything below this."""

_FIELDS = {"bowel": "bowel_and_mesentery", "extravasation": "active_extravasation"}


@dataclass(frozen=True)
class Group:
    """One group's rows: which patients, probabilities (rows, classes) and true classes (rows,)."""

    rows: NDArray[np.intp]
    probabilities: Floats
    truth: NDArray[np.intp]


def groups_of(patients: Sequence[Patient]) -> dict[str, Group]:
    """The six groups, of patients with a reading.

    Where the truth of extravasation is unknown, because there was no contrast, the patient is in none of its rows, and
    any injury is made of the other four groups, in truth and prediction.
    """
    read = [(index, patient) for index, patient in enumerate(patients) if patient.reading is not None]
    rows: dict[str, list[tuple[int, list[float], int]]] = {name: [] for name in WEIGHTS}
    for index, patient in read:
        known = {name: _row(patient, name) for name in GROUPS}
        present = {name: row for name, row in known.items() if row is not None}
        for name, (chances, true_class) in present.items():
            rows[name].append((index, chances, true_class))
        any_chance = max(1 - chances[0] for chances, _ in present.values())
        any_truth = int(any(true_class > 0 for _, true_class in present.values()))
        rows["any_injury"].append((index, [1 - any_chance, any_chance], any_truth))
    return {name: _group(items, len(WEIGHTS[name])) for name, items in rows.items()}


def _row(patient: Patient, group: str) -> tuple[list[float], int] | None:
    """Probabilities of the classes, healthy first, and the true class."""
    if patient.reading is None:
        return None
    if group in ORGANS:
        chances = patient.reading.probabilities[group]
        return [chances[grade] for grade in GRADES], TRUE_GRADES.index(getattr(patient.truth, group))
    known: bool | None = getattr(patient.truth, group)
    chances = patient.reading.probabilities[_FIELDS[group]]
    return None if known is None else ([chances["absent"], chances["present"]], int(known))


def _group(items: Sequence[tuple[int, list[float], int]], classes: int) -> Group:
    probabilities = np.array([item[1] for item in items], dtype=np.float64).reshape(-1, classes)
    return Group(
        rows=np.array([item[0] for item in items], dtype=np.intp),
        probabilities=probabilities,
        truth=np.array([item[2] for item in items], dtype=np.intp),
    )


def group_loss(name: str, group: Group, counts: Floats) -> Floats:
    """Loss of one group; ``counts`` (resamples, patients). Rows are clipped, then normalised to sum to 1."""
    clipped = np.clip(group.probabilities, SMALLEST, 1.0)
    normalised = clipped / clipped.sum(axis=1, keepdims=True)
    return weighted_log_loss(normalised, group.truth, WEIGHTS[name], counts[:, group.rows])


def rsna_loss(groups: dict[str, Group], counts: Floats) -> Floats:
    """The mean of the six losses; a group without rows, as without any contrast, is left out of the mean."""
    losses = np.stack([group_loss(name, group, counts) for name, group in groups.items() if len(group.rows)])
    return np.asarray(losses.mean(axis=0), dtype=np.float64)
