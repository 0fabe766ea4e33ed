"""A real CT with an organ label map as an `Anatomy` that injuries can be drawn into."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trauma_api.phantom.anatomy import Anatomy, Organ
from trauma_api.phantom.body import Body, Enhancement
from trauma_api.phantom.labels import Label
from trauma_api.phantom.shapes import Canvas, Floats, Grid, Mask, Window
from trauma_api.phantom.truth import Phase

TOTALSEGMENTATOR_LABELS: Mapping[int, Label] = MappingProxyType(
    {
        1: Label.SPLEEN,
        2: Label.RIGHT_KIDNEY,
        3: Label.LEFT_KIDNEY,
        4: Label.GALLBLADDER,
        5: Label.LIVER,
        6: Label.STOMACH,
        7: Label.PANCREAS,
        8: Label.SOFT_TISSUE,  # adrenal glands
        9: Label.SOFT_TISSUE,
        **dict.fromkeys(range(10, 15), Label.LUNG),
        15: Label.STOMACH,  # oesophagus
        18: Label.BOWEL,
        19: Label.BOWEL,
        20: Label.BOWEL,
        21: Label.BLADDER,
        22: Label.SOFT_TISSUE,  # prostate
        **dict.fromkeys(range(25, 51), Label.BONE),  # sacrum and vertebrae
        51: Label.SOFT_TISSUE,  # heart
        52: Label.AORTA,
        **dict.fromkeys((63, 64), Label.VEIN),
        **dict.fromkeys((65, 66), Label.VESSEL),  # iliac arteries and veins
        **dict.fromkeys((67, 68), Label.VEIN),
        **dict.fromkeys(range(69, 79), Label.BONE),  # limbs and hips
        **dict.fromkeys(range(80, 90), Label.MUSCLE),  # gluteal, of the back, iliopsoas
        **dict.fromkeys(range(92, 118), Label.BONE),  # ribs, sternum and their cartilage
    }
)
"""The classes of TotalSegmentator v2, task "total", that an abdomen shows. Others become AIR: not labelled."""

SOLID_ORGANS = (Label.LIVER, Label.SPLEEN, Label.LEFT_KIDNEY, Label.RIGHT_KIDNEY)
_INTRAPERITONEAL = (Label.LIVER, Label.SPLEEN, Label.STOMACH, Label.BOWEL, Label.GALLBLADDER)
_IN_CAVITY = (*_INTRAPERITONEAL, Label.LEFT_KIDNEY, Label.RIGHT_KIDNEY, Label.PANCREAS, Label.AORTA, Label.VEIN)
_FAT_HU = (-160.0, 0.0)
_AIR_HU, _BONE_HU = -400.0, 220.0
_EDGE_HU = 30.0
"""Below this an unlabelled voxel beside fat is the fat's blurred edge; unenhanced tissue is above."""
_FAR_MM, _CLOSING_MM, _COARSE_MM = 30.0, 24.0, 3.0
_RIM_MM = 9.0
_NOTCH_MM, _ALIKE_HU = 9.0, 35.0
_LEAST_ORGAN_ML = 20.0
_DOME_Z, _PELVIS_Z = 172.0, -183.0
_KIDNEY_BELOW_DOME_MM = {Label.LEFT_KIDNEY: 87.0, Label.RIGHT_KIDNEY: 103.0}
"""Of a phantom's body: where the domes and hips lie, and the upper poles of the kidneys below the domes."""
_UNENHANCED_AORTA_HU, _ARTERIAL_AORTA_HU = 80.0, 230.0


def organs_of_totalsegmentator(classes_zyx: NDArray[np.integer]) -> NDArray[np.uint8]:
    """`Label` values of a TotalSegmentator map, uint8 of the same shape; AIR where no class is known."""
    table = np.full(256, Label.AIR, np.uint8)
    for value, label in TOTALSEGMENTATOR_LABELS.items():
        table[value] = label
    return np.asarray(table[classes_zyx.astype(np.uint8)])


@dataclass(frozen=True)
class PlacedGrid(Grid):
    """A grid whose voxel ``origin_yx`` (row, column; fractions allowed) lies at x = y = 0."""

    origin_yx: tuple[float, float] = (0.0, 0.0)

    @cached_property
    def y(self) -> Floats:
        """y of each row in mm; shape (rows,)."""
        return self._from_origin(1)

    @cached_property
    def x(self) -> Floats:
        """x of each column in mm; shape (columns,)."""
        return self._from_origin(2)

    def _from_origin(self, axis: int) -> Floats:
        count, spacing = self.shape_zyx[axis], self.spacing_zyx_mm[axis]
        return ((np.arange(count) - self.origin_yx[axis - 1]) * spacing).astype(np.float32)


@dataclass
class RealAnatomy(Anatomy):
    """Peritoneal space from the label map. The rims of liver and spleen give way to blood, which compresses them."""

    peritoneum: Mask = field(default_factory=lambda: np.zeros((0, 0, 0), bool))
    rim: Mask = field(default_factory=lambda: np.zeros((0, 0, 0), bool))
    cut_organs: frozenset[Label] = frozenset()
    """Organs that the ends of the volume cut."""

    def peritoneal(self, window: Window) -> Mask:
        """Where blood can spread in the peritoneal cavity; of the window's shape."""
        uninjured = np.isin(self.canvas.labels_zyx[window], (Label.LIVER, Label.SPLEEN))
        fat = super().peritoneal(window) & self.peritoneum[window]
        return np.asarray(fat | (self.rim[window] & uninjured))


def real_anatomy(
    smooth_zyx_hu: Floats, organs_zyx: NDArray[np.uint8], spacing_zyx_mm: tuple[float, float, float]
) -> RealAnatomy:
    """Measure a CT, ``smooth_zyx_hu`` being its images without their noise. Raises ValueError without any organ."""
    organs_zyx = _completed(smooth_zyx_hu, organs_zyx, spacing_zyx_mm)
    labels = _with_tissues(smooth_zyx_hu, organs_zyx)
    body, grid = _place(organs_zyx, spacing_zyx_mm)
    canvas = Canvas(grid)
    canvas.labels_zyx, canvas.hu_zyx = labels, smooth_zyx_hu.copy()
    cavity = _closed(np.isin(organs_zyx, _IN_CAVITY), spacing_zyx_mm)
    below_lung = np.where(labels == Label.LUNG, np.float32(-50), np.float32(50))
    anatomy = RealAnatomy(
        canvas,
        body,
        _enhancement(smooth_zyx_hu, organs_zyx),
        np.where(cavity, np.float32(0.5), np.float32(2)),
        below_lung,
        peritoneum=_closed(np.isin(organs_zyx, _INTRAPERITONEAL), spacing_zyx_mm) & cavity,
        rim=np.zeros(labels.shape, bool),
    )
    cut = set()
    for label in SOLID_ORGANS:
        inside = labels == label
        if np.count_nonzero(inside) * grid.voxel_ml < _LEAST_ORGAN_ML:
            continue
        anatomy.organs[label] = _organ(label, inside, smooth_zyx_hu, spacing_zyx_mm)
        if inside[0].any() or inside[-1].any():
            cut.add(label)
    anatomy.cut_organs = frozenset(cut)
    _mark_rim(anatomy)
    return anatomy


def _completed(smooth_hu: Floats, organs: NDArray[np.uint8], spacing: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Solid organs without the notches and holes of a model's label map: what is unlabelled there and as dense."""
    completed = organs.copy()
    for label in SOLID_ORGANS:
        inside = organs == label
        if not inside.any():
            continue
        window = _window_about(inside, spacing)
        part, hu = inside[window], smooth_hu[window]
        wide = ndimage.distance_transform_edt(~part, spacing) < _NOTCH_MM
        closed = ndimage.distance_transform_edt(wide, spacing) >= _NOTCH_MM
        alike = np.abs(hu - np.median(hu[part])) < _ALIKE_HU
        completed[window][closed & alike & (organs[window] == Label.AIR)] = label
    return completed


def _with_tissues(smooth_hu: Floats, organs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The label map with fat, muscle, bone and air filled in. Edges of organs as dark as fat become fat."""
    labels = organs.copy()
    unknown = organs == Label.AIR
    fat = (smooth_hu > _FAT_HU[0]) & (smooth_hu < _FAT_HU[1])
    labels[unknown & (smooth_hu > _AIR_HU)] = Label.MUSCLE
    labels[unknown & (smooth_hu > _BONE_HU)] = Label.BONE
    labels[unknown & fat] = Label.FAT
    edge = np.isin(organs, (*SOLID_ORGANS, Label.BOWEL, Label.STOMACH, Label.BLADDER, Label.PANCREAS))
    beside = ndimage.binary_dilation(labels == Label.FAT, np.ones((1, 3, 3), bool))
    labels[beside & edge & fat] = Label.FAT
    labels[beside & (labels == Label.MUSCLE) & (smooth_hu < _EDGE_HU)] = Label.FAT
    return labels


def _place(organs: NDArray[np.uint8], spacing: tuple[float, float, float]) -> tuple[Body, PlacedGrid]:
    """Coordinates as a phantom has them: the middle of the cavity in the slice, the heights from the kidneys."""
    inside = np.isin(organs, _IN_CAVITY)
    if not inside.any():
        raise ValueError("the label map shows no abdominal organ")
    _, rows, columns = np.nonzero(inside)
    front, back = np.percentile(rows, [1, 99])
    right, left = np.percentile(columns, [0.5, 99.5])
    dome = _dome_slice(organs, spacing[0])
    z_top = _DOME_Z + dome * spacing[0]
    grid = PlacedGrid(organs.shape, spacing, z_top, ((front + back) / 2, (right + left) / 2))
    bladder = np.flatnonzero((organs == Label.BLADDER).any(axis=(1, 2)))
    half_y = float(back - front) / 2 * spacing[1]
    body = Body(
        cavity_half_x=float(left - right) / 2 * spacing[2],
        cavity_half_y=half_y,
        fat_mm=15.0,
        muscle_mm=12.0,
        dome_z=_DOME_Z,
        pelvis_z=float(grid.z[bladder[-1]]) if len(bladder) else _PELVIS_Z,
        lung_above_mm=0.0,
        spine_y=half_y - 18,
    )
    return body, grid


def _dome_slice(organs: NDArray[np.uint8], slice_mm: float) -> float:
    """At which slice (below 0: above the volume) the diaphragm's domes would be: from the kidneys, or the organs."""
    found = []
    for kidney, below_mm in _KIDNEY_BELOW_DOME_MM.items():
        slices = np.flatnonzero((organs == kidney).any(axis=(1, 2)))
        if len(slices) and slices[0] > 0:
            found.append(float(slices[0]) - below_mm / slice_mm)
    if found:
        return float(np.mean(found))
    return float(np.flatnonzero(np.isin(organs, _IN_CAVITY).any(axis=(1, 2)))[0])


def _closed(inside: Mask, spacing: tuple[float, float, float]) -> Mask:
    """The inside with what lies between its parts: closed with a ball, on a coarse grid; ends of the volume stay."""
    steps = [max(1, round(_COARSE_MM / mm)) for mm in spacing]
    coarse = inside[:: steps[0], :: steps[1], :: steps[2]]
    sampling = [step * mm for step, mm in zip(steps, spacing, strict=True)]
    edge = [round(_CLOSING_MM / mm) + 1 for mm in sampling]
    padded = np.pad(coarse, [(edge[0], edge[0]), (edge[1], edge[1]), (edge[2], edge[2])], mode="edge")
    wide = ndimage.distance_transform_edt(~padded, sampling) < _CLOSING_MM
    closed = ndimage.distance_transform_edt(wide, sampling) >= _CLOSING_MM
    closed = closed[tuple(slice(margin, -margin) for margin in edge)]
    for axis, step in enumerate(steps):
        closed = np.repeat(closed, step, axis=axis)
    return np.asarray(closed[tuple(slice(0, count) for count in inside.shape)] | inside)


def _organ(label: Label, inside: Mask, smooth_hu: Floats, spacing: tuple[float, float, float]) -> Organ:
    window = _window_about(inside, spacing)
    part = inside[window]
    outside_mm = ndimage.distance_transform_edt(~part, spacing)
    inside_mm = ndimage.distance_transform_edt(part, spacing)
    # the surface runs half a pixel beside the last voxel's middle
    distance = np.where(part, 0.5 * spacing[1] - inside_mm, outside_mm - 0.5 * spacing[1])
    hu = float(np.median(smooth_hu[window][part]))
    return Organ(label, window, distance.astype(np.float32), hu)


def _window_about(inside: Mask, spacing: tuple[float, float, float]) -> Window:
    """The part of the grid within 30 mm of a mask that is not empty."""
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    slices, rows, columns = (
        slice(max(0, part.start - int(_FAR_MM / mm) - 1), min(count, part.stop + int(_FAR_MM / mm) + 1))
        for part, mm, count in zip(box, spacing, inside.shape, strict=True)
    )
    return slices, rows, columns


def _mark_rim(anatomy: RealAnatomy) -> None:
    """The outer millimetres of liver and spleen that face the wall or fat, not a neighbouring organ or its vessels."""
    canvas = anatomy.canvas
    neighbours = np.isin(canvas.labels_zyx, (*_IN_CAVITY, Label.SOFT_TISSUE, Label.VESSEL))
    spacing = canvas.grid.spacing_zyx_mm
    for label in (Label.LIVER, Label.SPLEEN):
        organ = anatomy.organs.get(label)
        if organ is None:
            continue
        other = neighbours[organ.window] & (canvas.labels_zyx[organ.window] != label)
        clear = ndimage.distance_transform_edt(~other, spacing) > _RIM_MM + 4 if other.any() else np.True_
        anatomy.rim[organ.window] |= (organ.distance_mm < 0) & (organ.distance_mm > -_RIM_MM) & clear


def _enhancement(smooth_hu: Floats, organs: NDArray[np.uint8]) -> Enhancement:
    """The tissues' HU as measured; a tissue that is not labelled takes a usual value without contrast."""

    def measured(label: Label, usual: float) -> float:
        inside = ndimage.binary_erosion(organs == label, np.ones((1, 3, 3), bool))
        return float(np.median(smooth_hu[inside])) if inside.any() else usual

    aorta = measured(Label.AORTA, 42)
    phase: Phase = "none" if aorta < _UNENHANCED_AORTA_HU else "arterial" if aorta > _ARTERIAL_AORTA_HU else "portal"
    kidney = measured(Label.LEFT_KIDNEY, measured(Label.RIGHT_KIDNEY, 33))
    liver = measured(Label.LIVER, 57)
    return replace(
        Enhancement(phase, aorta, measured(Label.VEIN, 42), liver, liver, 0, kidney, kidney, 42, 42, 56, -104, 190, 8),
        spleen=measured(Label.SPLEEN, 49),
    )
