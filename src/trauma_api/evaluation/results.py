"""What one study gave, as it is kept in ``studies/{case_id}.json``."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trauma_api.evaluation.cases import Case, CaseTruth

FORMAT_VERSION = 2
"""Changes when a kept result can no longer be read or compared."""

Stage = Literal["ingest", "triage", "reading", "reading_alone", "volume", "report"]
Part = Literal["triage", "reading", "volume", "report"]
PARTS: tuple[Part, ...] = ("triage", "reading", "volume", "report")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TriageOutcome(_Strict):
    """Suspicion of each slice, head to feet."""

    suspicion: tuple[float, ...]
    hemorrhage_margin: tuple[float, ...]
    """Logit of active hemorrhage less that of the normal abdomen."""
    threshold: float
    selected_slices: tuple[int, ...]


class ReadingOutcome(_Strict):
    """Probabilities by field of the form and value, from these slices."""

    slices: tuple[int, ...]
    probabilities: Mapping[str, Mapping[str, float]]


class VolumeOutcome(_Strict):
    """Measured and true millilitres; Dice where there is a mask with blood."""

    measured_ml: float
    truth_ml: float | None
    dice: float | None
    threshold: float


class SentenceOutcome(_Strict):
    """What became of a sentence that the model wrote, and why."""

    outcome: str
    reasons: tuple[str, ...]


class ReportOutcome(_Strict):
    """The sentences of a report's prose, and whether its texts stand letter for letter in each of its forms."""

    sentences: tuple[SentenceOutcome, ...]
    texts: int
    missing: Mapping[str, int]
    """By form (text, markdown, pdf): statements and sentences of the JSON that are not in it as they are."""


class StageFailure(_Strict):
    """Which stage failed, and its error code."""

    stage: Stage | Literal["truth"]
    code: str


class StudyResult(_Strict):
    """Everything that the figures are computed from. None: not asked for, or failed."""

    key: Annotated[str, Field(description="Of all that the result depends on: a change runs the study anew.")]
    case_id: str
    patient_id: str
    truth: CaseTruth
    incomplete_organ: bool
    slice_truth: tuple[bool | None, ...] | None
    triage: TriageOutcome | None
    reading: ReadingOutcome | None
    reading_alone: ReadingOutcome | None
    volume: VolumeOutcome | None
    report: ReportOutcome | None
    failures: tuple[StageFailure, ...]
    durations_s: Mapping[str, float]

    @property
    def is_whole(self) -> bool:
        """Whether nothing failed, so that running it again would give nothing new."""
        return not self.failures


class AskedQuestion(_Strict):
    """One question of a conversation (turns count from 1), and whether its answer was right."""

    conversation: int
    turn: int
    fact: str
    held_out: bool
    """Whether the wording is one that no training may use."""
    question: str
    answer: str
    expected: str
    right: bool
    sentences: tuple[SentenceOutcome, ...]
    failure_code: str | None


class AnswersResult(_Strict):
    """What was asked on one study, as it is kept in ``questions/{case_id}.json``. None: it could not be asked."""

    key: str
    case_id: str
    patient_id: str
    asked: tuple[AskedQuestion, ...] | None

    @property
    def is_whole(self) -> bool:
        """Whether every question has an answer, right or wrong."""
        return self.asked is not None and all(item.failure_code is None for item in self.asked)


Kept = TypeVar("Kept", StudyResult, AnswersResult)


def study_key(case: Case, dependencies: Mapping[str, object]) -> str:
    """SHA-256 of the case and of what else the result depends on: checkpoints, settings, parts."""
    content = {"format": FORMAT_VERSION, "case": case.case_id, "truth": case.digest, **dependencies}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_result(kind: type[Kept], folder: Path, case_id: str, key: str) -> Kept | None:
    """The kept result under this key, if it is there and whole, and nothing failed in it."""
    try:
        result = kind.model_validate_json((folder / f"{case_id}.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return result if result.key == key and result.is_whole else None


def save_result(folder: Path, result: StudyResult | AnswersResult) -> None:
    """Keep a result; it is never half-written."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{result.case_id}.json.tmp"
    partial.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / f"{result.case_id}.json")
