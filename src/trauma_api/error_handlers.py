"""Everything that is not 2xx becomes application/problem+json."""

import traceback
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from trauma_api.errors import BodyTooLargeError, TraumaAPIError, UnauthorizedError
from trauma_api.log import get_logger
from trauma_api.schemas.problem import InvalidField, Problem

PROBLEM_MEDIA_TYPE = "application/problem+json"
REQUEST_ID_HEADER = "X-Request-Id"

logger = get_logger()

_ROUTING_CODES: Mapping[int, tuple[str, str]] = {
    400: ("malformed-request", "The request could not be parsed. Check its body against the OpenAPI document."),
    404: ("no-such-url", "There is nothing at this URL. See /docs for the operations."),
    405: ("method-not-allowed", "This URL does not take that method. See /docs for the operations."),
}


def problem_of(error: TraumaAPIError, request_id: str) -> Problem:
    """The body for an error of ours."""
    return Problem(
        type=f"urn:trauma-api:problem:{error.code}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        retryable=error.retryable,
        request_id=request_id,
        errors=[],
    )


def install_error_handlers(app: FastAPI) -> None:
    """Register the handlers, from our own errors down to the last resort."""
    app.add_exception_handler(TraumaAPIError, _handle_ours)  # type: ignore[arg-type]  # starlette types handlers by Exception
    app.add_exception_handler(RequestValidationError, _handle_malformed)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _handle_http)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _handle_unexpected)


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


def _respond(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        problem.model_dump(mode="json"), problem.status, headers=dict(headers or {}), media_type=PROBLEM_MEDIA_TYPE
    )


async def _handle_ours(request: Request, error: TraumaAPIError) -> JSONResponse:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    logger.info("refused", code=error.code)
    return _respond(problem_of(error, _request_id(request)), headers)


async def _handle_malformed(request: Request, error: RequestValidationError) -> JSONResponse:
    # The messages of pydantic can quote the input; the kind of error and the place cannot.
    fields = [InvalidField(pointer=_pointer(item), message=_kind_in_words(item)) for item in error.errors()]
    problem = Problem(
        type="urn:trauma-api:problem:invalid-request",
        title="Invalid request",
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        detail="The request does not fit the contract; `errors` names the fields. See /docs.",
        code="invalid-request",
        retryable=False,
        request_id=_request_id(request),
        errors=fields,
    )
    return _respond(problem)


def _pointer(item: Mapping[str, Any]) -> str:
    place = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        place = place[:-1]  # the name of an unknown field is the client's, and may be anything
    return "".join(f"/{part}" for part in place[1:]) if place[0] == "body" else place[-1]


def _kind_in_words(item: Mapping[str, Any]) -> str:
    bounds = {name: value for name, value in (item.get("ctx") or {}).items() if isinstance(value, int | float)}
    limits = ", ".join(f"{name} {value:g}" for name, value in bounds.items())
    kind = str(item["type"]).replace("_", " ")
    return f"{kind} ({limits})" if limits else kind


async def _handle_http(request: Request, error: HTTPException) -> JSONResponse:
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return await _handle_ours(request, BodyTooLargeError())
    status = HTTPStatus(error.status_code)
    code, detail = _ROUTING_CODES.get(status, (status.phrase.lower().replace(" ", "-"), f"{status.phrase}."))
    problem = Problem(
        type=f"urn:trauma-api:problem:{code}",
        title=status.phrase,
        status=status,
        detail=detail,
        code=code,
        retryable=False,
        request_id=_request_id(request),
        errors=[],
    )
    return _respond(problem, error.headers)


async def _handle_unexpected(request: Request, error: Exception) -> JSONResponse:
    # Type and place only: the message of an unforeseen error can hold anything, patient data too.
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)][-6:]
    logger.error("unexpected", error=type(error).__name__, frames=frames)
    # This handler runs outside the middleware that adds the id, and the server closes the connection after it.
    return _respond(
        problem_of(TraumaAPIError(), _request_id(request)),
        {REQUEST_ID_HEADER: _request_id(request), "Connection": "close"},
    )
