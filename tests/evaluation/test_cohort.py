"""From results to patients: probabilities without "not assessed", and the rules of combination."""

import pytest

from trauma_api.evaluation.ablation import ablation_scores
from trauma_api.evaluation.cases import CaseTruth
from trauma_api.evaluation.cohort import (
    ANY_INJURY,
    EXTRAVASATION,
    FINDINGS,
    Patient,
    joined,
    patients_of,
    scored_by_reading,
    volume_probability,
)
from trauma_api.evaluation.figures import all_figures, grades_of
from trauma_api.evaluation.results import (
    ReadingOutcome,
    ReportOutcome,
    SentenceOutcome,
    StudyResult,
    TriageOutcome,
    VolumeOutcome,
)
from trauma_api.evaluation.rsna_loss import groups_of

HEALTHY = CaseTruth(
    source="phantom",
    liver="healthy",
    spleen="healthy",
    kidneys="healthy",
    bowel=False,
    extravasation=False,
    any_injury=False,
    hemoperitoneum="none",
    total_ml=0.0,
    slices=(False,) * 4,
)


def reading(liver: tuple[float, float, float, float] = (0.9, 0.05, 0.05, 0.0), blood: float = 0.0) -> ReadingOutcome:
    """A reading without findings, apart from the liver (none, low, high, not assessed) and free blood."""
    quiet = {"absent": 0.95, "present": 0.05, "not_assessed": 0.0}
    organ = {"none": 0.9, "low_grade": 0.05, "high_grade": 0.05, "not_assessed": 0.0}
    return ReadingOutcome(
        slices=(1, 2),
        probabilities={
            "liver": dict(zip(organ, liver, strict=True)),
            "spleen": organ,
            "kidneys": organ,
            "bowel_and_mesentery": quiet,
            "active_extravasation": quiet,
            "hemoperitoneum": {"none": 1 - blood, "small": blood, "moderate": 0, "large": 0, "not_assessed": 0},
        },
    )


def result(case_id: str = "a", patient_id: str = "a", truth: CaseTruth = HEALTHY, **parts: object) -> StudyResult:
    """A study's result."""
    whole = {
        "slice_truth": (False, False, True, True),
        "triage": TriageOutcome(
            suspicion=(0.1, 0.2, 0.3, 0.4), hemorrhage_margin=(-1, 0, 1, 2), threshold=0.25, selected_slices=(3,)
        ),
        "reading": reading(),
        "reading_alone": reading(),
        "volume": VolumeOutcome(measured_ml=5.0, truth_ml=0.0, dice=None, threshold=0.5),
        "report": ReportOutcome(
            sentences=(
                SentenceOutcome(outcome="as_written", reasons=()),
                SentenceOutcome(outcome="replaced", reasons=("wrong-slot",)),
            ),
            texts=30,
            missing={"text": 0, "PDF": 1},
        ),
    }
    return StudyResult.model_validate(
        {
            "key": "k",
            "case_id": case_id,
            "patient_id": patient_id,
            "truth": truth,
            "incomplete_organ": False,
            "failures": (),
            "durations_s": {"triage": 1.0},
            **whole,
            **parts,
        }
    )


def patient(**parts: object) -> Patient:
    """The only patient."""
    (only,) = patients_of([result(**parts)])  # type: ignore[arg-type]
    return only


def test_what_goes_to_not_assessed_is_shared_out() -> None:
    found = joined([reading(liver=(0.2, 0.1, 0.1, 0.6))])
    assert found is not None
    assert found.probabilities["liver"] == pytest.approx({"none": 0.5, "low_grade": 0.25, "high_grade": 0.25})
    assert found.values["liver"] == "not_assessed"
    assert joined([reading(liver=(0, 0, 0, 1))]) is None


def test_not_assessed_is_not_found() -> None:
    truth = HEALTHY.model_copy(update={"liver": "low"})
    rows = scored_by_reading([patient(truth=truth, reading=reading(liver=(0.2, 0.1, 0.1, 0.6)))], FINDINGS[0])
    assert (rows.truth.tolist(), rows.called.tolist(), rows.scores.tolist()) == ([True], [False], [0.5])


def test_series_of_a_patient_are_averaged() -> None:
    two = patients_of(
        [
            result("a1", "a", reading=reading(liver=(0.8, 0.1, 0.1, 0))),
            result("a2", "a", reading=reading(liver=(0.4, 0.5, 0.1, 0))),
        ]
    )
    assert len(two) == 1
    assert two[0].reading is not None
    assert two[0].reading.probabilities["liver"]["low_grade"] == pytest.approx(0.3)
    assert two[0].study_score == pytest.approx(0.3)  # the mean of 0.2, 0.3 and 0.4
    assert two[0].measured_ml == 5.0


def test_full_pipeline_takes_the_higher_of_reading_and_volume() -> None:
    full = ablation_scores(ANY_INJURY)["full pipeline"]
    assert volume_probability(20.0) == 0.5
    assert full(patient()) == pytest.approx(max(0.1, 5 / 25))
    assert full(patient(reading=reading(liver=(0.1, 0.5, 0.4, 0)))) == pytest.approx(0.9)
    assert full(patient(volume=None)) is None
    assert ablation_scores(EXTRAVASATION)["triage alone"](patient()) == pytest.approx(1.0)


def test_free_blood_is_an_injury_of_phantoms_only() -> None:
    bloody = reading(blood=0.8)
    assert ablation_scores(ANY_INJURY)["triage and reading"](patient(reading=bloody)) == pytest.approx(0.8)
    rsna = HEALTHY.model_copy(update={"source": "rsna", "hemoperitoneum": None})
    assert ablation_scores(ANY_INJURY)["triage and reading"](patient(reading=bloody, truth=rsna)) == pytest.approx(0.1)


def test_unenhanced_patients_are_in_no_row_of_extravasation() -> None:
    unenhanced = HEALTHY.model_copy(update={"extravasation": None, "any_injury": True})
    groups = groups_of([patient(truth=unenhanced)])
    assert [len(groups[name].rows) for name in ("extravasation", "liver", "any_injury")] == [0, 1, 1]
    assert groups["any_injury"].truth.tolist() == [0]


def test_grades_are_the_likeliest_assessed_ones() -> None:
    truth = HEALTHY.model_copy(update={"liver": "high"})
    found = grades_of([patient(truth=truth, reading=reading(liver=(0.1, 0.1, 0.2, 0.6)))], "liver")
    assert [column.tolist() for column in found] == [[0], [2], [2]]


def test_nothing_measured_gives_figures_without_values() -> None:
    sections = all_figures(
        [patient(triage=None, reading=None, reading_alone=None, volume=None, report=None, slice_truth=None)]
    )
    values = {name: figure.estimate.value for figures in sections.values() for name, figure in figures.items()}
    assert {name for name, value in values.items() if value is not None} == {
        "triage, median",
        "triage, 90th percentile",
    }
    assert all_figures([])["volume"]["bias"].estimate.value is None


def test_the_report_tells_what_became_of_sentences_and_which_form_lacks_a_text() -> None:
    figures = all_figures([patient()])["report"]
    values = {name: figure.estimate.value for name, figure in figures.items()}
    assert values["prose, as written"] == 0.5
    assert values["prose, replaced"] == 0.5
    assert values["prose, rewritten"] == 0
    assert values["prose, failed for wrong-slot"] == 0.5
    assert (values["texts that are not in the text"], values["texts that are not in the PDF"]) == (0, 1)
