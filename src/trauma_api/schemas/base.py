"""What the schemas share. Response fields have no defaults, so that every one is required in the contract."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

RESEARCH_NOTICE = (
    "Research use only. trauma-api is not a medical device; its output is not a diagnosis and must not guide care."
)

SAMPLE_ID = "sample"
"""Accepted in place of a study, briefing or session id: the built-in phantom study and what was made of it last."""

ID_PATTERN = r"^(sample|[0-9a-f]{32})$"

StudyId = Annotated[
    str,
    Field(
        pattern=ID_PATTERN,
        description="Id of a study, or `sample` for the built-in phantom study.",
        examples=[SAMPLE_ID],
    ),
]

SpacingZyxMm = Annotated[
    list[Annotated[float, Field(gt=0)]],
    Field(min_length=3, max_length=3, description="Distance between slices, rows and columns, in millimetres."),
]

Timestamp = AwareDatetime
VolumeMl = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
SliceIndex = Annotated[int, Field(ge=0, description="From 0, head to feet (pictures: as sent).")]


class Schema(BaseModel):
    """Base of all schemas: frozen; unknown fields and numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Caveat(Schema):
    """Something that the reader of a result must know."""

    code: str = Field(description="Stable, kebab-case.")
    detail: str


class ModelProvenance(Schema):
    """The model that a result comes from."""

    role: Literal["triage", "reader", "segmenter"]
    checkpoint: str = Field(description="Name of the checkpoint: a hub id or the name of its folder.")
    architecture: str
    sha256: str = Field(description="Over all weight files of the checkpoint.")
    trained_on: str = Field(
        description='What the weights were trained on; "untrained" for weights at their random start.'
    )
    adapter: str | None = Field(description="LoRA adapter in use for this result, or null.")
    device: str
    dtype: str
    duration_s: float = Field(description="Wall-clock seconds of the model's work for this result.")


class Result(Schema):
    """What every result carries."""

    provenance: list[ModelProvenance]
    warnings: list[Caveat]
    notice: str = Field(description="The sentence that this is research software.")
