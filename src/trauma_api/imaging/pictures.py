"""PNG and JPEG pictures to one picture stack."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trauma_api.errors import InputError
from trauma_api.imaging.entries import Entry
from trauma_api.imaging.series import ImageTooLargeError
from trauma_api.imaging.study import ReadLimits, ReadStudy, SeriesSummary, StudyWarning
from trauma_api.imaging.volume import PictureStack
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


def read_pictures(
    entries: Sequence[Entry],
    spacing_zyx_mm: tuple[float, float, float] | None,
    window_hu: tuple[float, float] | None,
    limits: ReadLimits,
) -> ReadStudy:
    """Read PNG and JPEG pictures as 8-bit RGB, in the order sent, turned as their EXIF orientation says.

    Raises the errors of this module, and ImageTooLargeError also at Pillow's limit against decompression bombs.
    """
    pictures = [_read(entry, limits) for entry in entries]
    if len({picture.shape for picture in pictures}) > 1:
        raise PictureSizesDifferError
    if sum(picture.shape[0] * picture.shape[1] for picture in pictures) > limits.max_voxels:
        raise ImageTooLargeError
    stack = PictureStack(np.stack(pictures), spacing_zyx_mm, window_hu)
    stated = f"{spacing_zyx_mm} {window_hu}"
    digest = hashlib.sha256("".join([*(entry.sha256 for entry in entries), stated]).encode("ascii")).hexdigest()
    return ReadStudy(digest, "pictures", stack, (_summary(stack, entries),), _warnings(stack))


def _read(entry: Entry, limits: ReadLimits) -> NDArray[np.uint8]:
    try:
        with Image.open(entry.path, formats=("PNG", "JPEG")) as picture:
            if max(picture.size) > limits.max_side:
                raise ImageTooLargeError
            if picture.mode not in _EIGHT_BIT_MODES or _png_depth(entry.path) == 16:
                raise PictureBitDepthError
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), dtype=np.uint8)
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


def _summary(stack: PictureStack, entries: Sequence[Entry]) -> SeriesSummary:
    rows, columns = stack.shape_yx
    return SeriesSummary(
        series_uid=None,
        modality="picture",
        slice_count=stack.slice_count,
        rows=rows,
        columns=columns,
        spacing_zyx_mm=stack.spacing_zyx_mm,
        orientation=None,
        lossy=any(_is_jpeg(entry) for entry in entries),
        transfer_syntax_uid=None,
        selected=True,
        reason="selected",
    )


def _warnings(stack: PictureStack) -> tuple[StudyWarning, ...]:
    warnings = [
        StudyWarning(
            "no-hounsfield-units", "Pictures hold no Hounsfield units; what is read from them is less certain."
        )
    ]
    if stack.stated_spacing_zyx_mm is not None and stack.window_hu is None:
        black, white = ASSUMED_WINDOW_HU
        warnings.append(
            StudyWarning(
                "picture-window-assumed",
                f"No window was stated, so black to white was taken as {black:g} to {white:g} HU.",
            )
        )
    return tuple(warnings)
