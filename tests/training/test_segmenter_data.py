"""What varies the segmenter's training set changes what it says, and nothing else."""

import numpy as np
import torch

from real_background import Background, enhanced
from segmenter_appearance import _streaks, marbled, recoloured, through_another_scanner
from trauma_api.phantom.labels import Label


class TestMarbled:
    def test_only_muscle_changes_and_never_into_anything_denser_than_brighter_muscle(self) -> None:
        three = np.full((3, 40, 60), 125, np.uint8)
        muscle = np.zeros((40, 60), bool)
        muscle[10:30, 10:50] = True
        seen = [marbled(three, muscle, np.random.default_rng(seed)) for seed in range(20)]
        for one in seen:
            assert one.dtype == np.uint8
            assert (one[:, ~muscle] == 125).all()
            assert int(one[:, muscle].max()) <= 125 + 6
            # fat is -100 HU, stored as 50
            assert int(one[:, muscle].min()) >= 50
        assert any((one[:, muscle] < 80).any() for one in seen)
        assert len({one.tobytes() for one in seen}) == len(seen)

    def test_without_muscle_nothing_changes(self) -> None:
        three = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
        same = marbled(three, np.zeros((8, 8), bool), np.random.default_rng(0))
        np.testing.assert_array_equal(same, three)


class TestEnhanced:
    def test_organs_are_brighter_by_what_contrast_adds_and_the_rest_is_as_it_was(self) -> None:
        voxels = np.full((9, 40, 60), -100, np.int16)
        organs = np.full(voxels.shape, Label.AIR, np.uint8)
        voxels[:, 5:35, 5:25], organs[:, 5:35, 5:25] = 50, Label.LIVER
        voxels[:, 5:35, 35:55], organs[:, 5:35, 35:55] = 40, Label.AORTA
        voxels[:, :, 59] = -1000
        plain = Background(voxels, organs, (3.0, 1.5, 1.5))
        for seed in range(6):
            bright = enhanced(plain, np.random.default_rng(seed)).voxels_zyx_hu.astype(int)
            liver, aorta = bright[4, 20, 15] - 50, bright[4, 20, 45] - 40
            assert 5 <= liver <= 65
            assert 70 <= aorta <= 320
            assert aorta > liver
            assert (bright[:, :, 59] == -1000).all()
            assert bright[4, 20, 30] == -100
            # the edge is as soft as a scanner's
            assert 50 < bright[4, 20, 24] < 50 + liver


class TestRecoloured:
    def _crop(self) -> tuple[np.ndarray, np.ndarray]:
        three = np.full((3, 60, 60), 125, np.uint8)
        labels = np.full((60, 60), Label.FAT, np.uint8)
        labels[5:25, 5:55] = Label.MUSCLE
        labels[30:55, 5:30] = Label.STOMACH
        labels[30:55, 30:55] = Label.PERISPLENIC
        return three, labels

    def test_blood_and_what_is_no_tissue_keep_their_hu_while_organs_and_stomach_change(self) -> None:
        three, labels = self._crop()
        labels[:4] = Label.AIR
        changed: set[int] = set()
        for seed in range(40):
            one = recoloured(three, labels, np.random.default_rng(seed))
            assert one.dtype == np.uint8
            assert (one[:, labels == Label.PERISPLENIC] == 125).all()
            assert (one[:, :2] == 125).all()
            changed |= {int(label) for label in np.unique(labels) if (one[1][labels == label] != 125).any()}
        assert {Label.MUSCLE, Label.STOMACH, Label.FAT} <= changed

    def test_gas_of_a_collapsed_stomach_is_gone_and_its_walls_have_the_hu_of_tissue(self) -> None:
        three, labels = self._crop()
        three[:, labels == Label.STOMACH] = 0
        middles = [recoloured(three, labels, np.random.default_rng(seed))[1, 35:50, 10:25] for seed in range(40)]
        collapsed = [middle for middle in middles if (middle > 0).all()]
        assert 3 <= len(collapsed) <= 20
        # 15 to 110 HU, stored as 107 to 155
        assert all(95 < float(np.median(middle)) < 168 for middle in collapsed)


def test_another_scanner_keeps_the_mean_of_even_tissue_within_its_calibration() -> None:
    torch.manual_seed(0)
    hu = torch.full((64, 3, 32, 32), 60.0)
    seen = through_another_scanner(hu)
    means = seen.mean(dim=(1, 2, 3))
    assert seen.shape == hu.shape
    assert ((means > 60 * 0.95 - 7) & (means < 60 * 1.05 + 7)).all()
    assert float(means.std()) > 1
    noisy = seen.std(dim=(1, 2, 3)) > 0.5
    assert 10 < int(noisy.sum()) < 45


def test_the_body_wall_is_thicker_in_some_crops_and_only_beside_muscle() -> None:
    labels = np.full((60, 60), Label.LIVER, np.uint8)
    labels[:, :15] = Label.MUSCLE
    three = np.where(labels == Label.MUSCLE, 110, 170).astype(np.uint8)[None].repeat(3, axis=0)
    thicker = 0
    for seed in range(60):
        one = recoloured(three, labels, np.random.default_rng(seed)).astype(int)
        # a liver of 140 HU, at most 25 HU and its texture darker, is never as dark as muscle
        walled = one[1, :, 15:] < 135
        thicker += bool(walled[:, :8].sum() > 20)
        assert not walled[:, 12:].any()
    assert 3 <= thicker <= 40


def test_streaks_darken_and_brighten_bands_of_some_crops_in_all_three_slices_alike() -> None:
    torch.manual_seed(1)
    bands = _streaks(200, 48)
    streaked = bands.abs().amax(dim=(1, 2, 3)) > 1
    assert bands.shape == (200, 1, 48, 48)
    assert 25 < int(streaked.sum()) < 80
    assert -80 < float(bands.min()) < -20
    assert 5 < float(bands.max()) < 40
