"""A study that is no abdominal CT is kept and shown, and never scored; a series can be pinned."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.imaging.series_builder import SeriesBuilder, stacked
from tests.support.problems import problem_in
from tests.support.quick import quick_service
from tests.support.service import RunningService
from tests.support.studies import form_files, phantom_slices, upload_slices


@pytest.fixture(scope="module")
def quick() -> Iterator[tuple[RunningService, httpx.Client]]:
    """A service whose engines answer at once."""
    with quick_service() as running:
        yield running


@pytest.fixture
def client(quick: tuple[RunningService, httpx.Client]) -> httpx.Client:
    """A client of it."""
    return quick[1]


@pytest.fixture
def ineligible(client: httpx.Client, tmp_path: Path) -> dict[str, Any]:
    """A screenshot, 0 to 255, that calls itself CT in HU of the abdomen."""
    grey = np.random.default_rng(5).integers(0, 256, (6, 64, 64)).astype(np.int16)
    overrides = {"BodyPartExamined": "ABDOMEN", "SeriesDescription": "ABDOMEN PORTAL VENOUS"}
    paths = SeriesBuilder(grey, stacked(6), overrides=overrides).write(tmp_path)
    response = client.post("/v1/studies", files=form_files(tuple(path.read_bytes() for path in paths)))
    assert response.status_code == 201, response.text
    study: dict[str, Any] = response.json()
    return study


class TestAnIneligibleStudy:
    def test_says_why_and_can_be_looked_at(self, client: httpx.Client, ineligible: dict[str, Any]) -> None:
        assert ineligible["eligibility"]["status"] == "ineligible"
        assert [reason["code"] for reason in ineligible["eligibility"]["reasons"]] == ["hu-implausible"]
        assert client.get(f"/v1/studies/{ineligible['study_id']}").json()["eligibility"] == ineligible["eligibility"]
        assert client.get(f"/v1/studies/{ineligible['study_id']}/slices/3.png").status_code == 200

    @pytest.mark.parametrize("path", ["triage", "analysis", "volume", "briefings"])
    def test_is_not_scored(self, client: httpx.Client, ineligible: dict[str, Any], path: str) -> None:
        problem = problem_in(
            client.post(f"/v1/{path}", json={"study_id": ineligible["study_id"]}), 422, "study-not-eligible"
        )
        assert "hu-implausible" in problem["detail"]

    def test_is_not_reported_on(self, client: httpx.Client, ineligible: dict[str, Any]) -> None:
        volume = client.post("/v1/volume", json={"study_id": upload_slices(client, 5)["study_id"]}).json()
        body = {"study_id": ineligible["study_id"], "volume": volume}
        problem_in(client.post("/v1/report", json=body), 422, "study-not-eligible")


class TestCoverage:
    def test_an_incomplete_abdomen_is_told_in_every_result_and_in_the_report(self, client: httpx.Client) -> None:
        study = upload_slices(client, 12)
        assert study["eligibility"]["status"] == "eligible"
        assert study["eligibility"]["coverage"]["bottom_included"] is not True
        volume = client.post("/v1/volume", json={"study_id": study["study_id"]}).json()
        report = client.post("/v1/report", json={"study_id": study["study_id"], "volume": volume}).json()
        told = {warning["code"]: warning["detail"] for warning in study["warnings"]}
        code = "abdomen-incomplete-bottom"
        for result in (volume, report):
            assert code in {warning["code"] for warning in result["warnings"]}
        (technique,) = [section for section in report["sections"] if section["name"] == "technique"]
        assert told[code] in [statement["text"] for statement in technique["statements"]]

    def test_pictures_are_not_checked(self, client: httpx.Client) -> None:
        png = client.get("/v1/studies/sample/slices/20.png").content
        study = client.post("/v1/studies", files=form_files((png,), "image/png")).json()
        assert study["eligibility"] == {"status": "not_checked", "reasons": [], "coverage": None}


class TestPin:
    def test_a_series_is_taken_by_its_id_in_a_form_and_in_the_query(self, client: httpx.Client, tmp_path: Path) -> None:
        phases = (*phantom_slices(8, seed=7), *phantom_slices(8, seed=8))
        chosen = client.post("/v1/studies", files=form_files(phases)).json()
        (other,) = [series for series in chosen["series"] if not series["selected"]]
        by_form = client.post("/v1/studies", files=form_files(phases), data={"series": other["series_id"]}).json()
        by_query = client.post(f"/v1/studies?series={other['series_id']}", files=form_files(phases)).json()

        assert [series["series_id"] for series in by_form["series"] if series["selected"]] == [other["series_id"]]
        assert by_form["study_id"] == by_query["study_id"] != chosen["study_id"]
        refused = client.post("/v1/studies?series=1.2.3.4", files=form_files(phases))
        problem_in(refused, 422, "no-such-series")
