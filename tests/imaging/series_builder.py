"""Writes small real DICOM CT series for the tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.support.reading import read_files
from trauma_api.imaging.uploads import ReadStudy

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass
class SeriesBuilder:
    """A CT series: ``stored_hu`` (slices, rows, columns) in the order of ``positions_mm``."""

    stored_hu: NDArray[np.integer]
    positions_mm: Sequence[Sequence[float]]
    orientation: Sequence[float] = AXIAL
    spacing_yx_mm: tuple[float, float] = (0.8, 0.5)
    series_uid: str = field(default_factory=generate_uid)
    transfer_syntax: str = ExplicitVRLittleEndian
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Attributes set last on every slice; None removes one."""

    def datasets(self) -> list[Dataset]:
        """One dataset per slice."""
        return [self._dataset(index) for index in range(len(self.positions_mm))]

    def write(self, folder: Path, names: Sequence[str] | None = None) -> list[Path]:
        """Write the slices and return their paths in the order of ``positions_mm``."""
        folder.mkdir(parents=True, exist_ok=True)
        names = names or [f"{index}.dcm" for index in range(len(self.positions_mm))]
        paths = [folder / name for name in names]
        for path, dataset in zip(paths, self.datasets(), strict=True):
            pydicom.dcmwrite(path, dataset, enforce_file_format=True)
        return paths

    def _dataset(self, index: int) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(self.transfer_syntax)
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = self.series_uid
        dataset.PatientName = "SECRET^NAME"
        dataset.Modality = "CT"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = [float(value) for value in self.positions_mm[index]]
        dataset.ImageOrientationPatient = list(self.orientation)
        dataset.PixelSpacing = list(self.spacing_yx_mm)
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        _set_pixels(dataset, self.stored_hu[index] + 1024)
        for keyword, value in self.overrides.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset["PixelData"].is_undefined_length = True
        return dataset


def _set_pixels(dataset: Dataset, stored: NDArray[np.integer]) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.PixelData = stored.astype("<i2").tobytes()


def stacked(count: int, slice_mm: float = 3.0) -> list[tuple[float, float, float]]:
    """Positions from head to feet, ``slice_mm`` apart."""
    return [(-10.0, -20.0, 100.0 - slice_mm * index) for index in range(count)]


def ramp(slices: int = 5, rows: int = 6, columns: int = 4) -> NDArray[np.int16]:
    """HU that differ in every voxel, from -300 up."""
    return (np.arange(slices * rows * columns).reshape(slices, rows, columns) - 300).astype(np.int16)


def read(paths: Sequence[Path], scratch: Path, **stated: Any) -> ReadStudy:
    """Read the files as one upload, in the order given."""
    return read_files(paths, scratch, **stated)
