"""Writes the phantom as a DICOM CT series with its truth beside it."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from trauma_api.phantom.anatomy import BLOOD_LABELS, SHAPE_ZYX, SPACING_ZYX_MM, Label, draw_hu, draw_labels

_RESCALE_INTERCEPT = -1024
_MM3_PER_ML = 1000.0
# Fixed, so that a newer pydicom writes the same bytes.
_IMPLEMENTATION_UID = generate_uid(entropy_srcs=["trauma-api phantom writer"])
_IMPLEMENTATION_NAME = "TRAUMA_PHANTOM"


@dataclass(frozen=True)
class PhantomTruth:
    """What is in the phantom, counted from its labels. Also the content of ``truth.json``."""

    seed: int
    slice_count: int
    spacing_zyx_mm: tuple[float, float, float]
    total_ml: float
    """All blood outside vessels: the sum of the next three."""
    free_blood_ml: float
    laceration_ml: float
    extravasation_ml: float
    volume_per_slice_ml: tuple[float, ...]
    """Of all blood outside vessels, head to feet."""


def write_sample_study(folder: Path, seed: int = 7) -> PhantomTruth:
    """Write 48 CT slices (``IM0001.dcm`` ...) and ``truth.json`` into ``folder``, which is made when absent.

    160 x 160 pixels of 2.2 mm, slices 5 mm apart, head to feet, Explicit VR Little Endian. The same seed gives the
    same bytes. The patient is fictitious. Raises OSError when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    labels = draw_labels(seed)
    for index, slice_hu in enumerate(draw_hu(labels, seed)):
        _slice_dataset(slice_hu, index, seed).save_as(folder / f"IM{index + 1:04d}.dcm", enforce_file_format=True)
    truth = _truth(labels, seed)
    (folder / "truth.json").write_text(json.dumps(dataclasses.asdict(truth), indent=2) + "\n", encoding="utf-8")
    return truth


def _truth(labels: NDArray[np.uint8], seed: int) -> PhantomTruth:
    voxel_ml = math.prod(SPACING_ZYX_MM) / _MM3_PER_ML
    counts = {label: int(np.count_nonzero(labels == label)) for label in BLOOD_LABELS}
    per_slice = np.count_nonzero(np.isin(labels, BLOOD_LABELS), axis=(1, 2))
    return PhantomTruth(
        seed=seed,
        slice_count=SHAPE_ZYX[0],
        spacing_zyx_mm=SPACING_ZYX_MM,
        total_ml=_ml(sum(counts.values()), voxel_ml),
        free_blood_ml=_ml(counts[Label.FREE_BLOOD], voxel_ml),
        laceration_ml=_ml(counts[Label.LACERATION], voxel_ml),
        extravasation_ml=_ml(counts[Label.EXTRAVASATION], voxel_ml),
        volume_per_slice_ml=tuple(_ml(int(count), voxel_ml) for count in per_slice),
    )


def _ml(voxels: int, voxel_ml: float) -> float:
    return round(voxels * voxel_ml, 6)


def _slice_dataset(slice_hu: NDArray[np.int16], index: int, seed: int) -> Dataset:
    sop_instance_uid = _uid(seed, f"slice {index}")
    dataset = Dataset()
    dataset.file_meta = _file_meta(sop_instance_uid)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.InstanceNumber = index + 1
    _describe_study(dataset, seed)
    _describe_plane(dataset, index)
    _set_pixels(dataset, slice_hu)
    return dataset


def _uid(seed: int, what: str) -> UID:
    return generate_uid(entropy_srcs=["trauma-api sample phantom", str(seed), what])


def _file_meta(sop_instance_uid: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION_UID
    meta.ImplementationVersionName = _IMPLEMENTATION_NAME
    return meta


def _describe_study(dataset: Dataset, seed: int) -> None:
    """Attributes of type 1 and 2 of the patient, study, series, frame of reference and equipment modules."""
    dataset.PatientName = "PHANTOM^SAMPLE"
    dataset.PatientID = f"PHANTOM-{seed}"
    dataset.StudyInstanceUID = _uid(seed, "study")
    dataset.SeriesInstanceUID = _uid(seed, "series")
    dataset.FrameOfReferenceUID = _uid(seed, "frame of reference")
    for keyword in (
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "StudyID",
        "AccessionNumber",
        "PositionReferenceIndicator",
        "AcquisitionNumber",
        "KVP",
    ):
        setattr(dataset, keyword, None)
    dataset.Modality = "CT"
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = "Synthetic phantom, not a patient"
    dataset.Manufacturer = "trauma-api"
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.PatientPosition = "HFS"


def _describe_plane(dataset: Dataset, index: int) -> None:
    slices, rows, columns = SHAPE_ZYX
    slice_mm, row_mm, column_mm = SPACING_ZYX_MM
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.PixelSpacing = [row_mm, column_mm]
    dataset.SliceThickness = slice_mm
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [
        round(-(columns - 1) / 2 * column_mm, 3),
        round(-(rows - 1) / 2 * row_mm, 3),
        round(((slices - 1) / 2 - index) * slice_mm, 3),
    ]


def _set_pixels(dataset: Dataset, slice_hu: NDArray[np.int16]) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = slice_hu.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = _RESCALE_INTERCEPT
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    stored = slice_hu.astype(np.int32) - _RESCALE_INTERCEPT
    dataset.PixelData = stored.astype("<u2").tobytes()
