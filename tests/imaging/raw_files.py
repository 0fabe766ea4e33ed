"""Writes DICOM element by element and ZIP archives record by record, as no library would, and scans them."""

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from trauma_api.imaging.scan import Begun, Share, scan
from trauma_api.imaging.slices import ScannedEntry
from trauma_api.imaging.study import ReadLimits, UploadedFile

UNDEFINED = 0xFFFFFFFF
DEFLATED = "1.2.840.10008.1.2.1.99"
_LONG_VRS = {"OB", "OW", "SQ", "UC", "UN", "UT"}


def ct_dataset(transfer_syntax: str = ExplicitVRLittleEndian, **overrides: Any) -> Dataset:
    """One small CT slice of 4 rows and 3 columns; None in ``overrides`` removes an attribute."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = CTImageStorage, generate_uid(), "1.2.3"
    dataset.PatientName, dataset.Modality = "SECRET^NAME", "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-10.0, -20.0, 30.5], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.8, 0.5], 2.5
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = 4, 3
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = bytes(range(24))
    for keyword, value in overrides.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def ct_bytes(transfer_syntax: str = ExplicitVRLittleEndian, **overrides: Any) -> bytes:
    """A CT slice as a DICOM file."""
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ct_dataset(transfer_syntax, **overrides), enforce_file_format=True)
    return stream.getvalue()


def element(tag: int, vr: str | None, value: bytes = b"", length: int | None = None) -> bytes:
    """One data element, explicit with a VR and implicit without, with a stated length that need not be true."""
    length = len(value) if length is None else length
    group_element = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if vr is None:
        return group_element + struct.pack("<L", length) + value
    if vr in _LONG_VRS:
        return group_element + vr.encode() + struct.pack("<HL", 0, length) + value
    return group_element + vr.encode() + struct.pack("<H", length) + value


def nested(depth: int, *, defined: bool, vr: str | None = "SQ") -> bytes:
    """A sequence that holds ``depth`` - 1 further sequences inside one another."""
    content = b""
    for _ in range(depth):
        if defined:
            content = element(0x0040A730, vr, element(0xFFFEE000, None, content))
        else:
            item = element(0xFFFEE000, None, content, UNDEFINED) + element(0xFFFEE00D, None)
            content = element(0x0040A730, vr, item, UNDEFINED) + element(0xFFFEE0DD, None)
    return content


def image(middle: bytes, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    """A DICOM file of a CT image, explicit or implicit by its syntax, with ``middle`` before its pixels."""
    implicit = syntax == "1.2.840.10008.1.2"
    uid = syntax.encode() + b"\x00" * (len(syntax) % 2)
    meta = element(0x00020010, "UI", uid)
    start = [(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\x00"), (0x00080060, "CS", b"CT")]
    rows = [(0x00280010, "US", b"\x02\x00"), (0x00280011, "US", b"\x03\x00")]
    parts = [element(tag, None if implicit else vr, value) for tag, vr, value in start + rows]
    pixels = element(0x7FE00010, None if implicit else "OW", bytes(12))
    return bytes(128) + b"DICM" + meta + b"".join(parts) + middle + pixels


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A ZIP archive."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def uploaded(paths: Sequence[Path]) -> list[UploadedFile]:
    """Files as sent in this order."""
    return [UploadedFile(position, path) for position, path in enumerate(paths)]


def scan_all(
    paths: Sequence[Path], scratch: Path, limits: ReadLimits | None = None, share: Share | None = None
) -> list[ScannedEntry]:
    """What a scan finds, of all files unless a share is given."""
    scratch.mkdir(parents=True, exist_ok=True)
    found = scan(uploaded(paths), scratch, share or Share(0, 1), limits or ReadLimits())
    return [record for record in found if not isinstance(record, Begun)]


def scan_bytes(content: bytes, folder: Path, limits: ReadLimits | None = None) -> ScannedEntry:
    """What a scan finds in one file."""
    path = folder / "file"
    path.write_bytes(content)
    (record,) = scan_all([path], folder / "scratch", limits)
    return record
