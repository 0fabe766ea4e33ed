"""The body of everything that is not 2xx: RFC 9457 problem details."""

from pydantic import Field

from trauma_api.schemas.base import Schema


class InvalidField(Schema):
    """One field of a request that does not fit the contract."""

    pointer: str = Field(description="JSON pointer into the body, or the name of the parameter.")
    message: str


class Problem(Schema):
    """Problem details (RFC 9457)."""

    type: str = Field(description="URI of the kind of problem.", examples=["urn:trauma-api:problem:study-not-found"])
    title: str
    status: int
    detail: str = Field(description="One sentence that tells what to do. Never holds patient data.")
    code: str = Field(description="Stable, kebab-case.", examples=["study-not-found"])
    retryable: bool = Field(description="Whether the identical request may succeed later.")
    request_id: str = Field(description="Also in the X-Request-Id header and in the service's log.")
    errors: list[InvalidField] = Field(description="Which fields are wrong, for a malformed request.")
