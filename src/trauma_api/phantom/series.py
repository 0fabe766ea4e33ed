"""Writes a phantom as a DICOM CT series, with its truth and its label volume beside it."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from trauma_api.phantom.draw import Phantom
from trauma_api.phantom.truth import LABELS_FILE, TRUTH_FILE, PhantomTruth, Phase

_RESCALE_INTERCEPT = -1024
_BITS_STORED = 12
_POSITION_DIGITS = 6
# Fixed, so that a newer pydicom writes the same bytes.
_IMPLEMENTATION_UID = generate_uid(entropy_srcs=["trauma-api phantom writer"])
_IMPLEMENTATION_NAME = "TRAUMA_PHANTOM"

_DESCRIPTION = "Synthetic phantom, not a patient"
_PHASE_WORDS: dict[Phase, str] = {"none": "unenhanced", "arterial": "arterial phase", "portal": "portal venous phase"}


def write_phantom(phantom: Phantom, folder: Path) -> None:
    """Write the slices (`write_slices`), the label volume and the truth, in this order.

    ``labels.nii.gz`` lies on the slices in the patient: its affine is theirs, in RAS. The same phantom gives the same
    bytes. Raises OSError when the folder cannot be written, and ValueError as `write_slices` does.
    """
    write_slices(phantom, folder)
    _write_labels(phantom, folder / LABELS_FILE)
    # Last, so that a folder with a truth is whole.
    (folder / TRUTH_FILE).write_text(phantom.truth.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_truth(folder: Path) -> PhantomTruth:
    """The truth beside a phantom's files. Raises OSError when there is none, ValueError when it is not valid."""
    return PhantomTruth.model_validate_json((folder / TRUTH_FILE).read_bytes())


def write_slices(phantom: Phantom, folder: Path) -> None:
    """Write the CT slices alone, ``IM0001.dcm`` on, head to feet, into ``folder``, which is made when absent.

    12 bit, Explicit VR Little Endian, with the middle of the volume at the origin of the patient. Raises ValueError
    when a voxel is not within -1024 to 3071 HU, and OSError when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(len(phantom.voxels_zyx_hu)):
        _slice_dataset(phantom, index).save_as(folder / f"IM{index + 1:04d}.dcm", enforce_file_format=True)


def affine_lps(phantom: Phantom) -> NDArray[np.float64]:
    """From (slice, row, column) to the patient's coordinates in mm, shape (4, 4), as the written series states it."""
    slice_mm, row_mm, column_mm = (_stated(mm) for mm in phantom.spacing_zyx_mm)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = -slice_mm, row_mm, column_mm, 1.0
    middle_zyx = (np.array(phantom.voxels_zyx_hu.shape) - 1) / 2
    affine[:3, 3] = np.round(-affine[:3, :3] @ middle_zyx, _POSITION_DIGITS)
    return affine


def _stated(mm: float) -> float:
    """A length as a decimal string holds it: at most 16 characters."""
    return float(DSfloat(mm, auto_format=True))


def _write_labels(phantom: Phantom, path: Path) -> None:
    # (slice, row, column) to (column, row, slice), and LPS to RAS: x and y change their signs.
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps(phantom)[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(phantom.labels_zyx.transpose(2, 1, 0), affine_ras)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine_ras, code="scanner")
    image.set_sform(affine_ras, code="scanner")
    # Neither the time nor the file's name, so that the same phantom gives the same bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as stream:
        image.to_stream(stream)


def _slice_dataset(phantom: Phantom, index: int) -> Dataset:
    series_uid = _series_uid(phantom)
    sop_instance_uid = _uid(series_uid, f"slice {index}")
    dataset = Dataset()
    dataset.file_meta = _file_meta(sop_instance_uid)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.SeriesInstanceUID = series_uid
    dataset.InstanceNumber = index + 1
    _describe_study(dataset, phantom.truth)
    _describe_plane(dataset, phantom, index)
    _set_pixels(dataset, phantom.voxels_zyx_hu[index])
    return dataset


def _series_uid(phantom: Phantom) -> UID:
    """One patient drawn on two grids is two series."""
    truth = phantom.truth
    grid = f"{phantom.voxels_zyx_hu.shape} {phantom.spacing_zyx_mm}"
    return _uid(str(truth.seed), truth.scenario, "series", truth.phase, grid)


def _uid(*sources: str) -> UID:
    return generate_uid(entropy_srcs=["trauma-api phantom", *sources])


def _file_meta(sop_instance_uid: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION_UID
    meta.ImplementationVersionName = _IMPLEMENTATION_NAME
    return meta


def _describe_study(dataset: Dataset, truth: PhantomTruth) -> None:
    """Attributes of type 1 and 2 of the patient, study, series, frame of reference, equipment and contrast modules."""
    dataset.PatientName = "PHANTOM^SYNTHETIC"
    dataset.PatientID = f"PHANTOM-{truth.seed}"
    dataset.StudyInstanceUID = _uid(str(truth.seed), truth.scenario, "study")
    dataset.FrameOfReferenceUID = _uid(str(truth.seed), truth.scenario, "frame of reference")
    dataset.StudyID = "1"
    for keyword in (
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "AccessionNumber",
        "PositionReferenceIndicator",
        "AcquisitionNumber",
        "KVP",
    ):
        setattr(dataset, keyword, None)
    dataset.Modality = "CT"
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = f"{_DESCRIPTION}, {_PHASE_WORDS[truth.phase]}"
    dataset.Manufacturer = "trauma-api"
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.PatientPosition = "HFS"
    if truth.phase != "none":
        dataset.ContrastBolusAgent = "Simulated contrast agent"


def _describe_plane(dataset: Dataset, phantom: Phantom, index: int) -> None:
    slice_mm, row_mm, column_mm = (DSfloat(mm, auto_format=True) for mm in phantom.spacing_zyx_mm)
    corner_mm = affine_lps(phantom) @ (index, 0, 0, 1)
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.PixelSpacing = [row_mm, column_mm]
    dataset.SliceThickness = slice_mm
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [round(float(mm), _POSITION_DIGITS) for mm in corner_mm[:3]]


def _set_pixels(dataset: Dataset, slice_hu: NDArray[np.int16]) -> None:
    stored = slice_hu.astype(np.int32) - _RESCALE_INTERCEPT
    if stored.min() < 0 or stored.max() >= 1 << _BITS_STORED:
        raise ValueError("A slice holds values that 12 bits from -1024 HU up cannot hold.")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = slice_hu.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, _BITS_STORED, _BITS_STORED - 1
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = _RESCALE_INTERCEPT
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    dataset.PixelData = stored.astype("<u2").tobytes()
