"""Blood outside organs: hemoperitoneum, retroperitoneal and mesenteric blood, and active extravasation."""

from dataclasses import dataclass

import numpy as np

from trauma_api.phantom.anatomy import Anatomy
from trauma_api.phantom.injuries import HEMATOMA_HU, can_bleed_into
from trauma_api.phantom.labels import BLOOD_LABELS, Label
from trauma_api.phantom.scenarios import SITE_OF_ORGAN
from trauma_api.phantom.shapes import (
    Bead,
    Floats,
    Mask,
    Point,
    Window,
    ball_distance,
    beads_along,
    ellipsoid_distance,
    smooth_noise,
)
from trauma_api.phantom.truth import ExtravasationSite

_REACH_MM = 26.0
_CLOT_MM = 45.0
LEAST_BEAD_MM = 1.3
"""Radius of the thinnest part of a jet."""
AROUND_JET_MM = (2.0, 6.0)
"""How much wider than a jet in an organ the hematoma around it is."""
_SHARE_OF_AORTA = (0.62, 0.95)
EXTRAVASATION_HU = (85.0, 370.0)
"""Shanmuganathan 1993: the range in 28 bleeding patients."""


@dataclass(frozen=True)
class Fluid:
    """A fluid that pools: its HU far from its source, and how much denser it is at the source."""

    hu: float
    clot_hu: float
    source: Point | None


@dataclass(frozen=True)
class Jet:
    """A drawn site of active extravasation: its voxels' window and mask, and its HU."""

    site: ExtravasationSite
    window: Window
    mask: Mask
    hu: float


def fill_compartment(
    anatomy: Anatomy,
    compartment: Label,
    volume_ml: float,
    fluid: Fluid,
    random: np.random.Generator,
    label: Label | None = None,
) -> float:
    """Fill one space of the peritoneal cavity from its lowest point; returns the millilitres that found room."""
    window, order = _order_of(anatomy, compartment, random)
    free = anatomy.peritoneal(window) & np.isfinite(order)
    return _pour(anatomy, window, order, free, label or compartment, volume_ml, fluid, random)


def fill_retroperitoneum(
    anatomy: Anatomy, centre: Point, volume_ml: float, fluid: Fluid, random: np.random.Generator
) -> float:
    """Blood that spreads through retroperitoneal or pelvic fat around ``centre``."""
    grid = anatomy.canvas.grid
    window = grid.window(centre, (75, 60, 95))
    shape = grid.shape_of(window)
    order = ellipsoid_distance(grid.axes(window), centre, (16, 12, 24)) + 6 * smooth_noise(
        random, shape, grid.spacing_zyx_mm, 16
    )
    free = anatomy.retroperitoneal(window)
    return _pour(anatomy, window, np.asarray(order, np.float32), free, Label.RETROPERITONEAL, volume_ml, fluid, random)


def _pour(
    anatomy: Anatomy,
    window: Window,
    order: Floats,
    free: Mask,
    label: Label,
    volume_ml: float,
    fluid: Fluid,
    random: np.random.Generator,
) -> float:
    canvas = anatomy.canvas
    wanted = round(volume_ml / canvas.grid.voxel_ml)
    room = int(np.count_nonzero(free))
    if wanted == 0 or room == 0:
        return 0.0
    level = np.partition(order[free], min(wanted, room) - 1)[min(wanted, room) - 1]
    mask = np.asarray(free & (order <= level))
    canvas.paint(window, mask, label, _fluid_hu(anatomy, window, fluid, random))
    return float(np.count_nonzero(mask)) * canvas.grid.voxel_ml


def _fluid_hu(anatomy: Anatomy, window: Window, fluid: Fluid, random: np.random.Generator) -> Floats:
    """Denser near the source, where blood clots, and towards the back, where cells settle."""
    grid = anatomy.canvas.grid
    z, y, x = grid.axes(window)
    shown = fluid.hu + 3.5 * smooth_noise(random, grid.shape_of(window), grid.spacing_zyx_mm, 18)
    if fluid.source is not None:
        sx, sy, sz = fluid.source
        away = ((x - sx) ** 2 + (y - sy) ** 2 + (z - sz) ** 2) / np.float32(_CLOT_MM**2)
        shown = shown + fluid.clot_hu * np.exp(-away) + 4 * np.clip(y / anatomy.body.cavity_half_y, -1, 1)
    return np.asarray(np.clip(shown, 0, 80), np.float32)


def _order_of(anatomy: Anatomy, compartment: Label, random: np.random.Generator) -> tuple[Window, Floats]:
    """The order in which a compartment fills, lowest first; not finite outside it."""
    grid, body = anatomy.canvas.grid, anatomy.body
    a, b = body.cavity_half_x, body.cavity_half_y
    if compartment in (Label.PERIHEPATIC, Label.MORISON, Label.PERISPLENIC):
        return _order_around_organ(anatomy, compartment, random)
    if compartment in (Label.RIGHT_GUTTER, Label.LEFT_GUTTER):
        side = -1 if compartment == Label.RIGHT_GUTTER else 1
        window = grid.window((side * 0.72 * a, 0, -5), (0.36 * a, b, 80))
        z, y, x = grid.axes(window)
        order = 0.8 * (b - y) + 1.0 * (a - side * x) + 0.05 * np.abs(z + 5)
    elif compartment == Label.PELVIC:
        low = body.pelvis_z + 4
        window = grid.window((0, 0, low + 80), (0.85 * a, b, 85))
        z, y, x = grid.axes(window)
        order = 0.7 * (z - low) - 0.45 * y + 0.04 * np.abs(x)
    else:
        window = grid.window((0, -0.2 * b, -20), (0.7 * a, 0.75 * b, 90))
        z, y, x = grid.axes(window)
        order = np.sqrt((x / 1.4) ** 2 + (y + 0.15 * b) ** 2 + ((z + 20) / 1.3) ** 2) * np.float32(0.5)
        order = order + 9 * smooth_noise(random, grid.shape_of(window), grid.spacing_zyx_mm, 18)
    shape = grid.shape_of(window)
    return window, np.asarray(order + 3 * smooth_noise(random, shape, grid.spacing_zyx_mm, 15), np.float32)


def _order_around_organ(anatomy: Anatomy, compartment: Label, random: np.random.Generator) -> tuple[Window, Floats]:
    """Around the liver or the spleen, or (Morison) between liver and right kidney; where the spleen was removed, in
    its bed below the diaphragm."""
    grid, body = anatomy.canvas.grid, anatomy.body
    host = Label.SPLEEN if compartment == Label.PERISPLENIC else Label.LIVER
    if host not in anatomy.organs:
        window = grid.window((0.7 * body.cavity_half_x, 0.3 * body.cavity_half_y, body.dome_z - 70), (45, 50, 55))
        z, y, x = grid.axes(window)
        return window, np.asarray(-y - x + 0 * z, np.float32)
    organ = anatomy.organs[host]
    z, y, x = grid.axes(organ.window)
    noise = smooth_noise(random, organ.distance_mm.shape, grid.spacing_zyx_mm, 42)
    # pockets rather than a film: some stretches of the surface fill long before others
    order = organ.distance_mm + 7.0 * noise - 0.05 * y
    if compartment == Label.MORISON:
        behind = (y > 0.05 * body.cavity_half_y) & (x < 0) & (z < body.dome_z - 80)
        order = np.where(behind, order - 0.05 * y, np.inf)
    elif compartment == Label.PERIHEPATIC:
        order = np.where(
            (y > 0.05 * body.cavity_half_y) & (x > -0.6 * body.cavity_half_x) & (z < body.dome_z - 80), np.inf, order
        )
    return organ.window, np.asarray(np.where(organ.distance_mm < _REACH_MM, order, np.inf), np.float32)


def draw_jet(
    anatomy: Anatomy, site: ExtravasationSite, centre: Point, size_mm: float, random: np.random.Generator
) -> Jet | None:
    """Contrast that leaks into blood near ``centre``; None without contrast, or where there is no blood to leak into.

    Its HU is a share of the aorta's, within the published range. In a solid organ it lies in a hematoma of its own, and
    it never fills an organ that it does not come from: in intact parenchyma of its own HU nobody could see it.
    """
    tissue, canvas = anatomy.enhancement, anatomy.canvas
    where = None if tissue.phase == "none" else _nearest_blood(anatomy, centre)
    if where is None:
        return None
    hu, beads = jet_hu(tissue.aorta, random), jet_beads(where, size_mm, random)
    reach = 4 * size_mm + 8
    window = canvas.grid.window(where, (reach, reach, reach))
    mask = np.zeros(canvas.grid.shape_of(window), bool)
    z0, y0, x0 = (part.start for part in window)
    organ = next((label for label, name in SITE_OF_ORGAN.items() if name == site), None)
    if organ is not None:
        _tear_around(anatomy, organ, beads, random)
    for bead in beads:
        part, distance = ball_distance(canvas.grid, bead)
        soft = np.isin(canvas.labels_zyx[part], (*BLOOD_LABELS, Label.FAT, Label.CONTUSION))
        canvas.paint(part, (distance < 0) & soft, Label.EXTRAVASATION, hu)
        shifted = tuple(slice(s.start - o, s.stop - o) for s, o in zip(part, (z0, y0, x0), strict=True))
        if all(s.start >= 0 for s in shifted) and mask[shifted].shape == distance.shape:
            mask[shifted] |= (distance < 0) & soft
    return Jet(site, window, mask, hu) if mask.any() else None


def jet_hu(aorta_hu: float, random: np.random.Generator) -> float:
    """A share of the aorta's HU, within `EXTRAVASATION_HU`."""
    return float(np.clip(random.uniform(*_SHARE_OF_AORTA) * aorta_hu, *EXTRAVASATION_HU))


def jet_beads(start: Point, size_mm: float, random: np.random.Generator) -> list[Bead]:
    """A string of beads from ``start`` on, ``size_mm`` wide there and half as wide at its end, in mm of x, y and z."""
    points = [start]
    for _ in range(4):
        points.append(tuple(value + random.normal(0, 0.6 * size_mm) for value in points[-1]))  # type: ignore[arg-type]
    widths = [size_mm * share for share in (0.5, 0.5, 0.45, 0.35, 0.25)]
    return [Bead(bead.centre, max(bead.radius_mm, LEAST_BEAD_MM)) for bead in beads_along(points, widths, 2)]


def _tear_around(anatomy: Anatomy, organ: Label, beads: list[Bead], random: np.random.Generator) -> None:
    """The hematoma that a jet makes in the organ that it comes from."""
    canvas, margin_mm, hu = anatomy.canvas, random.uniform(*AROUND_JET_MM), random.uniform(*HEMATOMA_HU)
    for bead in beads:
        part, distance = ball_distance(canvas.grid, Bead(bead.centre, bead.radius_mm + margin_mm))
        torn = (distance < 0) & can_bleed_into(canvas.labels_zyx[part], organ)
        canvas.paint(part, torn, Label.LACERATION, hu)


def _nearest_blood(anatomy: Anatomy, centre: Point) -> Point | None:
    grid = anatomy.canvas.grid
    window = grid.window(centre, (60, 60, 60))
    blood = np.argwhere(anatomy.canvas.labels_zyx[window] >= Label.LACERATION)
    if len(blood) == 0:
        return None
    z, y, x = (axis.ravel() for axis in grid.axes(window))
    places = np.stack([x[blood[:, 2]], y[blood[:, 1]], z[blood[:, 0]]], axis=1)
    nearest = places[int(np.argmin(((places - np.array(centre)) ** 2).sum(axis=1)))]
    return float(nearest[0]), float(nearest[1]), float(nearest[2])
