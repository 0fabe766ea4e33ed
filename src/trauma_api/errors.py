"""The error that clients see, and the cross-cutting kinds of it.

An error that belongs to one part is declared beside the code that raises it, on the same base:

    TraumaAPIError
    ├── InputError         the client's input cannot be used; the same input fails again (4xx)
    ├── NotFoundError      nothing under that id, or no longer (404)
    ├── ConflictError      not in the present state (409)
    ├── UnavailableError   try again after ``retry_after_s`` (503)
    └── InsufficientStorageError   the disk is full; studies that expire make room (507)

Public text never holds patient data: no attribute values, file names, questions or report text.
"""

from http import HTTPStatus
from typing import ClassVar


class TraumaAPIError(Exception):
    """Base: a status, a stable kebab-case code, and one sentence that tells the client what to do."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    public_message: ClassVar[str] = "The service failed on this request. Report the request id to its operator."
    retry_after_s: int | None = None

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or self.public_message
        super().__init__(f"{self.code}: {self.detail}")

    @property
    def retryable(self) -> bool:
        """Whether the identical request may succeed later."""
        return self.status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}


class InputError(TraumaAPIError):
    """The input was understood but cannot be used."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "unusable-input"
    title = "Input cannot be used"
    public_message = "The input cannot be used. Correct it and send it again."


class NotFoundError(TraumaAPIError):
    """Nothing is kept under this id."""

    status = HTTPStatus.NOT_FOUND
    code = "not-found"
    title = "Not found"
    public_message = "Nothing is kept under this id."


class ConflictError(TraumaAPIError):
    """The request does not fit the present state."""

    status = HTTPStatus.CONFLICT
    code = "conflict"
    title = "Conflict"
    public_message = "The request does not fit the present state."


class UnavailableError(TraumaAPIError):
    """A part of the service cannot answer now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unavailable"
    title = "Temporarily unavailable"
    public_message = "A part of the service is not available now. Try again shortly."
    retry_after_s = 5


class InsufficientStorageError(TraumaAPIError):
    """The disk has no room for what would be written. Studies that expire make some."""

    status = HTTPStatus.INSUFFICIENT_STORAGE
    code = "insufficient-storage"
    title = "Insufficient storage"
    public_message = "The service has too little disk space for this study. Try again later, or tell its operator."
    retry_after_s = 60
    retryable = True


class StoreUnavailableError(UnavailableError):
    """Redis did not answer."""

    code = "store-unavailable"
    title = "Session store unavailable"
    public_message = "The store for briefings and sessions does not answer. Try again shortly."


class UnauthorizedError(TraumaAPIError):
    """The request carries no valid API key."""

    status = HTTPStatus.UNAUTHORIZED
    code = "unauthorized"
    title = "API key required"
    public_message = "Send a valid API key as 'Authorization: Bearer <key>'."


class BodyTooLargeError(TraumaAPIError):
    """The body is over the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "body-too-large"
    title = "Body too large"
    public_message = "The body is over the limit for this request. Send less, or ask the operator to raise the limit."


class UnsupportedMediaTypeError(TraumaAPIError):
    """The body is of a content type that this operation does not take."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported-media-type"
    title = "Unsupported media type"
    public_message = "This operation does not take that content type."
