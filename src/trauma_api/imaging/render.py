"""Slices as PNG for people."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from trauma_api.errors import InputError
from trauma_api.imaging.volume import ImageStack, PictureStack
from trauma_api.imaging.windowing import WINDOWS_HU, grey

CAPTION = "Research use only - not for diagnosis"

_SHOWN_SIDE = 512
_MAX_STRETCH = 4.0
_RED = np.array([255.0, 0.0, 0.0], dtype=np.float32)
_FILL_OPACITY = 0.35
_TRUNK_MARGIN = 0.06
"""Of the trunk's height and width, on each side; the caption lies in it."""
_TEXT_COLOUR = (255, 255, 255)
_OUTLINE_COLOUR = (0, 0, 0)


class UnknownWindowError(InputError):
    """No display window of that name."""

    code = "unknown-window"
    title = "Unknown display window"
    public_message = f"There is no display window of that name. Use one of: {', '.join(WINDOWS_HU)}."


def slice_png(
    stack: ImageStack, index: int, window: str, mask_yx: NDArray[np.bool_] | None, *, trunk_only: bool = False
) -> bytes:
    """One slice as an RGB PNG, front of the body at the top, the patient's right on the left.

    ``window`` is a name in `WINDOWS_HU` and does nothing to pictures. ``mask_yx`` is (rows, columns) and is drawn as a
    red veil with an outline. Pixels that are not square are resampled to be, and small slices are enlarged; a caption
    says that this is research. ``trunk_only`` leaves out what surrounds trunk and mask; pictures stay whole. Raises
    UnknownWindowError, IndexError, and ValueError for a mask of another shape.
    """
    if window not in WINDOWS_HU:
        raise UnknownWindowError
    if mask_yx is not None and mask_yx.shape != stack.shape_yx:
        raise ValueError("a mask has the rows and columns of its slice")
    rgb, box = _rgb(stack, index, WINDOWS_HU[window]), _shown_box(stack, mask_yx, trunk_only=trunk_only)
    size = _shown_size(stack, rgb[box].shape[:2])
    picture = Image.fromarray(np.ascontiguousarray(rgb[box])).resize(size, Image.Resampling.BILINEAR)
    if mask_yx is not None:
        shown = Image.fromarray(mask_yx[box].astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
        picture = Image.fromarray(_overlaid(np.asarray(picture), np.asarray(shown) > 0))
    _annotate(picture, with_side=not isinstance(stack, PictureStack))
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue()


def _rgb(stack: ImageStack, index: int, window: tuple[float, float]) -> NDArray[np.uint8]:
    if isinstance(stack, PictureStack):
        return np.asarray(stack.pixels_zyxc[index])
    return np.repeat(grey(stack.voxels_zyx_hu[index], window)[..., None], 3, axis=-1)


def _shown_box(stack: ImageStack, mask_yx: NDArray[np.bool_] | None, *, trunk_only: bool) -> tuple[slice, slice]:
    """Rows and columns to show."""
    if not trunk_only or isinstance(stack, PictureStack):
        return slice(None), slice(None)
    row, column = (
        _with_marked(side, marked, count)
        for side, marked, count in zip(stack.trunk_box, _marked(mask_yx), stack.shape_yx, strict=True)
    )
    return row, column


def _marked(mask_yx: NDArray[np.bool_] | None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows and the columns of a mask that hold any of it."""
    if mask_yx is None:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    return np.flatnonzero(mask_yx.any(axis=1)), np.flatnonzero(mask_yx.any(axis=0))


def _with_marked(side: slice, marked: NDArray[np.intp], count: int) -> slice:
    first = min([side.start, *marked[:1]])
    last = max([side.stop, *(marked[-1:] + 1)])
    margin = round((last - first) * _TRUNK_MARGIN)
    return slice(max(int(first) - margin, 0), min(int(last) + margin, count))


def _shown_size(stack: ImageStack, shape_yx: tuple[int, ...]) -> tuple[int, int]:
    """Width and height with square pixels, the longer side at least 512."""
    rows, columns = shape_yx
    _, row_mm, column_mm = stack.spacing_zyx_mm or (0.0, 1.0, 1.0)
    finest = min(row_mm, column_mm)
    height = rows * min(row_mm / finest, _MAX_STRETCH)
    width = columns * min(column_mm / finest, _MAX_STRETCH)
    scale = max(1, math.ceil(_SHOWN_SIDE / max(width, height)))
    return round(width * scale), round(height * scale)


def _overlaid(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    out = rgb.astype(np.float32)
    out[mask] = out[mask] * (1 - _FILL_OPACITY) + _RED * _FILL_OPACITY
    out[mask & ~_eroded(_eroded(mask))] = _RED
    return np.rint(out).astype(np.uint8)


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def _annotate(picture: Image.Image, *, with_side: bool) -> None:
    """Burn in the caption, and R at the patient's right where the side is known."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    small, large = ImageFont.load_default(max(10, width // 36)), ImageFont.load_default(max(12, width // 24))
    draw.text((width / 2, height - 6), CAPTION, _TEXT_COLOUR, small, "ms", stroke_width=1, stroke_fill=_OUTLINE_COLOUR)
    if with_side:
        draw.text((6, height / 2), "R", _TEXT_COLOUR, large, "lm", stroke_width=1, stroke_fill=_OUTLINE_COLOUR)
