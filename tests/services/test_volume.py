"""Volume: a mask of known size becomes its exact millilitres, and is segmented once."""

from dataclasses import replace
from pathlib import Path

import anyio.to_thread
import numpy as np
import pytest
from PIL import Image

from tests.support.engines import Box, ConstantSegmenter, FailingSegmenter, failure
from tests.support.reading import read_files
from trauma_api.engines.base import EngineOutOfMemoryError
from trauma_api.imaging.measure import NoiseRule
from trauma_api.imaging.volume import CTVolume
from trauma_api.schemas.studies import Coverage
from trauma_api.services.gate import ComputeGate
from trauma_api.services.ports import DeviceOutOfMemoryError, EngineFailedError, LocalSegmentation
from trauma_api.services.study_storage import StoredStudy, StudyNotFoundError, StudyStorage
from trauma_api.services.volume import NoSpacingError, VolumeService

# 3 slices x 10 rows x 20 columns = 600 voxels of 5 x 2.2 x 2.2 = 24.2 mm3: 14520 mm3 = 14.52 mL, 4.84 mL a slice.
OUTER: Box = (slice(2, 5), slice(10, 20), slice(30, 50))
# 1 slice x 10 x 10 = 100 voxels: 2.42 mL.
INNER: Box = (slice(3, 4), slice(10, 20), slice(30, 40))


@pytest.fixture
def segmenter() -> ConstantSegmenter:
    """Certain of the inner box, and 0.6 sure of the rest of the outer one."""
    return ConstantSegmenter((OUTER, 0.6), (INNER, 1.0))


@pytest.fixture
def volumes(segmenter: ConstantSegmenter, gate: ComputeGate, storage: StudyStorage) -> VolumeService:
    """The service over that segmenter."""
    return VolumeService(LocalSegmentation(segmenter, gate), storage)


class TestRun:
    async def test_a_box_of_known_size_is_its_exact_volume(self, volumes: VolumeService, study: StoredStudy) -> None:
        result = await volumes.run(study)
        assert result.threshold == 0.5
        assert (result.volume_ml, result.left_out_ml) == (14.5, 0)
        assert [item.volume_ml for item in result.slices] == [0, 0, 4.84, 4.84, 4.84, 0, 0, 0]
        assert [item.slice_index for item in result.slices] == list(range(8))
        assert result.spacing_zyx_mm == [5.0, 2.2, 2.2]
        assert result.risk_level == "MODERATE"

    async def test_a_region_that_the_checkpoint_calls_noise_is_neither_counted_nor_drawn(
        self, gate: ComputeGate, storage: StudyStorage, study: StoredStudy
    ) -> None:
        speck: Box = (slice(6, 7), slice(60, 64), slice(60, 65))  # 20 voxels: 0.48 mL
        segmenter = ConstantSegmenter((OUTER, 1.0), (speck, 1.0))
        segmenter.noise = NoiseRule(core_probability=0.0, smallest_ml=0.5, largest_ml=0.0)

        result = await VolumeService(LocalSegmentation(segmenter, gate), storage).run(study)

        assert (result.volume_ml, result.left_out_ml) == (14.5, 0.5)
        assert result.slices[6].volume_ml == 0
        kept = await anyio.to_thread.run_sync(storage.open_mask, study.record.study_id)
        assert kept is not None
        assert kept.probability_zyx[6].max() == 0

    async def test_a_region_without_a_sure_core_is_noise_where_the_checkpoint_says_so(
        self, gate: ComputeGate, storage: StudyStorage, study: StoredStudy
    ) -> None:
        doubtful: Box = (slice(6, 7), slice(40, 80), slice(40, 80))  # 1600 voxels: 38.7 mL, of which none is sure
        segmenter = ConstantSegmenter((OUTER, 1.0), (doubtful, 0.6))
        segmenter.noise = NoiseRule(core_probability=0.9, smallest_ml=0.5, largest_ml=0.0)

        result = await VolumeService(LocalSegmentation(segmenter, gate), storage).run(study)

        assert (result.volume_ml, result.left_out_ml) == (14.5, 38.7)
        assert result.slices[6].volume_ml == 0

    async def test_without_a_region_as_large_as_the_checkpoint_asks_for_nothing_is_blood(
        self, gate: ComputeGate, storage: StudyStorage, study: StoredStudy
    ) -> None:
        segmenter = ConstantSegmenter((OUTER, 1.0))  # 14.5 mL
        segmenter.noise = NoiseRule(core_probability=0.0, smallest_ml=0.0, largest_ml=15.0)

        volumes = VolumeService(LocalSegmentation(segmenter, gate), storage)

        for _ in ("segmented", "kept"):
            result = await volumes.run(study)
            assert (result.volume_ml, result.left_out_ml) == (0, 14.5)

    async def test_each_slice_counts_with_its_own_thickness_where_the_distance_varies(
        self, volumes: VolumeService, study: StoredStudy
    ) -> None:
        assert isinstance(study.stack, CTVolume)
        # 200 voxels of 2.2 x 2.2 mm in each of the slices 2 to 4: 0.968 mL for a millimetre of thickness.
        thickness = (5.0, 5.0, 5.0, 3.75, 2.5, 2.5, 2.5, 2.5)
        varying = replace(study, stack=replace(study.stack, slice_thickness_mm=thickness))
        result = await volumes.run(varying)
        assert [item.volume_ml for item in result.slices] == [0, 0, 4.84, 3.63, 2.42, 0, 0, 0]
        assert result.volume_ml == 10.9
        assert result.interval.low_ml == 1.8

    async def test_what_lies_far_from_the_abdomen_is_not_segmented_and_said_so(
        self, volumes: VolumeService, study: StoredStudy, storage: StudyStorage
    ) -> None:
        assert isinstance(study.stack, CTVolume)
        assert study.stack.affine_lps is not None
        far_apart = study.stack.affine_lps * np.array([6.0, 1.0, 1.0, 1.0])  # 30 mm, so that two slices are the margin
        shown = Coverage(
            first_abdomen_slice=3, last_abdomen_slice=4, abdomen_extent_mm=60, top_included=True, bottom_included=True
        )
        eligibility = study.record.eligibility.model_copy(update={"coverage": shown})
        tall = replace(
            study,
            stack=replace(study.stack, affine_lps=far_apart),
            record=study.record.model_copy(update={"eligibility": eligibility}),
        )
        result = await volumes.run(tall)
        assert (result.segmented_slices.first, result.segmented_slices.last) == (1, 6)
        # the boxes lie in what the segmenter is given: its slices 2 to 4 are those from 3 to 5 of the study
        assert [item.volume_ml > 0 for item in result.slices] == [False, False, False, True, True, True, False, False]
        kept = await anyio.to_thread.run_sync(storage.open_mask, study.record.study_id)
        assert kept is not None
        assert kept.probability_zyx.shape == study.stack.voxels_zyx_hu.shape

    async def test_where_no_abdomen_was_recognised_all_slices_are_segmented(
        self, volumes: VolumeService, study: StoredStudy
    ) -> None:
        unseen = study.record.eligibility.model_copy(update={"coverage": None})
        result = await volumes.run(replace(study, record=study.record.model_copy(update={"eligibility": unseen})))
        assert (result.segmented_slices.first, result.segmented_slices.last) == (0, 7)

    async def test_the_interval_is_measured_at_a_stricter_and_a_laxer_threshold(
        self, volumes: VolumeService, study: StoredStudy
    ) -> None:
        # From 0.5, 40 % of the way to 0 and to 1: 0.3 and 0.7. At 0.7 only the inner box is blood: 2.42 mL.
        interval = (await volumes.run(study)).interval
        assert (interval.low_ml, interval.high_ml) == (2.4, 14.5)
        assert "0.70 and 0.30" in interval.method

    async def test_another_threshold_measures_anew_without_segmenting_again(
        self, volumes: VolumeService, segmenter: ConstantSegmenter, study: StoredStudy, storage: StudyStorage
    ) -> None:
        await volumes.run(study)
        assert segmenter.calls == 1
        strict = await volumes.run(study, threshold=0.8)
        assert segmenter.calls == 1
        assert (strict.volume_ml, strict.risk_level) == (2.4, "LOW")
        kept = await anyio.to_thread.run_sync(storage.open_mask, study.record.study_id)
        assert kept is not None
        assert kept.record.threshold == 0.8
        assert (await volumes.run(study)).volume_ml == 14.5

    async def test_a_mask_of_another_checkpoint_is_not_taken(
        self, volumes: VolumeService, gate: ComputeGate, study: StoredStudy, storage: StudyStorage
    ) -> None:
        await volumes.run(study)
        other = ConstantSegmenter((INNER, 1.0), sha256="b" * 64)
        result = await VolumeService(LocalSegmentation(other, gate), storage).run(study)
        assert (other.calls, result.volume_ml) == (1, 2.4)

    async def test_batches_are_put_together_in_order(
        self, volumes: VolumeService, segmenter: ConstantSegmenter, study: StoredStudy
    ) -> None:
        segmenter.batch_size = 3
        told: list[tuple[int, int]] = []
        result = await volumes.run(study, on_progress=lambda done, total: told.append((done, total)))
        assert told == [(3, 8), (6, 8), (8, 8)]
        assert [item.volume_ml for item in result.slices] == [0, 0, 4.84, 4.84, 4.84, 0, 0, 0]

    async def test_no_blood_is_zero_and_low(self, gate: ComputeGate, study: StoredStudy, storage: StudyStorage) -> None:
        result = await VolumeService(LocalSegmentation(ConstantSegmenter(), gate), storage).run(study)
        assert (result.volume_ml, result.interval.low_ml, result.interval.high_ml) == (0, 0, 0)
        assert result.risk_level == "LOW"

    async def test_failures_of_the_engine_are_told_apart_and_keep_no_mask(
        self, gate: ComputeGate, study: StoredStudy, storage: StudyStorage
    ) -> None:
        failing = LocalSegmentation(FailingSegmenter(failure()), gate)
        with pytest.raises(EngineFailedError):
            await VolumeService(failing, storage).run(study)
        full = LocalSegmentation(FailingSegmenter(EngineOutOfMemoryError("no memory")), gate)
        with pytest.raises(DeviceOutOfMemoryError):
            await VolumeService(full, storage).run(study)
        assert await anyio.to_thread.run_sync(storage.open_mask, study.record.study_id) is None

    async def test_a_study_removed_meanwhile_is_not_found(
        self, volumes: VolumeService, study: StoredStudy, storage: StudyStorage
    ) -> None:
        await anyio.to_thread.run_sync(storage.delete, study.record.study_id)
        with pytest.raises(StudyNotFoundError):
            await volumes.run(study)


def picture_study(storage: StudyStorage, folder: Path, spacing: tuple[float, float, float] | None) -> StoredStudy:
    """Two grey pictures of 10 x 20 pixels."""
    paths = [folder / f"{position}.png" for position in range(2)]
    for position, path in enumerate(paths):
        Image.fromarray(np.full((10, 20), 100 + position, dtype=np.uint8)).save(path)
    return storage.open(storage.save(read_files(paths, folder / "scratch", spacing_zyx_mm=spacing)))


class TestPictures:
    async def test_without_a_spacing_there_are_no_millilitres(
        self, volumes: VolumeService, segmenter: ConstantSegmenter, storage: StudyStorage, tmp_path: Path
    ) -> None:
        with pytest.raises(NoSpacingError) as refused:
            await volumes.run(await anyio.to_thread.run_sync(picture_study, storage, tmp_path, None))
        assert refused.value.code == "no-spacing"
        assert segmenter.calls == 0

    async def test_with_a_stated_spacing_they_are_measured_by_it(
        self, gate: ComputeGate, storage: StudyStorage, tmp_path: Path
    ) -> None:
        # 1 slice x 10 x 10 = 100 voxels of 4 x 1 x 0.5 = 2 mm3: 0.2 mL.
        box: Box = (slice(0, 1), slice(0, 10), slice(0, 10))
        service = VolumeService(LocalSegmentation(ConstantSegmenter((box, 1.0)), gate), storage)
        pictures = await anyio.to_thread.run_sync(picture_study, storage, tmp_path, (4.0, 1.0, 0.5))
        result = await service.run(pictures)
        assert result.volume_ml == 0.2
        assert {"no-hounsfield-units", "picture-window-assumed"} <= {item.code for item in result.warnings}
