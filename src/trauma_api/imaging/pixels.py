"""Decodes the pixels of chosen CT slices to Hounsfield units, straight into a file of voxels."""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from trauma_api.errors import InputError
from trauma_api.imaging.decoders import MAYBE_LOSSY, NATIVE, SYNTAXES, decode_frame, plugin_for
from trauma_api.imaging.encapsulated import EncapsulatedFrames
from trauma_api.imaging.geometry import apply_in_plane
from trauma_api.imaging.native import NativeReader
from trauma_api.imaging.slices import InPlane, SliceHeader
from trauma_api.imaging.volume import HUArray

StackType = Literal["<i2", "<f4"]
"""How voxels are stored in the file of a stack."""

Voxel = TypeVar("Voxel", bound=np.generic)

AIR_FLOOR_HU = -1024
"""The lowest value kept. See `floored`."""

BELOW_SOFT_TISSUE_HU = -200
_INT16_MAX = int(np.iinfo(np.int16).max)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_DECODE_FAILURES = (
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    MemoryError,
    AssertionError,
    struct.error,
)
"""What pydicom and the decoders have been seen to raise on damaged pixels. OSError is the disk's, not the client's."""


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


class WideRangeError(Exception):
    """A slice holds values over 32767 HU, which int16 does not; the stack has to be float32."""


@dataclass(frozen=True)
class TransferSyntax:
    """One transfer syntax that can be decoded here."""

    uid: str
    name: str
    lossy: bool
    """Information may have been lost with it."""
    decoder: str
    """What decodes it: ``native`` where nothing is compressed, else the name of its plugin for pydicom."""


@dataclass(frozen=True)
class DecodedSlice:
    """One slice that is in its place in the file. ``slice_hu`` holds only until the next slice is decoded."""

    number: int
    slice_hu: HUArray
    """(rows, columns) after turning, in HU."""


def supported_transfer_syntaxes() -> tuple[TransferSyntax, ...]:
    """The transfer syntaxes for which a decoder is installed."""
    found = ((uid, plugin_for(uid, None)) for uid in SYNTAXES)
    return tuple(TransferSyntax(uid, UID(uid).name, uid in MAYBE_LOSSY, plugin) for uid, plugin in found if plugin)


def check_decoder(header: SliceHeader) -> None:
    """Raise NoDecoderError, naming the transfer syntax, when its pixels cannot be decoded here."""
    uid = UID(transfer_syntax_of(header))
    if plugin_for(uid, header.pixels.bits_stored) is None:
        # An unregistered UID is whatever the sender wrote, so it is not repeated.
        named = f" {uid.name} ({uid})" if uid.name != uid else ""
        raise NoDecoderError(
            f"No decoder is installed for the transfer syntax{named}. "
            "Send the images as Explicit VR Little Endian or JPEG 2000 lossless."
        )


def transfer_syntax_of(header: SliceHeader) -> str:
    """The transfer syntax in which the bytes at the entry's path are, after any inflating."""
    return header.entry.transfer_syntax_uid or header.transfer_syntax_uid


def has_air_or_fat(voxels_hu: NDArray[np.generic]) -> bool:
    """Whether any voxel is below -200 HU, as in every body CT; label maps, masks and probability maps have none."""
    return bool(voxels_hu.min() < BELOW_SOFT_TISSUE_HU)


def floored(voxels: NDArray[Voxel]) -> NDArray[Voxel]:
    """Raise everything below -1024 HU to -1024 HU, in place.

    Air is -1000 HU and the usual 12-bit scale starts at -1024 HU, so lower values are no tissue: they are the scanner's
    padding outside its round field of view (-2000 and -3024 are usual) or artefacts beside metal. PixelPaddingValue is
    not used for this: where it names a value of the tissue range, it is more often wrong than the image is.
    """
    _raise_to(AIR_FLOOR_HU, voxels)
    return voxels


def stack_dtype(slices: Sequence[SliceHeader]) -> StackType:
    """int16 when every slope is 1 and every intercept whole, else float32."""
    whole = all(header.rescale and header.rescale[0] == 1 and header.rescale[1].is_integer() for header in slices)
    return "<i2" if whole else "<f4"


def decode_into(
    slices: Sequence[SliceHeader], numbers: Sequence[int], in_plane: InPlane, target: Path, dtype: StackType
) -> Iterator[DecodedSlice]:
    """Decode ``slices[k]`` to HU, floored at -1024 HU and turned, and write it as slice ``numbers[k]`` of ``target``.

    ``target`` exists, is as large as the whole stack and holds nothing but voxels in C order (slices, rows, columns);
    other processes may write other slices of it meanwhile. HU = slope * stored + intercept (DICOM PS3.3 section
    C.11.1.1.2). One slice is in memory at a time; a file of several consecutive slices is opened once.
    Raises UndecodablePixelsError, NoDecoderError, WideRangeError when a value does not fit ``<i2``, and OSError when
    ``target`` cannot be written.
    """
    with target.open("r+b", buffering=0) as stack:
        for number, header, stored in zip(numbers, slices, _stored(slices), strict=True):
            slice_hu = np.ascontiguousarray(apply_in_plane(_hounsfield(header, stored, dtype), in_plane))
            _write(stack.fileno(), slice_hu, number)
            yield DecodedSlice(number, slice_hu)


def _hounsfield(header: SliceHeader, stored: NDArray[np.integer], dtype: StackType) -> HUArray:
    if header.rescale is None:
        raise _undecodable(header)
    slope, intercept = header.rescale
    if dtype == "<i2":
        return _shifted(stored, int(intercept))
    values = stored.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        values *= slope
        values += intercept
    if not floored(values).max() <= _FLOAT32_MAX:
        raise _undecodable(header)
    return values.astype(np.float32)


def _shifted(stored: NDArray[np.integer], intercept: int) -> NDArray[np.int16]:
    """Floor and add the intercept, in place where the width allows, without a detour over wider integers.

    Flooring comes first and leaves nothing that could pass int16's lower end. Adding is then done on unsigned words:
    modulo their range it is exact, because the sum fits int16.
    """
    if stored.dtype.itemsize == 1:
        stored = stored.astype(np.int16)
    lowest, highest = int(np.iinfo(stored.dtype).min), int(np.iinfo(stored.dtype).max)
    floor = AIR_FLOOR_HU - intercept
    if floor >= highest:
        return np.full(stored.shape, AIR_FLOOR_HU, np.int16)
    if floor > lowest:
        _raise_to(floor, stored)
    if highest + intercept > _INT16_MAX and int(stored.max()) + intercept > _INT16_MAX:
        raise WideRangeError
    width = stored.dtype.itemsize
    words = stored.view(f"u{width}")
    words += words.dtype.type(intercept % 2 ** (8 * width))
    return words.view(f"i{width}").astype(np.int16, copy=False)


def _raise_to(floor: int, values: NDArray[np.generic]) -> None:
    """Like np.maximum, which is ten times as slow because it has no fast path for a scalar."""
    kind = values.dtype.type
    highest = np.iinfo(values.dtype.str).max if values.dtype.kind in "iu" else np.inf
    np.clip(values, kind(floor), kind(highest), out=values)


def _stored(slices: Sequence[SliceHeader]) -> Iterator[NDArray[np.integer]]:
    """Stored values, slice by slice."""
    native = NativeReader()
    for _, same_file in groupby(slices, key=lambda header: header.entry.path):
        headers = list(same_file)
        check_decoder(headers[0])
        try:
            yield from _of_one_file(headers, native)
        except _DECODE_FAILURES:
            raise _undecodable(headers[0]) from None


def _of_one_file(headers: Sequence[SliceHeader], native: NativeReader) -> Iterator[NDArray[np.integer]]:
    uid = transfer_syntax_of(headers[0])
    if not all(header.one_grey_channel for header in headers):
        raise ValueError("not one grey channel")
    with headers[0].entry.path.open("rb", buffering=0) as file:
        if uid in NATIVE:
            for header in headers:
                yield native.read(file.fileno(), header, NATIVE[uid])
        else:
            frames = EncapsulatedFrames(file.fileno(), headers[0].pixels)
            for header in headers:
                yield decode_frame(frames.read(header.frame), header, uid)


def _write(descriptor: int, slice_hu: HUArray, number: int) -> None:
    data = slice_hu.data.cast("B")
    offset, written = number * len(data), 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


def _undecodable(header: SliceHeader) -> UndecodablePixelsError:
    return UndecodablePixelsError(
        f"The pixel data of {header.entry.where} are missing or damaged. Export the series again."
    )
