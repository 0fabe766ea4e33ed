"""A phantom from a seed and a scenario: plan, anatomy, injuries, scan, truth."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trauma_api.phantom.anatomy import Anatomy, draw_body_wall, draw_solid_organs
from trauma_api.phantom.bleeding import Fluid, Jet, draw_jet, fill_compartment, fill_retroperitoneum
from trauma_api.phantom.body import Body, draw_body, draw_enhancement
from trauma_api.phantom.count import DrawnCase, count_truth
from trauma_api.phantom.distractors import draw_bowel_injury, draw_distractors
from trauma_api.phantom.hollow import draw_gallbladder, draw_hollow_organs
from trauma_api.phantom.injuries import DrawnInjury, draw_injury
from trauma_api.phantom.labels import Label
from trauma_api.phantom.plan import Acquisition, CasePlan
from trauma_api.phantom.scanner import (
    LARGEST_PIXEL_MM,
    MATRIX,
    Scan,
    add_surroundings,
    scan_on_scanner_grid,
    scan_on_working_grid,
)
from trauma_api.phantom.scenarios import SCENARIOS, SITE_OF_ORGAN
from trauma_api.phantom.shapes import Bead, Canvas, Grid, Point
from trauma_api.phantom.skeleton import draw_great_vessels, draw_skeleton
from trauma_api.phantom.truth import ExtravasationSite, PhantomTruth

WORKING_PIXEL_MM = 1.5
_THINNEST_DRAWN_MM = 2.0


@dataclass(frozen=True)
class Phantom:
    """Images, labels (`Label`) and truth.

    int16 and uint8 of (slices, rows, columns): slices head to feet, rows front to back, columns the patient's right to
    left.
    """

    voxels_zyx_hu: NDArray[np.int16]
    labels_zyx: NDArray[np.uint8]
    spacing_zyx_mm: tuple[float, float, float]
    truth: PhantomTruth


def draw_phantom(seed: int, scenario: str = "random", acquisition: Acquisition | None = None) -> Phantom:
    """A phantom as a scanner shows it, 512 x 512 pixels; the same arguments give the same voxels.

    ``acquisition`` takes the place of the scenario's own. Raises KeyError for an unknown scenario.
    """
    case, scan_random = _draw_case(seed, scenario, acquisition)
    return _phantom(scan_on_scanner_grid(case.anatomy.canvas, case.acquisition, scan_random), case)


def draw_training_phantom(seed: int, scenario: str = "random") -> Phantom:
    """The same patient on the grid that it is drawn on, with 1.5 mm pixels, where slices of less than 2 mm are drawn
    twice as thick; much faster. Raises KeyError for an unknown scenario."""
    case, scan_random = _draw_case(seed, scenario, None)
    return _phantom(scan_on_working_grid(case.anatomy.canvas, case.acquisition, scan_random), case)


def _phantom(scan: Scan, case: DrawnCase) -> Phantom:
    truth = count_truth(case, scan.labels_zyx, scan.spacing_zyx_mm)
    return Phantom(scan.voxels_zyx_hu, scan.labels_zyx, scan.spacing_zyx_mm, truth)


def _draw_case(seed: int, scenario: str, acquisition: Acquisition | None) -> tuple[DrawnCase, np.random.Generator]:
    plan_random, body_random, injury_random, scan_random = np.random.default_rng(seed).spawn(4)
    plan = SCENARIOS[scenario].plan(plan_random)
    body = draw_body(body_random)
    used = _fitted(body, acquisition or plan.acquisition)
    grid = _grid(body, used)
    anatomy, aorta = _draw_anatomy(grid, body, plan, body_random)
    draw_distractors(anatomy, plan.distractors, aorta, body_random)
    injuries, jets = _draw_injuries(anatomy, plan, injury_random)
    add_surroundings(anatomy, used, scan_random)
    return DrawnCase(seed, scenario, plan, used, anatomy, injuries, jets), scan_random


def _fitted(body: Body, acquisition: Acquisition) -> Acquisition:
    """A field of view that holds the body, as far as the scanner's largest does."""
    least = 1.03 * body.width_mm / MATRIX
    return replace(acquisition, pixel_mm=round(min(max(acquisition.pixel_mm, least), LARGEST_PIXEL_MM), 3))


def _grid(body: Body, acquisition: Acquisition) -> Grid:
    """As large as the body with what surrounds it; beyond is air."""
    slice_mm = acquisition.slice_mm * (2 if acquisition.slice_mm < _THINNEST_DRAWN_MM else 1)
    top = body.dome_z + body.lung_above_mm
    slices = int((top - (body.pelvis_z - 80)) / slice_mm)
    beside_mm, behind_mm = (100.0 if acquisition.arms else 12.0), 40.0
    field_mm = MATRIX * acquisition.pixel_mm
    columns, rows = (
        2 * int(min(size_mm, field_mm) / 2 / WORKING_PIXEL_MM)
        for size_mm in (body.width_mm + 2 * beside_mm, 2 * (body.back_mm + behind_mm))
    )
    return Grid((slices, rows, columns), (slice_mm, WORKING_PIXEL_MM, WORKING_PIXEL_MM), top)


def _draw_anatomy(grid: Grid, body: Body, plan: CasePlan, random: np.random.Generator) -> tuple[Anatomy, list[Bead]]:
    tissue = draw_enhancement(random, plan.phase, fatty_liver="fatty_liver" in plan.distractors)
    anatomy = draw_body_wall(Canvas(grid), body, tissue, random)
    draw_skeleton(anatomy, random)
    draw_hollow_organs(
        anatomy,
        random,
        full_bladder="full_bladder" in plan.distractors,
        unopacified="unopacified_bowel" in plan.distractors,
    )
    draw_solid_organs(anatomy, random, spleen="splenectomy" not in plan.distractors)
    aorta = draw_great_vessels(anatomy, random)
    draw_gallbladder(anatomy, random)
    return anatomy, aorta


def _draw_injuries(
    anatomy: Anatomy, plan: CasePlan, random: np.random.Generator
) -> tuple[dict[Label, DrawnInjury], list[Jet]]:
    injuries = {label: draw_injury(anatomy, label, injury, random) for label, injury in plan.organs.items()}
    body = anatomy.body
    sources: dict[ExtravasationSite, Point] = {
        SITE_OF_ORGAN[label]: injury.centre for label, injury in injuries.items()
    }
    if plan.bowel_injury:
        sources["mesentery"] = draw_bowel_injury(anatomy, random)
    elif Label.MESENTERIC in plan.pools_ml:
        sources["mesentery"] = (
            float(random.uniform(-30, 30)),
            -0.1 * body.cavity_half_y,
            float(random.uniform(-60, 20)),
        )
    first = next(iter(sources.values()), None)
    fluid = Fluid(plan.blood_hu, float(random.uniform(10, 24)), first)
    for compartment, volume_ml in plan.pools_ml.items():
        fill_compartment(anatomy, compartment, volume_ml, fluid, random)
    for site, volume_ml in plan.retroperitoneal_ml.items():
        sources.setdefault(site, _retroperitoneal_source(anatomy, site, first, random))
        around = Fluid(plan.blood_hu + 6, fluid.clot_hu, sources[site])
        fill_retroperitoneum(anatomy, sources[site], volume_ml, around, random)
    jets = [draw_jet(anatomy, site, sources[site], size, random) for site, size in plan.jets if site in sources]
    return injuries, [jet for jet in jets if jet is not None]


def _retroperitoneal_source(anatomy: Anatomy, site: str, first: Point | None, random: np.random.Generator) -> Point:
    body = anatomy.body
    side = float(random.choice([-1, 1])) if first is None else float(np.sign(first[0]) or 1)
    if site == "pelvis":
        return (
            side * 0.45 * body.cavity_half_x,
            0.25 * body.cavity_half_y,
            body.pelvis_z + float(random.uniform(25, 70)),
        )
    height = float(random.uniform(-60, 30)) if first is None else first[2] - 30
    return side * 0.45 * body.cavity_half_x, 0.55 * body.cavity_half_y, height
