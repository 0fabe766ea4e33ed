"""The uninjured body: wall, bones, lungs, solid organs, vessels; bowel is in `hollow`."""

from dataclasses import dataclass, field

import numpy as np

from trauma_api.phantom.body import Body, Enhancement
from trauma_api.phantom.labels import Label
from trauma_api.phantom.shapes import (
    Bead,
    Canvas,
    Floats,
    Mask,
    Point,
    Window,
    ball_distance,
    beads_along,
    ellipsoid_distance,
    smooth_noise,
)

_FAR_MM = 30.0
"""How far around an organ its distance is kept: blood is drawn there."""


@dataclass(frozen=True)
class Organ:
    """A solid organ: its window, and the distance in mm from its surface there, negative inside."""

    label: Label
    window: Window
    distance_mm: Floats
    hu: float


@dataclass
class Anatomy:
    """What is drawn so far, and where things are. ``cavity_q`` is below 1 inside the abdominal wall."""

    canvas: Canvas
    body: Body
    enhancement: Enhancement
    cavity_q: Floats
    under_diaphragm_mm: Floats
    """Depth below the diaphragm in mm, of the grid's shape; negative in the chest."""
    organs: dict[Label, Organ] = field(default_factory=dict)
    bowel: list[list[Bead]] = field(default_factory=list)
    """Each loop of small bowel as the balls along it."""

    def peritoneal(self, window: Window) -> Mask:
        """Fat inside the peritoneal cavity, where blood can spread; of the window's shape."""
        z, y, x = self.canvas.grid.axes(window)
        lateral = (np.abs(x) / self.body.cavity_half_x) ** 2
        behind = np.where(z > 40, 0.42, np.where(z > -60, 0.22, 0.45)) + 0.45 * lateral
        low = z > self.body.pelvis_z + 4
        inside = (self.cavity_q[window] < 0.95) & (self.under_diaphragm_mm[window] > 3) & low
        fat = self.canvas.labels_zyx[window] == Label.FAT
        return np.asarray(fat & inside & (y < self.body.cavity_half_y * behind))

    def retroperitoneal(self, window: Window) -> Mask:
        """Fat inside the cavity that is not peritoneal; of the window's shape."""
        fat = self.canvas.labels_zyx[window] == Label.FAT
        inside = (self.cavity_q[window] < 0.97) & (self.under_diaphragm_mm[window] > 3)
        return np.asarray(fat & inside & ~self.peritoneal(window))


def draw_body_wall(canvas: Canvas, body: Body, enhancement: Enhancement, random: np.random.Generator) -> Anatomy:
    """Fat, muscle, cavity, diaphragm and lungs."""
    grid = canvas.grid
    inner = _oval(canvas, body, 0.0, 0.0)
    middle = _oval(canvas, body, body.muscle_mm, body.muscle_mm + 28)
    outer = _oval(canvas, body, body.muscle_mm + body.fat_mm, body.muscle_mm + 28 + 0.9 * body.fat_mm)
    everything = grid.everything
    canvas.paint(everything, outer < 1, Label.FAT, enhancement.fat)
    canvas.paint(everything, middle < 1, Label.MUSCLE, enhancement.muscle)
    canvas.paint(everything, inner < 1, Label.FAT, enhancement.fat)
    depth = _diaphragm(canvas, body) - grid.z[:, None, None]
    anatomy = Anatomy(canvas, body, enhancement, inner, np.asarray(depth, np.float32))
    canvas.paint(everything, (np.abs(depth) < 2.0) & (inner < 1), Label.MUSCLE, enhancement.muscle)
    _draw_chest(anatomy, random)
    return anatomy


def _oval(canvas: Canvas, body: Body, more_side: float, more_back: float) -> Floats:
    """Below 1 inside an oval around the cavity, wider by so many mm at the sides and front, and at the back."""
    z, y, x = canvas.grid.z, canvas.grid.y, canvas.grid.x
    narrowing = np.interp(
        z, [body.pelvis_z - 40, body.pelvis_z + 30, -60, 40, body.dome_z], [0.80, 0.86, 1.0, 1.0, 0.93]
    )
    hip = np.interp(z, [body.pelvis_z - 40, body.pelvis_z + 40, -40], [1.32, 1.22, 1.0]) if more_side else 1.0
    half_x = (body.cavity_half_x + more_side) * narrowing * hip
    half_front = (body.cavity_half_y + more_side) * np.interp(z, [body.pelvis_z, -80, 60], [0.92, 1.0, 1.0])
    half_back = (body.cavity_half_y + more_back) * np.interp(z, [body.pelvis_z, -80], [1.0, 1.0])
    power = 2.5
    side = (np.abs(x)[None, :] ** power) / (half_x[:, None] ** power)
    front, back = np.maximum(-y, 0) ** power, np.maximum(y, 0) ** power
    along = front[None, :] / half_front[:, None] ** power + back[None, :] / half_back[:, None] ** power
    return np.asarray(side[:, None, :] + along[:, :, None], np.float32)


def _diaphragm(canvas: Canvas, body: Body) -> Floats:
    """Height of the diaphragm in mm, (rows, columns): two domes, the right one higher."""
    y, x = canvas.grid.y[:, None], canvas.grid.x[None, :]
    reach_x, reach_y = 0.62 * body.cavity_half_x, 1.05 * body.cavity_half_y
    right = body.dome_z - 62 * (((x + 0.48 * body.cavity_half_x) / reach_x) ** 2 + (y / reach_y) ** 2)
    left = body.dome_z - 12 - 62 * (((x - 0.50 * body.cavity_half_x) / reach_x) ** 2 + (y / reach_y) ** 2)
    return np.asarray(np.maximum(right, left), np.float32)


def _draw_chest(anatomy: Anatomy, random: np.random.Generator) -> None:
    canvas, body, tissue = anatomy.canvas, anatomy.body, anatomy.enhancement
    slices = int(np.count_nonzero(canvas.grid.z > body.dome_z - 150))
    window = slice(0, slices), slice(0, canvas.grid.shape_zyx[1]), slice(0, canvas.grid.shape_zyx[2])
    z, y, x = canvas.grid.axes(window)
    chest = (anatomy.under_diaphragm_mm[window] < -2) & (anatomy.cavity_q[window] < 0.98)
    heart = ellipsoid_distance((z, y, x), (20, -0.35 * body.cavity_half_y, body.dome_z + 20), (58, 46, 45), 0.4) < 0
    middle = (np.abs(x) < 18) & (y > 0.1 * body.cavity_half_y)
    lung = -860 + 25 * smooth_noise(random, canvas.grid.shape_of(window), canvas.grid.spacing_zyx_mm, 9)
    canvas.paint(window, chest & ~heart & ~middle, Label.LUNG, np.asarray(lung, np.float32))
    canvas.paint(window, chest & middle, Label.FAT, tissue.fat)
    canvas.paint(
        window, chest & heart, Label.SOFT_TISSUE, 0.5 * (tissue.aorta + tissue.vein) if tissue.phase != "none" else 42
    )


def draw_solid_organs(anatomy: Anatomy, random: np.random.Generator, *, spleen: bool) -> None:
    """Liver, spleen (unless it was removed), kidneys; later ones give way to earlier ones."""
    body, tissue = anatomy.body, anatomy.enhancement
    _draw_kidneys(anatomy, random)
    _draw_liver(anatomy, random)
    if spleen:
        a, b = body.cavity_half_x, body.cavity_half_y
        centre = (
            0.72 * a + random.uniform(-6, 6),
            0.34 * b + random.uniform(-6, 6),
            body.dome_z - random.uniform(66, 82),
        )
        half = (random.uniform(25, 33), random.uniform(36, 46), random.uniform(46, 62))
        window = anatomy.canvas.grid.window(centre, tuple(value + _FAR_MM for value in half))  # type: ignore[arg-type]
        turn = random.uniform(0.2, 0.5)
        distance = ellipsoid_distance(anatomy.canvas.grid.axes(window), centre, half, turn, random.uniform(-0.2, 0.3))
        hilum = (centre[0] - 1.15 * half[0], centre[1] - 8, centre[2])
        hollow = ellipsoid_distance(
            anatomy.canvas.grid.axes(window), hilum, (0.75 * half[0], 0.55 * half[1], 0.8 * half[2])
        )
        _finish(anatomy, random, Label.SPLEEN, window, np.maximum(distance, -hollow), tissue.spleen)
        if tissue.phase == "arterial":
            _mottle(anatomy, random, Label.SPLEEN, 22.0)


def _mottle(anatomy: Anatomy, random: np.random.Generator, label: Label, amount_hu: float) -> None:
    """The uneven early enhancement of the spleen."""
    organ, canvas = anatomy.organs[label], anatomy.canvas
    bands = smooth_noise(random, canvas.grid.shape_of(organ.window), canvas.grid.spacing_zyx_mm, 11)
    inside = canvas.labels_zyx[organ.window] == label
    canvas.hu_zyx[organ.window][inside] += amount_hu * bands[inside]


def _draw_liver(anatomy: Anatomy, random: np.random.Generator) -> None:
    body, grid = anatomy.body, anatomy.canvas.grid
    a, b, top = body.cavity_half_x, body.cavity_half_y, body.dome_z
    low = top - random.uniform(165, 190)
    window = grid.window((-0.1 * a, 0, (top + low) / 2), (0.95 * a + 10, b + 5, (top - low) / 2 + _FAR_MM))
    axes = grid.axes(window)
    right = ellipsoid_distance(axes, (-0.52 * a, 0.02 * b, top - 78), (0.62 * a, 0.98 * b, 98))
    left = ellipsoid_distance(axes, (0.04 * a, -0.42 * b, top - 58), (random.uniform(0.42, 0.62) * a, 0.42 * b, 44))
    z, y, x = axes
    slope = random.uniform(0.55, 0.75)
    under = (low + slope * (x + 0.95 * a) + 0.25 * (y + b) * (x < 0) - z) * np.float32(0.8)
    distance = np.maximum(np.minimum(right, left), under)
    # the back of the liver leaves room for the spine and the great vessels
    bare = 0.30 * (x - 0.25 * a) + 0.13 * y - 0.1 * b
    distance = np.where(y > 0.1 * b, np.maximum(distance, bare), distance)
    _finish(anatomy, random, Label.LIVER, window, distance, anatomy.enhancement.liver)
    _draw_liver_vessels(anatomy, random)


def _draw_liver_vessels(anatomy: Anatomy, random: np.random.Generator) -> None:
    body, canvas = anatomy.body, anatomy.canvas
    porta: Point = (-0.18 * body.cavity_half_x, 0.1 * body.cavity_half_y, body.dome_z - 85)
    crown: Point = (-0.14 * body.cavity_half_x, 0.35 * body.cavity_half_y, body.dome_z - 25)
    for root in (porta,) * 6 + (crown,) * 4:
        reach = random.uniform(-1, 0.35) * 0.75 * body.cavity_half_x
        tip = (reach, random.uniform(-0.7, 0.5) * body.cavity_half_y, body.dome_z - random.uniform(35, 135))
        bend = tuple((p + q) / 2 + random.uniform(-12, 12) for p, q in zip(root, tip, strict=True))
        for bead in beads_along([root, bend, tip], [random.uniform(3.5, 5.5), 3, 1.2], 2.5):  # type: ignore[list-item]
            window, distance = ball_distance(canvas.grid, bead)
            inside = (distance < 0) & (canvas.labels_zyx[window] == Label.LIVER)
            canvas.hu_zyx[window][inside] = anatomy.enhancement.liver_vessel


def _draw_kidneys(anatomy: Anatomy, random: np.random.Generator) -> None:
    body, tissue, grid = anatomy.body, anatomy.enhancement, anatomy.canvas.grid
    for side, label, drop in ((1, Label.LEFT_KIDNEY, 0.0), (-1, Label.RIGHT_KIDNEY, 16.0)):
        centre = (
            side * (0.47 * body.cavity_half_x + random.uniform(-4, 4)),
            0.50 * body.cavity_half_y + random.uniform(-4, 4),
            body.dome_z - 140 - drop + random.uniform(-10, 10),
        )
        half = (random.uniform(23, 29), random.uniform(22, 27), random.uniform(48, 58))
        window = grid.window(centre, tuple(value + _FAR_MM for value in half))  # type: ignore[arg-type]
        axes, turn = grid.axes(window), -side * random.uniform(0.3, 0.7)
        distance = ellipsoid_distance(axes, centre, half, turn, side * random.uniform(0.05, 0.3))
        sinus_centre = (centre[0] - side * 0.55 * half[0], centre[1] - 6, centre[2])
        sinus = ellipsoid_distance(axes, sinus_centre, (0.6 * half[0], 0.42 * half[1], 0.48 * half[2]), turn)
        organ = _finish(anatomy, random, label, window, np.maximum(distance, -sinus), tissue.cortex, wobble_mm=1.2)
        deep = (distance < -random.uniform(6, 8)) & (anatomy.canvas.labels_zyx[window] == label)
        anatomy.canvas.hu_zyx[organ.window][deep] = tissue.medulla
        pelvis = ellipsoid_distance(axes, sinus_centre, (0.3 * half[0], 0.2 * half[1], 0.25 * half[2]), turn) < 0
        anatomy.canvas.paint(window, pelvis & (sinus < 0), Label.SOFT_TISSUE, tissue.urine)


def _finish(
    anatomy: Anatomy,
    random: np.random.Generator,
    label: Label,
    window: Window,
    distance: Floats,
    hu: float,
    wobble_mm: float = 2.0,
) -> Organ:
    """Roughen an organ's surface, keep it inside the cavity and below the diaphragm, and paint it."""
    canvas, body = anatomy.canvas, anatomy.body
    wobble = smooth_noise(random, canvas.grid.shape_of(window), canvas.grid.spacing_zyx_mm, 28)
    wall = (anatomy.cavity_q[window] - 1) * np.float32(body.cavity_half_y / 2.5) + 3
    roof = (5 - anatomy.under_diaphragm_mm[window]) * np.float32(0.75)
    shaped = np.maximum(np.maximum(distance + wobble_mm * wobble, wall), roof)
    free = np.isin(canvas.labels_zyx[window], (Label.FAT, Label.STOMACH, Label.BOWEL, Label.PANCREAS))
    shaped = np.where((shaped < 0) & ~free, np.float32(1.0), shaped)
    canvas.paint(window, shaped < 0, label, hu)
    organ = Organ(label, window, np.asarray(shaped, np.float32), hu)
    anatomy.organs[label] = organ
    return organ
