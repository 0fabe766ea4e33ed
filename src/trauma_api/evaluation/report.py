"""The evaluation in print: results.json and report.md."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from trauma_api.evaluation.bootstrap import CONFIDENCE, RESAMPLES, SEED
from trauma_api.evaluation.figure import Figure, Section
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.models import ModelList

DEFINITIONS: tuple[str, ...] = (
    "Everything is by patient: scores, probabilities and millilitres of several series of a patient are averaged, and "
    f"the {CONFIDENCE:.0%} intervals come from a percentile bootstrap that draws patients ({RESAMPLES} resamples, seed "
    f"{SEED}). Resamples in which a figure is not defined are left out of its interval.",
    "A study's triage score is the mean suspicion of its three most suspicious slices. A slice counts as positive with "
    "injury or blood in it; of RSNA data only labelled slices are positive, only slices of uninjured patients "
    "negative, and the others are left out.",
    "Sensitivity and specificity of a finding are of the value that the service reports; 'not assessed' counts as not "
    "found. AUROC and calibration are of its probability; what goes to 'not assessed' is shared out over the assessed "
    "values in proportion. Organ grades are the likeliest assessed ones.",
    "Any injury: the highest probability of an injured liver, spleen, kidney, bowel, or of extravasation; in phantoms, "
    "whose truth counts blood alone as an injury, also of hemoperitoneum.",
    "Unenhanced phantoms have no truth for extravasation, as nobody could see it. They are left out of its figures and "
    "of its group in the RSNA loss, and their 'any injury' in the loss is made of the other four groups.",
    "RSNA 2023 loss: weights healthy 1, bowel injury 2, extravasation 6, low 2, high 4, any injury 6; the prediction "
    "of any injury is the highest 1 - p(healthy); the score is the mean of six losses. Probabilities are clipped at "
    "0.00005, as they are published with four decimals. Uniform predictions score 0.884 on the challenge's training "
    "labels.",
    "Dice and millilitres are of the mask at the threshold of the service, on the scanner's voxels. Dice is not "
    "computed where there is no blood. Calibration error: ten bins of equal width.",
    "Ablation, on patients for whom every part gave a result. Triage alone: the study score; for extravasation, the "
    "mean of the three highest margins of the statement on active bleeding over the normal one. Reading alone: on "
    "evenly spaced slices, as many as triage may select. Full pipeline: the higher of the reading's probability on "
    "triage's slices and of ml / (ml + 20 mL); for extravasation the reading on triage's slices, as the volume does "
    "not tell it.",
    "Answers: conversations of three turns through the question service on the study's own results, which an answer "
    "must repeat. It is right when its sentences on the fact hold the value in the service's words, no other value of "
    "the same fact, and no 'yes' or 'no' that denies it; a failed answer is wrong. About half of the "
    "conversations use wordings that no training may use.",
    "Latency: the stages run one after the other here, while a briefing runs the reading beside the segmentation.",
)


@dataclass(frozen=True)
class Failure:
    """A study, or a stage of it, without a result."""

    case_id: str
    stage: str
    code: str


@dataclass(frozen=True)
class Evaluation:
    """What is reported."""

    folder_name: str
    made_at: datetime
    models: ModelList
    parts: Sequence[str]
    studies: int
    patients: int
    incomplete_organ: int
    failures: Sequence[Failure]
    figures: Mapping[str, Section]
    plots: Sequence[str] = ()


def write_json(path: Path, evaluation: Evaluation) -> None:
    """Everything as JSON; a figure without a value is null."""
    content = {
        "format_version": 1,
        "notice": RESEARCH_NOTICE,
        "folder": evaluation.folder_name,
        "made_at": evaluation.made_at.isoformat(),
        "models": evaluation.models.model_dump(exclude={"notice"}),
        "parts": list(evaluation.parts),
        "studies": evaluation.studies,
        "patients": evaluation.patients,
        "studies_with_incomplete_organ": evaluation.incomplete_organ,
        "failures": [asdict(failure) for failure in evaluation.failures],
        "bootstrap": {"by": "patient", "resamples": RESAMPLES, "seed": SEED, "confidence": CONFIDENCE},
        "definitions": list(DEFINITIONS),
        "figures": {
            section: {name: _as_json(figure) for name, figure in figures.items()}
            for section, figures in evaluation.figures.items()
        },
        "plots": list(evaluation.plots),
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _as_json(figure: Figure) -> dict[str, object]:
    return {**asdict(figure.estimate), "unit": figure.unit, "rows": figure.rows, "positives": figure.positives}


def write_markdown(path: Path, evaluation: Evaluation) -> None:
    """The report for people."""
    lines = ["# Evaluation", "", f"**{RESEARCH_NOTICE}**", "", *_overview(evaluation), ""]
    for section, figures in evaluation.figures.items():
        if any(figure.estimate.value is not None for figure in figures.values()):
            lines += [f"## {section[0].upper()}{section[1:]}", "", *_table(figures), ""]
    if evaluation.plots:
        lines += ["## Plots", "", *(f"![{Path(name).stem}]({name})" for name in evaluation.plots), ""]
    lines += ["## What is not there", "", *_failures(evaluation.failures), ""]
    lines += ["## How it is computed", "", *(f"- {definition}" for definition in DEFINITIONS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _overview(evaluation: Evaluation) -> list[str]:
    failed = len({failure.case_id for failure in evaluation.failures})
    lines = [
        f"{evaluation.studies} studies of {evaluation.patients} patients in `{evaluation.folder_name}`, "
        f"{failed} of them with a failure; parts: {', '.join(evaluation.parts)}; "
        f"{evaluation.made_at:%Y-%m-%d %H:%M} UTC.",
    ]
    if evaluation.incomplete_organ:
        lines.append(f"In {evaluation.incomplete_organ} studies an organ is not wholly shown, as their table says.")
    lines += ["", "| model | checkpoint | trained on | sha256 | on |", "|---|---|---|---|---|"]
    lines += [
        f"| {model.role} | {model.checkpoint} | {model.trained_on} | {model.sha256[:12]} "
        f"| {model.device} {model.dtype} |"
        for model in evaluation.models.models
    ]
    return lines


def _table(figures: Section) -> list[str]:
    lines = ["| figure | value | 95 % interval | n | positive |", "|---|---|---|---|---|"]
    for name, figure in figures.items():
        positives = "" if figure.positives is None else str(figure.positives)
        lines.append(f"| {name} | {shown(figure)} | {interval(figure)} | {figure.rows} | {positives} |")
    return lines


def shown(figure: Figure) -> str:
    """The value as people read it."""
    value = figure.estimate.value
    if value is None:
        return "-"
    return f"{_number(value, figure.unit)} {figure.unit}".strip()


def interval(figure: Figure) -> str:
    """The interval as people read it."""
    low, high = figure.estimate.low, figure.estimate.high
    if low is None or high is None:
        return "-"
    return f"{_number(low, figure.unit)} to {_number(high, figure.unit)}"


def _number(value: float, unit: str) -> str:
    return f"{value:.1f}" if unit in ("mL", "%") else f"{value:.2f}" if unit == "s" else f"{value:.3f}"


def _failures(failures: Sequence[Failure]) -> list[str]:
    if not failures:
        return ["Nothing failed."]
    return [
        "| study | stage | code |",
        "|---|---|---|",
        *(f"| {failure.case_id} | {failure.stage} | {failure.code} |" for failure in failures),
    ]
