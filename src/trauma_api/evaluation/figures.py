"""Which figures are computed from which results. Sections of named figures, each with its interval by patient."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trauma_api.evaluation import metrics
from trauma_api.evaluation.ablation import ablation_figures
from trauma_api.evaluation.bootstrap import Estimate, Statistic, estimate, resample_counts
from trauma_api.evaluation.cohort import (
    ANY_INJURY,
    EXTRAVASATION,
    FINDINGS,
    GRADES,
    ORGANS,
    TRUE_GRADES,
    Finding,
    Patient,
    scored_by_reading,
)
from trauma_api.evaluation.figure import (
    Figure,
    Section,
    auroc_of,
    called_figures,
    mean_of,
    plain_figure,
    quantile_of,
    two_class_figure,
)
from trauma_api.evaluation.metrics import Floats
from trauma_api.evaluation.results import AnswersResult, AskedQuestion, SentenceOutcome, StudyResult
from trauma_api.evaluation.rsna_loss import group_loss, groups_of, rsna_loss
from trauma_api.evaluation.triage_figures import triage_figures

LARGE_FROM_ML = 20.0
CLEAN_UP_TO_ML = 3.0
OUTCOMES = ("as_written", "rewritten", "replaced", "left_out")


def all_figures(patients: Sequence[Patient]) -> dict[str, Section]:
    """All sections. A figure that nothing is known for has no value."""
    counts = resample_counts(len(patients))
    return {
        "triage": triage_figures(patients, counts),
        **{
            f"finding: {finding.name.replace('_', ' ')}": finding_figures(patients, finding, counts)
            for finding in FINDINGS
        },
        "organ grades": grade_figures(patients, counts),
        "RSNA 2023 loss": loss_figures(patients, counts),
        "segmentation": segmentation_figures(patients, counts),
        "volume": volume_figures(patients, counts),
        "ablation: any injury": ablation_figures(patients, ANY_INJURY, counts),
        "ablation: extravasation": ablation_figures(patients, EXTRAVASATION, counts),
        "report": report_figures(patients, counts),
        "latency": latency_figures(patients, counts),
    }


def finding_figures(patients: Sequence[Patient], finding: Finding, counts: Floats) -> Section:
    """One finding of the reading on triage's slices: as it was reported, by its probability, and its calibration."""
    rows = scored_by_reading(patients, finding)
    over = counts[:, rows.rows]
    return {
        **called_figures(rows, over),
        "AUROC": two_class_figure(rows, auroc_of(rows), over),
        "Brier score": two_class_figure(rows, lambda c: metrics.brier(rows.scores, rows.truth, c), over),
        "calibration error": two_class_figure(
            rows, lambda c: metrics.calibration_error(rows.scores, rows.truth, c), over
        ),
    }


def grade_figures(patients: Sequence[Patient], counts: Floats) -> Section:
    """Macro-F1 over healthy, low and high of each organ, and the mean of the three."""
    graded = {organ: grades_of(patients, organ) for organ in ORGANS}
    rows = len(graded[ORGANS[0]][0])
    statistics: dict[str, Statistic] = {f"{organ} macro-F1": _macro_f1(*items) for organ, items in graded.items()}
    organs = tuple(statistics.values())
    statistics["macro-F1"] = lambda c: np.asarray(np.mean([statistic(c) for statistic in organs], axis=0))
    return {name: Figure(estimate(statistic, counts), "", rows) for name, statistic in statistics.items()}


def grades_of(patients: Sequence[Patient], organ: str) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Rows, true and likeliest assessed grades of the patients with a reading: 0 healthy, 1 low, 2 high."""
    rows = [
        (index, TRUE_GRADES.index(getattr(patient.truth, organ)), _likeliest(patient.reading.probabilities[organ]))
        for index, patient in enumerate(patients)
        if patient.reading is not None
    ]
    items = np.array(rows, dtype=np.intp).reshape(-1, 3)
    return items[:, 0], items[:, 1], items[:, 2]


def _likeliest(chances: Mapping[str, float]) -> int:
    return int(np.argmax([chances[grade] for grade in GRADES]))


def _macro_f1(rows: NDArray[np.intp], truth: NDArray[np.intp], called: NDArray[np.intp]) -> Statistic:
    return lambda counts: metrics.macro_f1(truth, called, len(GRADES), counts[:, rows])


def loss_figures(patients: Sequence[Patient], counts: Floats) -> Section:
    """The loss of each group, and their mean."""
    groups = groups_of(patients)
    figures: dict[str, Figure] = {}
    for name, group in groups.items():
        loss = estimate(lambda c, name=name, group=group: group_loss(name, group, c), counts)  # type: ignore[misc]
        figures[name.replace("_", " ")] = Figure(loss, "", len(group.rows), int((group.truth > 0).sum()))
    rows = len(groups["any_injury"].rows)
    score = estimate(lambda c: rsna_loss(groups, c), counts) if rows else Estimate(None, None, None)
    return {**figures, "score": Figure(score, "", rows)}


def segmentation_figures(patients: Sequence[Patient], counts: Floats) -> Section:
    """Dice of studies with a label volume."""
    studies = [
        (index, study.volume.dice, study.volume.truth_ml)
        for index, study in _studies(patients)
        if study.volume is not None and study.volume.dice is not None and study.volume.truth_ml is not None
    ]
    figures: dict[str, Figure] = {}
    for name, chosen in (
        (f"from {LARGE_FROM_ML:g} mL", [item for item in studies if item[2] >= LARGE_FROM_ML]),
        (f"below {LARGE_FROM_ML:g} mL", [item for item in studies if item[2] < LARGE_FROM_ML]),
    ):
        over = counts[:, [item[0] for item in chosen]]
        overlaps = np.array([item[1] for item in chosen], dtype=np.float64)
        figures[f"Dice {name}, mean"] = plain_figure(mean_of(overlaps), over)
        figures[f"Dice {name}, median"] = plain_figure(quantile_of(overlaps, 0.5), over)
    return figures


@dataclass(frozen=True)
class Volumes:
    """True and measured millilitres of studies, and whose they are. Shapes (rows,)."""

    rows: NDArray[np.intp]
    truth_ml: Floats
    measured_ml: Floats

    def where(self, chosen: NDArray[np.bool_]) -> "Volumes":
        """Only these studies."""
        return Volumes(self.rows[chosen], self.truth_ml[chosen], self.measured_ml[chosen])


def volumes_of(patients: Sequence[Patient]) -> Volumes:
    """Of all studies whose truth is known."""
    items = [
        (index, study.volume.truth_ml, study.volume.measured_ml)
        for index, study in _studies(patients)
        if study.volume is not None and study.volume.truth_ml is not None
    ]
    return Volumes(
        np.array([item[0] for item in items], dtype=np.intp),
        np.array([item[1] for item in items], dtype=np.float64),
        np.array([item[2] for item in items], dtype=np.float64),
    )


def volume_figures(patients: Sequence[Patient], counts: Floats) -> Section:
    """Agreement of millilitres; errors from 20 mL up; what is found where there is nothing."""
    volumes = volumes_of(patients)
    over = counts[:, volumes.rows]
    differences = volumes.measured_ml - volumes.truth_ml
    large = volumes.where(volumes.truth_ml >= LARGE_FROM_ML)
    over_large = counts[:, large.rows]
    errors = np.abs(large.measured_ml - large.truth_ml)
    clean = volumes.where(volumes.truth_ml == 0)
    quiet = (clean.measured_ml <= CLEAN_UP_TO_ML).astype(np.float64)
    pairs = np.stack([volumes.truth_ml, volumes.measured_ml], axis=1)
    name = f"from {LARGE_FROM_ML:g} mL"
    return {
        "ICC(2,1)": plain_figure(lambda c: metrics.icc_2_1(pairs, c), over),
        "bias": plain_figure(mean_of(differences), over, "mL"),
        "lower limit of agreement": plain_figure(lambda c: metrics.limits_of_agreement(differences, c)[0], over, "mL"),
        "upper limit of agreement": plain_figure(lambda c: metrics.limits_of_agreement(differences, c)[1], over, "mL"),
        "bias of the mean": plain_figure(
            lambda c: metrics.bias_percent(volumes.truth_ml, volumes.measured_ml, c), over, "%"
        ),
        f"median absolute error {name}": plain_figure(quantile_of(errors, 0.5), over_large, "mL"),
        f"median relative error {name}": plain_figure(
            lambda c: 100 * metrics.quantile(errors / large.truth_ml, 0.5, c), over_large, "%"
        ),
        f"at most {CLEAN_UP_TO_ML:g} mL where there is none": plain_figure(mean_of(quiet), counts[:, clean.rows]),
    }


def latency_figures(patients: Sequence[Patient], counts: Floats) -> Section:
    """Seconds of each stage."""
    durations: dict[str, list[tuple[int, float]]] = {}
    for index, study in _studies(patients):
        for stage, duration_s in study.durations_s.items():
            durations.setdefault(stage, []).append((index, duration_s))
    figures: dict[str, Figure] = {}
    for stage, items in durations.items():
        over = counts[:, [item[0] for item in items]]
        seconds = np.array([item[1] for item in items], dtype=np.float64)
        for name, share in (("median", 0.5), ("90th percentile", 0.9)):
            statistic = quantile_of(seconds, share)
            figures[f"{stage.replace('_', ' ')}, {name}"] = plain_figure(statistic, over, "s")
    return figures


def report_figures(patients: Sequence[Patient], counts: Floats) -> Section:
    """What became of the sentences of the prose, by outcome and reason; and texts that a form of the report lacks."""
    reports = [(index, study.report) for index, study in _studies(patients) if study.report is not None]
    sentences = [(index, sentence) for index, report in reports for sentence in report.sentences]
    figures = {f"prose, {name}": figure for name, figure in sentence_figures(sentences, counts).items()}
    for form in sorted({form for _, report in reports for form in report.missing}):
        over = counts[:, [index for index, report in reports if form in report.missing]]
        lacking = np.array([report.missing[form] for _, report in reports if form in report.missing], np.float64)
        figures[f"texts that are not in the {form}"] = plain_figure(mean_of(lacking), over)
    return figures


def sentence_figures(sentences: Sequence[tuple[int, SentenceOutcome]], counts: Floats) -> dict[str, Figure]:
    """Shares of sentences by what became of them, and by why; each with whose it is."""
    over = counts[:, [owner for owner, _ in sentences]]
    figures: dict[str, Figure] = {}
    for outcome in OUTCOMES if sentences else ():
        share = np.array([one.outcome == outcome for _, one in sentences], np.float64)
        figures[outcome.replace("_", " ")] = plain_figure(mean_of(share), over)
    for reason in sorted({reason for _, one in sentences for reason in one.reasons}):
        share = np.array([reason in one.reasons for _, one in sentences], np.float64)
        figures[f"failed for {reason}"] = plain_figure(mean_of(share), over)
    return figures


def answer_sections(answers: Sequence[AnswersResult]) -> dict[str, Section]:
    """Share of right answers: of all, by turn and by fact. Failed ones count as wrong. No section without questions."""
    owners = sorted({item.patient_id for item in answers})
    asked = [(owners.index(item.patient_id), question) for item in answers for question in item.asked or ()]
    if not asked:
        return {}
    counts = resample_counts(len(owners))
    groups = {"all": asked}
    for owner, question in asked:
        groups.setdefault(f"turn {question.turn}", []).append((owner, question))
        groups.setdefault("held-out wording" if question.held_out else "plain wording", []).append((owner, question))
    for fact in sorted({question.fact for _, question in asked}):
        groups[fact.replace("_", " ")] = [item for item in asked if item[1].fact == fact]
    sentences = [(owner, sentence) for owner, question in asked for sentence in question.sentences]
    return {
        "answers": {f"right, {name}": _share_right(group, counts) for name, group in groups.items()},
        "sentences of answers": sentence_figures(sentences, counts),
    }


def _share_right(asked: Sequence[tuple[int, AskedQuestion]], counts: Floats) -> Figure:
    over = counts[:, [owner for owner, _ in asked]]
    right = np.array([question.right for _, question in asked], dtype=np.float64)
    return plain_figure(mean_of(right), over)


def _studies(patients: Sequence[Patient]) -> Iterable[tuple[int, StudyResult]]:
    for index, patient in enumerate(patients):
        for study in patient.studies:
            yield index, study
