"""Small DICOM files with every kind of pixel layout, and the records that the header pass makes of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from tests.imaging.slice_records import record
from trauma_api.imaging.pixels import StackType, decode_into
from trauma_api.imaging.slices import Entry, InPlane, PixelLayout, SliceHeader

AS_IT_IS = InPlane()


def write_dicom(path: Path, pixel_data: bytes, uid: str = ExplicitVRLittleEndian, **attributes: Any) -> Path:
    """A CT image with these bytes as Pixel Data; 16 bits of 16, unsigned, in one frame unless said otherwise."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(uid)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixel_data
    dataset["PixelData"].VR = "OB" if UID(uid).is_encapsulated else "OW"
    dataset["PixelData"].is_undefined_length = UID(uid).is_encapsulated
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def write_native(path: Path, stored: NDArray[np.generic], uid: str = ExplicitVRLittleEndian, **attributes: Any) -> Path:
    """Frames of integers of the allocated width, (frames, rows, columns), byte by byte as given."""
    frames, rows, columns = stored.shape
    data = stored.astype(stored.dtype.newbyteorder(">" if uid == ExplicitVRBigEndian else "<")).tobytes()
    data += b"\0" * (len(data) % 2)
    if uid == ExplicitVRBigEndian and stored.dtype.itemsize == 1:
        data = np.frombuffer(data, "<u2").byteswap().tobytes()
    bits = {"BitsAllocated": 8 * stored.dtype.itemsize, "NumberOfFrames": frames, "Rows": rows, "Columns": columns}
    return write_dicom(path, data, uid, **bits, **attributes)


def write_compressed(
    path: Path, streams: Sequence[bytes], uid: str, shape: tuple[int, int], *, has_bot: bool = True, **attributes: Any
) -> Path:
    """Frames already compressed."""
    data = encapsulate(list(streams), has_bot=has_bot)
    size = {"NumberOfFrames": len(streams), "Rows": shape[0], "Columns": shape[1]}
    return write_dicom(path, data, uid, **size, **attributes)


def records(path: Path, transfer_syntax_uid: str | None = None) -> list[SliceHeader]:
    """One for each frame, as the header pass makes them; the syntax overrides the file's."""
    dataset = pydicom.dcmread(path, force=True)
    pixel_data: Any = dataset.get_item("PixelData")
    uid = dataset.file_meta.get("TransferSyntaxUID", transfer_syntax_uid)
    layout = PixelLayout(
        bits_allocated=dataset.BitsAllocated,
        bits_stored=dataset.BitsStored,
        high_bit=dataset.HighBit,
        signed=dataset.PixelRepresentation == 1,
        frames=int(dataset.get("NumberOfFrames") or 1),
        offset=pixel_data.value_tell,
        length=None if UID(uid).is_encapsulated else pixel_data.length,
    )
    entry = Entry(3, None, path, "dicom", hashlib.sha256(path.read_bytes()).hexdigest(), transfer_syntax_uid)
    one = record(
        (0.0, 0.0, 0.0),
        entry=entry,
        rows=dataset.Rows,
        columns=dataset.Columns,
        transfer_syntax_uid=str(uid),
        pixels=layout,
        rescale=(float(dataset.RescaleSlope), float(dataset.RescaleIntercept)),
    )
    return [replace(one, frame=frame) for frame in range(layout.frames)]


def decoded(
    slices: Sequence[SliceHeader], target: Path, dtype: StackType = "<i2", in_plane: InPlane = AS_IT_IS
) -> NDArray[np.number]:
    """The file of voxels after decoding all slices into it, in order."""
    rows, columns = slices[0].rows, slices[0].columns
    shape = (len(slices), columns, rows) if in_plane.transpose else (len(slices), rows, columns)
    np.zeros(shape, dtype).tofile(target)
    for one in decode_into(slices, range(len(slices)), in_plane, target, dtype):
        np.testing.assert_array_equal(np.fromfile(target, dtype).reshape(shape)[one.number], one.slice_hu)
    voxels: NDArray[np.number] = np.fromfile(target, dtype).reshape(shape)
    return voxels
