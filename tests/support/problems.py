"""What every response that is not 2xx has in common."""

from typing import Any

import httpx

FIELDS = {"type", "title", "status", "detail", "code", "retryable", "request_id", "errors"}


def problem_in(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem in a response, whose shape, status and code are as they must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem.keys() == FIELDS
    assert problem["code"] == code, problem
    assert problem["type"] == f"urn:trauma-api:problem:{code}"
    assert problem["status"] == status
    assert problem["retryable"] is (status in {408, 429, 503, 507})
    assert problem["title"]
    assert problem["detail"].endswith(".")
    assert problem["request_id"] == response.headers["x-request-id"]
    assert len(problem["request_id"]) == 32
    if status in {429, 503}:
        assert int(response.headers["retry-after"]) >= 1
    return problem
