"""A body's measures and how its tissues enhance: what differs from one phantom to the next."""

from dataclasses import dataclass

import numpy as np

from trauma_api.phantom.truth import Phase


@dataclass(frozen=True)
class Body:
    """Sizes in mm. The origin lies in the middle of the abdominal cavity at about the third lumbar vertebra."""

    cavity_half_x: float
    cavity_half_y: float
    fat_mm: float
    muscle_mm: float
    dome_z: float
    """The highest point of the diaphragm."""
    pelvis_z: float
    """The height of the hip joints."""
    lung_above_mm: float
    spine_y: float

    @property
    def back_mm(self) -> float:
        """How far the back lies behind the middle."""
        return self.cavity_half_y + self.muscle_mm + 28 + 0.9 * self.fat_mm

    @property
    def width_mm(self) -> float:
        """The width at its widest, at the hips."""
        return 2 * max(1.12 * (self.cavity_half_x + self.muscle_mm + self.fat_mm), self.cavity_half_x)


def draw_body(random: np.random.Generator) -> Body:
    """A body of usual proportions, from slim to large."""
    size = random.uniform(0.88, 1.12)
    half_x = random.uniform(118, 142) * size
    half_y = half_x * random.uniform(0.60, 0.76)
    return Body(
        cavity_half_x=half_x,
        cavity_half_y=half_y,
        fat_mm=float(random.choice([random.uniform(5, 16), random.uniform(12, 32)])),
        muscle_mm=random.uniform(9, 15),
        dome_z=random.uniform(158, 185) * size,
        pelvis_z=random.uniform(-195, -172) * size,
        lung_above_mm=random.uniform(30, 55),
        spine_y=half_y - random.uniform(14, 22),
    )


@dataclass(frozen=True)
class Enhancement:
    """Mean HU of each tissue in one contrast phase."""

    phase: Phase
    aorta: float
    vein: float
    liver: float
    liver_vessel: float
    spleen: float
    cortex: float
    medulla: float
    pancreas: float
    bowel_wall: float
    muscle: float
    fat: float
    marrow: float
    urine: float


_MEANS: dict[Phase, tuple[float, ...]] = {
    "none": (42, 42, 57, 44, 49, 33, 31, 42, 42, 56, -104, 190, 8),
    "arterial": (310, 95, 70, 100, 125, 185, 75, 100, 95, 60, -104, 195, 8),
    "portal": (160, 158, 108, 150, 118, 195, 170, 92, 95, 64, -104, 200, 8),
}
_SPREADS: dict[Phase, tuple[float, ...]] = {
    "none": (3, 3, 4, 3, 3, 3, 3, 3, 4, 4, 5, 25, 4),
    "arterial": (45, 25, 6, 15, 12, 18, 14, 10, 12, 4, 5, 25, 4),
    "portal": (20, 16, 9, 14, 9, 16, 16, 8, 11, 4, 5, 25, 4),
}
"""Typical values of each phase, and how far they vary, chosen so that tissues keep their usual order."""


def draw_enhancement(random: np.random.Generator, phase: Phase, *, fatty_liver: bool) -> Enhancement:
    """The tissues' HU in a phase, varied; a fatty liver is darker by 25 to 45 HU."""
    drawn = [
        float(mean + spread * np.clip(random.standard_normal(), -1.8, 1.8))
        for mean, spread in zip(_MEANS[phase], _SPREADS[phase], strict=True)
    ]
    if fatty_liver:
        drawn[2] -= random.uniform(25, 45)
    return Enhancement(phase, *drawn)
