"""A small HTTP client of the service, for the command line: uploads, follows, fetches."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import httpx

from trauma_api.schemas.briefings import Briefing, BriefingEvent, BriefingRequest
from trauma_api.schemas.studies import Study

UPLOAD_TIMEOUT_S = 600.0
ReportForm = Literal[".json", ".txt", ".md", ".pdf"]
"""By the ending of the file that it goes into; JSON is the whole briefing."""


class RequestFailedError(Exception):
    """The service refused or failed; the text is the sentence that it sent."""


class ServiceClient:
    """Talks to one running service."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(
            base_url=base_url, headers=headers, timeout=httpx.Timeout(UPLOAD_TIMEOUT_S, connect=5.0)
        )

    def __enter__(self) -> "ServiceClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def upload(self, path: Path) -> Study:
        """Upload a file or all files of a folder. File names are not sent. Raises RequestFailedError."""
        paths = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        if not paths:
            raise RequestFailedError("The folder holds no files.")
        with ExitStack() as stack:
            files = [
                ("files", (str(position), stack.enter_context(item.open("rb")), "application/octet-stream"))
                for position, item in enumerate(paths)
            ]
            return Study.model_validate(self._send("POST", "/v1/studies", files=files))

    def describe_study(self, study_id: str) -> Study:
        """A study that is kept. Raises RequestFailedError."""
        return Study.model_validate(self._send("GET", f"/v1/studies/{study_id}"))

    def start_briefing(self, request: BriefingRequest) -> Briefing:
        """Start a briefing. Raises RequestFailedError."""
        return Briefing.model_validate(self._send("POST", "/v1/briefings", json=request.model_dump(mode="json")))

    def get_briefing(self, briefing_id: str) -> Briefing:
        """A briefing as it stands. Raises RequestFailedError."""
        return Briefing.model_validate(self._send("GET", f"/v1/briefings/{briefing_id}"))

    def get_report(self, briefing: Briefing, form: ReportForm) -> bytes:
        """The report in one of its forms. Raises RequestFailedError."""
        links = briefing.links
        url = {
            ".json": links.self_url,
            ".txt": links.report_text_url,
            ".md": links.report_markdown_url,
            ".pdf": links.report_pdf_url,
        }[form]
        response = self._request("GET", url)
        return response.content

    def follow(self, briefing: Briefing) -> Iterator[BriefingEvent]:
        """Events of a briefing as they come, to the last. Raises RequestFailedError."""
        headers = {"Accept": "text/event-stream"}
        with self._http.stream("GET", briefing.links.events_url, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                raise RequestFailedError(_sentence(response))
            name = ""
            for line in response.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data" and name == "error":
                    raise RequestFailedError(str(json.loads(value)["detail"]))
                elif field == "data":
                    yield BriefingEvent.model_validate_json(value)

    def _send(self, method: str, url: str, **options: Any) -> Any:
        return self._request(method, url, **options).json()

    def _request(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, url, **options)
        except httpx.TransportError as error:
            raise RequestFailedError("The service does not answer at that address.") from error
        if response.is_error:
            raise RequestFailedError(_sentence(response))
        return response


def _sentence(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The service answered with status {response.status_code}."
