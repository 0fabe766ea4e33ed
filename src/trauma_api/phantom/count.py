"""The truth, counted from the label volume that goes with the images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trauma_api.phantom.anatomy import Anatomy
from trauma_api.phantom.bleeding import Jet
from trauma_api.phantom.injuries import DrawnInjury, OrganInjury, grade_injury
from trauma_api.phantom.labels import BLOOD_LABELS, INJURY_LABELS, PERITONEAL_LABELS, Label
from trauma_api.phantom.plan import Acquisition, CasePlan
from trauma_api.phantom.truth import (
    ExtravasationTruth,
    HemoperitoneumSize,
    OrganTruth,
    PhantomTruth,
    SliceTruth,
)

_MM3_PER_ML = 1000.0
_LEAST_SEEN_ML = 0.05
_LEAST_POOL_ML = 5.0


@dataclass(frozen=True)
class DrawnCase:
    """A finished drawing."""

    seed: int
    scenario: str
    plan: CasePlan
    acquisition: Acquisition
    anatomy: Anatomy
    injuries: Mapping[Label, DrawnInjury]
    jets: list[Jet]


def count_truth(
    case: DrawnCase, labels_zyx: NDArray[np.uint8], spacing_zyx_mm: tuple[float, float, float]
) -> PhantomTruth:
    """Count ``labels_zyx``, which shows the drawing on the images' grid."""
    voxel_ml = float(np.prod(spacing_zyx_mm)) / _MM3_PER_ML
    counts = np.stack([np.bincount(plane.ravel(), minlength=max(Label) + 1) for plane in labels_zyx])
    compartments = {
        label.name.lower(): round(float(counts[:, label].sum()) * voxel_ml, 4)
        for label in BLOOD_LABELS
        if counts[:, label].any()
    }
    organs = {label: grade_injury(label, _as_drawn(case, label)) for label in _GRADED}
    sites = _sites(case, compartments.get("extravasation", 0.0), labels_zyx.shape, spacing_zyx_mm)
    return PhantomTruth(
        seed=case.seed,
        scenario=case.scenario,
        phase=case.plan.phase,
        aorta_hu=round(case.anatomy.enhancement.aorta, 1),
        slice_count=len(labels_zyx),
        spacing_zyx_mm=spacing_zyx_mm,
        liver=organs[Label.LIVER],
        spleen=organs[Label.SPLEEN],
        left_kidney=organs[Label.LEFT_KIDNEY],
        right_kidney=organs[Label.RIGHT_KIDNEY],
        kidneys=_both_kidneys(organs[Label.LEFT_KIDNEY], organs[Label.RIGHT_KIDNEY]),
        bowel_injury=case.plan.bowel_injury,
        extravasation=None if case.plan.phase == "none" else bool(sites),
        extravasation_sites=sites,
        hemoperitoneum=hemoperitoneum_size(
            {label: float(counts[:, label].sum()) * voxel_ml for label in PERITONEAL_LABELS}
        ),
        total_ml=round(sum(compartments.values()), 4),
        compartments_ml=compartments,
        slices=_slices(case, counts, voxel_ml, spacing_zyx_mm[0]),
        distractors=case.plan.distractors,
    )


_GRADED = (Label.LIVER, Label.SPLEEN, Label.LEFT_KIDNEY, Label.RIGHT_KIDNEY)


def _as_drawn(case: DrawnCase, label: Label) -> OrganInjury | None:
    """The planned injury; a blush that found no blood to leak into was not drawn and does not count."""
    planned = case.plan.organs.get(label)
    if planned is None or planned.blush == "none":
        return planned
    bled = {jet.site for jet in case.jets}
    site = label.name.lower()
    return planned if site in bled else OrganInjury(**{**planned.__dict__, "blush": "none"})


def _both_kidneys(left: OrganTruth, right: OrganTruth) -> OrganTruth:
    """The worse side; one grade more, up to III, when both are injured."""
    worse = max(left, right, key=lambda side: side.aast)
    if left.aast and right.aast and worse.aast < 3:
        return OrganTruth(
            aast=worse.aast + 1, rsna="low", criteria=(*worse.criteria, "both kidneys: one grade more, up to III")
        )
    return worse


def hemoperitoneum_size(compartments_ml: Mapping[Label, float]) -> HemoperitoneumSize:
    """By the spaces that hold blood (Salottolo, Trauma Surg Acute Care Open 2020;5:e000406): around the organs small,
    with a gutter moderate, with the pelvis large."""
    filled = {label for label, volume_ml in compartments_ml.items() if volume_ml >= _LEAST_POOL_ML}
    if Label.PELVIC in filled and len(filled) > 1:
        return "large"
    if filled & {Label.RIGHT_GUTTER, Label.LEFT_GUTTER}:
        return "moderate"
    return "small" if filled else "none"


def _sites(
    case: DrawnCase, counted_ml: float, shape_zyx: tuple[int, ...], spacing_zyx_mm: tuple[float, float, float]
) -> tuple[ExtravasationTruth, ...]:
    """Where jets lie in the images; none where too little of them is left to be seen. They share the counted volume."""
    drawn = [float(np.count_nonzero(jet.mask)) for jet in case.jets]
    if counted_ml < _LEAST_SEEN_ML:
        return ()
    return tuple(
        ExtravasationTruth(
            site=jet.site,
            centre_zyx=_centre(case, jet, shape_zyx, spacing_zyx_mm),
            volume_ml=round(counted_ml * voxels / sum(drawn), 4),
            mean_hu=round(jet.hu, 1),
        )
        for jet, voxels in zip(case.jets, drawn, strict=True)
    )


def _centre(
    case: DrawnCase, jet: Jet, shape_zyx: tuple[int, ...], spacing_zyx_mm: tuple[float, float, float]
) -> tuple[int, int, int]:
    """A jet's middle as slice, row and column of the images, whose middle is the drawing's."""
    grid = case.anatomy.canvas.grid
    drawn = np.argwhere(jet.mask).mean(axis=0) + [part.start for part in jet.window]
    about_middle = (drawn[1:] - (np.array(grid.shape_zyx[1:]) - 1) / 2) * grid.spacing_zyx_mm[1]
    row, column = about_middle / spacing_zyx_mm[1] + (np.array(shape_zyx[1:]) - 1) / 2
    slice_index = round(float(drawn[0] * grid.spacing_zyx_mm[0] / spacing_zyx_mm[0]))
    return min(slice_index, shape_zyx[0] - 1), round(float(row)), round(float(column))


def _slices(case: DrawnCase, counts: NDArray[np.int64], voxel_ml: float, slice_mm: float) -> tuple[SliceTruth, ...]:
    injured = {label: _slices_of(case, label, len(counts), slice_mm) for label in case.injuries}
    nothing = np.zeros(len(counts), bool)
    kidneys = injured.get(Label.LEFT_KIDNEY, nothing) | injured.get(Label.RIGHT_KIDNEY, nothing)
    ml = counts * voxel_ml
    shown = ml[:, list(INJURY_LABELS)].sum(axis=1) > _LEAST_SEEN_ML
    liver, spleen = injured.get(Label.LIVER, nothing), injured.get(Label.SPLEEN, nothing)
    bowel = ml[:, [Label.INJURED_BOWEL, Label.FREE_AIR]].sum(axis=1) > _LEAST_SEEN_ML
    return tuple(
        SliceTruth(
            slice_index=index,
            blood_ml=round(float(ml[index, list(BLOOD_LABELS)].sum()), 4),
            injury_or_blood=bool(shown[index] or liver[index] or spleen[index] or kidneys[index]),
            liver=bool(liver[index]),
            spleen=bool(spleen[index]),
            kidneys=bool(kidneys[index]),
            bowel=bool(bowel[index]),
            extravasation=bool(ml[index, Label.EXTRAVASATION] > _LEAST_SEEN_ML / 2),
        )
        for index in range(len(counts))
    )


def _slices_of(case: DrawnCase, label: Label, count: int, slice_mm: float) -> NDArray[np.bool_]:
    """Which slices of the images show an organ's injury."""
    injury, grid = case.injuries[label], case.anatomy.canvas.grid
    area_mm2 = injury.mask.sum(axis=(1, 2)) * grid.spacing_zyx_mm[1] * grid.spacing_zyx_mm[2]
    drawn = np.zeros(grid.shape_zyx[0], bool)
    drawn[injury.organ.window[0]] = area_mm2 > _LEAST_SEEN_ML * _MM3_PER_ML / grid.spacing_zyx_mm[0]
    where = np.minimum(
        (np.arange(count) * slice_mm / grid.spacing_zyx_mm[0]).round().astype(int), grid.shape_zyx[0] - 1
    )
    return np.asarray(drawn[where])
