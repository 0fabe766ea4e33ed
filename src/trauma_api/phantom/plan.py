"""What a phantom is to show, decided before anything is drawn, and the random plans that scenarios are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from trauma_api.phantom.injuries import Blush, OrganInjury
from trauma_api.phantom.labels import Label
from trauma_api.phantom.truth import ExtravasationSite, Phase

Distractor = Literal[
    "ascites",
    "full_bladder",
    "cyst",
    "unopacified_bowel",
    "fatty_liver",
    "excreted_contrast",
    "splenectomy",
    "dissection",
    "old_hematoma",
]
DISTRACTORS: tuple[Distractor, ...] = get_args(Distractor)
RetroperitonealSite = Literal["retroperitoneum", "pelvis"]


@dataclass(frozen=True)
class Acquisition:
    """How the phantom is scanned: 512 x 512 pixels."""

    pixel_mm: float
    slice_mm: float
    noise_hu: float
    arms: bool = False
    metal: bool = False
    motion_mm: float = 0.0


@dataclass(frozen=True)
class CasePlan:
    """One patient. Volumes in mL by compartment; ``jets`` are sites of active extravasation with their size in mm."""

    phase: Phase
    acquisition: Acquisition
    organs: Mapping[Label, OrganInjury] = field(default_factory=dict)
    pools_ml: Mapping[Label, float] = field(default_factory=dict)
    retroperitoneal_ml: Mapping[RetroperitonealSite, float] = field(default_factory=dict)
    bowel_injury: bool = False
    jets: tuple[tuple[ExtravasationSite, float], ...] = ()
    distractors: tuple[Distractor, ...] = ()
    blood_hu: float = 42.0

    @property
    def injured(self) -> bool:
        """Whether anything but distractors is planned."""
        return bool(self.organs or self.pools_ml or self.retroperitoneal_ml or self.bowel_injury)


def draw_acquisition(random: np.random.Generator) -> Acquisition:
    """Field of view 307 to 500 mm, slices of 1 to 5 mm, mostly thick as trauma scans are sent."""
    slice_mm = float(random.choice([5.0, 4.0, 3.0, 2.5, 2.0, 1.25, 1.0], p=[0.52, 0.06, 0.22, 0.13, 0.04, 0.02, 0.01]))
    return Acquisition(
        pixel_mm=round(float(random.uniform(0.70, 0.977)), 3),
        slice_mm=slice_mm,
        noise_hu=float(random.uniform(9, 17) * (5.0 / slice_mm) ** 0.3),
        arms=bool(random.random() < 0.15),
        metal=bool(random.random() < 0.07),
        motion_mm=float(random.choice([0.0, random.uniform(1.5, 4.0)], p=[0.85, 0.15])),
    )


def draw_phase(random: np.random.Generator) -> Phase:
    """Mostly portal, as trauma scans are."""
    phases: tuple[Phase, ...] = ("portal", "arterial", "none")
    return phases[int(random.choice(3, p=[0.68, 0.26, 0.06]))]


def draw_organ_injury(random: np.random.Generator, organ: Label, *, high: bool, blush: Blush = "none") -> OrganInjury:
    """An injury of AAST I to III, or of IV and V. A blush counts by itself: see `injuries.grade_injury`."""
    kidney = organ in (Label.LEFT_KIDNEY, Label.RIGHT_KIDNEY)
    if not high:
        kind = int(random.choice(4, p=[0.4, 0.25, 0.2, 0.15]))
        depths = tuple(float(random.uniform(9, 34)) for _ in range(int(random.choice([1, 1, 2]))))
        injury = (
            OrganInjury(laceration_depths_mm=depths),
            OrganInjury(contusion_mm=float(random.uniform(16, 40))),
            OrganInjury(subcapsular_share=float(random.uniform(0.06, 0.45))),
            OrganInjury(hematoma_mm=float(random.uniform(14, 36)), laceration_depths_mm=depths[:1]),
        )[kind]
        if kidney and kind in (0, 3):
            injury = replace(injury, perirenal_mm=float(random.uniform(4, 10)))
        return replace(injury, blush=blush)
    deep = tuple(float(random.uniform(32, 62)) for _ in range(int(random.integers(2, 5))))
    by_blush = blush == "free" or (blush == "contained" and organ == Label.SPLEEN)
    shattered = bool(random.random() < (0.35 if by_blush else 0.6))
    infarct = 0.0 if shattered and not kidney else float(random.uniform(0.28, 0.6))
    if organ == Label.LIVER:
        shattered, infarct = shattered or not by_blush, 0.0
    return OrganInjury(
        laceration_depths_mm=(*deep, *deep[:2]) if shattered else deep,
        hematoma_mm=float(random.choice([0.0, random.uniform(30, 55)])),
        perirenal_mm=float(random.uniform(9, 20)) if kidney else 0.0,
        infarct_share=0.0 if by_blush and random.random() < 0.6 else infarct,
        shattered=shattered,
        blush=blush,
    )


_AROUND: Mapping[Label, Label] = {Label.LIVER: Label.PERIHEPATIC, Label.SPLEEN: Label.PERISPLENIC}
_SPREAD = (Label.PERIHEPATIC, Label.PERISPLENIC, Label.MORISON, Label.RIGHT_GUTTER, Label.LEFT_GUTTER, Label.PELVIC)


def draw_pools(random: np.random.Generator, total_ml: float, sources: tuple[Label, ...]) -> dict[Label, float]:
    """Shares of a hemoperitoneum: first around its source, with 80 mL the gutters, with 250 mL the pelvis too."""
    first = [_AROUND[source] for source in sources if source in _AROUND] or [Label.MESENTERIC]
    weights: dict[Label, float] = dict.fromkeys(first, float(random.uniform(2, 4)))
    for compartment in _SPREAD:
        least_ml = {Label.PELVIC: 200.0, Label.MORISON: 30.0}.get(compartment, 80.0)
        if compartment not in weights and total_ml > least_ml * random.uniform(0.6, 1.4):
            weights[compartment] = float(random.uniform(0.4, 2.0))
    scale = total_ml / sum(weights.values())
    return {compartment: weight * scale for compartment, weight in weights.items()}


def draw_blood_ml(random: np.random.Generator, low: float, high: float) -> float:
    """A volume between two, evenly on a logarithmic scale."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def draw_blood_hu(random: np.random.Generator) -> float:
    """The mean HU of free blood: mostly 30 to 55, at times as thin as water's upper end (Levine: 24 % below 20)."""
    return float(np.clip(random.normal(41, 8), 20, 58))
