"""Studies: what was uploaded, its series and their geometry."""

from typing import Literal

from pydantic import Field

from trauma_api.schemas.base import Caveat, Schema, SpacingZyxMm, Timestamp

Phase = Literal["non_contrast", "arterial", "portal_venous", "delayed", "unknown"]


class SeriesInfo(Schema):
    """One series of a study."""

    series_id: str = Field(description="From the content. Send it as `series` with the same files to pin this series.")
    series_uid: str | None
    modality: Literal["CT", "MR", "PT", "SEG", "OT", "picture"]
    slice_count: int
    rows: int
    columns: int
    spacing_zyx_mm: SpacingZyxMm | None
    orientation: Literal["axial", "coronal", "sagittal", "oblique"] | None
    phase: Phase = Field(description="Contrast phase as the series states it.")
    lossy: bool
    transfer_syntax_uid: str | None = Field(description="Of its first file; null for NIfTI and pictures.")
    selected: bool
    reason: str = Field(description="Why it was or was not selected; stable, kebab-case.")
    score: float | None = Field(description="How well it suits, 0 to 100; null where it cannot be used or compared.")
    score_reasons: list[str] = Field(description="What the score was made of; stable, kebab-case.")


class Coverage(Schema):
    """How much of the abdomen the slices show, judged from the pixels and not from what the headers say."""

    first_abdomen_slice: int | None = Field(description="Null where no abdomen was recognised.")
    last_abdomen_slice: int | None
    abdomen_extent_mm: float | None
    top_included: bool | None = Field(description="Lung is seen above the abdomen; null where it cannot be told.")
    bottom_included: bool | None = Field(description="Hips are seen below the abdomen; null where it cannot be told.")


class Eligibility(Schema):
    """Whether the selected series may be scored. An ineligible study is kept and shown, and abstained from."""

    status: Literal["eligible", "ineligible", "not_checked"] = Field(
        description="`not_checked`: pictures, which hold no Hounsfield units."
    )
    reasons: list[Caveat] = Field(description="Why it is ineligible; empty otherwise.")
    coverage: Coverage | None


class Study(Schema):
    """A study as it is kept: one selected series in anatomical order."""

    study_id: str = Field(description="From the content: the same upload gives the same id.")
    source: Literal["dicom", "nifti", "pictures"]
    slice_count: int
    rows: int
    columns: int
    spacing_zyx_mm: SpacingZyxMm | None = Field(description="Null where nobody knows it: pictures, or a single slice.")
    slice_thickness_mm: list[float] | None = Field(
        description="What each slice stands for where the distance varies, head to feet; `spacing_zyx_mm` then holds "
        "its mean. Null where the distance is the same everywhere."
    )
    slice_order: Literal["head_to_feet", "as_sent"]
    series: list[SeriesInfo]
    eligibility: Eligibility
    warnings: list[Caveat]
    expires_at: Timestamp = Field(description="Moves on with each use.")
    slice_url: str = Field(description="URL of a slice's picture, with `{slice_index}` to fill in.")
    notice: str
