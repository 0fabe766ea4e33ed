"""The truth beside a phantom: what was drawn, counted from the label volume that goes with the images."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Phase = Literal["none", "arterial", "portal"]
RsnaGrade = Literal["healthy", "low", "high"]
"""The classes of RSNA 2023: low is AAST I to III, high is IV and V."""
HemoperitoneumSize = Literal["none", "small", "moderate", "large"]
ExtravasationSite = Literal["liver", "spleen", "left_kidney", "right_kidney", "mesentery", "retroperitoneum", "pelvis"]

TRUTH_FILE = "truth.json"
LABELS_FILE = "labels.nii.gz"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OrganTruth(_Strict):
    """An organ's injury: AAST 2018 grade (0 for none), the class of RSNA 2023, and the criteria that gave the grade."""

    aast: Annotated[int, Field(ge=0, le=5)]
    rsna: RsnaGrade
    criteria: tuple[str, ...]


class ExtravasationTruth(_Strict):
    """One site of active extravasation; the centre as slice, row and column of the images."""

    site: ExtravasationSite
    centre_zyx: tuple[int, int, int]
    volume_ml: float
    mean_hu: float


class SliceTruth(_Strict):
    """What one slice shows."""

    slice_index: int
    blood_ml: float
    injury_or_blood: bool
    liver: bool
    spleen: bool
    kidneys: bool
    bowel: bool
    extravasation: bool


class PhantomTruth(_Strict):
    """What is in the phantom. Also the content of ``truth.json``.

    ``extravasation`` is None without contrast, where nobody could see it. ``compartments_ml`` sums to ``total_ml``.
    """

    format_version: Literal[1] = 1
    seed: int
    scenario: str
    ois_version: Literal["AAST 2018"] = "AAST 2018"
    phase: Phase
    aorta_hu: float
    slice_count: int
    spacing_zyx_mm: tuple[float, float, float]
    liver: OrganTruth
    spleen: OrganTruth
    left_kidney: OrganTruth
    right_kidney: OrganTruth
    kidneys: OrganTruth
    bowel_injury: bool
    extravasation: bool | None
    extravasation_sites: tuple[ExtravasationTruth, ...]
    hemoperitoneum: HemoperitoneumSize
    total_ml: float
    compartments_ml: dict[str, float]
    slices: tuple[SliceTruth, ...]
    distractors: tuple[str, ...]
    """What was drawn to fool a model: "ascites", "cyst", ..."""

    @property
    def any_injury(self) -> bool:
        """As RSNA 2023 counts it: an organ, the bowel, or extravasation; blood alone also counts here."""
        graded = any(organ.aast > 0 for organ in (self.liver, self.spleen, self.kidneys))
        return graded or self.bowel_injury or bool(self.extravasation_sites) or self.total_ml > 0
