"""What the service says that it takes is what it was configured with and what it can decode."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.problems import problem_in
from tests.support.quick import quick_service
from tests.support.studies import form_files
from trauma_api.imaging.pixels import supported_transfer_syntaxes
from trauma_api.imaging.study import ReadLimits

LIMITS: dict[str, Any] = {
    "max_upload_bytes": 123_456_789,
    "max_upload_files": 3,
    "max_entry_ratio": 33,
    "min_side": 17,
    "max_voxels": 4_242,
    "ingest_children": 3,
    "upload_idle_s": 12.5,
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client of a service with limits of its own."""
    with quick_service(**LIMITS) as (_, client):
        yield client


def test_the_limits_are_those_that_hold(client: httpx.Client) -> None:
    found = client.get("/v1/capabilities").json()
    told = {
        name: value for group, limits in found.items() if group.endswith("_limits") for name, value in limits.items()
    }
    assert told.items() >= LIMITS.items()
    assert told["max_total_ratio"] == ReadLimits().max_total_ratio
    assert told["ratio_free_bytes"] == ReadLimits().ratio_free_bytes
    assert told["max_nesting"] == 0


def test_a_limit_of_the_list_is_the_one_that_refuses(client: httpx.Client) -> None:
    limit = client.get("/v1/capabilities").json()["upload_limits"]["max_upload_files"]
    problem_in(client.post("/v1/studies", files=form_files((b"x",) * (limit + 1))), 413, "too-many-files")
    problem_in(client.post("/v1/studies", files=form_files((b"x",) * limit)), 422, "unrecognized-upload")


def test_the_transfer_syntaxes_are_those_that_can_be_decoded(client: httpx.Client) -> None:
    formats = client.get("/v1/capabilities").json()["formats"]
    told = {one["uid"]: one for one in formats["transfer_syntaxes"]}
    assert set(told) == {one.uid for one in supported_transfer_syntaxes()}
    assert not told["1.2.840.10008.1.2.1"]["lossy"]
    assert told["1.2.840.10008.1.2.4.50"]["lossy"]
    assert formats["decoders"] == sorted({one["decoder"] for one in told.values()})
    assert all(one["name"] for one in told.values())


def test_every_content_type_that_is_listed_is_taken(client: httpx.Client) -> None:
    kinds = client.get("/v1/capabilities").json()["formats"]["content_types"]
    assert "multipart/form-data" in kinds
    for kind in kinds:
        headers = {"Content-Type": f"{kind}; boundary=b" if kind.startswith("multipart") else kind}
        body = b"--b--\r\n" if kind.startswith("multipart") else b""
        problem_in(client.post("/v1/studies", content=body, headers=headers), 422, "no-files")


def test_a_key_is_asked_for_as_everywhere() -> None:
    with quick_service(api_keys="a-key") as (_, client):
        problem_in(client.get("/v1/capabilities"), 401, "unauthorized")
        assert client.get("/v1/capabilities", headers={"Authorization": "Bearer a-key"}).status_code == 200
