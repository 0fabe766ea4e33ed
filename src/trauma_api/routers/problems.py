"""How the errors of an operation are declared in the contract."""

from http import HTTPStatus
from typing import Any

from trauma_api.errors import StoreUnavailableError, TraumaAPIError, UnauthorizedError

PROBLEM_REF = {"$ref": "#/components/schemas/Problem"}


def problems(*errors: type[TraumaAPIError]) -> dict[int | str, dict[str, Any]]:
    """Responses for these errors and for those that every operation can have, by status, naming the codes."""
    by_status: dict[HTTPStatus, list[type[TraumaAPIError]]] = {}
    everything: tuple[type[TraumaAPIError], ...] = (UnauthorizedError, StoreUnavailableError, *errors)
    for error in everything:
        by_status.setdefault(error.status, []).append(error)
    return {
        int(status): {
            "description": "; ".join(f"`{error.code}`: {error.public_message}" for error in dict.fromkeys(kinds)),
            "content": {"application/problem+json": {"schema": PROBLEM_REF}},
        }
        for status, kinds in sorted(by_status.items())
    }
