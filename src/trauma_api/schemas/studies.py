"""Studies: what was uploaded, its series and their geometry."""

from typing import Literal

from pydantic import Field

from trauma_api.schemas.base import Caveat, Schema, SpacingZyxMm, Timestamp


class SeriesInfo(Schema):
    """One series of a study."""

    series_uid: str | None
    modality: Literal["CT", "MR", "PT", "SEG", "OT", "picture"]
    slice_count: int
    rows: int
    columns: int
    spacing_zyx_mm: SpacingZyxMm | None
    orientation: Literal["axial", "coronal", "sagittal", "oblique"] | None
    lossy: bool
    selected: bool
    reason: str = Field(description="Why it was or was not selected; stable, kebab-case.")


class Study(Schema):
    """A study as it is kept: one selected series in anatomical order."""

    study_id: str = Field(description="From the content: the same upload gives the same id.")
    source: Literal["dicom", "nifti", "pictures"]
    slice_count: int
    rows: int
    columns: int
    spacing_zyx_mm: SpacingZyxMm | None = Field(description="Null where nobody knows it: pictures, or a single slice.")
    slice_order: Literal["head_to_feet", "as_sent"]
    series: list[SeriesInfo]
    warnings: list[Caveat]
    expires_at: Timestamp = Field(description="Moves on with each use.")
    slice_url: str = Field(description="URL of a slice's picture, with `{slice_index}` to fill in.")
    notice: str
