"""What is painted into pictures is what the phantom draws: contrast in blood, as dense as a share of the aorta's."""

import numpy as np
import pytest
from numpy.typing import NDArray

from painted_jets import (
    BLOOD_GROUPS,
    JET_GROUP,
    LACERATION_GROUP,
    ORGAN_GROUPS,
    levels_of,
    paint_jet,
    paint_tear,
    pictures_hu,
)
from painted_twins import can_have_twin, twin_of
from phantom_set import GROUPS
from trauma_api.phantom.labels import Label
from trauma_api.phantom.truth import ExtravasationTruth, OrganTruth, PhantomTruth, SliceTruth

AORTA_HU = 180.0
SIDE, PATCHES = 224, 16
BLOOD, LIVER = slice(112, 168), slice(28, 84)
"""Rows and columns, each of 4 x 4 patches."""


def picture() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Fat with a square of liver at 110 HU and one of blood at 45 HU."""
    hu = np.full((SIDE, SIDE), -90.0, np.float32)
    hu[LIVER, LIVER], hu[BLOOD, BLOOD] = 110.0, 45.0
    rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
    levels_of(rgb, hu, np.ones(hu.shape, bool))
    patches = np.zeros((PATCHES, PATCHES, len(GROUPS)), np.uint8)
    patches[2:6, 2:6, 0] = 255
    patches[8:12, 8:12, BLOOD_GROUPS[1]] = 255
    return rgb, patches


def organ(aast: int) -> OrganTruth:
    rsna = "healthy" if aast == 0 else "low" if aast < 4 else "high"
    return OrganTruth.model_validate({"aast": aast, "rsna": rsna, "criteria": ("",) if aast else ()})


def truth(**changed: object) -> PhantomTruth:
    """Of a phantom of nine slices with a torn liver and blood."""
    slices = tuple(
        SliceTruth(
            slice_index=index, injury_or_blood=True, liver=True, spleen=False, kidneys=False, bowel=False,
            extravasation=False, blood_ml=10.0,
        )
        for index in range(9)
    )  # fmt: skip
    whole = PhantomTruth(
        seed=7, scenario="random", phase="portal", aorta_hu=AORTA_HU, slice_count=9, spacing_zyx_mm=(3.0, 1.5, 1.5),
        liver=organ(3), spleen=organ(0), left_kidney=organ(0), right_kidney=organ(0), kidneys=organ(0),
        bowel_injury=False, extravasation=False, extravasation_sites=(), hemoperitoneum="large", total_ml=90.0,
        compartments_ml={}, slices=slices, distractors=(),
    )  # fmt: skip
    return whole.model_copy(update=changed)


def test_groups_are_the_ones_that_sets_hold() -> None:
    assert GROUPS[JET_GROUP] == (Label.EXTRAVASATION,)
    assert Label.LACERATION in GROUPS[LACERATION_GROUP]
    assert [GROUPS[index] for index in ORGAN_GROUPS] == [
        (Label.LIVER,), (Label.SPLEEN,), (Label.LEFT_KIDNEY, Label.RIGHT_KIDNEY),
    ]  # fmt: skip


class TestPicture:
    def test_hu_are_what_was_written(self) -> None:
        rgb, _ = picture()
        hu = pictures_hu(rgb)
        assert hu[LIVER, LIVER] == pytest.approx(110.0, abs=2.0)
        assert hu[BLOOD, BLOOD] == pytest.approx(45.0, abs=2.0)

    @pytest.mark.parametrize("seed", range(5))
    def test_a_jet_lies_in_blood_and_is_as_dense_as_a_drawn_one(self, seed: int) -> None:
        rgb, patches = picture()
        painted = paint_jet(rgb, patches, AORTA_HU, np.random.default_rng(seed))
        assert painted is not None
        changed = (painted[0] != rgb).any(axis=-1)
        outside = changed.copy()
        outside[BLOOD, BLOOD] = False
        assert changed.any()
        assert not outside.any()
        assert 0.62 * AORTA_HU - 2 <= pictures_hu(painted[0])[changed].max() <= 0.95 * AORTA_HU + 2

    def test_patches_say_where_the_jet_is(self) -> None:
        rgb, patches = picture()
        painted = paint_jet(rgb, patches, AORTA_HU, np.random.default_rng(3))
        assert painted is not None
        changed = (painted[0] != rgb).any(axis=-1).reshape(PATCHES, 14, PATCHES, 14).any(axis=(1, 3))
        jets = painted[1][..., JET_GROUP] > 0
        assert jets.any()
        assert not (jets & ~changed).any()
        assert (painted[1][..., BLOOD_GROUPS].sum(axis=-1)[jets] < 255).all()

    def test_without_blood_there_is_no_jet(self) -> None:
        rgb, patches = picture()
        patches[..., BLOOD_GROUPS] = 0
        assert paint_jet(rgb, patches, AORTA_HU, np.random.default_rng(0)) is None

    def test_a_tear_that_does_not_bleed_is_dark_and_no_jet(self) -> None:
        rgb, patches = picture()
        painted = paint_tear(rgb, patches, AORTA_HU, np.random.default_rng(0), bleeds=False)
        assert painted is not None
        changed = (painted[0] != rgb).any(axis=-1)
        assert pictures_hu(painted[0])[changed].mean() < 90
        assert not painted[1][..., JET_GROUP].any()
        assert painted[1][..., LACERATION_GROUP].any()


class TestTwin:
    def test_it_differs_by_a_jet_that_its_truth_states(self) -> None:
        rgb, patches = (np.stack([one] * 9) for one in picture())
        twin = twin_of(rgb, patches, truth(), np.random.default_rng(1))
        assert twin is not None
        new, stated = twin
        shown = [one.slice_index for one in stated.slices if one.extravasation]
        changed = np.flatnonzero((new != rgb).any(axis=(1, 2, 3))).tolist()
        assert shown
        assert set(shown) <= set(changed)
        (jet,) = stated.extravasation_sites
        assert stated.extravasation
        assert 0.62 * AORTA_HU <= jet.mean_hu <= 0.95 * AORTA_HU
        assert jet.volume_ml >= 0.4
        assert stated.total_ml == truth().total_ml

    def test_only_what_bleeds_with_contrast_and_without_a_jet_has_one(self) -> None:
        jet = ExtravasationTruth(site="liver", centre_zyx=(1, 2, 3), volume_ml=1.0, mean_hu=120.0)
        assert can_have_twin(truth())
        assert not can_have_twin(truth(phase="none"))
        assert not can_have_twin(truth(total_ml=1.0))
        assert not can_have_twin(truth(extravasation_sites=(jet,)))
