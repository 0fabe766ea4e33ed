"""Stomach, bowel with gas and contents, pancreas, gallbladder, bladder and mesenteric vessels."""

import numpy as np

from trauma_api.phantom.anatomy import Anatomy
from trauma_api.phantom.labels import Label
from trauma_api.phantom.shapes import Bead, Floats, Point, ball_distance, beads_along, ellipsoid_distance, smooth_noise

_GAS_HU = -950.0
_WALL_MM = 2.2
_PAINTED_OVER = (Label.FAT, Label.BOWEL)


def draw_hollow_organs(anatomy: Anatomy, random: np.random.Generator, *, full_bladder: bool, unopacified: bool) -> None:
    """All of them, over fat only; solid organs are drawn later and push them aside."""
    _draw_bladder(anatomy, random, full=full_bladder)
    _draw_pancreas(anatomy, random)
    _draw_colon(anatomy, random)
    _draw_small_bowel(anatomy, random, unopacified=unopacified)
    _draw_stomach(anatomy, random)
    _draw_mesentery(anatomy, random)


def draw_gallbladder(anatomy: Anatomy, random: np.random.Generator) -> None:
    """Below the liver, drawn after it."""
    body = anatomy.body
    centre = (-0.38 * body.cavity_half_x, -0.42 * body.cavity_half_y, body.dome_z - random.uniform(118, 132))
    half = (random.uniform(11, 17), random.uniform(11, 17), random.uniform(18, 30))
    window = anatomy.canvas.grid.window(centre, half)
    inside = ellipsoid_distance(anatomy.canvas.grid.axes(window), centre, half) < 0
    soft = np.isin(anatomy.canvas.labels_zyx[window], (Label.FAT, Label.LIVER, Label.BOWEL))
    anatomy.canvas.paint(window, inside & soft, Label.GALLBLADDER, random.uniform(2, 16))


def _draw_bladder(anatomy: Anatomy, random: np.random.Generator, *, full: bool) -> None:
    body, grid = anatomy.body, anatomy.canvas.grid
    radius = random.uniform(48, 66) if full else random.uniform(18, 42)
    base = body.pelvis_z + 2
    half = (radius * 1.15, radius * 0.8, radius * (1.1 if full else 0.8))
    centre = (random.uniform(-6, 6), -0.18 * body.cavity_half_y, base + half[2])
    window = grid.window(centre, half)
    distance = ellipsoid_distance(grid.axes(window), centre, half)
    free = (anatomy.canvas.labels_zyx[window] == Label.FAT) & (anatomy.cavity_q[window] < 0.97)
    anatomy.canvas.paint(window, (distance < 0) & free, Label.BLADDER, 40.0)
    anatomy.canvas.paint(window, (distance < -3) & free, Label.BLADDER, random.uniform(-2, 14))
    uterus = (random.uniform(-8, 8), 0.28 * body.cavity_half_y, base + 30)
    window = grid.window(uterus, (28, 22, 32))
    inside = ellipsoid_distance(grid.axes(window), uterus, (26, 17, 27)) < 0
    free = anatomy.canvas.labels_zyx[window] == Label.FAT
    anatomy.canvas.paint(window, inside & free, Label.SOFT_TISSUE, anatomy.enhancement.muscle + random.uniform(0, 30))


def _draw_pancreas(anatomy: Anatomy, random: np.random.Generator) -> None:
    body = anatomy.body
    path: list[Point] = [
        (-0.28 * body.cavity_half_x, 0.12 * body.cavity_half_y, body.dome_z - 132),
        (0.0, -0.02 * body.cavity_half_y, body.dome_z - 118),
        (0.30 * body.cavity_half_x, 0.14 * body.cavity_half_y, body.dome_z - 108),
        (0.52 * body.cavity_half_x, 0.30 * body.cavity_half_y, body.dome_z - 98),
    ]
    for bead in beads_along(path, [14, 10, 10, 8], 4):
        window, distance = ball_distance(anatomy.canvas.grid, bead)
        free = anatomy.canvas.labels_zyx[window] == Label.FAT
        anatomy.canvas.paint(
            window, (distance < 0) & free, Label.PANCREAS, anatomy.enhancement.pancreas + random.uniform(-8, 8)
        )


def _draw_colon(anatomy: Anatomy, random: np.random.Generator) -> None:
    a, b, hip = anatomy.body.cavity_half_x, anatomy.body.cavity_half_y, anatomy.body.pelvis_z
    sag = random.uniform(-40, 20)
    path: list[Point] = [
        (-0.62 * a, 0.05 * b, -75), (-0.72 * a, 0.22 * b, 0), (-0.66 * a, 0.05 * b, 45),
        (-0.3 * a, -0.62 * b, 40 + sag / 2), (0.1 * a, -0.70 * b, 45 + sag / 2), (0.5 * a, -0.55 * b, 60),
        (0.70 * a, 0.12 * b, 70), (0.74 * a, 0.30 * b, 0), (0.68 * a, 0.20 * b, -70),
        (0.35 * a, 0.05 * b, -110), (-0.1 * a, 0.1 * b, -105), (0.05 * a, 0.52 * b, -130), (0, 0.58 * b, hip),
    ]  # fmt: skip
    radii = [float(random.uniform(15, 24)) for _ in path]
    radii[7:10] = [random.uniform(9, 16) for _ in range(3)]
    beads = [
        Bead(bead.centre, bead.radius_mm * (1 + 0.16 * np.sin(0.9 * number)))
        for number, bead in enumerate(beads_along(path, radii, 6))
    ]
    _draw_loop(
        anatomy, random, beads, gas_share=random.uniform(0.1, 0.6), content_hu=random.uniform(10, 60), mottled=True
    )


def _draw_small_bowel(anatomy: Anatomy, random: np.random.Generator, *, unopacified: bool) -> None:
    a, b, hip = anatomy.body.cavity_half_x, anatomy.body.cavity_half_y, anatomy.body.pelvis_z
    opacified = not unopacified and random.random() < 0.25
    for _ in range(int(random.integers(20, 30))):
        start = np.array(
            [random.uniform(-0.55, 0.55) * a, random.uniform(-0.68, 0.02) * b, random.uniform(hip + 55, 50)]
        )
        points, heading = [start], random.normal(size=3)
        for _ in range(int(random.integers(4, 8))):
            heading = heading / np.linalg.norm(heading) + 0.8 * random.normal(size=3)
            step = points[-1] + 22 * heading / np.linalg.norm(heading)
            low, high = (-0.6 * a, -0.72 * b, hip + 45), (0.6 * a, 0.08 * b, 55)
            points.append(np.clip(step, low, high))
        radius = random.uniform(9, 14) if not unopacified else random.uniform(11, 16)
        beads = beads_along([(float(p[0]), float(p[1]), float(p[2])) for p in points], [radius] * len(points), 5)
        content = random.uniform(150, 300) if opacified else random.uniform(4, 42)
        gas = 0.0 if unopacified else float(random.choice([0.0, 0.0, random.uniform(0.1, 0.4)]))
        _draw_loop(anatomy, random, beads, gas_share=gas, content_hu=content, mottled=False)
        anatomy.bowel.append(beads)


def _draw_loop(
    anatomy: Anatomy,
    random: np.random.Generator,
    beads: list[Bead],
    *,
    gas_share: float,
    content_hu: float,
    mottled: bool,
) -> None:
    """Wall first, then contents, so that neighbouring balls open into each other; gas rises to the front."""
    canvas, wall_hu = anatomy.canvas, anatomy.enhancement.bowel_wall
    inside_cavity = 0.93
    for bead in beads:
        window, distance = ball_distance(canvas.grid, bead)
        free = np.isin(canvas.labels_zyx[window], _PAINTED_OVER) & (anatomy.cavity_q[window] < inside_cavity)
        fresh = free & (distance < 0) & (canvas.labels_zyx[window] == Label.FAT)
        canvas.paint(window, fresh, Label.BOWEL, wall_hu)
    for bead in beads:
        window, distance = ball_distance(canvas.grid, bead)
        lumen = (distance < -_WALL_MM) & (canvas.labels_zyx[window] == Label.BOWEL)
        _, y, _ = canvas.grid.axes(window)
        gas_below = bead.centre[1] - bead.radius_mm * (1 - 2 * gas_share)
        content = content_hu + (
            70 * smooth_noise(random, distance.shape, canvas.grid.spacing_zyx_mm, 5) - 40 if mottled else 0.0
        )
        filled = np.where(y < gas_below, np.float32(_GAS_HU), content) + np.zeros_like(distance)
        canvas.paint(window, lumen, Label.BOWEL, np.asarray(np.maximum(filled, _GAS_HU), np.float32))


def _draw_stomach(anatomy: Anatomy, random: np.random.Generator) -> None:
    body, grid = anatomy.body, anatomy.canvas.grid
    a, b = body.cavity_half_x, body.cavity_half_y
    centre = (0.36 * a, -0.22 * b, body.dome_z - random.uniform(68, 85))
    half = (random.uniform(0.26, 0.40) * a, random.uniform(0.34, 0.5) * b, random.uniform(38, 55))
    window = grid.window(centre, half)
    axes = grid.axes(window)
    distance = ellipsoid_distance(axes, centre, half, 0.0, random.uniform(-0.3, 0.3))
    free = np.isin(anatomy.canvas.labels_zyx[window], (Label.FAT, Label.PANCREAS))
    free &= (anatomy.cavity_q[window] < 0.93) & (anatomy.under_diaphragm_mm[window] > 5)
    level = centre[1] + half[1] * random.uniform(-0.9, 0.3)
    food = random.uniform(5, 45) + 18 * smooth_noise(random, grid.shape_of(window), grid.spacing_zyx_mm, 7)
    content: Floats = np.where(axes[1] < level, np.float32(_GAS_HU), food)
    anatomy.canvas.paint(window, free & (distance < 0), Label.STOMACH, anatomy.enhancement.bowel_wall)
    anatomy.canvas.paint(window, free & (distance < -3.5), Label.STOMACH, np.asarray(content, np.float32))


def _draw_mesentery(anatomy: Anatomy, random: np.random.Generator) -> None:
    """Thin vessels that fan out from the root of the mesentery."""
    body, canvas, tissue = anatomy.body, anatomy.canvas, anatomy.enhancement
    root: Point = (4.0, 0.18 * body.cavity_half_y, 30.0)
    for _ in range(26):
        tip = (
            random.uniform(-0.6, 0.6) * body.cavity_half_x, random.uniform(-0.6, 0.1) * body.cavity_half_y,
            random.uniform(body.pelvis_z + 70, 40),
        )  # fmt: skip
        hu = tissue.vein if random.random() < 0.6 else tissue.aorta
        for bead in beads_along([root, tip], [random.uniform(1.6, 2.6), 1.0], 2.5):
            window, distance = ball_distance(canvas.grid, bead)
            canvas.paint(window, (distance < 0) & (canvas.labels_zyx[window] == Label.FAT), Label.VESSEL, hu)
