"""Volume: segment, measure, and keep the mask for pictures."""

import math
import time
from functools import partial

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from trauma_api.errors import InputError
from trauma_api.guidelines.risk import RISK_CONVENTION, risk_level
from trauma_api.imaging.measure import (
    Cleaned,
    HemorrhageMeasure,
    NoiseRule,
    measure_hemorrhage,
    voxel_ml_per_slice,
    without_noise,
)
from trauma_api.imaging.volume import CTVolume, ImageStack
from trauma_api.imaging.windowing import picture_hu
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.volume import SegmentedSlices, SliceVolume, VolumeInterval, VolumeResult
from trauma_api.services.eligibility import require_eligible
from trauma_api.services.ports import Progress, SegmentationPort, ignore_progress
from trauma_api.services.provenance import caveats_of, provenance_of
from trauma_api.services.study_storage import MaskRecord, StoredMask, StoredStudy, StudyStorage

ABDOMEN_MARGIN_MM = 60.0
"""Around the slices in which the abdomen was recognised, those that are segmented too."""
INTERVAL_SHARE = 0.4
"""The interval's thresholds lie this share of the way from the threshold to 0 and to 1."""


class NoSpacingError(InputError):
    """Nobody knows how large a voxel is."""

    code = "no-spacing"
    title = "No spacing"
    public_message = (
        "Millilitres need the true spacing, and this study has none: send the DICOM series or a NIfTI file, "
        "or state spacing_mm with the pictures."
    )


def slices_to_segment(study: StoredStudy) -> slice:
    """The abdomen's slices with a margin; all of them where it was not recognised or no distance is known."""
    count, spacing = study.stack.slice_count, study.stack.spacing_zyx_mm
    coverage = study.record.eligibility.coverage
    if spacing is None or coverage is None or coverage.first_abdomen_slice is None:
        return slice(0, count)
    last = count - 1 if coverage.last_abdomen_slice is None else coverage.last_abdomen_slice
    margin = math.ceil(ABDOMEN_MARGIN_MM / spacing[0])
    return slice(max(coverage.first_abdomen_slice - margin, 0), min(last + margin + 1, count))


def _among_all(probability_zyx: NDArray[np.uint8], segmented: slice, slice_count: int) -> NDArray[np.uint8]:
    if len(probability_zyx) == slice_count:
        return probability_zyx
    whole = np.zeros((slice_count, *probability_zyx.shape[1:]), np.uint8)
    whole[segmented] = probability_zyx
    return whole


class VolumeService:
    """Hemorrhage volume of a study."""

    def __init__(self, port: SegmentationPort, storage: StudyStorage) -> None:
        self._port = port
        self._storage = storage

    async def run(
        self, study: StoredStudy, threshold: float | None = None, on_progress: Progress = ignore_progress
    ) -> VolumeResult:
        """Segment a study, or take the kept mask of the same checkpoint, and measure it.

        Raises StudyNotEligibleError, NoSpacingError.
        """
        require_eligible(study)
        began = time.monotonic()
        spacing = study.stack.spacing_zyx_mm
        if spacing is None:
            raise NoSpacingError
        chosen = self._port.threshold if threshold is None else threshold
        wanted = slices_to_segment(study)
        mask = await self._mask(study, spacing, chosen, wanted, on_progress)
        stack = study.stack
        low, high = chosen * (1 - INTERVAL_SHARE), chosen + (1 - chosen) * INTERVAL_SHARE
        measure = await anyio.to_thread.run_sync(
            partial(
                measure_hemorrhage,
                mask.probability_zyx,
                spacing,
                threshold=chosen,
                low_threshold=low,
                high_threshold=high,
                slice_thickness_mm=stack.slice_thickness_mm if isinstance(stack, CTVolume) else None,
            )
        )
        left_out_ml = mask.record.left_out_ml
        return self._result(study, measure, left_out_ml, spacing, chosen, (low, high), wanted, time.monotonic() - began)

    async def _mask(
        self,
        study: StoredStudy,
        spacing: tuple[float, float, float],
        threshold: float,
        wanted: slice,
        on_progress: Progress,
    ) -> StoredMask:
        study_id = study.record.study_id
        kept = await anyio.to_thread.run_sync(self._storage.open_mask, study_id)
        if kept is not None and kept.record.checkpoint_sha256 == self._port.info.sha256:
            record = kept.record.model_copy(update={"threshold": threshold})
            await anyio.to_thread.run_sync(self._storage.save_mask_record, study_id, record)
            return kept
        stack = study.stack
        voxels = (
            stack.voxels_zyx_hu if isinstance(stack, CTVolume) else await anyio.to_thread.run_sync(picture_hu, stack)
        )
        probability = _among_all(await self._port.segment(voxels[wanted], spacing, on_progress), wanted, len(voxels))
        left_out_ml = 0.0
        if self._port.noise is not None:
            clean = partial(self._cleaned, stack, spacing, probability, self._port.noise)
            probability, left_out_ml = await anyio.to_thread.run_sync(clean)
        record = MaskRecord(checkpoint_sha256=self._port.info.sha256, threshold=threshold, left_out_ml=left_out_ml)
        await anyio.to_thread.run_sync(self._storage.save_mask, study_id, record, probability)
        return StoredMask(record, probability)

    def _cleaned(
        self, stack: ImageStack, spacing: tuple[float, float, float], probability: NDArray[np.uint8], noise: NoiseRule
    ) -> Cleaned:
        """Without the regions that the checkpoint calls noise, so that picture, slices and total agree; their mL."""
        thickness = stack.slice_thickness_mm if isinstance(stack, CTVolume) else None
        voxel_ml = voxel_ml_per_slice(len(probability), spacing, thickness)
        threshold = self._port.threshold
        low = threshold * (1 - INTERVAL_SHARE)
        return without_noise(probability, voxel_ml, noise, threshold=threshold, low_threshold=low)

    def _result(
        self,
        study: StoredStudy,
        measure: HemorrhageMeasure,
        left_out_ml: float,
        spacing: tuple[float, float, float],
        threshold: float,
        interval: tuple[float, float],
        segmented: slice,
        duration_s: float,
    ) -> VolumeResult:
        study_id = study.record.study_id
        volume_ml = round(measure.volume_ml, 1)
        return VolumeResult(
            study_id=study_id,
            volume_ml=volume_ml,
            interval=VolumeInterval(
                low_ml=round(measure.low_ml, 1),
                high_ml=round(measure.high_ml, 1),
                method=f"Volumes at the thresholds {interval[1]:.2f} and {interval[0]:.2f}; not a confidence interval.",
            ),
            left_out_ml=round(left_out_ml, 1),
            threshold=threshold,
            risk_level=risk_level(volume_ml),
            risk_convention=RISK_CONVENTION,
            spacing_zyx_mm=[round(value, 6) for value in spacing],
            segmented_slices=SegmentedSlices(first=segmented.start, last=segmented.stop - 1),
            slices=[
                SliceVolume(slice_index=index, volume_ml=round(value, 2))
                for index, value in enumerate(measure.volume_per_slice_ml)
            ],
            mask_url=f"/v1/studies/{study_id}/slices/{{slice_index}}.png?overlay=true",
            provenance=[provenance_of(self._port.info, duration_s)],
            warnings=[*study.record.warnings, *caveats_of(self._port.info)],
            notice=RESEARCH_NOTICE,
        )
