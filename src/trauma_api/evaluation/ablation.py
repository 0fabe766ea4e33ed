"""What each part of the pipeline is worth alone, and what they are worth together."""

from collections.abc import Callable, Sequence

from trauma_api.evaluation.cohort import EXTRAVASATION, Finding, Patient, reading_any_injury, scored, volume_probability
from trauma_api.evaluation.figure import Figure, Section, auroc_of, sensitivity_at, two_class_figure
from trauma_api.evaluation.metrics import Floats

SPECIFICITY = 0.90


def ablation_figures(patients: Sequence[Patient], finding: Finding, counts: Floats) -> Section:
    """One finding by parts of the pipeline; all on the patients for whom each part gave something."""
    chosen = [index for index, patient in enumerate(patients) if _has_all(patient)]
    among = [patients[index] for index in chosen]
    figures: dict[str, Figure] = {}
    for name, score in ablation_scores(finding).items():
        rows = scored(among, finding, score)
        over = counts[:, [chosen[row] for row in rows.rows]]
        figures[f"{name}, AUROC"] = two_class_figure(rows, auroc_of(rows), over)
        figures[f"{name}, sensitivity at specificity {SPECIFICITY:.2f}"] = two_class_figure(
            rows, sensitivity_at(rows, SPECIFICITY), over
        )
    return figures


def ablation_scores(finding: Finding) -> dict[str, Callable[[Patient], float | None]]:
    """How each part of the pipeline scores a patient."""

    def alone(patient: Patient) -> float | None:
        return None if patient.reading_alone is None else finding.probability(patient.reading_alone, patient.truth)

    def selected(patient: Patient) -> float | None:
        return None if patient.reading is None else finding.probability(patient.reading, patient.truth)

    if finding is EXTRAVASATION:
        return {
            "triage alone": lambda patient: patient.hemorrhage_score,
            "reading alone": alone,
            "full pipeline": selected,
        }
    return {
        "triage alone": lambda patient: patient.study_score,
        "reading alone": alone,
        "triage and reading": selected,
        "full pipeline": full_pipeline_any_injury,
    }


def full_pipeline_any_injury(patient: Patient) -> float | None:
    """The higher of the reading's probability on triage's slices and of ml / (ml + 20 mL)."""
    if patient.reading is None or patient.measured_ml is None:
        return None
    return max(reading_any_injury(patient.reading, patient.truth), volume_probability(patient.measured_ml))


def _has_all(patient: Patient) -> bool:
    parts = (patient.study_score, patient.reading, patient.reading_alone, patient.measured_ml)
    return all(part is not None for part in parts)
