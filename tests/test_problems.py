"""Everything that is not 2xx is a problem with a stable code, whoever noticed it."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.engines import FailingTriage, small_engines
from tests.support.problems import problem_in
from tests.support.quick import quick_service
from tests.support.service import RunningService

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def quick() -> Iterator[tuple[RunningService, httpx.Client]]:
    """A service with small engines."""
    with quick_service() as both:
        yield both


@pytest.fixture
def client(quick: tuple[RunningService, httpx.Client]) -> httpx.Client:
    """A client of it."""
    return quick[1]


class TestRouting:
    @pytest.mark.parametrize("url", ["/v1/nothing", "/v2/studies", "/v1", "/docs/assets/missing.js"])
    def test_an_unknown_url_is_404(self, client: httpx.Client, url: str) -> None:
        problem_in(client.get(url), 404, "no-such-url")

    @pytest.mark.parametrize(
        ("method", "url"),
        [("GET", "/v1/triage"), ("PUT", "/v1/studies"), ("POST", "/healthz"), ("PATCH", "/v1/models")],
    )
    def test_another_method_is_405_and_names_those_that_are_taken(
        self, client: httpx.Client, method: str, url: str
    ) -> None:
        response = client.request(method, url)
        problem_in(response, 405, "method-not-allowed")
        assert response.headers["allow"]


class TestBody:
    @pytest.mark.parametrize("body", [b"{", b"", b"[1]", b'"text"', b"\xff\xfe", b"{'study_id': 'sample'}"])
    def test_what_is_no_json_object_is_refused(self, client: httpx.Client, body: bytes) -> None:
        response = client.post("/v1/triage", content=body, headers=JSON)
        assert response.status_code in {400, 422}
        problem_in(response, response.status_code, response.json()["code"])
        assert response.json()["code"] in {"invalid-request", "malformed-request"}

    def test_fields_are_named_and_values_are_not_quoted(self, client: httpx.Client) -> None:
        body = {"study_id": "DOE^JANE", "threshold": 7}
        problem = problem_in(client.post("/v1/triage", json=body), 422, "invalid-request")
        places = [item["pointer"] for item in problem["errors"]]
        assert len(places) == 2
        assert places[0].endswith("study_id")
        assert places[1].endswith("threshold")
        assert "less than" in problem["errors"][1]["message"]
        assert "DOE" not in str(problem)

    def test_deeply_nested_json_is_refused_and_the_service_goes_on(self, client: httpx.Client) -> None:
        body = b'{"study_id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        response = client.post("/v1/triage", content=body, headers=JSON)
        assert 400 <= response.status_code < 500, response.text
        problem_in(response, response.status_code, response.json()["code"])
        assert client.get("/healthz").status_code == 200


class TestRequestId:
    def test_every_response_has_one_of_its_own(self, client: httpx.Client) -> None:
        urls = ("/healthz", "/v1/models", "/docs", "/v1/nothing", "/openapi.json", "/healthz")
        ids = [client.get(url).headers["x-request-id"] for url in urls]
        assert len(set(ids)) == len(urls)
        assert all(len(request_id) == 32 for request_id in ids)

    def test_a_clients_own_is_not_taken_over(self, client: httpx.Client) -> None:
        response = client.get("/v1/nothing", headers={"X-Request-Id": "DOE^JANE"})
        assert problem_in(response, 404, "no-such-url")["request_id"] != "DOE^JANE"


class TestUnforeseen:
    def test_an_unforeseen_error_is_500_without_its_text_and_the_service_goes_on(self) -> None:
        engines = small_engines(triage=FailingTriage(RuntimeError("Jane Doe's slice")))
        with quick_service(engines) as (service, client):
            response = client.post("/v1/triage", json={"study_id": "sample"})
            problem_in(response, 500, "internal-error")
            assert "Jane" not in response.text
            # uvicorn closes the connection after such an error; a client that is not told reuses it and is reset.
            assert response.headers["connection"] == "close"
            service.wait_until_idle()
            assert client.post("/v1/volume", json={"study_id": "sample"}).status_code == 200
