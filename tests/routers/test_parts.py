"""Triage, reading, volume and report one by one, with the shipped checkpoints on a few slices."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.support.engines import ScriptedReader, small_engines
from tests.support.problems import problem_in
from tests.support.quick import quick_service
from tests.support.studies import upload_slices
from trauma_api.schemas.analysis import AnalysisResult
from trauma_api.schemas.report import ReportResult
from trauma_api.schemas.triage import TriageResult
from trauma_api.schemas.volume import VolumeResult
from trauma_api.settings import TRIAGE_STATEMENTS

SLICES = 5


@pytest.fixture
def study_id(client: httpx.Client) -> str:
    """Five slices of the phantom."""
    study_id: str = upload_slices(client, SLICES)["study_id"]
    return study_id


def with_nan(body: dict[str, Any], value: str = "NaN") -> dict[str, Any]:
    """Request options with a body in which every "NAN" is a number that JSON does not have."""
    return {"content": json.dumps(body).replace('"NAN"', value), "headers": {"Content-Type": "application/json"}}


class TestTriage:
    def test_every_slice_is_scored_against_every_statement(self, client: httpx.Client, study_id: str) -> None:
        response = client.post("/v1/triage", json={"study_id": study_id})
        assert response.status_code == 200
        result = TriageResult.model_validate(response.json())
        assert [item.slice_index for item in result.slices] == list(range(SLICES))
        assert [item.candidate for item in result.slices[0].candidates] == list(TRIAGE_STATEMENTS)
        assert result.slice_budget == 12  # as the reader's checkpoint states
        assert 1 <= len(result.selected_slices) <= SLICES
        assert [item.role for item in result.provenance] == ["triage"]

    def test_the_threshold_decides_what_is_suspicious(self, client: httpx.Client, study_id: str) -> None:
        def at(threshold: float) -> TriageResult:
            response = client.post("/v1/triage", json={"study_id": study_id, "threshold": threshold})
            return TriageResult.model_validate(response.json())

        lowest, highest = at(0), at(1)
        assert (lowest.threshold, lowest.suspicious_count, len(lowest.selected_slices)) == (0, SLICES, SLICES)
        # Nothing is certain to 1: the most suspicious slice alone is read.
        assert highest.suspicious_count == 0
        most = max(highest.slices, key=lambda item: item.suspicion).suspicion
        (chosen,) = highest.selected_slices
        assert highest.slices[chosen].suspicion == most

    @pytest.mark.parametrize("threshold", ["-0.1", "1.1", '"high"', "NaN", "Infinity"])
    def test_a_threshold_out_of_range_is_refused(self, client: httpx.Client, study_id: str, threshold: str) -> None:
        body = with_nan({"study_id": study_id, "threshold": "NAN"}, threshold)
        problem_in(client.post("/v1/triage", **body), 422, "invalid-request")


class TestAnalysis:
    def test_the_given_slices_are_read(self, client: httpx.Client, study_id: str) -> None:
        body = {"study_id": study_id, "slice_indices": [4, 1, 4], "vitals": {"gcs": 14}}
        response = client.post("/v1/analysis", json=body)
        assert response.status_code == 200, response.text
        result = AnalysisResult.model_validate(response.json())
        assert result.slice_indices == [1, 4]
        for name in ("liver", "spleen", "kidneys", "hemoperitoneum", "severity", "injury_pattern"):
            finding = getattr(result.findings, name)
            assert sum(finding.probabilities.values()) == pytest.approx(1, abs=0.01)
            assert finding.probability == finding.probabilities[finding.value]
            assert finding.probability == max(finding.probabilities.values())

    def test_without_slices_triage_selects_them(self, client: httpx.Client) -> None:
        study_id = upload_slices(client, 2)["study_id"]
        selected = client.post("/v1/triage", json={"study_id": study_id}).json()["selected_slices"]
        response = client.post("/v1/analysis", json={"study_id": study_id})
        assert response.json()["slice_indices"] == selected

    def test_slices_that_cannot_be_are_refused(self, client: httpx.Client, study_id: str) -> None:
        def answer(indices: list[int]) -> httpx.Response:
            return client.post("/v1/analysis", json={"study_id": study_id, "slice_indices": indices})

        problem_in(answer([0, SLICES]), 422, "slice-out-of-range")
        problem_in(answer([10**30]), 422, "slice-out-of-range")
        problem_in(answer([-1]), 422, "invalid-request")
        problem_in(answer([]), 422, "invalid-request")
        problem_in(answer(list(range(86))), 422, "invalid-request")


class TestVolume:
    def test_the_slices_add_up_to_the_volume(self, client: httpx.Client, study_id: str) -> None:
        response = client.post("/v1/volume", json={"study_id": study_id})
        assert response.status_code == 200
        result = VolumeResult.model_validate(response.json())
        assert len(result.slices) == SLICES
        # Rounded to 0.005 mL a slice and 0.05 mL in all.
        assert sum(item.volume_ml for item in result.slices) == pytest.approx(result.volume_ml, abs=0.08)
        assert result.interval.low_ml <= result.volume_ml <= result.interval.high_ml
        assert "no guideline" in result.risk_convention

    def test_a_higher_threshold_never_finds_more(self, client: httpx.Client, study_id: str) -> None:
        volumes = [
            client.post("/v1/volume", json={"study_id": study_id, "threshold": threshold}).json()["volume_ml"]
            for threshold in (0.001, 0.3, 0.5, 0.7, 0.999)
        ]
        assert volumes == sorted(volumes, reverse=True)
        # 5 x 160 x 160 voxels of 24.2 mm3 are 3097.6 mL: there cannot be more.
        assert volumes[0] <= 3097.6

    @pytest.mark.parametrize("threshold", ["0", "1", "-1", "NaN"])
    def test_a_threshold_out_of_range_is_refused(self, client: httpx.Client, study_id: str, threshold: str) -> None:
        body = with_nan({"study_id": study_id, "threshold": "NAN"}, threshold)
        problem_in(client.post("/v1/volume", **body), 422, "invalid-request")


class TestReport:
    @pytest.fixture
    def volume(self, client: httpx.Client, study_id: str) -> dict[str, Any]:
        """The study's volume."""
        volume: dict[str, Any] = client.post("/v1/volume", json={"study_id": study_id}).json()
        return volume

    def test_it_says_what_it_was_given_and_what_is_missing(
        self, client: httpx.Client, study_id: str, volume: dict[str, Any]
    ) -> None:
        body = {"study_id": study_id, "findings": None, "volume": volume, "vitals": {"heart_rate_bpm": 128}}
        response = client.post("/v1/report", json=body)
        assert response.status_code == 200, response.text
        result = ReportResult.model_validate(response.json())
        sections = {section.name: section for section in result.sections}
        assert list(sections) == [
            "indication",
            "physiology",
            "technique",
            "findings",
            "quantification",
            "impression",
            "recommendations",
            "follow_up",
            "limits",
        ]
        assert f"{volume['volume_ml']:.1f} mL" in " ".join(one.text for one in sections["impression"].statements)
        assert "findings" in result.missing
        assert "heart_rate_bpm" not in result.missing
        assert {name for name, section in sections.items() if section.prose is not None} == {"findings", "impression"}

    def test_recommendations_follow_from_what_was_sent(self, client: httpx.Client, study_id: str) -> None:
        findings = client.post("/v1/analysis", json={"study_id": study_id, "slice_indices": [2]}).json()["findings"]
        for name in ("liver", "kidneys"):
            findings[name]["value"] = "none"
        findings["spleen"]["value"] = "high_grade"
        findings["bowel_and_mesentery"]["value"] = "absent"
        findings["active_extravasation"]["value"] = "not_assessed"
        stable = {"hemodynamic_status": "stable", "peritonitis": "absent", "mechanism": "blunt"}
        body = {"study_id": study_id, "findings": findings, "clinical_context": stable}
        body["vitals"] = {"heart_rate_bpm": 90, "systolic_mmhg": 120}
        result = ReportResult.model_validate(client.post("/v1/report", json=body).json())
        fired = {one.id: one for one in result.recommendations}
        assert list(fired) == ["SPL-5", "SPL-2", "SPL-3", "SPL-6", "SPL-7", "BWL-3"]
        assert fired["SPL-2"].disposition == "nonoperative"
        assert "spleen=high_grade" in fired["SPL-2"].inputs
        assert result.needed_for_disposition == []
        index, abc = result.physiology
        assert (index.name, index.low, index.meaning) == ("shock_index", 0.75, "mild")
        assert (abc.name, abc.low, abc.high, abc.missing) == ("abc_score", 0, 1, ["fast"])

        body["clinical_context"] = {**stable, "peritonitis": "unknown"}
        result = ReportResult.model_validate(client.post("/v1/report", json=body).json())
        assert result.needed_for_disposition == ["peritonitis"]
        assert all(one.disposition is None for one in result.recommendations)

    def test_prose_holds_no_open_slot(self, client: httpx.Client, study_id: str, volume: dict[str, Any]) -> None:
        body = {"study_id": study_id, "findings": None, "volume": volume}
        for section in client.post("/v1/report", json=body).json()["sections"]:
            for sentence in section["prose"] or []:
                assert "{" not in sentence["text"]

    def test_nothing_to_report_on_is_refused_named_or_left_out(self, client: httpx.Client, study_id: str) -> None:
        for results in ({"findings": None, "volume": None}, {}):
            problem_in(client.post("/v1/report", json={"study_id": study_id, **results}), 422, "nothing-to-report")

    def test_a_volume_of_another_study_is_refused(self, client: httpx.Client, volume: dict[str, Any]) -> None:
        body = {"study_id": "sample", "findings": None, "volume": volume}
        problem_in(client.post("/v1/report", json=body), 409, "result-of-other-study")

    @pytest.mark.parametrize("volume_ml", ["-5", "NaN", "Infinity"])
    def test_a_volume_that_cannot_be_is_refused(
        self, client: httpx.Client, study_id: str, volume: dict[str, Any], volume_ml: str
    ) -> None:
        body = {"study_id": study_id, "findings": None, "volume": {**volume, "volume_ml": "NAN"}}
        problem_in(client.post("/v1/report", **with_nan(body, volume_ml)), 422, "invalid-request")


class TestModels:
    def test_every_role_is_named_with_its_digest_and_training(self, client: httpx.Client) -> None:
        listed = client.get("/v1/models").json()
        assert (listed["profile"], listed["slice_budget"]) == ("phantom", 12)
        assert [model["role"] for model in listed["models"]] == ["triage", "reader", "segmenter"]
        for model in listed["models"]:
            assert len(model["sha256"]) == 64
            assert model["trained_on"]
            assert model["adapter"] is None

    @pytest.mark.parametrize(
        ("setting", "stated", "budget"),
        [
            (None, None, 3),  # by the memory: on a CPU
            (None, 6, 6),
            (2, 6, 2),
        ],
    )
    def test_the_slice_budget_is_the_setting_or_what_the_reader_states_or_by_memory(
        self, setting: int | None, stated: int | None, budget: int
    ) -> None:
        reader = ScriptedReader()
        reader.info = replace(reader.info, slice_budget=stated)
        with quick_service(small_engines(reader=reader), slice_budget=setting) as (_, client):
            assert client.get("/v1/models").json()["slice_budget"] == budget

    def test_a_checkpoint_is_named_and_not_located(self, client: httpx.Client) -> None:
        # The schema says "a hub id or the name of its folder"; a path would tell of the server's disk.
        for model in client.get("/v1/models").json()["models"]:
            assert not model["checkpoint"].startswith("/"), model["checkpoint"]


class TestHealth:
    def test_alive(self, client: httpx.Client) -> None:
        response = client.get("/healthz")
        assert (response.status_code, response.json()["status"]) == (200, "alive")

    def test_ready_by_part(self, client: httpx.Client) -> None:
        response = client.get("/readyz")
        assert response.status_code == 200
        readiness = response.json()
        assert readiness["ready"] is True
        assert {part["name"]: part["ready"] for part in readiness["parts"]} == dict.fromkeys(
            ("models", "store", "storage", "uploads", "gate"), True
        )
