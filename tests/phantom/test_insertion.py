"""Injury inserted into CTs with an organ label map: a phantom's own images, and the real ones."""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from tests.imaging.series_builder import read
from trauma_api.imaging.volume import CTVolume
from trauma_api.phantom.draw import Phantom, draw_training_phantom
from trauma_api.phantom.insertion import insert_injury
from trauma_api.phantom.labels import BLOOD_LABELS, Label
from trauma_api.phantom.real_anatomy import organs_of_totalsegmentator

ORGANS = (
    Label.LIVER, Label.SPLEEN, Label.LEFT_KIDNEY, Label.RIGHT_KIDNEY, Label.STOMACH, Label.BOWEL, Label.BLADDER,
    Label.AORTA, Label.VEIN, Label.PANCREAS, Label.GALLBLADDER, Label.BONE, Label.LUNG,
)  # fmt: skip
SPILL_PX = 4


@cache
def ct() -> tuple[Phantom, np.ndarray]:
    """Images without injury in the portal phase, and the map of their organs."""
    for seed in range(90_000, 90_050):
        phantom = draw_training_phantom(seed, "clean")
        if phantom.truth.phase == "portal" and phantom.spacing_zyx_mm[0] >= 5:
            voxels, labels = phantom.voxels_zyx_hu[:, ::2, ::2], phantom.labels_zyx[:, ::2, ::2]
            slice_mm, row_mm, column_mm = phantom.spacing_zyx_mm
            halved = replace(
                phantom, voxels_zyx_hu=voxels, labels_zyx=labels, spacing_zyx_mm=(slice_mm, 2 * row_mm, 2 * column_mm)
            )
            return halved, np.where(np.isin(labels, ORGANS), labels, 0).astype(np.uint8)
    raise AssertionError


def inserted(seed: int = 7, scenario: str = "spleen-high-blush", missing: Label | None = None) -> Phantom:
    clean, organs = ct()
    kept = organs if missing is None else np.where(organs == missing, 0, organs).astype(np.uint8)
    return insert_injury(clean.voxels_zyx_hu, kept, clean.spacing_zyx_mm, seed, scenario)


def test_the_truth_counts_the_blood_in_the_labels() -> None:
    case = inserted()
    voxel_ml = float(np.prod(case.spacing_zyx_mm)) / 1000
    blood = np.isin(case.labels_zyx, BLOOD_LABELS)

    assert case.truth.total_ml > 20
    assert case.truth.total_ml == pytest.approx(np.count_nonzero(blood) * voxel_ml, rel=1e-3)
    assert sum(one.blood_ml for one in case.truth.slices) == pytest.approx(case.truth.total_ml, rel=1e-3)
    assert case.truth.spleen.rsna == "high"
    assert case.truth.liver.rsna == "healthy"
    assert case.truth.extravasation
    assert case.truth.phase == "portal"


def test_images_change_only_where_something_is_inserted() -> None:
    clean, case = ct()[0], inserted()
    changed = case.voxels_zyx_hu != clean.voxels_zyx_hu
    drawn = case.labels_zyx >= Label.CONTUSION

    assert changed[drawn].mean() > 0.9
    near = ndimage.binary_dilation(drawn, np.ones((1, 2 * SPILL_PX + 1, 2 * SPILL_PX + 1), bool))
    assert not changed[~near].any()


def test_blood_in_an_enhanced_organ_is_darker_and_as_noisy_as_the_organ() -> None:
    clean, case = ct()[0], inserted(scenario="spleen-high")
    torn = ndimage.binary_erosion(case.labels_zyx == Label.LACERATION, np.ones((1, 3, 3), bool))

    assert torn.any()
    assert case.voxels_zyx_hu[torn].mean() < clean.voxels_zyx_hu[torn].mean() - 25
    assert 0.5 < case.voxels_zyx_hu[torn].std() / clean.voxels_zyx_hu[torn].std() < 2


def test_blood_about_an_organ_presses_its_rim_in_from_the_surface() -> None:
    organs, case = ct()[1], inserted(scenario="mesenteric-bleed", seed=3)
    solid = np.isin(organs, (Label.LIVER, Label.SPLEEN))
    pressed = solid & np.isin(case.labels_zyx, (Label.PERIHEPATIC, Label.PERISPLENIC, Label.MORISON))
    from_outside = ndimage.binary_propagation(~solid, mask=~solid | pressed)

    assert pressed.any()
    assert from_outside[pressed].mean() > 0.98


def test_the_same_seed_gives_the_same_voxels() -> None:
    first, again, other = inserted(), inserted(), inserted(seed=8)

    np.testing.assert_array_equal(first.voxels_zyx_hu, again.voxels_zyx_hu)
    assert first.truth == again.truth
    assert first.truth != other.truth


def test_a_scenario_without_injury_leaves_the_images_as_they_are() -> None:
    case = inserted(scenario="clean")

    np.testing.assert_array_equal(case.voxels_zyx_hu, ct()[0].voxels_zyx_hu)
    assert not case.truth.any_injury


def test_an_organ_that_is_missing_is_not_injured() -> None:
    with pytest.raises(ValueError, match="no place"):
        inserted(scenario="kidney-low", missing=Label.LEFT_KIDNEY)


def test_an_organ_that_the_volume_cuts_is_injured_only_when_asked() -> None:
    clean, organs = ct()
    slices = np.flatnonzero((organs == Label.LIVER).any(axis=(1, 2)))
    part = slice(int(slices[len(slices) // 3]), int(slices[2 * len(slices) // 3]))
    voxels, kept = clean.voxels_zyx_hu[part], organs[part]

    spared = insert_injury(voxels, kept, clean.spacing_zyx_mm, 7, "liver-high")
    torn = insert_injury(voxels, kept, clean.spacing_zyx_mm, 7, "liver-high", cut_organs=True)

    assert spared.truth.liver.aast == 0
    assert spared.truth.total_ml > 0
    assert torn.truth.liver.rsna == "high"


def test_shapes_that_differ_and_maps_without_organs_are_refused() -> None:
    clean, organs = ct()
    with pytest.raises(ValueError, match="shape"):
        insert_injury(clean.voxels_zyx_hu, organs[1:], clean.spacing_zyx_mm, 7)
    with pytest.raises(ValueError, match="no abdominal organ"):
        insert_injury(clean.voxels_zyx_hu, np.zeros_like(organs), clean.spacing_zyx_mm, 7)


@pytest.mark.real_data
def test_blood_in_a_real_unenhanced_ct_displaces_fat_and_shows_no_extravasation(
    real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "ct" / "nonc_abdomen_pelvis_3mm"
    study = read([folder / "example_ct.nii.gz"], tmp_path)
    assert isinstance(study.stack, CTVolume)
    assert study.stack.spacing_zyx_mm is not None
    voxels = np.clip(study.stack.voxels_zyx_hu, -1024, 3071).astype(np.int16)
    image = nibabel.Nifti1Image.from_filename(os.fspath(folder / "totalseg_labels_model_output.nii.gz"))
    # stored right, front, head first: columns from the left, rows from the back, slices from the feet
    classes = np.asarray(image.dataobj).transpose(2, 1, 0)[::-1, ::-1, ::-1]

    organs = organs_of_totalsegmentator(classes)

    case = insert_injury(voxels, organs, study.stack.spacing_zyx_mm, 3, "liver-high")

    blood = np.isin(case.labels_zyx, BLOOD_LABELS)
    assert case.truth.total_ml > 30
    assert case.truth.phase == "none"
    assert case.truth.extravasation is None
    assert case.truth.liver.aast == 0
    assert voxels[blood & (organs == Label.AIR)].mean() < 0
    assert 0 < case.voxels_zyx_hu[ndimage.binary_erosion(blood)].mean() < 80
