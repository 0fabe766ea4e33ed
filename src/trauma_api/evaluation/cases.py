"""Studies with truth: what is known of each, and where its images lie."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trauma_api.phantom.labels import BLOOD_LABELS
from trauma_api.phantom.truth import LABELS_FILE, TRUTH_FILE, HemoperitoneumSize, PhantomTruth, RsnaGrade


class FolderError(Exception):
    """The folder cannot be evaluated; the text says what is expected."""


class CaseTruth(BaseModel):
    """What is known of a patient, in the classes of RSNA 2023."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["phantom", "rsna"]
    liver: RsnaGrade
    spleen: RsnaGrade
    kidneys: RsnaGrade
    bowel: bool
    extravasation: bool | None
    """None where nobody could see it: an unenhanced phantom."""
    any_injury: bool
    """Of a phantom also blood alone; of RSNA 2023 its column."""
    hemoperitoneum: HemoperitoneumSize | None
    total_ml: float | None
    """None where it is only known from a mask, if at all."""
    slices: tuple[bool, ...] | None
    """Injury or blood in each slice, head to feet."""


@dataclass(frozen=True)
class BloodLabels:
    """A label volume beside the images: which of its values are blood; None: all but 0."""

    path: Path
    values: tuple[int, ...] | None


@dataclass(frozen=True)
class Case:
    """One study to run."""

    case_id: str
    """Unique in its folder; the name of its result file."""
    patient_id: str
    truth: CaseTruth
    digest: str
    """Of the content of its truth and of the names and sizes of its files."""
    images: tuple[Path, ...]
    labels: BloodLabels | None
    labelled_instances: frozenset[int] = frozenset()
    """Instance numbers of slices that are known to show an injury."""
    incomplete_organ: bool = False
    """An organ is not wholly in the images, as its table says."""


@dataclass(frozen=True)
class BrokenCase:
    """A study that cannot be run, and why."""

    case_id: str
    code: str


@dataclass(frozen=True)
class FoundCases:
    """What a folder holds, in the order of their ids."""

    cases: tuple[Case, ...]
    broken: tuple[BrokenCase, ...] = ()

    def first(self, limit: int | None) -> "FoundCases":
        """The first ``limit`` of both together."""
        if limit is None:
            return self
        ids = [case.case_id for case in self.cases] + [case.case_id for case in self.broken]
        kept = set(sorted(ids)[:limit])
        return FoundCases(
            tuple(case for case in self.cases if case.case_id in kept),
            tuple(case for case in self.broken if case.case_id in kept),
        )


def safe_name(*parts: str) -> str:
    """A name for files, from parts of a path."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", "__".join(parts)).strip(".") or "study"


def digest_of(truth: bytes, files: Sequence[Path]) -> str:
    """SHA-256 of a truth and of the names and sizes of the files that it is about."""
    seen = hashlib.sha256(truth)
    for path in files:
        seen.update(f"\0{path.name}\0{path.stat().st_size}".encode())
    return seen.hexdigest()


def phantom_cases(folder: Path) -> FoundCases:
    """Phantoms: ``folder`` itself, or its folders at any depth, with a ``truth.json`` beside the images."""
    found = [_phantom_case(folder, path.parent) for path in _truth_files(folder)]
    return FoundCases(
        tuple(item for item in found if isinstance(item, Case)),
        tuple(item for item in found if isinstance(item, BrokenCase)),
    )


def _truth_files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob(TRUTH_FILE) if path.is_file())


def _phantom_case(root: Path, folder: Path) -> Case | BrokenCase:
    case_id = safe_name(*(folder.relative_to(root).parts or (folder.resolve().name,)))
    content = (folder / TRUTH_FILE).read_bytes()
    try:
        truth = PhantomTruth.model_validate_json(content)
    except ValidationError:
        return BrokenCase(case_id, "truth-unreadable")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    images = tuple(path for path in files if path.name not in {TRUTH_FILE, LABELS_FILE})
    if not images:
        return BrokenCase(case_id, "no-images")
    labels = folder / LABELS_FILE
    return Case(
        case_id=case_id,
        patient_id=case_id,
        truth=_case_truth(truth),
        digest=digest_of(content, files),
        images=images,
        labels=BloodLabels(labels, tuple(int(label) for label in BLOOD_LABELS)) if labels.is_file() else None,
    )


def _case_truth(truth: PhantomTruth) -> CaseTruth:
    return CaseTruth(
        source="phantom",
        liver=truth.liver.rsna,
        spleen=truth.spleen.rsna,
        kidneys=truth.kidneys.rsna,
        bowel=truth.bowel_injury,
        extravasation=truth.extravasation,
        any_injury=truth.any_injury,
        hemoperitoneum=truth.hemoperitoneum,
        total_ml=truth.total_ml,
        slices=tuple(item.injury_or_blood for item in truth.slices),
    )
