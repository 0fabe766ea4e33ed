"""The main job over a real socket: a study goes in, a briefing comes out, questions are answered as a stream."""

from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.support.events import parse_events
from tests.support.service import RunningService


@pytest.fixture(scope="module")
def briefing(service: RunningService) -> dict[str, Any]:
    """A finished briefing on the sample study."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        body = {
            "study_id": "sample",
            "vitals": {"heart_rate_bpm": 128, "systolic_mmhg": 84, "gcs": 13},
            "clinical_context": {"mechanism": "blunt"},
        }
        response = client.post("/v1/briefings?wait=60", json=body)
        assert response.status_code == 200, response.text
        finished: dict[str, Any] = response.json()
        return finished


class TestBriefing:
    def test_answers_at_once_with_202_and_location(self, client: httpx.Client) -> None:
        response = client.post("/v1/briefings", json={"study_id": "sample"})
        assert response.status_code == 202
        assert response.headers["location"] == response.json()["links"]["self_url"]
        assert response.json()["status"] == "queued"
        ended = client.get(response.headers["location"], params={"wait": 60}).json()
        assert ended["status"] == "done"

    def test_every_part_is_done(self, briefing: dict[str, Any]) -> None:
        assert briefing["status"] == "done"
        assert {name: part["status"] for name, part in briefing["parts"].items()} == dict.fromkeys(
            ("triage", "analysis", "volume", "report", "session"), "done"
        )

    def test_every_result_says_what_its_weights_were_trained_on(self, briefing: dict[str, Any]) -> None:
        for name in ("triage", "analysis", "volume", "report"):
            result = briefing["parts"][name]["result"]
            assert "phantoms" in result["provenance"][0]["trained_on"]
            assert "untrained-checkpoint" not in [warning["code"] for warning in result["warnings"]]
            assert "not a medical device" in result["notice"]

    def test_the_volume_is_the_same_in_the_report(self, briefing: dict[str, Any]) -> None:
        volume_ml = briefing["parts"]["volume"]["result"]["volume_ml"]
        sections = {section["name"]: section for section in briefing["parts"]["report"]["result"]["sections"]}
        for name in ("quantification", "impression"):
            assert any(f"{volume_ml:.1f} mL" in statement["text"] for statement in sections[name]["statements"])

    def test_reads_no_more_slices_than_the_budget(self, briefing: dict[str, Any]) -> None:
        triage, analysis = (briefing["parts"][name]["result"] for name in ("triage", "analysis"))
        assert analysis["slice_indices"] == triage["selected_slices"]
        assert 1 <= len(triage["selected_slices"]) <= triage["slice_budget"]

    def test_unknown_study_is_404(self, client: httpx.Client) -> None:
        response = client.post("/v1/briefings", json={"study_id": "0" * 32})
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "study-not-found"
        assert response.json()["retryable"] is False


class TestEvents:
    def test_stream_and_list_have_the_same_ids(self, client: httpx.Client, briefing: dict[str, Any]) -> None:
        url = briefing["links"]["events_url"]
        listed = client.get(url).json()["events"]
        with client.stream("GET", url, headers={"Accept": "text/event-stream"}) as response:
            streamed = list(parse_events(response.iter_lines()))
        assert [event["id"] for event in listed] == list(range(1, len(listed) + 1))
        assert [payload for _, payload, _ in streamed] == listed
        assert [event_id for _, _, event_id in streamed] == [str(event["id"]) for event in listed]
        assert streamed[-1][0] == "done"

    def test_last_event_id_resumes_without_gap_or_repetition(
        self, client: httpx.Client, briefing: dict[str, Any]
    ) -> None:
        url = briefing["links"]["events_url"]
        all_ids = [event["id"] for event in client.get(url).json()["events"]]
        headers = {"Accept": "text/event-stream", "Last-Event-ID": "3"}
        with client.stream("GET", url, headers=headers) as response:
            resumed = [payload["id"] for _, payload, _ in parse_events(response.iter_lines())]
        assert resumed == all_ids[3:]
        assert [event["id"] for event in client.get(url, params={"after": 3}).json()["events"]] == all_ids[3:]

    def test_reading_and_segmentation_run_together(self, client: httpx.Client, service: RunningService) -> None:
        # The sample's mask is kept, so segmentation only shows beside the reading on a study without one.
        client.delete("/v1/studies/sample")
        started = client.post("/v1/briefings?wait=60", json={"study_id": "sample"}).json()
        events = client.get(started["links"]["events_url"]).json()["events"]
        ended = {event["part"]: datetime.fromisoformat(event["at"]) for event in events if event["type"] == "part"}
        both_s = (max(ended["analysis"], ended["volume"]) - ended["triage"]).total_seconds()
        parts = started["parts"]
        alone_s = [parts[name]["result"]["provenance"][0]["duration_s"] for name in ("analysis", "volume")]
        # One after the other they would take the sum of their own times.
        assert both_s < sum(alone_s) - 0.5 * min(alone_s)


class TestQuestions:
    def test_the_streamed_tokens_join_to_the_answer(self, client: httpx.Client, briefing: dict[str, Any]) -> None:
        with client.stream(
            "POST",
            briefing["links"]["questions_url"],
            headers={"Accept": "text/event-stream"},
            json={"question": "Is there active bleeding?"},
        ) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            events = [(name, payload) for name, payload, _ in parse_events(response.iter_lines())]
        pieces = [payload["text"] for name, payload in events if name == "token"]
        assert events[0][0] == "status"
        assert events[-1][0] == "done"
        assert "".join(pieces) == events[-1][1]["answer"]["text"]
        assert len(pieces) == len(events[-1][1]["answer"]["sentences"])

    def test_json_twin_gives_the_whole_answer_and_it_can_be_fetched(
        self, client: httpx.Client, briefing: dict[str, Any]
    ) -> None:
        answer = client.post(briefing["links"]["questions_url"], json={"question": "How much blood?"}).json()
        assert answer["status"] == "done"
        assert answer["text"]
        fetched = client.get(f"{briefing['links']['questions_url']}/{answer['answer_id']}").json()
        assert fetched == answer

    def test_history_is_kept_in_order(self, client: httpx.Client, briefing: dict[str, Any]) -> None:
        before = len(client.get(briefing["links"]["session_url"]).json()["history"])
        for question in ("First?", "Second?"):
            client.post(briefing["links"]["questions_url"], json={"question": question})
        history = client.get(briefing["links"]["session_url"]).json()["history"]
        assert [turn["question"] for turn in history[before:]] == ["First?", "Second?"]

    def test_unknown_session_is_404_before_any_stream(self, client: httpx.Client) -> None:
        response = client.post(
            f"/v1/sessions/{'0' * 32}/questions",
            headers={"Accept": "text/event-stream"},
            json={"question": "Anyone there?"},
        )
        assert response.status_code == 404
        assert response.json()["code"] == "session-not-found"
