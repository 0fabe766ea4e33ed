"""A phantom of ellipsoids that is drawn in an instant: 48 slices of 160 x 160 pixels, 5 mm and 2.2 mm apart.

An abdomen with an injured spleen and blood about it, for tests of everything but the look of the images. Coordinates
are DICOM patient coordinates (LPS, mm) with the origin in the middle of the volume.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trauma_api.phantom.draw import Phantom
from trauma_api.phantom.labels import BLOOD_LABELS, INJURY_LABELS, Label
from trauma_api.phantom.truth import ExtravasationTruth, OrganTruth, PhantomTruth, Phase, SliceTruth

SHAPE_ZYX = (48, 160, 160)
SPACING_ZYX_MM = (5.0, 2.2, 2.2)
VOXEL_ML = math.prod(SPACING_ZYX_MM) / 1000

_NOISE_HU = 12.0
_LONG_MM = 1_000.0
_SHIFT_MM = 4.0

HU_OF_LABEL: Mapping[Label, float] = {
    Label.AIR: -1000.0,
    Label.FAT: -100.0,
    Label.MUSCLE: 60.0,
    Label.BONE: 450.0,
    Label.LIVER: 110.0,
    Label.SPLEEN: 125.0,
    Label.LEFT_KIDNEY: 180.0,
    Label.RIGHT_KIDNEY: 180.0,
    Label.AORTA: 220.0,
    Label.LACERATION: 50.0,
    Label.PERISPLENIC: 42.0,
    Label.EXTRAVASATION: 240.0,
}
"""Portal-venous values, rounded."""


@dataclass(frozen=True)
class _Ellipsoid:
    """Centre and half axes in mm, each as (x, y, z)."""

    centre: tuple[float, float, float]
    half_axes: tuple[float, float, float]

    def grown(self, mm: float) -> "_Ellipsoid":
        x, y, z = self.half_axes
        return _Ellipsoid(self.centre, (x + mm, y + mm, z + mm))

    def moved(self, shift: NDArray[np.float64]) -> "_Ellipsoid":
        x, y, z = (float(value) for value in np.add(self.centre, shift))
        return _Ellipsoid((x, y, z), self.half_axes)

    def mask(self) -> NDArray[np.bool_]:
        z, y, x = (
            (np.arange(count) - (count - 1) / 2) * spacing
            for count, spacing in zip(SHAPE_ZYX, SPACING_ZYX_MM, strict=True)
        )
        (cx, cy, cz), (ax, ay, az) = self.centre, self.half_axes
        # Index 0 along the slices is at the head, so z falls with it.
        along_z = ((-z - cz) / az)[:, None, None] ** 2
        along_y = ((y - cy) / ay)[None, :, None] ** 2
        along_x = ((x - cx) / ax)[None, None, :] ** 2
        return np.asarray(along_z + along_y + along_x <= 1.0)


_BODY = _Ellipsoid((0, 0, 0), (155, 112, _LONG_MM))
_WALL = _Ellipsoid((0, 0, 0), (138, 95, _LONG_MM))
_CAVITY = _Ellipsoid((0, -8, 0), (124, 80, _LONG_MM))
_LIVER = _Ellipsoid((-62, -6, 55), (58, 60, 62))
_SPLEEN = _Ellipsoid((84, 22, 60), (26, 36, 42))
_REST = (
    (_Ellipsoid((62, 44, -20), (22, 20, 45)), Label.LEFT_KIDNEY),
    (_Ellipsoid((-62, 44, -30), (22, 20, 45)), Label.RIGHT_KIDNEY),
    (_Ellipsoid((0, 68, 0), (22, 20, _LONG_MM)), Label.BONE),
    (_Ellipsoid((10, 38, 0), (10, 10, _LONG_MM)), Label.AORTA),
)
_LACERATION = _Ellipsoid((96, 16, 52), (16, 6, 18))
_EXTRAVASATION = _Ellipsoid((104, 14, 50), (5, 4, 9))
_GUTTER_POOL = _Ellipsoid((104, 16, -40), (16, 24, 70))
_PERISPLENIC_MM = 11.0


def small_phantom(seed: int = 7, phase: Phase = "portal") -> Phantom:
    """The phantom; the seed moves the spleen with its injury, and the liver, by a few mm, and draws the noise."""
    labels = _labels(seed)
    table = np.zeros(max(Label) + 1)
    for label, hu in HU_OF_LABEL.items():
        table[label] = hu
    noise = np.random.default_rng([seed, 1]).normal(0.0, _NOISE_HU, labels.shape)
    voxels = np.rint(np.maximum(table[labels] + noise, -1024.0)).astype(np.int16)
    return Phantom(voxels, labels, SPACING_ZYX_MM, _truth(labels, seed, phase))


def _labels(seed: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    spleen_shift, liver_shift = random.uniform(-_SHIFT_MM, _SHIFT_MM, (2, 3))
    labels = np.full(SHAPE_ZYX, Label.AIR, dtype=np.uint8)
    for shape, label in ((_BODY, Label.FAT), (_WALL, Label.MUSCLE), (_CAVITY, Label.FAT)):
        labels[shape.mask()] = label
    cavity = (labels == Label.FAT) & _CAVITY.mask()
    spleen = _SPLEEN.moved(spleen_shift)
    blood = spleen.grown(_PERISPLENIC_MM).mask() | _GUTTER_POOL.moved(spleen_shift).mask()
    labels[blood & cavity] = Label.PERISPLENIC
    labels[_LIVER.moved(liver_shift).mask() & cavity] = Label.LIVER
    labels[spleen.mask() & cavity] = Label.SPLEEN
    for shape, label in _REST:
        labels[shape.mask()] = label
    labels[_LACERATION.moved(spleen_shift).mask() & (labels == Label.SPLEEN)] = Label.LACERATION
    injured = np.isin(labels, (Label.LACERATION, Label.PERISPLENIC))
    labels[_EXTRAVASATION.moved(spleen_shift).mask() & injured] = Label.EXTRAVASATION
    return labels


def _truth(labels: NDArray[np.uint8], seed: int, phase: Phase) -> PhantomTruth:
    whole = OrganTruth(aast=0, rsna="healthy", criteria=())
    per_slice_ml = np.count_nonzero(np.isin(labels, BLOOD_LABELS), axis=(1, 2)) * VOXEL_ML
    blood = (Label.LACERATION, Label.PERISPLENIC, Label.EXTRAVASATION)
    return PhantomTruth(
        seed=seed,
        scenario="small",
        phase=phase,
        aorta_hu=HU_OF_LABEL[Label.AORTA],
        slice_count=SHAPE_ZYX[0],
        spacing_zyx_mm=SPACING_ZYX_MM,
        liver=whole,
        spleen=OrganTruth(aast=4, rsna="high", criteria=("vascular injury",)),
        left_kidney=whole,
        right_kidney=whole,
        kidneys=whole,
        bowel_injury=False,
        extravasation=None if phase == "none" else True,
        extravasation_sites=(_jet(labels),),
        hemoperitoneum="moderate",
        total_ml=float(per_slice_ml.sum()),
        compartments_ml={label.name.lower(): np.count_nonzero(labels == label) * VOXEL_ML for label in blood},
        slices=tuple(_slice(labels[index], index, ml) for index, ml in enumerate(per_slice_ml.tolist())),
        distractors=(),
    )


def _jet(labels: NDArray[np.uint8]) -> ExtravasationTruth:
    voxels = np.argwhere(labels == Label.EXTRAVASATION)
    z, y, x = (int(value) for value in voxels.mean(axis=0).round())
    return ExtravasationTruth(
        site="spleen",
        centre_zyx=(z, y, x),
        volume_ml=len(voxels) * VOXEL_ML,
        mean_hu=HU_OF_LABEL[Label.EXTRAVASATION],
    )


def _slice(labels_yx: NDArray[np.uint8], index: int, blood_ml: float) -> SliceTruth:
    return SliceTruth(
        slice_index=index,
        blood_ml=blood_ml,
        injury_or_blood=bool(np.isin(labels_yx, INJURY_LABELS).any()),
        liver=False,
        spleen=bool((labels_yx == Label.LACERATION).any()),
        kidneys=False,
        bowel=False,
        extravasation=bool((labels_yx == Label.EXTRAVASATION).any()),
    )
