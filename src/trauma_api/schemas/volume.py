"""Volume: the hemorrhage mask in millilitres."""

from typing import Annotated, Literal

from pydantic import Field

from trauma_api.schemas.base import Result, Schema, SliceIndex, SpacingZyxMm, StudyId, VolumeMl

RiskLevel = Literal["LOW", "MODERATE", "HIGH"]


class VolumeRequest(Schema):
    """Which study, and from which probability a voxel counts as blood; without it the checkpoint's own."""

    study_id: StudyId
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None


class VolumeInterval(Schema):
    """Volumes at a stricter and a laxer threshold."""

    low_ml: VolumeMl
    high_ml: VolumeMl
    method: str


class SliceVolume(Schema):
    """Blood in one slice."""

    slice_index: SliceIndex
    volume_ml: VolumeMl


class SegmentedSlices(Schema):
    """The slices that were segmented; those far from the abdomen are not, and count as without blood."""

    first: SliceIndex
    last: SliceIndex


class VolumeResult(Result):
    """Hemorrhage volume with the true spacing, its interval and its risk level."""

    study_id: str
    volume_ml: VolumeMl
    interval: VolumeInterval
    left_out_ml: VolumeMl = Field(
        description="In regions that the checkpoint takes for noise, as they are small or it is not sure of them; at "
        "the checkpoint's own threshold. Neither counted nor drawn."
    )
    threshold: float
    risk_level: RiskLevel
    risk_convention: str = Field(description="Where the risk level comes from.")
    spacing_zyx_mm: SpacingZyxMm
    segmented_slices: SegmentedSlices
    slices: list[SliceVolume]
    mask_url: str = Field(
        description="URL of a slice's picture with the mask drawn in, with `{slice_index}` to fill in."
    )
