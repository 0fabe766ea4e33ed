"""Liveness and readiness."""

from typing import Literal

from pydantic import Field

from trauma_api.schemas.base import Schema


class Liveness(Schema):
    """The process answers."""

    status: Literal["alive"]
    version: str


class PartReadiness(Schema):
    """Whether one part can work."""

    name: Literal["models", "store", "storage", "uploads", "gate"]
    ready: bool
    detail: str


class Readiness(Schema):
    """Whether the service can take work, by part."""

    ready: bool
    parts: list[PartReadiness] = Field(description="Status 503 when any of them is not ready.")
