"""API keys: asked for when set, never guessed at, never needed for health."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.problems import problem_in
from tests.support.quick import quick_service, spooled
from tests.support.service import RunningService

KEYS = "first-key, second-key"


@pytest.fixture(scope="module")
def locked() -> Iterator[tuple[RunningService, httpx.Client]]:
    """A service that asks for a key."""
    with quick_service(api_keys=KEYS) as both:
        yield both


@pytest.fixture
def client(locked: tuple[RunningService, httpx.Client]) -> httpx.Client:
    """A client without a key."""
    return locked[1]


class TestWithoutAKey:
    @pytest.mark.parametrize(
        ("method", "url"),
        [
            ("GET", "/v1/models"),
            ("GET", "/v1/studies/sample"),
            ("DELETE", "/v1/studies/sample"),
            ("GET", "/v1/studies/sample/slices/0.png"),
            ("GET", "/v1/briefings/sample"),
            ("GET", "/v1/briefings/sample/events"),
            ("DELETE", "/v1/briefings/sample"),
            ("GET", "/v1/sessions/sample"),
            ("DELETE", "/v1/sessions/sample"),
            ("GET", f"/v1/sessions/sample/questions/{'0' * 32}"),
        ],
    )
    def test_every_operation_is_401(self, client: httpx.Client, method: str, url: str) -> None:
        response = client.request(method, url)
        problem_in(response, 401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("url", ["/v1/briefings", "/v1/triage", "/v1/analysis", "/v1/volume"])
    def test_work_is_401(self, client: httpx.Client, url: str) -> None:
        problem_in(client.post(url, json={"study_id": "sample"}), 401, "unauthorized")

    def test_a_question_is_401_before_any_stream(self, client: httpx.Client) -> None:
        response = client.post(
            "/v1/sessions/sample/questions", json={"question": "Why?"}, headers={"Accept": "text/event-stream"}
        )
        problem_in(response, 401, "unauthorized")

    def test_an_upload_is_401_and_leaves_nothing(self, locked: tuple[RunningService, httpx.Client]) -> None:
        service, client = locked
        response = client.post("/v1/studies", content=b"x" * 1000, headers={"Content-Type": "application/dicom"})
        problem_in(response, 401, "unauthorized")
        assert spooled(service) == []

    @pytest.mark.parametrize("url", ["/healthz", "/readyz", "/docs", "/openapi.json"])
    def test_health_and_documentation_are_open(self, client: httpx.Client, url: str) -> None:
        assert client.get(url).status_code == 200


class TestWithAKey:
    @pytest.mark.parametrize("key", ["first-key", "second-key"])
    def test_each_of_the_keys_is_accepted(self, client: httpx.Client, key: str) -> None:
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200

    @pytest.mark.parametrize(
        "header",
        [
            "Bearer wrong-key",
            "Bearer first-key, second-key",  # the setting as a whole is no key
            "Bearer first-ke",
            "Bearer FIRST-KEY",
            "Bearer",
            "Basic first-key",
            "first-key",
            "",
        ],
    )
    def test_anything_else_is_refused(self, client: httpx.Client, header: str) -> None:
        problem_in(client.get("/v1/models", headers={"Authorization": header}), 401, "unauthorized")

    def test_a_key_that_is_no_ascii_is_refused(self, client: httpx.Client) -> None:
        header = [(b"Authorization", "Bearer sch\u00fcssel".encode())]
        problem_in(client.get("/v1/models", headers=header), 401, "unauthorized")
