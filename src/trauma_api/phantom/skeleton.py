"""Bones and the muscles that lie on them, and the great vessels in front of the spine."""

import numpy as np

from trauma_api.phantom.anatomy import Anatomy
from trauma_api.phantom.labels import Label
from trauma_api.phantom.shapes import Bead, Point, ball_distance, beads_along, ellipsoid_distance

_CORTEX_HU = 650.0
_CORTEX_MM = 3.0
_VERTEBRA_MM = 36.0
_DISC_MM = 8.0
_RIB_PITCH_MM = 27.0
_RIB_MM = 11.0


def draw_skeleton(anatomy: Anatomy, random: np.random.Generator) -> None:
    """Psoas, spine, ribs, pelvis and hips."""
    _draw_psoas(anatomy)
    _draw_ribs(anatomy, random)
    _draw_spine(anatomy, random)
    _draw_pelvis(anatomy)


def _bone(anatomy: Anatomy, centre: Point, half: Point, turn: float = 0.0, cut_z: float | None = None) -> None:
    """An ellipsoid of bone with a dense shell."""
    canvas = anatomy.canvas
    window = canvas.grid.window(centre, tuple(max(half) + 2.0 for _ in half))  # type: ignore[arg-type]
    z, y, x = canvas.grid.axes(window)
    distance = ellipsoid_distance((z, y, x), centre, half, turn)
    inside = (distance < 0) & (z > cut_z if cut_z is not None else True)
    hu = np.where(distance > -_CORTEX_MM, np.float32(_CORTEX_HU), np.float32(anatomy.enhancement.marrow))
    canvas.paint(window, np.asarray(inside), Label.BONE, np.asarray(hu, np.float32))


def _draw_psoas(anatomy: Anatomy) -> None:
    body, canvas = anatomy.body, anatomy.canvas
    for side in (1, -1):
        path = [
            (side * 30, body.spine_y - 2, 70),
            (side * 42, body.spine_y - 8, -50),
            (side * 68, -8, body.pelvis_z + 20),
        ]
        for bead in beads_along(path, [9, 21, 17], 5):
            window, distance = ball_distance(canvas.grid, bead)
            canvas.paint(
                window,
                (distance < 0) & (canvas.labels_zyx[window] == Label.FAT),
                Label.MUSCLE,
                anatomy.enhancement.muscle,
            )
    for side in (1, -1):
        centre = (side * 0.85 * body.cavity_half_x, 0.65 * body.cavity_half_y, body.pelvis_z + 10)
        window = canvas.grid.window(centre, (62, 62, 80))
        inside = ellipsoid_distance(canvas.grid.axes(window), centre, (52, 40, 75)) < 0
        canvas.paint(
            window, inside & (canvas.labels_zyx[window] == Label.FAT), Label.MUSCLE, anatomy.enhancement.muscle
        )


def _draw_spine(anatomy: Anatomy, random: np.random.Generator) -> None:
    body, canvas, grid = anatomy.body, anatomy.canvas, anatomy.canvas.grid
    half_x, half_y = random.uniform(20, 24), random.uniform(15, 18)
    window = grid.window((0, body.spine_y + 20, 0), (60, 62, 600))
    z, y, x = grid.axes(window)
    ring = np.sqrt((x / half_x) ** 2 + ((y - body.spine_y) / half_y) ** 2)
    phase = np.mod(z + 500 + random.uniform(0, _VERTEBRA_MM), _VERTEBRA_MM)
    disc = phase < _DISC_MM
    marrow = np.where(ring > 0.86, np.float32(_CORTEX_HU * 0.8), np.float32(anatomy.enhancement.marrow))
    shown = np.where(disc, np.float32(85.0), marrow) + np.zeros(grid.shape_of(window), np.float32)
    above = z > body.pelvis_z + 45
    canvas.paint(window, np.broadcast_to((ring < 1) & above, shown.shape), Label.BONE, shown)
    arch_y = body.spine_y + half_y + 11
    canal = np.sqrt((x / 10) ** 2 + ((y - arch_y) / 9) ** 2)
    spine = (np.abs(x) < 3.5) & (y > arch_y + 9) & (y < arch_y + 36) & (phase > 12)
    wing = (np.abs(y - arch_y - 2) < 4) & (np.abs(x) < 36) & (phase > 14) & (phase < 25)
    solid = ((canal < 1.45) | spine | wing) & above & (canal >= 1)
    canvas.paint(window, np.broadcast_to(solid, shown.shape), Label.BONE, 420.0)
    canvas.paint(window, np.broadcast_to((canal < 1) & above, shown.shape), Label.SOFT_TISSUE, 28.0)


def _draw_ribs(anatomy: Anatomy, random: np.random.Generator) -> None:
    body, canvas, grid = anatomy.body, anatomy.canvas, anatomy.canvas.grid
    slices = int(np.count_nonzero(grid.z > body.dome_z - 185))
    window = slice(0, slices), slice(0, grid.shape_zyx[1]), slice(0, grid.shape_zyx[2])
    z, y, x = grid.axes(window)
    q = anatomy.cavity_q[window]
    shell = (q > 1.015) & (q < 1.24)
    # ribs fall towards the front, and the arch of the last ones ends higher in the middle
    rise = z - 0.42 * y + random.uniform(0, _RIB_PITCH_MM)
    arch = body.dome_z - 160 + np.maximum(-y, 0) * 0.9 + 20 * (np.abs(x) < 40)
    rib = shell & (np.mod(rise, _RIB_PITCH_MM) < _RIB_MM) & (z > arch) & (np.abs(x) > 12)
    hu = np.where((q > 1.06) & (q < 1.18), np.float32(260.0), np.float32(520.0))
    canvas.paint(window, np.asarray(rib), Label.BONE, np.asarray(hu, np.float32))


def _draw_pelvis(anatomy: Anatomy) -> None:
    body, canvas, grid = anatomy.body, anatomy.canvas, anatomy.canvas.grid
    a, b, hip = body.cavity_half_x, body.cavity_half_y, body.pelvis_z
    window = grid.window((0, 0.1 * b, hip + 75), (1.2 * a, 1.2 * b, 72))
    z, y, x = grid.axes(window)
    bowl = ellipsoid_distance((z, y, x), (0, 0.1 * b, hip + 60), (0.92 * a, 0.92 * b, 98))
    wing = (
        (np.abs(bowl) < 5.5) & (np.abs(x) > 0.32 * a) & (y > -0.35 * b) & (z < hip + 138 - 0.25 * np.abs(y + 0.1 * b))
    )
    hu = np.where(np.abs(bowl) > 3, np.float32(_CORTEX_HU), np.float32(280.0))
    canvas.paint(window, np.asarray(wing), Label.BONE, np.asarray(hu, np.float32))
    _bone(anatomy, (0, 0.86 * b, hip + 70), (44, 15, 52))
    for side in (1, -1):
        _bone(anatomy, (side * 0.72 * a, 0.12 * b, hip + 14), (30, 26, 30))
        _bone(anatomy, (side * 0.88 * a, 0.02 * b, hip - 2), (23, 23, 23))
        _bone(anatomy, (side * 0.42 * a, -0.55 * b, hip - 6), (40, 10, 12), side * 0.5)
        _bone(anatomy, (side * 0.52 * a, 0.45 * b, hip - 18), (15, 17, 34))


def draw_great_vessels(anatomy: Anatomy, random: np.random.Generator) -> list[Bead]:
    """Aorta and cava with their branches; returns the balls along the aorta."""
    body, tissue = anatomy.body, anatomy.enhancement
    front = body.spine_y - 17
    fork = random.uniform(-30, -10)
    radius = random.uniform(8, 11)
    aorta = beads_along([(8, front - radius, body.dome_z + 60), (5, front - radius, fork)], [radius + 1, radius], 3)
    cava = beads_along(
        [(-20, front - 40, body.dome_z), (-24, front - 12, body.dome_z - 60), (-20, front - 11, fork - 10)],
        [12, 11, 10],
        3,
    )
    for side in (1, -1):
        groin = (side * 0.58 * body.cavity_half_x, -0.42 * body.cavity_half_y, body.pelvis_z)
        knee = (side * 38, 0.25 * body.cavity_half_y, fork - 60)
        _tube(
            anatomy,
            beads_along([(side * 4 - 12, front - 12, fork - 12), knee, groin], [8, 7, 6.5], 3),
            Label.VEIN,
            tissue.vein,
        )
        _tube(
            anatomy,
            beads_along(
                [
                    (5, front - 10, fork),
                    (side * 32, 0.2 * body.cavity_half_y, fork - 55),
                    (groin[0] + side * 8, groin[1], groin[2]),
                ],
                [6, 5, 4.5],
                2.5,
            ),
            Label.AORTA,
            tissue.aorta,
        )
        renal = (side * 0.40 * body.cavity_half_x, 0.45 * body.cavity_half_y, body.dome_z - 148)
        _tube(
            anatomy,
            beads_along([(-16 * (side < 0) or 2.0, front - 12, body.dome_z - 143), renal], [4.5, 4.0], 2.5),
            Label.VEIN,
            tissue.vein,
        )
        _tube(
            anatomy, beads_along([(8, front - 10, body.dome_z - 138), renal], [2.6, 2.4], 2), Label.VESSEL, tissue.aorta
        )
    _tube(anatomy, cava, Label.VEIN, tissue.vein)
    _tube(anatomy, aorta, Label.AORTA, tissue.aorta)
    return aorta


def _tube(anatomy: Anatomy, beads: list[Bead], label: Label, hu: float) -> None:
    canvas = anatomy.canvas
    for bead in beads:
        window, distance = ball_distance(canvas.grid, bead)
        soft = np.isin(canvas.labels_zyx[window], (Label.FAT, Label.VEIN, Label.SOFT_TISSUE, Label.MUSCLE, Label.LUNG))
        canvas.paint(window, (distance < 0) & soft, label, hu)
