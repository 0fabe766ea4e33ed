"""RSNA 2023 abdominal trauma data, as Kaggle lays it out, with DICOM or NIfTI images and optional masks of blood.

    train.csv                                  one row a patient
    image_level_labels.csv                     optional: slices that show an injury of the bowel or extravasation
    train_series_meta.csv                      optional: which series lack a part of an organ; they are run and counted
    train_images/{patient}/{series}/*.dcm      or {patient}/{series}.nii(.gz)
    masks/{series}.nii.gz                      optional: not 0 is blood

Each series is a study; what it gives is averaged over the series of a patient.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from trauma_api.evaluation.cases import (
    BloodLabels,
    BrokenCase,
    Case,
    CaseTruth,
    FolderError,
    FoundCases,
    digest_of,
    safe_name,
)
from trauma_api.phantom.truth import RsnaGrade

LABELS_CSV = "train.csv"
SLICES_CSV = "image_level_labels.csv"
SERIES_CSV = "train_series_meta.csv"
IMAGES_FOLDER = "train_images"
MASKS_FOLDER = "masks"

COLUMNS = (
    "patient_id",
    "bowel_healthy",
    "bowel_injury",
    "extravasation_healthy",
    "extravasation_injury",
    "kidney_healthy",
    "kidney_low",
    "kidney_high",
    "liver_healthy",
    "liver_low",
    "liver_high",
    "spleen_healthy",
    "spleen_low",
    "spleen_high",
    "any_injury",
)
_SLICE_COLUMNS = ("patient_id", "series_id", "instance_number", "injury_name")
_SERIES_COLUMNS = ("patient_id", "series_id", "aortic_hu", "incomplete_organ")
_GRADES: tuple[RsnaGrade, ...] = ("healthy", "low", "high")
_NIFTI_SUFFIXES = (".nii.gz", ".nii")

Row = Mapping[str, str]


def rsna_cases(folder: Path) -> FoundCases:
    """The series of all patients of ``train.csv``. Raises FolderError when a table is not as RSNA's."""
    labelled = _labelled_instances(folder / SLICES_CSV)
    incomplete = _incomplete_series(folder / SERIES_CSV)
    cases: list[Case] = []
    broken: list[BrokenCase] = []
    for row in _rows(folder / LABELS_CSV, COLUMNS):
        patient = row["patient_id"]
        truth = _truth(row)
        if truth is None:
            broken.append(BrokenCase(safe_name(patient), "truth-unreadable"))
            continue
        series = _series_of(folder / IMAGES_FOLDER / patient) or _series_of(folder / patient)
        if not series:
            broken.append(BrokenCase(safe_name(patient), "no-images"))
        for name, images in series.items():
            case = _case(folder, row, truth, name, images, labelled.get((patient, name), frozenset()))
            cases.append(replace(case, incomplete_organ=name in incomplete))
    return FoundCases(tuple(sorted(cases, key=lambda case: case.case_id)), tuple(broken))


def _case(
    folder: Path, row: Row, truth: CaseTruth, series: str, images: tuple[Path, ...], labelled: frozenset[int]
) -> Case:
    mask = folder / MASKS_FOLDER / f"{series}.nii.gz"
    labels = BloodLabels(mask, None) if mask.is_file() else None
    content = repr((sorted(row.items()), sorted(labelled))).encode()
    return Case(
        case_id=safe_name(row["patient_id"], series),
        patient_id=row["patient_id"],
        truth=truth,
        digest=digest_of(content, (*images, *([] if labels is None else [mask]))),
        images=images,
        labels=labels,
        labelled_instances=labelled,
    )


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise FolderError(f"{path.name} lacks the columns {', '.join(missing)} of RSNA 2023.")
        return list(reader)


def _truth(row: Row) -> CaseTruth | None:
    """None where a group has not exactly one class."""
    try:
        organs = {organ: _one_of(row, organ, _GRADES) for organ in ("liver", "spleen", "kidney")}
        bowel, extravasation = (_one_of(row, name, ("healthy", "injury")) for name in ("bowel", "extravasation"))
        any_injury = _flag(row["any_injury"])
    except ValueError:
        return None
    return CaseTruth(
        source="rsna",
        liver=_GRADES[organs["liver"]],
        spleen=_GRADES[organs["spleen"]],
        kidneys=_GRADES[organs["kidney"]],
        bowel=bool(bowel),
        extravasation=bool(extravasation),
        any_injury=any_injury,
        hemoperitoneum=None,
        total_ml=None,
        slices=None,
    )


def _one_of(row: Row, group: str, classes: tuple[str, ...]) -> int:
    flags = [_flag(row[f"{group}_{name}"]) for name in classes]
    if sum(flags) != 1:
        raise ValueError("not exactly one class")
    return flags.index(True)


def _flag(text: str | None) -> bool:
    value = float(text or "")
    if value not in (0.0, 1.0):
        raise ValueError("neither 0 nor 1")
    return value == 1.0


def _series_of(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Files by series."""
    series: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            files = tuple(sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith(".")))
            if files:
                series[path.name] = files
        elif path.name.endswith(_NIFTI_SUFFIXES):
            series[path.name.split(".nii")[0]] = (path,)
    return series


def _labelled_instances(path: Path) -> dict[tuple[str, str], frozenset[int]]:
    if not path.is_file():
        return {}
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for row in _rows(path, _SLICE_COLUMNS):
        found[row["patient_id"], row["series_id"]].add(int(row["instance_number"]))
    return {key: frozenset(numbers) for key, numbers in found.items()}


def _incomplete_series(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    return frozenset(row["series_id"] for row in _rows(path, _SERIES_COLUMNS) if float(row["incomplete_organ"]) == 1)
