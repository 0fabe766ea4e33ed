"""The OpenAPI document: FastAPI's, made to fit what client generators need."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from trauma_api.routers.problems import PROBLEM_REF
from trauma_api.schemas.briefings import BriefingEventList
from trauma_api.schemas.problem import Problem
from trauma_api.schemas.sessions import Answer, DoneEvent, ErrorEvent, StatusEvent, TokenEvent

DESCRIPTION = """
From an abdominal trauma CT to a structured briefing while the radiologist still reads, and answers to questions as a
token stream.

**Research use only.** Not a medical device.

Upload a study with `POST /v1/studies`, or use the id `sample` for the built-in phantom study; then
`POST /v1/briefings`, follow its events, and ask questions in the session that it opens. Streams are sent when `Accept`
is `text/event-stream`; every stream has a JSON twin. Errors are `application/problem+json` with a stable `code`.
"""

TAGS = [
    {"name": "Studies", "description": "Upload a CT and look at it."},
    {"name": "Briefings", "description": "The whole run as a job: start, follow, fetch, cancel."},
    {"name": "Sessions and questions", "description": "Ask about a finished briefing."},
    {"name": "Triage", "description": "Which slices look injured."},
    {"name": "Reading", "description": "What is injured."},
    {"name": "Volume", "description": "How many millilitres of blood."},
    {"name": "Report", "description": "The results in sections."},
    {"name": "Service", "description": "What is loaded, and whether it works."},
]

# Not reached from an operation's own schema: payloads of streams, and bodies that are declared by hand.
_EXTRA_SCHEMAS = (Problem, Answer, BriefingEventList, StatusEvent, TokenEvent, DoneEvent, ErrorEvent)

_INVALID_REQUEST = "`invalid-request`: The request does not fit the contract; `errors` names the fields."


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """The document, built once. OpenAPI 3.1.0."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            openapi_version="3.1.0",
            summary=app.summary,
            description=app.description,
            routes=app.routes,
            tags=TAGS,
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )
        _add_schemas(document)
        _describe_invalid_requests(document)
        app.openapi_schema = document
    return app.openapi_schema


def _add_schemas(document: dict[str, Any]) -> None:
    _, extra = models_json_schema(
        [(schema, "serialization") for schema in _EXTRA_SCHEMAS], ref_template="#/components/schemas/{model}"
    )
    schemas = document["components"]["schemas"]
    for name, schema in extra["$defs"].items():
        schemas.setdefault(name, schema)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["schemas"] = dict(sorted(schemas.items()))


def _describe_invalid_requests(document: dict[str, Any]) -> None:
    """FastAPI declares its own body for 422, which is not what is sent."""
    for path in document["paths"].values():
        for operation in path.values():
            response = operation["responses"].get("422")
            if response is None:
                continue
            ours = response.get("content", {}).get("application/problem+json")
            response["description"] = f"{response['description']}; {_INVALID_REQUEST}" if ours else _INVALID_REQUEST
            response["content"] = {"application/problem+json": {"schema": PROBLEM_REF}}
