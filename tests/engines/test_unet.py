"""Segmentation: slice by slice results on the study's own grid, however the work is cut."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trauma_api.engines.checkpoints import SegmenterChannel, SegmenterInput
from trauma_api.engines.device import limit_threads
from trauma_api.engines.unet import UNetSegmenter, segmenter_input
from trauma_api.imaging.body import trunk_box

SPACING = (3.0, 0.9, 1.1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def volume() -> NDArray[np.int16]:
    return np.random.default_rng(7).normal(40, 60, (7, 100, 130)).astype(np.int16)


def test_the_grid_is_the_studys_own(segmenter: UNetSegmenter, volume: NDArray[np.int16]) -> None:
    probability = segmenter.probabilities(volume, SPACING, 1, 4)
    assert probability.shape == (3, 100, 130)
    assert probability.dtype == np.float32
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert segmenter.threshold == 0.5


def test_the_result_does_not_depend_on_how_the_work_is_cut(segmenter: UNetSegmenter, volume: NDArray[np.int16]) -> None:
    whole = segmenter.probabilities(volume, SPACING, 0, 7)
    alone = np.concatenate([segmenter.probabilities(volume, SPACING, i, i + 1) for i in range(7)])
    parts = np.concatenate([segmenter.probabilities(volume, SPACING, a, b) for a, b in ((0, 3), (3, 7))])
    np.testing.assert_allclose(whole, alone, atol=1e-4)
    np.testing.assert_allclose(whole, parts, atol=1e-4)


def test_int16_and_float32_voxels_are_the_same(segmenter: UNetSegmenter, volume: NDArray[np.int16]) -> None:
    as_float = segmenter.probabilities(volume.astype(np.float32), SPACING, 2, 3)
    np.testing.assert_array_equal(as_float, segmenter.probabilities(volume, SPACING, 2, 3))


def test_a_neighbouring_slice_counts_and_a_far_one_does_not(
    segmenter: UNetSegmenter, volume: NDArray[np.int16]
) -> None:
    before = segmenter.probabilities(volume, SPACING, 3, 4)
    near, far = volume.copy(), volume.copy()
    near[4], far[5] = 70, 70
    assert np.abs(segmenter.probabilities(near, SPACING, 3, 4) - before).max() > 1e-4
    np.testing.assert_array_equal(segmenter.probabilities(far, SPACING, 3, 4), before)


def test_channels_are_windowed_slices_and_means_of_neighbours(volume: NDArray[np.int16]) -> None:
    seen = SegmenterInput(
        channels=(
            SegmenterChannel(window_hu=(-20, 80), neighbours=0),
            SegmenterChannel(window_hu=(-150, 250), neighbours=2),
        )
    )
    images = segmenter_input(volume, (1.0, 1.0), 1, 3, seen, CPU).numpy()
    assert images.shape == (2, 2, 100, 130)
    np.testing.assert_allclose(images[0, 0], np.clip((volume[1] + 20) / 100, 0, 1), atol=1e-6)
    # the volume begins at slice 0, so slice 1 has one neighbour less below it
    np.testing.assert_allclose(images[0, 1], np.clip((volume[0:4].mean(axis=0) + 150) / 400, 0, 1), atol=1e-5)
    np.testing.assert_allclose(images[1, 1], np.clip((volume[0:5].mean(axis=0) + 150) / 400, 0, 1), atol=1e-5)


def test_the_network_sees_the_stated_pixel_spacing(volume: NDArray[np.int16]) -> None:
    seen = SegmenterInput(channels=(SegmenterChannel(window_hu=(-150, 250), neighbours=0),), pixel_spacing_mm=1.5)
    images = segmenter_input(volume, (0.75, 3.0), 0, 1, seen, CPU)
    assert images.shape == (1, 1, 50, 260)


def test_noise_averages_out_before_the_window_clips_it() -> None:
    noisy = np.random.default_rng(3).normal(80, 200, (1, 128, 128)).astype(np.float32)
    seen = SegmenterInput(channels=(SegmenterChannel(window_hu=(-20, 180), neighbours=0),), pixel_spacing_mm=8.0)
    image = segmenter_input(noisy, (1.0, 1.0), 0, 1, seen, CPU)
    assert image.std().item() < 0.2
    assert abs(image.mean().item() - 0.5) < 0.03


def test_slices_outside_the_volume_are_refused(segmenter: UNetSegmenter, volume: NDArray[np.int16]) -> None:
    with pytest.raises(ValueError, match="volume of 7"):
        segmenter.probabilities(volume, SPACING, 5, 8)


def test_only_the_trunk_is_looked_at(segmenter: UNetSegmenter) -> None:
    in_air = np.full((3, 256, 320), -1000, np.int16)
    in_air[:, 100:160, 120:220] = 40
    # an arm, and a table top that is thinner than any trunk
    in_air[:, 110:130, 20:40], in_air[:, 200:202, 30:300] = 40, 40

    rows, columns = trunk_box(in_air)
    probability = segmenter.probabilities(in_air, (3.0, 1.0, 1.0), 0, 3)

    outside = probability.copy()
    outside[:, rows, columns] = 0
    assert outside.max() == 0
    assert probability[:, rows, columns].min() > 0
    assert 40 < columns.start < 120
    assert 160 < rows.stop < 200


def test_each_volume_has_its_own_box_looked_for_once(segmenter: UNetSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes are kept while tiles of several volumes take turns, and must not be taken for another's."""
    looked_at: list[int] = []

    def find(voxels_zyx_hu: NDArray[np.int16]) -> tuple[slice, slice]:
        looked_at.append(id(voxels_zyx_hu))
        return trunk_box(voxels_zyx_hu)

    left, right = (np.full((2, 64, 128), -1000, np.int16) for _ in range(2))
    left[:, 16:48, 8:40], right[:, 16:48, 88:120] = 40, 40
    spacing = (5.0, 1.5, 1.5)
    alone = segmenter.probabilities(right.copy(), spacing, 0, 2)
    monkeypatch.setattr("trauma_api.engines.unet.trunk_box", find)
    for _ in range(2):
        segmenter.probabilities(left, spacing, 0, 2)
        np.testing.assert_array_equal(segmenter.probabilities(right, spacing, 0, 2), alone)
    assert alone[:, :, 100:].any()
    assert looked_at == [id(left), id(right)]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_number_of_threads_changes_no_slice(
    segmenter: UNetSegmenter, volume: NDArray[np.int16], threads: int
) -> None:
    expected = segmenter.probabilities(volume, SPACING, 0, 7)
    before = torch.get_num_threads()
    limit_threads(threads)
    try:
        found = segmenter.probabilities(volume, SPACING, 0, 7)
    finally:
        limit_threads(before)
    np.testing.assert_allclose(found, expected, atol=1e-4)
