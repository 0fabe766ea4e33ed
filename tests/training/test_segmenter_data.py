"""What varies the segmenter's training set changes what it says, and nothing else."""

import numpy as np

from real_background import Background, enhanced
from segmenter_data import marbled
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
