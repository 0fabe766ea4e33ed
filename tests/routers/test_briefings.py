"""Briefings when something fails, is cancelled or is too much: what is there is told, and nothing is invented."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.support.engines import (
    ConstantSegmenter,
    FailingReader,
    FailingSegmenter,
    FailingTriage,
    OutOfMemoryReader,
    SlowReader,
    failure,
    small_engines,
)
from tests.support.events import parse_events
from tests.support.problems import problem_in
from tests.support.quick import quick_service
from tests.support.service import RunningService
from tests.support.studies import upload_slices
from trauma_api.container import Engines
from trauma_api.schemas.briefings import Briefing

SAMPLE = {"study_id": "sample"}
SLICES = 4


@pytest.fixture(scope="module")
def quick() -> Iterator[tuple[RunningService, httpx.Client]]:
    """A service with small engines."""
    with quick_service() as both:
        yield both


@pytest.fixture
def client(quick: tuple[RunningService, httpx.Client]) -> httpx.Client:
    """A client of it."""
    return quick[1]


def finished(client: httpx.Client, **request: Any) -> dict[str, Any]:
    """Run a briefing to its end, on four slices unless another study is named."""
    if "study_id" not in request:
        request["study_id"] = upload_slices(client, SLICES)["study_id"]
    response = client.post("/v1/briefings?wait=30", json=request)
    assert response.status_code == 200, response.text
    briefing: dict[str, Any] = response.json()
    Briefing.model_validate(briefing)
    return briefing


def brief_with(engines: Engines) -> dict[str, Any]:
    """A finished briefing by a service with these engines, which must be idle afterwards."""
    with quick_service(engines) as (service, client):
        briefing = finished(client)
        service.wait_until_idle()
        return briefing


def outcomes(briefing: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Status and failure code of every part."""
    return {
        name: (part["status"], part["failure"] and part["failure"]["code"]) for name, part in briefing["parts"].items()
    }


def until(condition: Callable[[], bool]) -> None:
    """Wait until the service has done something."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@contextmanager
def held_service(**settings: Any) -> Iterator[tuple[RunningService, httpx.Client, SlowReader]]:
    """A service whose reader waits until it is released."""
    reader = SlowReader()
    with quick_service(small_engines(reader=reader), **settings) as (service, client):
        client.get("/v1/studies/sample")  # drawn now, so that it does not take time later
        try:
            yield service, client, reader
        finally:
            reader.release.set()


class TestFailedParts:
    def test_without_a_segmentation_the_volume_is_unavailable_and_the_rest_is_done(self) -> None:
        briefing = brief_with(small_engines(segmenter=FailingSegmenter(failure())))
        assert briefing["status"] == "done"
        assert outcomes(briefing) == {
            "triage": ("done", None),
            "analysis": ("done", None),
            "volume": ("unavailable", "model-failed"),
            "report": ("done", None),
            "session": ("done", None),
        }
        assert briefing["parts"]["volume"]["result"] is None
        report = briefing["parts"]["report"]["result"]
        assert "volume" in report["missing"]
        said = [statement["text"] for section in report["sections"] for statement in section["statements"]]
        assert said.count("Hemorrhage volume: not available.") == 2  # quantification and impression
        assert not any("0 mL" in statement for statement in said)

    def test_without_triage_the_reading_is_unavailable_too(self) -> None:
        briefing = brief_with(small_engines(triage=FailingTriage(failure())))
        assert briefing["status"] == "done"
        assert outcomes(briefing) == {
            "triage": ("unavailable", "model-failed"),
            "analysis": ("unavailable", "needs-triage"),
            "volume": ("done", None),
            "report": ("done", None),
            "session": ("done", None),
        }
        report = briefing["parts"]["report"]["result"]
        assert "findings" in report["missing"]
        sections = {section["name"]: section["statements"] for section in report["sections"]}
        assert [statement["text"] for statement in sections["findings"]] == ["Findings: not available."]

    def test_without_a_reading_the_report_rests_on_the_volume(self) -> None:
        # The reader has no memory for one slice, but writes prose, which holds no pictures.
        briefing = brief_with(small_engines(reader=OutOfMemoryReader(max_slices=0)))
        assert briefing["status"] == "done"
        assert outcomes(briefing)["analysis"] == ("unavailable", "out-of-memory")
        assert briefing["parts"]["analysis"]["failure"]["retryable"] is True
        assert outcomes(briefing)["report"] == ("done", None)

    def test_without_prose_the_report_is_unavailable_and_the_session_is_open(self) -> None:
        briefing = brief_with(small_engines(reader=FailingReader(failure(), on_forms=False)))
        assert briefing["status"] == "done"
        assert outcomes(briefing)["analysis"] == ("done", None)
        assert outcomes(briefing)["report"] == ("unavailable", "model-failed")
        assert outcomes(briefing)["session"] == ("done", None)

    def test_with_neither_reading_nor_volume_the_briefing_has_failed(self) -> None:
        engines = small_engines(triage=FailingTriage(failure()), segmenter=FailingSegmenter(failure()))
        briefing = brief_with(engines)
        assert (briefing["status"], briefing["failure"]["code"]) == ("failed", "nothing-available")
        assert outcomes({"parts": {**briefing["parts"], "session": {"status": "", "failure": None}}}) == {
            "triage": ("unavailable", "model-failed"),
            "analysis": ("unavailable", "needs-triage"),
            "volume": ("unavailable", "model-failed"),
            "report": ("unavailable", "needs-findings-or-volume"),
            "session": ("", None),
        }
        assert briefing["parts"]["session"] is None
        assert briefing["links"]["session_url"] is None
        assert briefing["finished_at"] is not None

    def test_a_study_without_a_spacing_is_briefed_without_a_volume(self, client: httpx.Client) -> None:
        study_id = upload_slices(client, 1)["study_id"]
        briefing = finished(client, study_id=study_id)
        assert briefing["status"] == "done"
        assert outcomes(briefing)["volume"] == ("unavailable", "no-spacing")
        assert briefing["parts"]["volume"]["failure"]["retryable"] is False

    def test_the_events_name_what_failed(self) -> None:
        with quick_service(small_engines(segmenter=FailingSegmenter(failure()))) as (_, client):
            briefing = finished(client)
            events = client.get(briefing["links"]["events_url"]).json()["events"]
        ended = {event["part"]: (event["status"], event["code"]) for event in events if event["type"] == "part"}
        assert ended == outcomes(briefing)
        assert [event["type"] for event in events[:2]] == ["queued", "started"]
        assert events[-1]["type"] == "done"

    @pytest.mark.parametrize("where", ["triage", "reader", "segmenter"])
    def test_an_unforeseen_error_fails_the_briefing_and_the_service_goes_on(self, where: str) -> None:
        error = RuntimeError("unforeseen, with a patient's name in it")
        engines = {
            "triage": lambda: small_engines(triage=FailingTriage(error)),
            "reader": lambda: small_engines(reader=FailingReader(error)),
            "segmenter": lambda: small_engines(segmenter=FailingSegmenter(error)),
        }[where]()
        with quick_service(engines) as (service, client):
            briefing = finished(client)
            assert briefing["status"] == "failed"
            assert briefing["failure"]["code"] == "internal-error"
            assert "patient's name" not in str(briefing)
            events = client.get(briefing["links"]["events_url"]).json()["events"]
            assert (events[-1]["type"], events[-1]["code"]) == ("failed", "internal-error")
            service.wait_until_idle()
            assert client.get("/readyz").status_code == 200
            assert finished(client)["status"] == "failed"


class TestCancel:
    def test_a_running_briefing_is_cancelled_and_its_work_stops(self) -> None:
        with held_service() as (service, client, reader):
            briefing = client.post("/v1/briefings", json=SAMPLE).json()
            until(reader.began.is_set)
            cancelled = client.delete(briefing["links"]["self_url"])
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
            until(reader.was_cancelled.is_set)
            service.wait_until_idle()
            kept = client.get(briefing["links"]["self_url"]).json()
            assert (kept["status"], kept["failure"]) == ("cancelled", None)
            assert kept["finished_at"] is not None
            events = client.get(briefing["links"]["events_url"]).json()["events"]
            assert events[-1]["type"] == "cancelled"

    def test_a_queued_briefing_is_cancelled_without_having_begun(self) -> None:
        with held_service(gate_permits=1) as (service, client, reader):
            first = client.post("/v1/briefings", json=SAMPLE).json()
            until(reader.began.is_set)
            second = client.post("/v1/briefings", json=SAMPLE).json()
            cancelled = client.delete(second["links"]["self_url"]).json()
            assert (cancelled["status"], cancelled["started_at"]) == ("cancelled", None)
            assert client.get(first["links"]["self_url"]).json()["status"] == "running"
            reader.release.set()
            assert client.get(first["links"]["self_url"], params={"wait": 30}).json()["status"] == "done"
            service.wait_until_idle()

    def test_a_finished_briefing_is_removed(self, client: httpx.Client) -> None:
        briefing = finished(client)
        removed = client.delete(briefing["links"]["self_url"])
        assert (removed.status_code, removed.json()["status"]) == (200, "done")
        problem_in(client.get(briefing["links"]["self_url"]), 404, "briefing-not-found")
        problem_in(client.get(briefing["links"]["events_url"]), 404, "briefing-not-found")
        problem_in(client.delete(briefing["links"]["self_url"]), 404, "briefing-not-found")

    def test_an_unknown_briefing_is_404(self, client: httpx.Client) -> None:
        problem_in(client.get(f"/v1/briefings/{'0' * 32}"), 404, "briefing-not-found")
        problem_in(client.get(f"/v1/briefings/{'0' * 32}/events"), 404, "briefing-not-found")
        problem_in(client.delete(f"/v1/briefings/{'0' * 32}"), 404, "briefing-not-found")
        streamed = client.get(f"/v1/briefings/{'0' * 32}/events", headers={"Accept": "text/event-stream"})
        problem_in(streamed, 404, "briefing-not-found")


class TestQueue:
    def test_a_full_briefing_queue_is_503_with_retry_after(self) -> None:
        with held_service(briefing_queue=2) as (_, client, reader):
            answers = [client.post("/v1/briefings", json=SAMPLE) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [202, 202, 503]
            problem_in(answers[2], 503, "briefing-queue-full")
            reader.release.set()
            assert client.get(answers[0].headers["location"], params={"wait": 30}).json()["status"] == "done"
            assert client.get(answers[1].headers["location"], params={"wait": 30}).json()["status"] == "done"
            assert client.post("/v1/briefings?wait=30", json=SAMPLE).status_code == 200

    def test_the_queue_limit_holds_for_requests_at_the_same_moment(self) -> None:
        with held_service(briefing_queue=2) as (_, client, _reader), ThreadPoolExecutor(12) as pool:
            posts = [pool.submit(client.post, "/v1/briefings", json=SAMPLE) for _ in range(12)]
            statuses = sorted(post.result().status_code for post in posts)
            assert statuses == [202] * 2 + [503] * 10

    def test_stat_gets_the_next_turn(self) -> None:
        with held_service(gate_permits=1) as (_, client, reader):
            client.post("/v1/briefings", json=SAMPLE)
            until(reader.began.is_set)
            asked = [client.post("/v1/briefings", json=SAMPLE | {"priority": each}) for each in ("routine", "stat")]
            reader.release.set()
            routine, stat = (client.get(one.headers["location"], params={"wait": 30}).json() for one in asked)
            assert (routine["priority"], stat["priority"]) == ("routine", "stat")
            assert stat["finished_at"] <= routine["started_at"]

    def test_a_full_gate_is_503_with_retry_after(self) -> None:
        with held_service(gate_permits=1, gate_queue=1) as (service, client, reader):
            # One permit and one place to wait: two jobs.
            client.post("/v1/briefings", json=SAMPLE)
            client.post("/v1/briefings", json=SAMPLE)
            problem_in(client.post("/v1/briefings", json=SAMPLE), 503, "queue-full")
            for operation in ("triage", "analysis", "volume"):
                problem_in(client.post(f"/v1/{operation}", json=SAMPLE), 503, "queue-full")
            # Looking is not work.
            assert client.get("/v1/studies/sample").status_code == 200
            assert client.get("/healthz").status_code == 200
            reader.release.set()
            service.wait_until_idle()
            assert client.post("/v1/triage", json=SAMPLE).status_code == 200


class TestWait:
    def test_it_holds_the_answer_until_the_end(self, client: httpx.Client) -> None:
        response = client.post("/v1/briefings?wait=30", json=SAMPLE)
        assert (response.status_code, response.json()["status"]) == (200, "done")
        assert response.headers["location"] == response.json()["links"]["self_url"]

    def test_it_answers_with_the_present_state_when_the_time_is_over(self) -> None:
        with held_service() as (_, client, reader):
            began = time.monotonic()
            response = client.post("/v1/briefings?wait=0.5", json=SAMPLE)
            assert time.monotonic() - began >= 0.5
            assert (response.status_code, response.json()["status"]) == (202, "running")
            url = response.headers["location"]
            assert client.get(url, params={"wait": 0.2}).json()["status"] == "running"
            assert client.get(url).json()["parts"]["analysis"] is None
            assert client.get(url).json()["parts"]["triage"]["status"] == "done"
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(client.get, url, params={"wait": 30})
                reader.release.set()
                assert waiting.result().json()["status"] == "done"

    @pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "soon"])
    def test_a_time_out_of_range_is_refused(self, client: httpx.Client, wait: str) -> None:
        problem_in(client.post("/v1/briefings", params={"wait": wait}, json=SAMPLE), 422, "invalid-request")


class TestSample:
    def test_sample_is_the_last_briefing_on_the_sample_study(self, client: httpx.Client) -> None:
        briefing = finished(client, study_id="sample", vitals={"heart_rate_bpm": 101})
        other = finished(client)
        assert other["study_id"] != briefing["study_id"]
        assert client.get("/v1/briefings/sample").json() == briefing
        assert client.get("/v1/sessions/sample").json()["briefing_id"] == briefing["briefing_id"]
        listed = client.get("/v1/briefings/sample/events").json()
        assert listed["briefing_id"] == briefing["briefing_id"]
        answer = client.post("/v1/sessions/sample/questions", json={"question": "Is there blood?"})
        assert (answer.status_code, answer.json()["status"]) == (200, "done")

    def test_the_sample_study_by_its_own_id_counts_as_well(self, client: httpx.Client) -> None:
        study_id = client.get("/v1/studies/sample").json()["study_id"]
        briefing = finished(client, study_id=study_id)
        assert client.get("/v1/briefings/sample").json()["briefing_id"] == briefing["briefing_id"]

    def test_there_is_none_before_the_first(self) -> None:
        with quick_service() as (_, client):
            problem_in(client.get("/v1/briefings/sample"), 404, "briefing-not-found")
            problem_in(client.get("/v1/sessions/sample"), 404, "session-not-found")


class TestEvents:
    def test_the_state_is_final_once_the_last_event_was_seen(self, client: httpx.Client) -> None:
        study_id = upload_slices(client, SLICES)["study_id"]
        for _ in range(10):
            links = client.post("/v1/briefings", json={"study_id": study_id}).json()["links"]
            with client.stream("GET", links["events_url"], headers={"Accept": "text/event-stream"}) as response:
                *_, (last, _, _) = parse_events(response.iter_lines())
            assert (last, client.get(links["self_url"]).json()["status"]) == ("done", "done")

    def test_a_stream_resumed_after_the_last_event_ends(self, client: httpx.Client) -> None:
        # A browser's EventSource reconnects by itself after `done`, with the id of `done`.
        briefing = finished(client)
        url = briefing["links"]["events_url"]
        last_id = client.get(url).json()["events"][-1]["id"]
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last_id)}
        with client.stream("GET", url, headers=headers, timeout=5) as response:
            assert response.status_code in {200, 204}
            assert [line for line in response.iter_lines() if line.startswith("event")] == []

    def test_after_beyond_the_last_event_lists_none(self, client: httpx.Client) -> None:
        url = finished(client)["links"]["events_url"]
        listed = client.get(url, params={"after": 10_000})
        assert (listed.status_code, listed.json()["events"]) == (200, [])

    def test_an_after_that_no_store_can_count_to_is_no_outage(self, client: httpx.Client) -> None:
        # 10^20 is above 64 bits: refused or empty, but not "the store does not answer".
        response = client.get(finished(client)["links"]["events_url"], params={"after": 10**20})
        assert response.status_code in {200, 422}

    @pytest.mark.parametrize("last", ["-1", "first"])
    def test_a_last_event_id_that_is_none_is_refused(self, client: httpx.Client, last: str) -> None:
        url = finished(client)["links"]["events_url"]
        problem_in(client.get(url, headers={"Last-Event-ID": last}), 422, "invalid-request")


class TestRequest:
    def test_what_is_known_of_the_patient_is_kept_with_the_briefing(self, client: httpx.Client) -> None:
        vitals = {"heart_rate_bpm": 128, "systolic_mmhg": 84, "gcs": 13}
        briefing = finished(client, vitals=vitals, clinical_context={"mechanism": "blunt"})
        given = {name: value for name, value in briefing["vitals"].items() if value is not None}
        assert given == vitals
        assert briefing["clinical_context"]["mechanism"] == "blunt"
        sections = {one["name"]: one["statements"] for one in briefing["parts"]["report"]["result"]["sections"]}
        (told,) = [one for one in sections["physiology"] if one["text"].startswith("Vital signs")]
        assert told["text"] == "Vital signs: heart rate 128 per minute, systolic pressure 84 mmHg, GCS 13."
        assert [one["name"] for one in told["evidence"]] == list(vitals)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"study_id": "nonsense"},
            {"study_id": "sample", "vitals": {"gcs": 2}},
            {"study_id": "sample", "vitals": {"gcs": 13.5}},
            {"study_id": "sample", "vitals": {"systolic_mmhg": 80, "diastolic_mmhg": 90}},
            {"study_id": "sample", "vitals": {"pulse": 80}},
            {"study_id": "sample", "clinical_context": {"mechanism": "a fall from a ladder"}},
            {"study_id": "sample", "unknown": 1},
        ],
    )
    def test_what_does_not_fit_the_contract_is_refused_with_its_fields(
        self, client: httpx.Client, body: dict[str, Any]
    ) -> None:
        problem = problem_in(client.post("/v1/briefings", json=body), 422, "invalid-request")
        assert problem["errors"]
        assert "ladder" not in str(problem)

    @pytest.mark.parametrize("value", ["NaN", "Infinity"])
    def test_a_vital_sign_that_is_no_number_is_refused(self, client: httpx.Client, value: str) -> None:
        # JSON has no NaN, but Python's parser takes it, and it would pass every bound.
        response = client.post(
            "/v1/briefings",
            content=f'{{"study_id": "sample", "vitals": {{"lactate_mmol_l": {value}}}}}',
            headers={"Content-Type": "application/json"},
        )
        problem_in(response, 422, "invalid-request")


class TestSegmentedOnce:
    def test_a_second_briefing_on_a_study_uses_the_kept_mask(self) -> None:
        segmenter = ConstantSegmenter(((slice(0, 1), slice(0, 10), slice(0, 10)), 1.0))
        with quick_service(small_engines(segmenter=segmenter)) as (_, client):
            first, second = finished(client), finished(client)
        assert segmenter.calls == 1
        # 100 voxels of 24.2 mm3: 2.42 mL.
        assert [item["parts"]["volume"]["result"]["volume_ml"] for item in (first, second)] == [2.4, 2.4]
