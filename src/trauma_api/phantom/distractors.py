"""What fools a model and is no injury, and the injured bowel."""

import numpy as np

from trauma_api.phantom.anatomy import Anatomy
from trauma_api.phantom.bleeding import Fluid, fill_compartment
from trauma_api.phantom.labels import Label
from trauma_api.phantom.plan import Distractor
from trauma_api.phantom.shapes import Bead, Floats, Point, ball_distance, ellipsoid_distance, smooth_noise


def draw_distractors(
    anatomy: Anatomy, chosen: tuple[Distractor, ...], aorta: list[Bead], random: np.random.Generator
) -> None:
    """Those that are drawn over the finished anatomy; the others change how it is drawn."""
    if "ascites" in chosen:
        _draw_ascites(anatomy, random)
    if "cyst" in chosen:
        _draw_cysts(anatomy, random)
    if "excreted_contrast" in chosen:
        _draw_excretion(anatomy, random)
    if "dissection" in chosen:
        _draw_dissection(anatomy, aorta, random)
    if "old_hematoma" in chosen:
        _draw_old_hematoma(anatomy, random)


def _draw_ascites(anatomy: Anatomy, random: np.random.Generator) -> None:
    fluid = Fluid(hu=float(random.uniform(-2, 11)), clot_hu=0.0, source=None)
    total_ml = float(np.exp(random.uniform(np.log(60), np.log(1200))))
    spaces = (Label.PERIHEPATIC, Label.PERISPLENIC, Label.MORISON, Label.RIGHT_GUTTER, Label.LEFT_GUTTER, Label.PELVIC)
    weights = random.uniform(0.2, 2.0, len(spaces))
    for space, share in zip(spaces, weights / weights.sum(), strict=True):
        fill_compartment(anatomy, space, float(share * total_ml), fluid, random, label=Label.ASCITES)


def _draw_cysts(anatomy: Anatomy, random: np.random.Generator) -> None:
    grid = anatomy.canvas.grid
    hosts = [organ for label, organ in anatomy.organs.items() if label != Label.SPLEEN]
    for _ in range(int(random.integers(1, 6))):
        organ = hosts[int(random.integers(len(hosts)))]
        inside = np.argwhere(organ.distance_mm < -2)
        spot = inside[int(random.integers(len(inside)))]
        z, y, x = (axis.ravel() for axis in grid.axes(organ.window))
        centre = (float(x[spot[2]]), float(y[spot[1]]), float(z[spot[0]]))
        window, distance = ball_distance(grid, Bead(centre, float(random.uniform(6, 24))))
        soft = np.isin(anatomy.canvas.labels_zyx[window], (organ.label, Label.FAT, Label.CYST))
        anatomy.canvas.paint(window, (distance < 0) & soft, Label.CYST, float(random.uniform(-4, 14)))


def _draw_excretion(anatomy: Anatomy, random: np.random.Generator) -> None:
    """Dense urine in the middle of each kidney and, layered at the back, in the bladder."""
    canvas = anatomy.canvas
    hu = float(random.uniform(300, 900))
    for label in (Label.LEFT_KIDNEY, Label.RIGHT_KIDNEY):
        window = anatomy.organs[label].window
        pelvis = (canvas.labels_zyx[window] == Label.SOFT_TISSUE) & (anatomy.organs[label].distance_mm > 0)
        near = pelvis & (anatomy.organs[label].distance_mm < 12)
        canvas.hu_zyx[window][near] = hu
    window = canvas.grid.window((0, 0, anatomy.body.pelvis_z + 60), (90, 200, 90))
    _, y, _ = canvas.grid.axes(window)
    bladder = canvas.labels_zyx[window] == Label.BLADDER
    if bladder.any():
        level = float(np.quantile(np.broadcast_to(y, bladder.shape)[bladder], random.uniform(0.6, 0.9)))
        canvas.hu_zyx[window][bladder & (y > level)] = 0.6 * hu


def _draw_dissection(anatomy: Anatomy, aorta: list[Bead], random: np.random.Generator) -> None:
    """A flap across the aorta; the false lumen fills later and is darker, or brighter in the portal phase."""
    canvas = anatomy.canvas
    angle = float(random.uniform(0, np.pi))
    false_hu = anatomy.enhancement.aorta * float(random.uniform(0.55, 0.85))
    for bead in aorta:
        window, distance = ball_distance(canvas.grid, bead)
        _, y, x = canvas.grid.axes(window)
        side = (x - bead.centre[0]) * np.cos(angle) + (y - bead.centre[1]) * np.sin(angle)
        inside = (distance < 0) & (canvas.labels_zyx[window] == Label.AORTA)
        canvas.hu_zyx[window][inside & (side > 1)] = false_hu
        canvas.hu_zyx[window][inside & (np.abs(side) <= 1)] = 70.0


def _draw_old_hematoma(anatomy: Anatomy, random: np.random.Generator) -> None:
    """In a buttock, a flank or the fat below the skin; low density within a calcified rim."""
    body, grid = anatomy.body, anatomy.canvas.grid
    side = float(random.choice([-1, 1]))
    places: tuple[Point, ...] = (
        (side * 0.8 * body.cavity_half_x, 0.9 * body.cavity_half_y, body.pelvis_z + 30),
        (side * (body.cavity_half_x + 6), 0.1 * body.cavity_half_y, -20),
        (side * 0.5 * body.cavity_half_x, body.cavity_half_y + 18, 20),
    )
    centre = places[int(random.integers(len(places)))]
    half = (float(random.uniform(10, 24)), float(random.uniform(8, 20)), float(random.uniform(12, 35)))
    window = grid.window(centre, half)
    distance = ellipsoid_distance(grid.axes(window), centre, half)
    soft = np.isin(anatomy.canvas.labels_zyx[window], (Label.FAT, Label.MUSCLE))
    inside = float(random.uniform(12, 28))
    hu: Floats = np.where(distance > -1.6, np.float32(random.uniform(180, 420)), np.float32(inside))
    anatomy.canvas.paint(window, soft & (distance < 0), Label.OLD_HEMATOMA, np.asarray(hu, np.float32))


def draw_bowel_injury(anatomy: Anatomy, random: np.random.Generator) -> Point:
    """A thick wall along part of a loop, stranding around it, and free air below the front wall; returns its middle."""
    grid, canvas = anatomy.canvas.grid, anatomy.canvas
    drawn = [loop for loop in anatomy.bowel if _shown(anatomy, loop)] or anatomy.bowel
    loop = drawn[int(random.integers(len(drawn)))]
    first = int(random.integers(max(1, len(loop) - 12)))
    part = loop[first : first + 12]
    thick = float(random.uniform(5, 8))
    for bead in part:
        window, distance = ball_distance(grid, bead, margin_mm=4)
        around = np.isin(canvas.labels_zyx[window], (Label.BOWEL, Label.FAT, Label.INJURED_BOWEL))
        wall = (distance > -thick) & (distance < 1.5) & around
        canvas.paint(window, wall, Label.INJURED_BOWEL, 0.6 * anatomy.enhancement.bowel_wall + 8)
        fat = (distance >= 1.5) & (distance < 4) & (canvas.labels_zyx[window] == Label.FAT)
        canvas.hu_zyx[window][fat] = -45.0
    _draw_free_air(anatomy, part[len(part) // 2].centre, random)
    return part[len(part) // 2].centre


def _shown(anatomy: Anatomy, loop: list[Bead]) -> bool:
    """Whether most of a loop was drawn, and not covered by an organ."""
    grid, seen = anatomy.canvas.grid, 0
    for bead in loop:
        window = grid.window(bead.centre, (3, 3, 0.6 * grid.spacing_zyx_mm[0]))
        seen += bool((anatomy.canvas.labels_zyx[window] == Label.BOWEL).any())
    return seen > 0.7 * len(loop)


def _draw_free_air(anatomy: Anatomy, near: Point, random: np.random.Generator) -> None:
    """A bubble or a pocket at the front of the belly, and small bubbles beside the loop."""
    grid, canvas, body = anatomy.canvas.grid, anatomy.canvas, anatomy.body
    height = float(random.uniform(0, 60))
    window = grid.window(
        (0, -0.75 * body.cavity_half_y, height), (0.6 * body.cavity_half_x, 0.35 * body.cavity_half_y, 35)
    )
    _, y, x = grid.axes(window)
    order = y + 0.02 * np.abs(x) + 1.5 * smooth_noise(random, grid.shape_of(window), grid.spacing_zyx_mm, 20)
    free = anatomy.peritoneal(window)
    count = min(int(float(np.exp(random.uniform(np.log(2), np.log(30)))) / grid.voxel_ml) + 1, int(free.sum()))
    if count:
        level = np.partition(order[free], count - 1)[count - 1]
        canvas.paint(window, free & (order <= level), Label.FREE_AIR, -900.0)
    for _ in range(int(random.integers(2, 6))):
        spot = tuple(value + float(random.normal(0, 14)) for value in near)
        part, distance = ball_distance(grid, Bead((spot[0], spot[1], spot[2]), float(random.uniform(1.5, 4))))
        canvas.paint(part, (distance < 0) & (canvas.labels_zyx[part] == Label.FAT), Label.FREE_AIR, -850.0)
