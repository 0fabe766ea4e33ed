"""What one CT slice shows, as a handful of numbers: enough to tell body regions apart and false HU from true ones.

Everything is measured on every n-th pixel, about 128 a side (4 mm for a usual field of view), so that a slice costs
less than its decoding. Shares of the body do not depend on its size, so children and adults give similar numbers.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trauma_api.imaging.volume import HUArray

_SIDE_SAMPLES = 128
_SECTORS = 24

# HU of tissues: air -1000, lung -900 to -500, fat -120 to -60, soft tissue and blood 0 to 90, enhanced organs up to
# 200, cortical bone above 300 (https://radiopaedia.org/articles/hounsfield-unit). The limits lie between them.
_AIR_BELOW_HU = -900
_TISSUE_ABOVE_HU = -300
_INNER_AIR_BELOW_HU = -400
_LUNG_ABOVE_HU = -960
_NEGATIVE_BELOW_HU = -50
_ORGAN_HU = (0, 200)
_BRAIN_HU = (-10, 80)
_PLAUSIBLE_HU = (-250, 250)
_BONE_ABOVE_HU = 250
_DENSE_ABOVE_HU = 700

# Where things lie in the rectangle around the body: across from the patient's right (0) to left (1), down from front
# (0) to back (1). Read off the real CTs that the tests use.
_MIDLINE = 0.15
_SPINE_ACROSS, _SPINE_DOWN = 0.12, (0.50, 0.85)
_BESIDE = (0.15, 0.42)
_LATERAL = 0.30
_AIRWAY_ACROSS, _AIRWAY_DOWN = (0.40, 0.60), (0.15, 0.60)
_LIVER_ACROSS, _LIVER_DOWN = (0.15, 0.45), (0.25, 0.70)
_OUTER_RADIUS, _CORE_RADIUS = 0.60, 0.45

_Mask = NDArray[np.bool_]
_Sample = NDArray[np.float32]
_Scalar = TypeVar("_Scalar", np.float32, np.bool_)


@dataclass(frozen=True)
class BoneStats:
    """Bone in the body, bright vessels included. Shares are of the body's filled area."""

    share: float
    sectors: float
    """Share of 24 directions from the middle in which bone lies far out: 1 for a skull."""
    core_share: float
    """Share of the bone that lies in the middle: near 1 for a leg."""
    midline_share: float
    midline_down: float
    """Mean position of the midline's bone from front (0) to back (1); 0 without any."""
    front_share: float
    """Midline bone or bright vessels in the front half."""
    spine_share: float
    """Midline bone in the back half, skin and spinous processes left out."""
    beside_shares: tuple[float, float]
    """Bone beside the midline, right and left: hips, or shoulder blades."""
    lateral_shares: tuple[float, float]
    """Bone near the right and left side: ribs, or upper arms."""


@dataclass(frozen=True)
class BodyStats:
    """The largest piece of tissue in a slice: the trunk, the head, one of two legs. Shares are of its filled area."""

    area_cm2: float
    width_mm: float
    depth_mm: float
    at_edge_share: float
    """How much of the body's height lies on the left and right image edges; more than 0: it is cut off there."""
    second_piece_ratio: float
    """Area of the next piece to this one; legs are alike, arms are small."""
    plausible_share: float
    """Share of its tissue between -250 and 250 HU, where all soft tissue and fat lies."""
    dense_share: float
    """Share of its tissue above 700 HU."""
    brain_like_share: float
    """Of its tissue without bone: between -10 and 80 HU."""
    right_solid_share: float
    """Share of organ-like values in a box where the liver lies, on the patient's right."""
    inner_air_share: float
    lung_right_share: float
    lung_left_share: float
    airway_share: float
    """Air in the midline, before the spine."""
    bone: BoneStats


@dataclass(frozen=True)
class SliceStats:
    """One slice. Shares are of the sampled pixels."""

    minimum_hu: float
    maximum_hu: float
    at_minimum_share: float
    negative_share: float
    """Below -50 HU: air, lung or fat."""
    between_share: float
    """From -900 to -300 HU, neither air nor tissue: lung, foam, edges."""
    field_cm2: float
    body: BodyStats | None
    """None where no tissue hangs together."""


def slice_stats(slice_hu: HUArray, spacing_yx_mm: tuple[float, float]) -> SliceStats:
    """Measure one slice.

    ``slice_hu`` is (rows, columns) in finite HU, not below -1024, rows front to back and columns the patient's right
    to left. Below 1 ms for 512 x 512 pixels, and memory for a few arrays of 128 x 128.
    """
    row_step, column_step = _steps(slice_hu.shape, spacing_yx_mm)
    sample_hu = slice_hu[row_step // 2 :: row_step, column_step // 2 :: column_step].astype(np.float32)
    spacing = spacing_yx_mm[0] * row_step, spacing_yx_mm[1] * column_step
    minimum = float(slice_hu.min())
    tissue = sample_hu > _TISSUE_ABOVE_HU
    return SliceStats(
        minimum_hu=minimum,
        maximum_hu=float(slice_hu.max()),
        at_minimum_share=_share(sample_hu == minimum),
        negative_share=_share(sample_hu < _NEGATIVE_BELOW_HU),
        between_share=1.0 - _share(tissue) - _share(sample_hu < _AIR_BELOW_HU),
        field_cm2=sample_hu.size * spacing[0] * spacing[1] / 100,
        body=_body_stats(sample_hu, tissue, spacing),
    )


def _steps(shape: tuple[int, ...], spacing_yx_mm: tuple[float, float]) -> tuple[int, int]:
    side_mm = max(shape[0] * spacing_yx_mm[0], shape[1] * spacing_yx_mm[1])
    row_step, column_step = (
        max(1, min(round(side_mm / _SIDE_SAMPLES / mm), count // 8))
        for count, mm in zip(shape, spacing_yx_mm, strict=True)
    )
    return row_step, column_step


def _count(mask: _Mask) -> int:
    return int(np.count_nonzero(mask))


def _share(mask: _Mask) -> float:
    return _count(mask) / mask.size


def _within(values: NDArray[np.floating], limits: tuple[float, float]) -> _Mask:
    return (values > limits[0]) & (values < limits[1])


def _body_stats(sample_hu: _Sample, tissue: _Mask, spacing_yx_mm: tuple[float, float]) -> BodyStats | None:
    # Eroded first, so that a table or a blanket which touches the skin does not belong to the body.
    labels, pieces = ndimage.label(_eroded(tissue))
    if not pieces:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = int(sizes.argmax())
    body = _dilated(_dilated(labels == largest)) & tissue
    filled = _enclosed(body)
    window = _window(filled)
    sizes[largest], largest_size = 0, int(sizes[largest])
    return _measured(sample_hu, body, filled, window, int(sizes.max()) / largest_size, spacing_yx_mm)


def _measured(
    sample_hu: _Sample,
    body: _Mask,
    filled: _Mask,
    window: tuple[slice, slice],
    second_piece_ratio: float,
    spacing_yx_mm: tuple[float, float],
) -> BodyStats:
    at_edge = _count(filled[:, 0]) + _count(filled[:, -1])
    hu, body, filled = sample_hu[window], body[window], filled[window]
    rows, columns = filled.shape
    area = _count(filled)
    tissue_hu = hu[body]
    without_bone = tissue_hu[tissue_hu <= _BONE_ABOVE_HU]
    air, lung_right, lung_left, airway = _air(hu, filled)
    return BodyStats(
        area_cm2=area * spacing_yx_mm[0] * spacing_yx_mm[1] / 100,
        width_mm=columns * spacing_yx_mm[1],
        depth_mm=rows * spacing_yx_mm[0],
        at_edge_share=at_edge / (2 * rows),
        second_piece_ratio=second_piece_ratio,
        plausible_share=_share(_within(tissue_hu, _PLAUSIBLE_HU)),
        dense_share=_share(tissue_hu > _DENSE_ABOVE_HU),
        brain_like_share=_share(_within(without_bone, _BRAIN_HU)) if without_bone.size else 0.0,
        right_solid_share=_share(_within(_box(hu, _LIVER_DOWN, _LIVER_ACROSS), _ORGAN_HU)),
        inner_air_share=air / area,
        lung_right_share=lung_right / area,
        lung_left_share=lung_left / area,
        airway_share=airway / area,
        bone=_bone(filled & (hu > _BONE_ABOVE_HU), filled, area),
    )


def _air(hu: _Sample, filled: _Mask) -> tuple[int, int, int, int]:
    """Pixels of air inside the body: all, right lung, left lung, and in the midline before the spine."""
    air = filled & (hu < _INNER_AIR_BELOW_HU)
    lung = _eroded(air) & (hu > _LUNG_ABOVE_HU)
    middle = filled.shape[1] // 2
    counted = air, lung[:, :middle], lung[:, middle:], _box(air, _AIRWAY_DOWN, _AIRWAY_ACROSS)
    whole, right, left, airway = (_count(mask) for mask in counted)
    return whole, right, left, airway


def _bone(bone: _Mask, filled: _Mask, area: int) -> BoneStats:
    rows, columns = bone.shape
    at_row, at_column = np.nonzero(bone)
    down, across = (at_row + 0.5) / rows, (at_column + 0.5) / columns - 0.5
    off_midline, right = np.abs(across), across < 0
    midline = off_midline < _MIDLINE
    beside, lateral = _within(off_midline, _BESIDE), off_midline > _LATERAL
    spine = (off_midline < _SPINE_ACROSS) & _within(down, _SPINE_DOWN)
    front = (off_midline < _SPINE_ACROSS) & (down < _SPINE_DOWN[0])
    sectors, core = _around(down, across, filled)

    def of_body(mask: _Mask) -> float:
        return _count(mask) / area

    return BoneStats(
        share=at_row.size / area,
        sectors=sectors,
        core_share=core,
        midline_share=of_body(midline),
        midline_down=float(down[midline].mean()) if midline.any() else 0.0,
        front_share=of_body(front),
        spine_share=of_body(spine),
        beside_shares=(of_body(beside & right), of_body(beside & ~right)),
        lateral_shares=(of_body(lateral & right), of_body(lateral & ~right)),
    )


def _around(down: NDArray[np.float64], across: NDArray[np.float64], filled: _Mask) -> tuple[float, float]:
    """Share of directions from the body's middle with bone far out, and share of bone in the core."""
    if not down.size:
        return 0.0, 0.0
    rows, columns = filled.shape
    mass = _count(filled)
    middle_down = float(np.count_nonzero(filled, axis=1) @ (np.arange(rows) + 0.5)) / mass / rows
    middle_across = float(np.count_nonzero(filled, axis=0) @ (np.arange(columns) + 0.5)) / mass / columns - 0.5
    y, x = 2 * (down - middle_down), 2 * (across - middle_across)
    radius = np.hypot(y, x)
    outer = radius > _OUTER_RADIUS
    turn = np.arctan2(y[outer], x[outer]) / (2 * np.pi) + 0.5
    sectors = np.unique((turn * _SECTORS).astype(np.intp) % _SECTORS).size
    return sectors / _SECTORS, _share(radius < _CORE_RADIUS)


def _box(array: NDArray[_Scalar], down: tuple[float, float], across: tuple[float, float]) -> NDArray[_Scalar]:
    rows, columns = array.shape
    return array[int(down[0] * rows) : int(down[1] * rows) + 1, int(across[0] * columns) : int(across[1] * columns) + 1]


def _window(mask: _Mask) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _eroded(mask: _Mask) -> _Mask:
    """Without its outermost pixels; beyond the image it goes on, so that a body cut off there keeps its edge."""
    out = mask.copy()
    out[1:] &= mask[:-1]
    out[:-1] &= mask[1:]
    out[:, 1:] &= mask[:, :-1]
    out[:, :-1] &= mask[:, 1:]
    return out


def _dilated(mask: _Mask) -> _Mask:
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    return out


def _enclosed(mask: _Mask) -> _Mask:
    """What has some of the mask on all four sides: lungs and bowel belong to the body, even where they lie open."""
    spread = np.logical_or.accumulate
    across = spread(mask, axis=1) & spread(mask[:, ::-1], axis=1)[:, ::-1]
    down = spread(mask, axis=0) & spread(mask[::-1], axis=0)[::-1]
    return np.asarray(across & down)
