"""From results of studies to patients: what is known of each finding, and what the service says of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trauma_api.evaluation.cases import CaseTruth
from trauma_api.evaluation.metrics import Floats
from trauma_api.evaluation.results import ReadingOutcome, StudyResult

ORGANS = ("liver", "spleen", "kidneys")
GRADES = ("none", "low_grade", "high_grade")
TRUE_GRADES = ("healthy", "low", "high")
NOT_ASSESSED = "not_assessed"
MOST_SUSPICIOUS = 3
"""Slices whose mean suspicion is the score of a study."""
HALF_ML = 20.0
"""The volume whose own probability of an injury is a half: ml / (ml + 20)."""


@dataclass(frozen=True)
class Reading:
    """Probabilities of a patient by field and assessed value, each field summing to 1; and the value of each field."""

    probabilities: Mapping[str, Mapping[str, float]]
    values: Mapping[str, str]

    def any_of(self, field: str, *absent: str) -> float:
        """Probability that a field has another value than those that mean absence."""
        return 1 - sum(self.probabilities[field][value] for value in absent)


@dataclass(frozen=True)
class Patient:
    """One patient, over all series. None: unknown, or not measured."""

    patient_id: str
    truth: CaseTruth
    studies: tuple[StudyResult, ...]
    study_score: float | None
    hemorrhage_score: float | None
    reading: Reading | None
    reading_alone: Reading | None
    measured_ml: float | None


def patients_of(results: Iterable[StudyResult]) -> tuple[Patient, ...]:
    """Patients in the order of their ids. Scores, probabilities and millilitres are means over a patient's series."""
    by_patient: dict[str, list[StudyResult]] = {}
    for result in sorted(results, key=lambda item: (item.patient_id, item.case_id)):
        by_patient.setdefault(result.patient_id, []).append(result)
    return tuple(_patient(name, studies) for name, studies in by_patient.items())


def _patient(name: str, studies: Sequence[StudyResult]) -> Patient:
    triaged = [study.triage for study in studies if study.triage is not None]
    return Patient(
        patient_id=name,
        truth=studies[0].truth,
        studies=tuple(studies),
        study_score=_mean([top_mean(item.suspicion) for item in triaged]),
        hemorrhage_score=_mean([top_mean(item.hemorrhage_margin) for item in triaged]),
        reading=joined([study.reading for study in studies if study.reading is not None]),
        reading_alone=joined([study.reading_alone for study in studies if study.reading_alone is not None]),
        measured_ml=_mean([study.volume.measured_ml for study in studies if study.volume is not None]),
    )


def top_mean(values: Sequence[float]) -> float:
    """Mean of the three highest; of all where there are fewer."""
    return float(np.mean(sorted(values)[-MOST_SUSPICIOUS:]))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def joined(readings: Sequence[ReadingOutcome]) -> Reading | None:
    """The mean of readings, with the probability of "not assessed" shared out over the assessed values.

    None without a reading, and where a field gives all probability to "not assessed": nothing is then known of it.
    """
    if not readings:
        return None
    probabilities: dict[str, dict[str, float]] = {}
    values: dict[str, str] = {}
    for field in readings[0].probabilities:
        means = {
            value: float(np.mean([reading.probabilities[field][value] for reading in readings]))
            for value in readings[0].probabilities[field]
        }
        assessed = {value: chance for value, chance in means.items() if value != NOT_ASSESSED}
        total = sum(assessed.values())
        if total <= 0:
            return None
        probabilities[field] = {value: chance / total for value, chance in assessed.items()}
        values[field] = max(means, key=means.__getitem__)
    return Reading(probabilities, values)


@dataclass(frozen=True)
class Finding:
    """A yes-or-no finding: what is true (None: unknown), its probability, and whether the service reports it."""

    name: str
    truth: Callable[[CaseTruth], bool | None]
    probability: Callable[[Reading, CaseTruth], float]
    called: Callable[[Reading, CaseTruth], bool]


def _injured(organ: str) -> Finding:
    return Finding(
        f"{organ}_injury",
        lambda truth: getattr(truth, organ) != "healthy",
        lambda reading, _: reading.any_of(organ, "none"),
        lambda reading, _: reading.values[organ] in ("low_grade", "high_grade"),
    )


def _high_grade(organ: str) -> Finding:
    return Finding(
        f"{organ}_high_grade",
        lambda truth: getattr(truth, organ) == "high",
        lambda reading, _: reading.probabilities[organ]["high_grade"],
        lambda reading, _: reading.values[organ] == "high_grade",
    )


def reading_any_injury(reading: Reading, truth: CaseTruth) -> float:
    """The most likely injury's probability. Free blood counts where the truth counts it: in phantoms."""
    chances = [reading.any_of(organ, "none") for organ in ORGANS]
    chances += [reading.any_of(field, "absent") for field in ("bowel_and_mesentery", "active_extravasation")]
    if truth.hemoperitoneum is not None:
        chances.append(reading.any_of("hemoperitoneum", "none"))
    return max(chances)


def _called_any_injury(reading: Reading, truth: CaseTruth) -> bool:
    values = reading.values
    blood = truth.hemoperitoneum is not None and values["hemoperitoneum"] not in ("none", NOT_ASSESSED)
    organs = any(values[organ] in ("low_grade", "high_grade") for organ in ORGANS)
    return organs or blood or "present" in (values["bowel_and_mesentery"], values["active_extravasation"])


def volume_probability(volume_ml: float) -> float:
    """What a volume says of an injury when nothing else is known: ml / (ml + 20)."""
    return volume_ml / (volume_ml + HALF_ML)


ANY_INJURY = Finding("any_injury", lambda truth: truth.any_injury, reading_any_injury, _called_any_injury)
EXTRAVASATION = Finding(
    "extravasation",
    lambda truth: truth.extravasation,
    lambda reading, _: reading.any_of("active_extravasation", "absent"),
    lambda reading, _: reading.values["active_extravasation"] == "present",
)
FINDINGS: tuple[Finding, ...] = (
    *(_injured(organ) for organ in ORGANS),
    *(_high_grade(organ) for organ in ORGANS),
    Finding(
        "bowel_injury",
        lambda truth: truth.bowel,
        lambda reading, _: reading.any_of("bowel_and_mesentery", "absent"),
        lambda reading, _: reading.values["bowel_and_mesentery"] == "present",
    ),
    EXTRAVASATION,
    Finding(
        "hemoperitoneum",
        lambda truth: None if truth.hemoperitoneum is None else truth.hemoperitoneum != "none",
        lambda reading, _: reading.any_of("hemoperitoneum", "none"),
        lambda reading, _: reading.values["hemoperitoneum"] not in ("none", NOT_ASSESSED),
    ),
    ANY_INJURY,
)


@dataclass(frozen=True)
class Scored:
    """Patients of whom a finding is known: which they are, the truth, a score, and what was called. Shapes (rows,)."""

    rows: tuple[int, ...]
    truth: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    scores: Floats
    called: "np.ndarray[tuple[int], np.dtype[np.bool_]]"


def scored(
    patients: Sequence[Patient],
    finding: Finding,
    score: Callable[[Patient], float | None],
    called: Callable[[Patient], bool] = lambda _: False,
) -> Scored:
    """The patients of whom the finding's truth and the score are known."""
    rows = [
        (index, known, value, called(patient))
        for index, patient in enumerate(patients)
        if (known := finding.truth(patient.truth)) is not None and (value := score(patient)) is not None
    ]
    return Scored(
        rows=tuple(row[0] for row in rows),
        truth=np.array([row[1] for row in rows], dtype=np.bool_),
        scores=np.array([row[2] for row in rows], dtype=np.float64),
        called=np.array([row[3] for row in rows], dtype=np.bool_),
    )


def scored_by_reading(patients: Sequence[Patient], finding: Finding) -> Scored:
    """The finding as the reading on triage's slices gives it."""

    def score(patient: Patient) -> float | None:
        return None if patient.reading is None else finding.probability(patient.reading, patient.truth)

    def called(patient: Patient) -> bool:
        return patient.reading is not None and finding.called(patient.reading, patient.truth)

    return scored(patients, finding, score, called)
