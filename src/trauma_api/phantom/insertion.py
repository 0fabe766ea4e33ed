"""Injury drawn into a real CT that has an organ label map, with a truth as a phantom has."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trauma_api.phantom.bleeding import Fluid, Jet, draw_jet, fill_compartment, fill_retroperitoneum
from trauma_api.phantom.count import DrawnCase, count_truth
from trauma_api.phantom.draw import Phantom
from trauma_api.phantom.injuries import DrawnInjury, draw_injury
from trauma_api.phantom.labels import BLOOD_LABELS, Label
from trauma_api.phantom.plan import Acquisition, CasePlan
from trauma_api.phantom.real_anatomy import SOLID_ORGANS, RealAnatomy, real_anatomy
from trauma_api.phantom.scenarios import SCENARIOS, SITE_OF_ORGAN
from trauma_api.phantom.shapes import Floats, Mask, Point
from trauma_api.phantom.truth import ExtravasationSite, Phase

RANDOM_INJURED = "random-injured"
"""As the scenario "random", but always injured."""

_TISSUE_SMOOTH_MM, _NOISE_SMOOTH_MM = 1.6, 3.0
"""How much is smoothed to tell tissues apart, and to tell noise from what is shown: coarse noise needs more."""
SCANNER_BLUR_MM = 0.8
_UNEVEN_MM, _UNEVEN_HU = 7.0, 30.0
_SEEN_SHARE = 0.004
"""Below this share of the drawn a voxel keeps its value."""
_WHOLE_MM = 60.0
"""A volume at least so tall takes a pool's whole planned volume."""
_MOST_ML_PER_MM = 1.6
_PLANS_TRIED = 100
_SPAN_Z: dict[Label, tuple[float, float]] = {
    Label.RIGHT_GUTTER: (-85, 75),
    Label.LEFT_GUTTER: (-85, 75),
    Label.MESENTERIC: (-110, 70),
}
"""The heights that `bleeding` fills, in mm about the middle of the abdomen."""
_NEEDS: dict[Label, tuple[Label, ...]] = {
    Label.PERIHEPATIC: (Label.LIVER,),
    Label.MORISON: (Label.LIVER, Label.RIGHT_KIDNEY),
    Label.PERISPLENIC: (Label.SPLEEN,),
}


def insert_injury(
    voxels_zyx_hu: NDArray[np.int16],
    organs_zyx: NDArray[np.uint8],
    spacing_zyx_mm: tuple[float, float, float],
    seed: int,
    scenario: str = RANDOM_INJURED,
    *,
    cut_organs: bool = False,
    blur_mm: float = SCANNER_BLUR_MM,
) -> Phantom:
    """A real CT with the injuries of a scenario; the same arguments give the same voxels.

    Axes are canonical: slices head to feet, rows front to back, columns the patient's right to left. ``organs_zyx``
    holds `Label` values (see `real_anatomy.organs_of_totalsegmentator`), AIR where nothing is labelled. Only what the
    CT can show is drawn: no organ that is not in the map or, unless ``cut_organs``, that an end of the volume cuts; no
    bowel injury and no distractor; without contrast neither extravasation nor infarcts. A pool's planned volume shrinks
    where the volume is less than 60 mm tall. A scenario without injury gives the CT as it is.
    Blood takes the images' noise, and edges as soft as ``blur_mm`` (a standard deviation) says.
    Raises KeyError for an unknown scenario, and ValueError when shapes differ, no abdominal organ is labelled or the
    CT holds no place for any injury of the scenario.
    """
    if voxels_zyx_hu.shape != organs_zyx.shape:
        raise ValueError("images and label map differ in shape")
    plan_random, injury_random, image_random = np.random.default_rng(seed).spawn(3)
    original = voxels_zyx_hu.astype(np.float32)
    anatomy = real_anatomy(_smoothed(original, spacing_zyx_mm, _TISSUE_SMOOTH_MM), organs_zyx, spacing_zyx_mm)
    smooth = _smoothed(original, spacing_zyx_mm, _NOISE_SMOOTH_MM)
    anatomy.canvas.hu_zyx = smooth.copy()
    plan = _plan(anatomy, scenario, plan_random, cut_organs=cut_organs)
    before = anatomy.canvas.labels_zyx.copy()
    injuries, jets = _draw(anatomy, plan, injury_random)
    drawn = anatomy.canvas.labels_zyx != before
    _take_unevenness(anatomy, smooth, before)
    noise = _own_noise(original - smooth, anatomy, image_random)
    voxels = _blended(original, noise, anatomy, drawn, blur_mm)
    labels = anatomy.canvas.labels_zyx
    case = DrawnCase(seed, scenario, plan, plan.acquisition, anatomy, injuries, jets)
    return Phantom(voxels, labels, spacing_zyx_mm, count_truth(case, labels, spacing_zyx_mm))


def _plan(anatomy: RealAnatomy, scenario: str, random: np.random.Generator, *, cut_organs: bool) -> CasePlan:
    """A plan of the scenario, drawn again until something of it fits the CT."""
    drawer = SCENARIOS["random" if scenario == RANDOM_INJURED else scenario].plan
    for _ in range(_PLANS_TRIED):
        planned = drawer(random)
        fitted = _fitted(anatomy, planned, cut_organs=cut_organs)
        if fitted.injured or (not planned.injured and scenario != RANDOM_INJURED):
            return fitted
    raise ValueError(f"the CT has no place for an injury of the scenario {scenario}")


def _fitted(anatomy: RealAnatomy, plan: CasePlan, *, cut_organs: bool) -> CasePlan:
    phase: Phase = anatomy.enhancement.phase
    left_out = frozenset() if cut_organs else anatomy.cut_organs
    organs = {label: injury for label, injury in plan.organs.items() if label in anatomy.organs.keys() - left_out}
    if phase == "none":
        organs = {label: replace(injury, infarct_share=0.0, blush="none") for label, injury in organs.items()}
        organs = {label: injury for label, injury in organs.items() if any(vars(injury).values())}
    grid = anatomy.canvas.grid
    tall_mm = grid.shape_zyx[0] * grid.spacing_zyx_mm[0]
    share = min(1.0, tall_mm / _WHOLE_MM)
    most_ml = _MOST_ML_PER_MM * tall_mm
    pools = {label: min(ml * share, most_ml) for label, ml in plan.pools_ml.items() if _has_place(anatomy, label)}
    sites = {site: ml * share for site, ml in plan.retroperitoneal_ml.items() if _retroperitoneal(anatomy, site, 1.0)}
    bleeding: set[ExtravasationSite] = {SITE_OF_ORGAN[label] for label in organs} | set(sites)
    if pools:
        bleeding.add("mesentery")
    return replace(
        plan,
        phase=phase,
        acquisition=Acquisition(grid.spacing_zyx_mm[1], grid.spacing_zyx_mm[0], 0.0),
        organs=organs,
        pools_ml=pools,
        retroperitoneal_ml=sites,
        bowel_injury=False,
        jets=() if phase == "none" else tuple(jet for jet in plan.jets if jet[0] in bleeding),
        distractors=(),
    )


def _has_place(anatomy: RealAnatomy, compartment: Label) -> bool:
    """Whether the volume holds the compartment or much of it."""
    if compartment in _NEEDS:
        return all(label in anatomy.organs for label in _NEEDS[compartment])
    z = anatomy.canvas.grid.z
    if compartment == Label.PELVIC:
        return bool((anatomy.canvas.labels_zyx == Label.BLADDER).any()) and float(z[-1]) <= anatomy.body.pelvis_z
    low, high = _SPAN_Z[compartment]
    return float(np.count_nonzero((z > low) & (z < high))) * anatomy.canvas.grid.spacing_zyx_mm[0] > 40


def _retroperitoneal(anatomy: RealAnatomy, site: str, side: float) -> Point | None:
    """The fat behind a kidney, or beside the bladder; None where the volume does not show it."""
    body, z = anatomy.body, anatomy.canvas.grid.z
    if site == "pelvis":
        seen = _has_place(anatomy, Label.PELVIC)
        return (side * 0.45 * body.cavity_half_x, 0.25 * body.cavity_half_y, body.pelvis_z + 35) if seen else None
    kidney = anatomy.organs.get(Label.RIGHT_KIDNEY if side < 0 else Label.LEFT_KIDNEY)
    if kidney is None:
        return None
    slices, rows, columns = (
        round(float(axis.mean())) + part.start
        for axis, part in zip(np.nonzero(kidney.distance_mm < 0), kidney.window, strict=True)
    )
    grid = anatomy.canvas.grid
    return float(grid.x[columns]), float(grid.y[rows]) + 8, float(z[slices]) - 25


def _draw(
    anatomy: RealAnatomy, plan: CasePlan, random: np.random.Generator
) -> tuple[dict[Label, DrawnInjury], list[Jet]]:
    injuries = {label: draw_injury(anatomy, label, injury, random) for label, injury in plan.organs.items()}
    sources: dict[ExtravasationSite, Point] = {
        SITE_OF_ORGAN[label]: injury.centre for label, injury in injuries.items()
    }
    if plan.phase == "none":
        _clot_unenhanced(anatomy, random)
    if Label.MESENTERIC in plan.pools_ml:
        y = -0.1 * anatomy.body.cavity_half_y
        sources["mesentery"] = (float(random.uniform(-30, 30)), y, float(random.uniform(-60, 20)))
    _let_rims_give_way(anatomy)
    first = next(iter(sources.values()), None)
    fluid = Fluid(plan.blood_hu, float(random.uniform(10, 24)), first)
    for compartment, volume_ml in plan.pools_ml.items():
        fill_compartment(anatomy, compartment, volume_ml, fluid, random)
    for site, volume_ml in plan.retroperitoneal_ml.items():
        side = float(random.choice([-1, 1])) if first is None else float(np.sign(first[0]) or 1)
        place = _retroperitoneal(anatomy, site, side) or _retroperitoneal(anatomy, site, -side)
        if place is not None:
            sources.setdefault(site, place)
            around = Fluid(plan.blood_hu + 6, fluid.clot_hu, place)
            fill_retroperitoneum(anatomy, place, volume_ml, around, random)
    jets = [draw_jet(anatomy, site, sources[site], size, random) for site, size in plan.jets if site in sources]
    return injuries, [jet for jet in jets if jet is not None]


def _let_rims_give_way(anatomy: RealAnatomy) -> None:
    """Blood about an organ starts at its surface, and from there both spreads outwards and presses the rim in."""
    for label in (Label.LIVER, Label.SPLEEN):
        if label in anatomy.organs:
            organ = anatomy.organs[label]
            anatomy.organs[label] = replace(organ, distance_mm=np.abs(organ.distance_mm))


def _clot_unenhanced(anatomy: RealAnatomy, random: np.random.Generator) -> None:
    """Without contrast a clot is as dense as the organ around it or denser, not a dark cleft."""
    for label in (Label.LACERATION, Label.SUBCAPSULAR):
        anatomy.canvas.hu_zyx[anatomy.canvas.labels_zyx == label] += random.uniform(4, 16)


def _smoothed(hu: Floats, spacing_zyx_mm: tuple[float, float, float], sigma_mm: float) -> Floats:
    """Smoothed within slices."""
    sigma = sigma_mm / spacing_zyx_mm[1]
    return np.asarray(ndimage.gaussian_filter(hu, (0, sigma, sigma), truncate=3), np.float32)


def _take_unevenness(anatomy: RealAnatomy, smooth_hu: Floats, before: NDArray[np.uint8]) -> None:
    """Beam hardening darkens parts of an organ; blood that takes the organ's place there is darker as well."""
    canvas = anatomy.canvas
    for label, organ in anatomy.organs.items():
        inside = before[organ.window] == label
        blood = inside & (canvas.labels_zyx[organ.window] >= Label.LACERATION)
        if not blood.any():
            continue
        weight = _smoothed(inside.astype(np.float32), canvas.grid.spacing_zyx_mm, _UNEVEN_MM)
        more = np.where(inside, smooth_hu[organ.window] - np.float32(organ.hu), np.float32(0))
        more = _smoothed(more, canvas.grid.spacing_zyx_mm, _UNEVEN_MM) / np.maximum(weight, np.float32(0.05))
        canvas.hu_zyx[organ.window][blood] += np.clip(more, -_UNEVEN_HU, _UNEVEN_HU)[blood]


def _blended(original: Floats, noise: Floats, anatomy: RealAnatomy, drawn: Mask, blur_mm: float) -> NDArray[np.int16]:
    """The drawing with the images' own noise, through a mask with soft edges; elsewhere the original."""
    if not drawn.any():
        return np.asarray(original, np.int16)
    spacing = anatomy.canvas.grid.spacing_zyx_mm
    share = _smoothed(drawn.astype(np.float32), spacing, blur_mm)
    share[share < _SEEN_SHARE] = 0
    # what the brush painted is carried over its edge, or the blurred edge would take the original's values twice
    carried = _smoothed(np.where(drawn, anatomy.canvas.hu_zyx, np.float32(0)), spacing, blur_mm)
    paint = np.where(drawn, anatomy.canvas.hu_zyx, carried / np.maximum(share, np.float32(_SEEN_SHARE)))
    mixed = original * (1 - share) + (paint + noise) * share
    mixed = np.clip(np.rint(mixed), original.min(), original.max())
    return np.where(share > 0, mixed, original).astype(np.int16)


def _own_noise(residual: Floats, anatomy: RealAnatomy, random: np.random.Generator) -> Floats:
    """The images' noise; at edges, where the residual holds structure, noise as strong and as grained."""
    quiet = np.isin(anatomy.canvas.labels_zyx, (*SOLID_ORGANS, Label.MUSCLE, *BLOOD_LABELS))
    quiet = ndimage.binary_erosion(quiet, np.ones((1, 5, 5), bool))
    values = residual[quiet] if quiet.any() else residual.ravel()
    strength = float(1.4826 * np.median(np.abs(values)))
    pairs = quiet[:, :, 1:] & quiet[:, :, :-1]
    left, right = (
        np.clip(side[pairs], -3 * strength, 3 * strength) for side in (residual[:, :, :-1], residual[:, :, 1:])
    )
    likeness = float((left * right).mean() / max(float((left**2).mean()), 1e-6)) if pairs.any() else 0.0
    grain = 0.5 / np.sqrt(-np.log(np.clip(likeness, 0.02, 0.9)))
    made = ndimage.gaussian_filter(random.standard_normal(residual.shape, np.float32), (0, grain, grain))
    made *= strength / max(float(made.std()), 1e-6)
    structure = ndimage.binary_dilation(np.abs(residual) > 2.8 * strength, np.ones((1, 3, 3), bool))
    return np.asarray(np.where(structure, made, residual), np.float32)
