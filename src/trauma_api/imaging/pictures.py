"""PNG and JPEG pictures, written to a file of pixels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trauma_api.errors import InputError
from trauma_api.imaging.series import ImageTooLargeError
from trauma_api.imaging.slices import Entry
from trauma_api.imaging.study import ReadLimits, SeriesSummary, StudyWarning
from trauma_api.imaging.windowing import ASSUMED_WINDOW_HU

_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_PNG_DEPTH_OFFSET = 24


class MalformedPictureError(InputError):
    """A PNG or JPEG file cannot be decoded."""

    code = "malformed-picture"
    title = "Picture is damaged"
    public_message = "A PNG or JPEG file is damaged. Write it again."


class PictureSizesDifferError(InputError):
    """Pictures of several sizes."""

    code = "picture-sizes-differ"
    title = "Pictures differ in size"
    public_message = "The pictures differ in size. Send pictures of one series, all of the same size."


class PictureBitDepthError(InputError):
    """More than 8 bits per channel."""

    code = "picture-bit-depth"
    title = "Picture has more than 8 bits"
    public_message = (
        "A picture has more than 8 bits per channel, whose meaning it does not state. Send DICOM, or 8-bit pictures."
    )


@dataclass(frozen=True)
class PictureFacts:
    """What was written: uint8 of ``shape_zyxc`` (pictures, rows, columns, 3) in C order, RGB, in the order sent."""

    shape_zyxc: tuple[int, int, int, int]
    series: SeriesSummary
    """Without a spacing, which pictures do not have."""


def read_pictures(entries: Sequence[Entry], target: Path, limits: ReadLimits) -> PictureFacts:
    """Write PNG and JPEG pictures as 8-bit RGB to ``target``, in the order sent, turned as their EXIF says.

    One picture is in memory at a time. Raises the errors of this module, ImageTooLargeError also at Pillow's limit
    against decompression bombs, and OSError when ``target`` cannot be written.
    """
    shape: tuple[int, ...] | None = None
    with target.open("wb") as stack:
        for entry in entries:
            picture = _read(entry, limits)
            shape = picture.shape if shape is None else shape
            if picture.shape != shape:
                raise PictureSizesDifferError
            if shape[0] * shape[1] * len(entries) > limits.max_voxels:
                raise ImageTooLargeError
            stack.write(picture.data)
    if shape is None:
        raise MalformedPictureError("The upload holds no picture. Send PNG or JPEG files.")
    rows, columns = int(shape[0]), int(shape[1])
    return PictureFacts((len(entries), rows, columns, 3), _summary(entries, rows, columns))


def picture_warnings(
    spacing_zyx_mm: tuple[float, float, float] | None, window_hu: tuple[float, float] | None
) -> tuple[StudyWarning, ...]:
    """What a reader of results has to know of pictures with this stated spacing and window."""
    warnings = [
        StudyWarning(
            "no-hounsfield-units", "Pictures hold no Hounsfield units; what is read from them is less certain."
        )
    ]
    if spacing_zyx_mm is not None and window_hu is None:
        black, white = ASSUMED_WINDOW_HU
        warnings.append(
            StudyWarning(
                "picture-window-assumed",
                f"No window was stated, so black to white was taken as {black:g} to {white:g} HU.",
            )
        )
    return tuple(warnings)


def _read(entry: Entry, limits: ReadLimits) -> NDArray[np.uint8]:
    try:
        with Image.open(entry.path, formats=("PNG", "JPEG")) as picture:
            if max(picture.size) > limits.max_picture_side:
                raise ImageTooLargeError
            if picture.mode not in _EIGHT_BIT_MODES or _png_depth(entry.path) == 16:
                raise PictureBitDepthError
            ImageOps.exif_transpose(picture, in_place=True)
            return np.ascontiguousarray(picture.convert("RGB"), dtype=np.uint8)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLargeError from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError, ArithmeticError, MemoryError):
        raise MalformedPictureError(f"{entry.where.capitalize()} is a damaged picture. Write it again.") from None


def _png_depth(path: Path) -> int | None:
    """Bit depth from the IHDR chunk (PNG section 11.2.1): Pillow reads 16-bit colour as 8-bit without a word."""
    with path.open("rb") as stream:
        head = stream.read(_PNG_DEPTH_OFFSET + 1)
    return head[_PNG_DEPTH_OFFSET] if head.startswith(b"\x89PNG") and len(head) > _PNG_DEPTH_OFFSET else None


def _is_jpeg(entry: Entry) -> bool:
    with entry.path.open("rb") as stream:
        return stream.read(2) == b"\xff\xd8"


def _summary(entries: Sequence[Entry], rows: int, columns: int) -> SeriesSummary:
    digests = "".join(entry.digest for entry in entries)
    return SeriesSummary(
        series_id=hashlib.sha256(digests.encode("ascii")).hexdigest()[:12],
        series_uid=None,
        modality="picture",
        slice_count=len(entries),
        rows=rows,
        columns=columns,
        spacing_zyx_mm=None,
        orientation=None,
        phase="unknown",
        lossy=any(_is_jpeg(entry) for entry in entries),
        transfer_syntax_uid=None,
        selected=True,
        reason="selected",
        score=None,
        score_reasons=(),
    )
