"""Logs hold no patient data, whatever is sent and however it fails."""

import io
import json
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from tests.support.processes import served
from tests.support.studies import DICOM, phantom_slices, zipped

CANARY = "ZQXKANARI"
JSON = {"Content-Type": "application/json"}


def marked_slices(count: int) -> list[bytes]:
    """Slices with the canary in every attribute that can name a patient, in private ones and in the file's preamble."""
    marked = []
    for content in phantom_slices(count):
        dataset = pydicom.dcmread(io.BytesIO(content))
        dataset.PatientName = f"{CANARY}^JANE"
        dataset.PatientID = f"{CANARY}-1"
        dataset.StudyDescription = f"fall of {CANARY}"
        dataset.SeriesDescription = CANARY
        dataset.InstitutionName = CANARY
        dataset.ReferringPhysicianName = CANARY
        dataset.PatientComments = CANARY
        dataset.private_block(0x000B, "TEST", create=True).add_new(0x01, "LO", CANARY)
        dataset.preamble = CANARY.encode().ljust(128, b"\0")
        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
        marked.append(stream.getvalue())
    return marked


def with_broken_numbers(content: bytes) -> bytes:
    """The canary where a number belongs: libraries like to quote such values."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    for keyword in ("PixelSpacing", "ImagePositionPatient", "RescaleSlope"):
        tag = Tag(keyword)
        value = CANARY.ljust(16).encode()
        dataset[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def named(contents: list[bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    """A form whose file names hold the canary."""
    return [("files", (f"{CANARY}_{index}.dcm", content, DICOM)) for index, content in enumerate(contents)]


class Visit:
    """A client that remembers all problems it was answered with."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.problems: list[str] = []

    def send(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send one request."""
        response = self.client.request(method, url, **options)
        if response.is_error:
            self.problems.append(response.text)
        return response


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Visit, str]:
    """What was answered, and all that the process wrote, after requests full of canaries."""
    log = tmp_path_factory.mktemp("log") / "serve.log"
    env = {"TRAUMA_LOG_LEVEL": "DEBUG", "TRAUMA_ANSWER_MAX_TOKENS": "16", "TRAUMA_PROSE_MAX_TOKENS": "16"}
    with served(log, **env) as url, httpx.Client(base_url=url, timeout=60) as client:
        visit = Visit(client)
        _send_studies(visit)
        _ask(visit)
        _send_nonsense(visit)
    return visit, log.read_text(encoding="utf-8")


def _send_studies(visit: Visit) -> None:
    marked = marked_slices(2)
    kept = visit.send("POST", "/v1/studies", files=named(marked))
    assert kept.status_code == 201, kept.text
    assert CANARY not in kept.text
    briefing = visit.send("POST", "/v1/briefings?wait=60", json={"study_id": kept.json()["study_id"]})
    assert briefing.json()["status"] == "done"
    assert CANARY not in briefing.text
    refused = [
        visit.send("POST", "/v1/studies", files=named([marked[0][:3000]])),
        visit.send("POST", "/v1/studies", files=named([with_broken_numbers(content) for content in marked])),
        visit.send("POST", "/v1/studies", files=named([CANARY.encode() * 100])),
        visit.send("POST", "/v1/studies", files=named(marked), data={"spacing_mm": CANARY}),
        visit.send("POST", "/v1/studies", content=CANARY.encode(), headers={"Content-Type": f"text/{CANARY}"}),
        visit.send(
            "POST",
            "/v1/studies",
            content=zipped((CANARY.encode(),))[:-10],
            headers={"Content-Type": "application/zip"},
        ),
    ]
    assert [400 <= response.status_code < 500 for response in refused] == [True] * 6


def _ask(visit: Visit) -> None:
    session_url = visit.send("GET", _last_briefing(visit)).json()["links"]["questions_url"]
    answer = visit.send("POST", session_url, json={"question": f"Is {CANARY} bleeding?"})
    assert answer.json()["question"] == f"Is {CANARY} bleeding?"  # the answer itself may hold it
    with visit.client.stream(
        "POST", session_url, json={"question": f"Where does {CANARY} bleed?"}, headers={"Accept": "text/event-stream"}
    ) as response:
        assert "event: done" in "".join(response.iter_text())
    visit.send("POST", session_url, json={"question": CANARY * 1000})


def _last_briefing(visit: Visit) -> str:
    study = visit.send("POST", "/v1/studies", files=named(marked_slices(2))).json()
    briefing = visit.send("POST", "/v1/briefings?wait=60", json={"study_id": study["study_id"]}).json()
    url: str = briefing["links"]["self_url"]
    return url


def _send_nonsense(visit: Visit) -> None:
    for response in (
        visit.send("GET", f"/v1/studies/{CANARY}"),
        visit.send("GET", f"/v1/{CANARY}?name={CANARY}"),
        visit.send("GET", "/v1/studies/sample/slices/0.png", params={"window": CANARY}),
        visit.send("POST", "/v1/triage", content=CANARY.encode(), headers=JSON),
        visit.send("POST", "/v1/triage", json={"study_id": CANARY, "threshold": CANARY}),
        visit.send("POST", "/v1/briefings", json={"study_id": "sample", "clinical_context": {"mechanism": CANARY}}),
        visit.send("GET", "/v1/sessions/sample", headers={"X-Request-Id": CANARY, "User-Agent": CANARY}),
    ):
        assert 400 <= response.status_code < 500


class TestPatientData:
    def test_no_log_line_holds_it(self, visited: tuple[Visit, str]) -> None:
        log = visited[1]
        assert [line for line in log.splitlines() if CANARY.lower() in line.lower()] == []

    def test_no_problem_holds_it(self, visited: tuple[Visit, str]) -> None:
        problems = visited[0].problems
        assert len(problems) >= 14
        assert [problem for problem in problems if CANARY.lower() in problem.lower()] == []


class TestLines:
    def test_every_request_has_a_line_with_its_route_and_not_its_url(self, visited: tuple[Visit, str]) -> None:
        lines = [json.loads(line) for line in visited[1].splitlines() if line.startswith("{")]
        requests = [line for line in lines if line.get("event") == "request"]
        routes = {(line["method"], line["route"], line["status"]) for line in requests}
        assert ("POST", "/v1/studies", 201) in routes
        assert ("POST", "/v1/sessions/{session_id}/questions", 200) in routes
        assert ("GET", "/v1/studies/{study_id}", 422) in routes
        ids = [line["request_id"] for line in requests]
        assert len(set(ids)) == len(ids)

    def test_the_request_id_of_a_problem_is_in_the_log(self, visited: tuple[Visit, str]) -> None:
        visit, log = visited
        for problem in visit.problems:
            assert json.loads(problem)["request_id"] in log

    def test_every_line_is_json(self, visited: tuple[Visit, str]) -> None:
        assert [line for line in visited[1].splitlines() if not line.startswith("{")] == []
