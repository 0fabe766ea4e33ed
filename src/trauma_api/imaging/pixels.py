"""Decodes the pixels of chosen CT slices to Hounsfield units."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, JPEGExtended12Bit

from trauma_api.errors import InputError
from trauma_api.imaging.headers import PARSE_FAILURES, SliceHeader, transfer_syntax_of
from trauma_api.imaging.volume import HUArray

Voxel = TypeVar("Voxel", bound=np.generic)

AIR_FLOOR_HU = -1024
"""The lowest value kept. See `floored`."""

_BELOW_SOFT_TISSUE_HU = -200
_INT16_MAX = int(np.iinfo(np.int16).max)
_ATTRIBUTES: list[str] = [
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
]  # fmt: skip


class NoDecoderError(InputError):
    """No decoder is installed for the transfer syntax."""

    code = "no-decoder"
    title = "Transfer syntax cannot be decoded"
    public_message = (
        "The images are compressed in a way that this service cannot decode. "
        "Send them as Explicit VR Little Endian or JPEG 2000 lossless."
    )


class UndecodablePixelsError(InputError):
    """Pixel data are missing, cut short or damaged."""

    code = "undecodable-pixels"
    title = "Pixel data cannot be decoded"
    public_message = "The pixel data of an image are missing or damaged. Export the series again."


def has_air_or_fat(voxels_hu: NDArray[np.generic]) -> bool:
    """Whether any voxel is below -200 HU, as in every body CT; label maps, masks and probability maps have none."""
    return bool(voxels_hu.min() < _BELOW_SOFT_TISSUE_HU)


def check_decoder(header: SliceHeader) -> None:
    """Raise NoDecoderError, naming the transfer syntax, when its pixels cannot be decoded here.

    Pillow, the only decoder for JPEG Extended that needs no GPL code, takes 8 bits of its 12.
    """
    uid = UID(header.transfer_syntax_uid)
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        raise _no_decoder(uid) from None
    twelve_bits = uid == JPEGExtended12Bit and header.bits_stored != 8
    if not decoder.is_available or (twelve_bits and decoder.available_plugins == ("pillow",)):
        raise _no_decoder(uid)


def _no_decoder(uid: UID) -> NoDecoderError:
    # An unregistered UID is whatever the sender wrote, so it is not repeated.
    named = f" {uid.name} ({uid})" if uid.name != uid else ""
    return NoDecoderError(
        f"No decoder is installed for the transfer syntax{named}. "
        "Send the images as Explicit VR Little Endian or JPEG 2000 lossless."
    )


def floored(voxels: NDArray[Voxel]) -> NDArray[Voxel]:
    """Raise everything below -1024 HU to -1024 HU, in place.

    Air is -1000 HU and the usual 12-bit scale starts at -1024 HU, so lower values are no tissue: they are the scanner's
    padding outside its round field of view (-2000 and -3024 are usual) or artefacts beside metal. PixelPaddingValue is
    not used for this: where it names a value of the tissue range, it is more often wrong than the image is.
    """
    np.maximum(voxels, AIR_FLOOR_HU, out=voxels)
    return voxels


def decode_hu(slices: Sequence[SliceHeader]) -> HUArray:
    """Decode slices of one size to (slices, rows, columns) in HU, floored at -1024 HU.

    HU = slope * stored + intercept (DICOM PS3.3 section C.11.1.1.2). int16 when every slope is 1, every intercept an
    integer and every value fits, else float32. Raises UndecodablePixelsError.
    """
    exact = all(header.rescale and header.rescale[0] == 1 and header.rescale[1].is_integer() for header in slices)
    shape = (len(slices), slices[0].rows, slices[0].columns)
    volume: HUArray = np.empty(shape, np.int16) if exact else np.empty(shape, np.float32)
    for index, (header, stored) in enumerate(zip(slices, _frames(slices), strict=True)):
        if header.rescale is None:
            raise UndecodablePixelsError
        slope, intercept = header.rescale
        if volume.dtype == np.int16:
            whole = floored(stored.astype(np.int64) + int(intercept))
            if whole.max() > _INT16_MAX:
                volume = volume.astype(np.float32)
            volume[index] = whole
        else:
            volume[index] = floored(stored.astype(np.float64) * slope + intercept)
    return volume


def _frames(slices: Sequence[SliceHeader]) -> Iterator[NDArray[np.integer]]:
    """Stored values, slice by slice; a file that holds several consecutive slices is read once."""
    path, dataset = None, Dataset()
    for header in slices:
        try:
            if header.entry.path != path:
                path = header.entry.path
                dataset = pydicom.dcmread(path, force=True, specific_tags=_ATTRIBUTES)
            decoder = get_decoder(UID(transfer_syntax_of(dataset)))
            stored, _ = decoder.as_array(dataset, index=header.frame, raw=True)
        except PARSE_FAILURES:
            raise _undecodable(header) from None
        if stored.shape != (header.rows, header.columns):
            raise _undecodable(header)
        yield stored


def _undecodable(header: SliceHeader) -> UndecodablePixelsError:
    return UndecodablePixelsError(
        f"The pixel data of {header.entry.where} are missing or damaged. Export the series again."
    )
