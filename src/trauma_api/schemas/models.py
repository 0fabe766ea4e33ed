"""What is loaded."""

from pydantic import Field

from trauma_api.schemas.base import Schema


class LoadedModel(Schema):
    """One loaded model."""

    role: str
    checkpoint: str
    architecture: str
    sha256: str
    trained_on: str
    adapter: str | None
    device: str
    dtype: str


class ModelList(Schema):
    """The profile and its models."""

    profile: str
    slice_budget: int = Field(description="Slices that are read together at most.")
    models: list[LoadedModel]
    notice: str
