"""An abdomen of ellipsoids with a splenic injury, as labels and as Hounsfield units.

Coordinates are millimetres in DICOM patient coordinates (x to the left, y to the back, z to the head) with the origin
in the middle of the volume. It is drawn to test software, not to resemble a patient.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

SHAPE_ZYX = (48, 160, 160)
SPACING_ZYX_MM = (5.0, 2.2, 2.2)

_NOISE_HU = 12.0
_LONG_MM = 1_000.0
_SHIFT_MM = 4.0


class Label(IntEnum):
    """What a voxel of the phantom is."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    BONE = 3
    LIVER = 4
    SPLEEN = 5
    KIDNEY = 6
    AORTA = 7
    LACERATION = 8
    FREE_BLOOD = 9
    EXTRAVASATION = 10


BLOOD_LABELS = (Label.LACERATION, Label.FREE_BLOOD, Label.EXTRAVASATION)
"""Blood outside vessels: the hematoma in the laceration, the free blood and the jet of contrast."""

HU_OF_LABEL: Mapping[Label, float] = MappingProxyType(
    {
        Label.AIR: -1000.0,
        Label.FAT: -100.0,
        Label.MUSCLE: 60.0,
        Label.BONE: 450.0,
        Label.LIVER: 110.0,
        Label.SPLEEN: 125.0,
        Label.KIDNEY: 180.0,
        Label.AORTA: 220.0,
        Label.LACERATION: 50.0,
        Label.FREE_BLOOD: 42.0,
        Label.EXTRAVASATION: 240.0,
    }
)
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
_SPINE = _Ellipsoid((0, 68, 0), (22, 20, _LONG_MM))
_AORTA = _Ellipsoid((10, 38, 0), (10, 10, _LONG_MM))
_LIVER = _Ellipsoid((-62, -6, 55), (58, 60, 62))
_SPLEEN = _Ellipsoid((84, 22, 60), (26, 36, 42))
_KIDNEYS = (_Ellipsoid((62, 44, -20), (22, 20, 45)), _Ellipsoid((-62, 44, -30), (22, 20, 45)))
_LACERATION = _Ellipsoid((96, 16, 52), (16, 6, 18))
_EXTRAVASATION = _Ellipsoid((104, 14, 50), (5, 4, 9))
_GUTTER_POOL = _Ellipsoid((104, 16, -40), (16, 24, 70))
_PERISPLENIC_MM = 11.0


def draw_labels(seed: int) -> NDArray[np.uint8]:
    """The phantom's labels (`Label`), uint8 of shape `SHAPE_ZYX`, head to feet, front to back, right to left.

    The seed moves the spleen with its injury, and the liver, by a few millimetres.
    """
    random = np.random.default_rng(seed)
    spleen_shift, liver_shift = random.uniform(-_SHIFT_MM, _SHIFT_MM, (2, 3))
    labels = np.full(SHAPE_ZYX, Label.AIR, dtype=np.uint8)
    for shape, label in ((_BODY, Label.FAT), (_WALL, Label.MUSCLE), (_CAVITY, Label.FAT)):
        labels[shape.mask()] = label
    cavity = labels == Label.FAT
    cavity &= _CAVITY.mask()
    spleen = _SPLEEN.moved(spleen_shift)
    blood = spleen.grown(_PERISPLENIC_MM).mask() | _GUTTER_POOL.moved(spleen_shift).mask()
    labels[blood & cavity] = Label.FREE_BLOOD
    labels[_LIVER.moved(liver_shift).mask() & cavity] = Label.LIVER
    labels[spleen.mask() & cavity] = Label.SPLEEN
    for kidney in _KIDNEYS:
        labels[kidney.mask()] = Label.KIDNEY
    for shape, label in ((_SPINE, Label.BONE), (_AORTA, Label.AORTA)):
        labels[shape.mask()] = label
    labels[_LACERATION.moved(spleen_shift).mask() & (labels == Label.SPLEEN)] = Label.LACERATION
    injured = np.isin(labels, (Label.LACERATION, Label.FREE_BLOOD))
    labels[_EXTRAVASATION.moved(spleen_shift).mask() & injured] = Label.EXTRAVASATION
    return labels


def draw_hu(labels: NDArray[np.uint8], seed: int) -> NDArray[np.int16]:
    """Hounsfield units of the labels with normal noise of 12 HU, not below -1024; int16 of the same shape."""
    table = np.array([HU_OF_LABEL[label] for label in Label], dtype=np.float64)
    noise = np.random.default_rng([seed, 1]).normal(0.0, _NOISE_HU, labels.shape)
    return np.asarray(np.rint(np.maximum(table[labels] + noise, -1024.0)), dtype=np.int16)
