"""Injuries of solid organs: what is planned, what it looks like, and its AAST grade.

Criteria and grades follow the 2018 revision of the Organ Injury Scale (Kozar, J Trauma Acute Care Surg 2018;85:1119).
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trauma_api.phantom.anatomy import Anatomy, Organ
from trauma_api.phantom.labels import Label
from trauma_api.phantom.shapes import Floats, Mask, smooth_noise
from trauma_api.phantom.truth import OrganTruth, RsnaGrade

Blush = Literal["none", "contained", "free"]

HEMATOMA_HU = (42.0, 62.0)
"""Of clotted blood within an organ."""


@dataclass(frozen=True)
class OrganInjury:
    """What is to be drawn into one organ. Lengths in mm; shares of the surface or of the parenchyma, 0 to 1."""

    laceration_depths_mm: tuple[float, ...] = ()
    hematoma_mm: float = 0.0
    subcapsular_share: float = 0.0
    contusion_mm: float = 0.0
    perirenal_mm: float = 0.0
    infarct_share: float = 0.0
    shattered: bool = False
    blush: Blush = "none"


def grade_injury(organ: Label, injury: OrganInjury | None) -> OrganTruth:
    """The AAST 2018 grade of one organ; the highest of its criteria, one more (up to III) for several injuries."""
    if injury is None:
        return OrganTruth(aast=0, rsna="healthy", criteria=())
    table = _kidney_criteria if organ in (Label.LEFT_KIDNEY, Label.RIGHT_KIDNEY) else _belly_criteria
    met = [(grade, words) for grade, words in table(organ, injury) if grade > 0]
    grade = max(grade for grade, _ in met)
    several = organ in (Label.LIVER, Label.SPLEEN) and len(injury.laceration_depths_mm) > 1
    if several and grade < 3:
        grade += 1
        met.append((grade, "several injuries: one grade more, up to III"))
    return OrganTruth(aast=grade, rsna=rsna_grade(grade), criteria=tuple(words for _, words in met))


def rsna_grade(aast: int) -> RsnaGrade:
    """Low for AAST I to III, high for IV and V."""
    return "healthy" if aast == 0 else "low" if aast <= 3 else "high"


def _belly_criteria(organ: Label, injury: OrganInjury) -> list[tuple[int, str]]:
    """Liver and spleen."""
    is_liver = organ == Label.LIVER
    depth = max(injury.laceration_depths_mm, default=0.0)
    laceration = 0 if depth == 0 else 1 if depth < 10 else 2 if depth <= 30 else 3
    share = injury.subcapsular_share
    subcapsular = 0 if share == 0 else 1 if share < 0.1 else 2 if share <= 0.5 else 3
    large_mm = 100 if is_liver else 50
    hematoma = 0 if injury.hematoma_mm == 0 else 2 if injury.hematoma_mm < large_mm else 3
    blush = {"none": 0, "contained": 3 if is_liver else 4, "free": 4 if is_liver else 5}[injury.blush]
    infarct = 0 if injury.infarct_share == 0 else 4 if injury.infarct_share > 0.25 else 2
    return [
        (laceration, f"laceration {depth:.0f} mm deep"),
        (subcapsular, f"subcapsular hematoma over {share:.0%} of the surface"),
        (hematoma, f"intraparenchymal hematoma of {injury.hematoma_mm:.0f} mm"),
        (1 if injury.contusion_mm else 0, "contusion"),
        (blush, f"active bleeding, {injury.blush}"),
        (infarct, f"{injury.infarct_share:.0%} of the parenchyma devascularised"),
        (
            (4 if is_liver else 5) if injury.shattered else 0,
            "more than a quarter of a lobe disrupted" if is_liver else "shattered",
        ),
    ]


def _kidney_criteria(_organ: Label, injury: OrganInjury) -> list[tuple[int, str]]:
    depth = max(injury.laceration_depths_mm, default=0.0)
    laceration = 0 if depth == 0 else 2 if depth <= 10 else 3
    return [
        (laceration, f"laceration {depth:.0f} mm deep"),
        (1 if injury.subcapsular_share else 0, "subcapsular hematoma"),
        (1 if injury.contusion_mm else 0, "contusion"),
        (2 if injury.perirenal_mm else 0, "perirenal hematoma within Gerota's fascia"),
        ({"none": 0, "contained": 3, "free": 4}[injury.blush], f"active bleeding, {injury.blush}"),
        (4 if injury.infarct_share else 0, "segmental infarct"),
        (5 if injury.shattered else 0, "shattered"),
    ]


@dataclass
class DrawnInjury:
    """Where an organ's injury was drawn: the mask within the organ's window, and its middle as (x, y, z) in mm."""

    organ: Organ
    mask: Mask
    centre: tuple[float, float, float]
    direction: Floats = field(repr=False)


def draw_injury(anatomy: Anatomy, label: Label, injury: OrganInjury, random: np.random.Generator) -> DrawnInjury:
    """Draw an injury into an organ that is there. Raises KeyError where it is not."""
    organ = anatomy.organs[label]
    surface, direction = _surface_point(anatomy, organ, random)
    injured = np.zeros(organ.distance_mm.shape, bool)
    if injury.infarct_share:
        injured |= _draw_infarct(anatomy, organ, direction, injury.infarct_share)
    if injury.contusion_mm:
        injured |= _draw_contusion(
            anatomy, organ, surface + 0.5 * injury.contusion_mm * direction, injury.contusion_mm, random
        )
    if injury.subcapsular_share:
        injured |= _draw_subcapsular(anatomy, organ, direction, injury.subcapsular_share, random)
    if injury.hematoma_mm:
        injured |= _draw_hematoma(
            anatomy, organ, surface + 0.6 * injury.hematoma_mm * direction, injury.hematoma_mm, random
        )
    for number, depth in enumerate(injury.laceration_depths_mm):
        start, inward = (surface, direction) if number == 0 else _surface_point(anatomy, organ, random, near=surface)
        injured |= _draw_laceration(anatomy, organ, start, inward, depth, random)
    if injury.perirenal_mm:
        _draw_perirenal(anatomy, organ, injury.perirenal_mm, direction, random)
    deepest = 0.5 * max([*injury.laceration_depths_mm, injury.hematoma_mm, injury.contusion_mm, 10.0])
    x, y, z = (float(value) for value in surface + deepest * direction)
    return DrawnInjury(organ, injured, (x, y, z), direction)


def _coordinates(anatomy: Anatomy, organ: Organ) -> tuple[Floats, Floats, Floats]:
    return anatomy.canvas.grid.axes(organ.window)


def _surface_point(
    anatomy: Anatomy, organ: Organ, random: np.random.Generator, near: Floats | None = None
) -> tuple[Floats, Floats]:
    """A point (x, y, z) of the surface, and the unit vector from there to the organ's middle."""
    inside = np.argwhere(organ.distance_mm < 0)
    rim = np.argwhere((organ.distance_mm < 0) & (organ.distance_mm > -4.0))
    z, y, x = (axis.ravel() for axis in _coordinates(anatomy, organ))

    def place(index: np.ndarray) -> Floats:
        return np.array([x[index[2]], y[index[1]], z[index[0]]], np.float32)

    middle = place(np.round(inside.mean(axis=0)).astype(int))
    points = [place(rim[int(random.integers(len(rim)))]) for _ in range(6)]
    if near is not None:
        points.sort(key=lambda point: float(np.linalg.norm(point - near)))
    inward = middle + random.normal(0, 6, 3).astype(np.float32) - points[0]
    return points[0], np.asarray(inward / max(float(np.linalg.norm(inward)), 1e-3), np.float32)


def _noise(anatomy: Anatomy, organ: Organ, random: np.random.Generator, scale_mm: float) -> Floats:
    return smooth_noise(random, organ.distance_mm.shape, anatomy.canvas.grid.spacing_zyx_mm, scale_mm)


def _blood_hu(anatomy: Anatomy, organ: Organ, random: np.random.Generator, low: float, high: float) -> Floats:
    return np.asarray(random.uniform(low, high) + 5 * _noise(anatomy, organ, random, 10), np.float32)


def _draw_laceration(
    anatomy: Anatomy, organ: Organ, start: Floats, inward: Floats, depth_mm: float, random: np.random.Generator
) -> Mask:
    """A jagged cleft from the capsule inwards, filled with blood, widest at the capsule."""
    across = np.cross(inward, random.normal(size=3))
    across = (across / np.linalg.norm(across)).astype(np.float32)
    along = np.cross(inward, across).astype(np.float32)
    z, y, x = _coordinates(anatomy, organ)
    dx, dy, dz = x - start[0], y - start[1], z - start[2]
    deep = dx * inward[0] + dy * inward[1] + dz * inward[2]
    side = dx * across[0] + dy * across[1] + dz * across[2]
    length = dx * along[0] + dy * along[1] + dz * along[2]
    reach = random.uniform(0.8, 1.5) * depth_mm + 6
    width = random.uniform(3.5, 6.0) + 0.09 * depth_mm
    jag = 0.12 * depth_mm * _noise(anatomy, organ, random, 14)
    taper = np.sqrt(np.clip(1 - np.clip(deep, 0, None) / depth_mm, 0, 1))
    cleft = np.abs(side + jag) < 0.5 * width * (0.35 + 0.65 * taper) * (0.7 + 0.3 * _noise(anatomy, organ, random, 6))
    inside = (deep < depth_mm) & (np.abs(length) < reach * (0.4 + 0.6 * taper)) & (organ.distance_mm < 0)
    mask = np.asarray(cleft & inside & (deep > -12))
    mask &= anatomy.canvas.labels_zyx[organ.window] == organ.label
    anatomy.canvas.paint(organ.window, mask, Label.LACERATION, _blood_hu(anatomy, organ, random, 30, 52))
    return mask


def _distance_to(anatomy: Anatomy, organ: Organ, centre: Floats) -> Floats:
    z, y, x = _coordinates(anatomy, organ)
    return np.asarray(np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2), np.float32)


def can_bleed_into(labels_zyx: NDArray[np.uint8], organ: Label) -> Mask:
    """Where a hematoma of an organ has room, of the labels' shape: its parenchyma, sound, contused or infarcted."""
    return np.isin(labels_zyx, (organ, Label.CONTUSION, Label.INFARCT))


def _draw_hematoma(
    anatomy: Anatomy, organ: Organ, centre: Floats, diameter_mm: float, random: np.random.Generator
) -> Mask:
    radius = _distance_to(anatomy, organ, centre) + 0.12 * diameter_mm * _noise(anatomy, organ, random, 16)
    mask = (radius < diameter_mm / 2) & (organ.distance_mm < -1)
    mask &= can_bleed_into(anatomy.canvas.labels_zyx[organ.window], organ.label)
    anatomy.canvas.paint(organ.window, mask, Label.LACERATION, _blood_hu(anatomy, organ, random, *HEMATOMA_HU))
    return np.asarray(mask)


def _draw_contusion(
    anatomy: Anatomy, organ: Organ, centre: Floats, diameter_mm: float, random: np.random.Generator
) -> Mask:
    """Ill-defined, darker than the organ where that enhances."""
    radius = _distance_to(anatomy, organ, centre) + 0.18 * diameter_mm * _noise(anatomy, organ, random, 9)
    mask = (radius < diameter_mm / 2) & (anatomy.canvas.labels_zyx[organ.window] == organ.label)
    fade = np.clip(1.4 - 2 * radius / diameter_mm, 0.3, 1.0) * random.uniform(0.30, 0.45)
    shown = anatomy.canvas.hu_zyx[organ.window] * (1 - fade) + 30 * fade
    anatomy.canvas.paint(organ.window, mask, Label.CONTUSION, np.asarray(shown, np.float32))
    return np.asarray(mask)


def _angle_from(anatomy: Anatomy, organ: Organ, inward: Floats) -> Floats:
    """Cosine of the angle, seen from the organ's middle, between each voxel and where the injury came from."""
    z, y, x = _coordinates(anatomy, organ)
    inside = np.argwhere(organ.distance_mm < 0).mean(axis=0).round().astype(int)
    dz, dy, dx = z - z.ravel()[inside[0]], y - y.ravel()[inside[1]], x - x.ravel()[inside[2]]
    length = np.sqrt(dx**2 + dy**2 + dz**2) + np.float32(1e-3)
    return np.asarray(-(dx * inward[0] + dy * inward[1] + dz * inward[2]) / length, np.float32)


def _draw_subcapsular(
    anatomy: Anatomy, organ: Organ, inward: Floats, share: float, random: np.random.Generator
) -> Mask:
    """A lens of blood below the capsule that flattens the organ."""
    cosine = _angle_from(anatomy, organ, inward)
    edge = 1 - 2 * share
    thick = random.uniform(7, 15) * np.clip((cosine - edge) / (1.001 - edge), 0, 1) ** 0.5
    mask = (organ.distance_mm > -thick) & (organ.distance_mm < 0) & (cosine > edge)
    mask &= np.isin(anatomy.canvas.labels_zyx[organ.window], (organ.label, Label.CONTUSION))
    anatomy.canvas.paint(organ.window, mask, Label.SUBCAPSULAR, _blood_hu(anatomy, organ, random, 38, 58))
    return np.asarray(mask)


def _draw_infarct(anatomy: Anatomy, organ: Organ, inward: Floats, share: float) -> Mask:
    """A wedge without enhancement."""
    cosine = _angle_from(anatomy, organ, inward)
    inside = organ.distance_mm < 0
    edge = np.quantile(cosine[inside], 1 - share)
    mask = inside & (cosine > edge) & (anatomy.canvas.labels_zyx[organ.window] == organ.label)
    anatomy.canvas.paint(organ.window, mask, Label.INFARCT, 38.0)
    return np.asarray(mask)


def _draw_perirenal(
    anatomy: Anatomy, organ: Organ, thickness_mm: float, inward: Floats, random: np.random.Generator
) -> None:
    """Blood in the fat around the kidney, thickest where the injury is."""
    towards = 0.35 + 0.65 * np.clip(_angle_from(anatomy, organ, inward), 0, 1)
    layer = thickness_mm * towards + 0.2 * thickness_mm * _noise(anatomy, organ, random, 14)
    around = (organ.distance_mm >= 0) & (organ.distance_mm < layer)
    around &= anatomy.canvas.labels_zyx[organ.window] == Label.FAT
    anatomy.canvas.paint(organ.window, around, Label.PERIRENAL, _blood_hu(anatomy, organ, random, 38, 60))
