"""Redis dies and comes back, empty or not: no 500, no lost work, and clients are told."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.support.engines import ConstantSegmenter, ConstantTriage
from tests.support.events import parse_events
from tests.support.redis_server import RedisServer
from tests.support.service import RunningService, run_service
from tests.support.talkative_reader import TalkativeReader
from trauma_api.container import Engines
from trauma_api.settings import Settings


@pytest.fixture
def redis_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server that keeps what it holds over a restart if the test's parameter says so."""
    server = RedisServer(tmp_path, appendonly=getattr(request, "param", False))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def service(engines: Engines, redis_server: RedisServer) -> Iterator[RunningService]:
    """A service on that server, with a reader that takes two seconds for each text."""
    reader = TalkativeReader(engines.reader, words=40, pause_s=0.05)
    slow = Engines(triage=ConstantTriage(), reader=reader, segmenter=ConstantSegmenter())
    with run_service(Settings.model_validate({"redis_url": redis_server.url}), slow) as running:
        yield running


def collect(
    url: str, method: str, into: list[tuple[str, dict[str, Any], str | None]], **options: Any
) -> threading.Thread:
    """Read a stream to its end in the background."""

    def read() -> None:
        headers = {"Accept": "text/event-stream"}
        with httpx.Client(timeout=60) as client, client.stream(method, url, headers=headers, **options) as response:
            into.extend(parse_events(response.iter_lines()))

    thread = threading.Thread(target=read)
    thread.start()
    return thread


class TestDuringABriefing:
    @pytest.mark.parametrize("redis_server", [False, True], indirect=True, ids=["comes back empty", "comes back full"])
    def test_the_stream_and_the_briefing_end_well(self, service: RunningService, redis_server: RedisServer) -> None:
        started = httpx.post(f"{service.url}/v1/briefings", json={"study_id": "sample"}, timeout=60).json()
        seen: list[tuple[str, dict[str, Any], str | None]] = []
        reader = collect(service.url + started["links"]["events_url"], "GET", seen)
        time.sleep(1.0)
        redis_server.kill()
        assert httpx.get(f"{service.url}/healthz").status_code == 200
        ready = httpx.get(f"{service.url}/readyz", timeout=30)
        assert ready.status_code == 503
        assert [part["name"] for part in ready.json()["parts"] if not part["ready"]] == ["store"]
        refused = httpx.post(f"{service.url}/v1/briefings", json={"study_id": "sample"}, timeout=30)
        assert (refused.status_code, refused.json()["code"]) == (503, "store-unavailable")
        assert refused.json()["retryable"] is True
        assert "retry-after" in refused.headers
        redis_server.start()
        reader.join(40)
        assert [int(event_id or 0) for _, _, event_id in seen] == list(range(1, len(seen) + 1))
        assert seen[-1][0] == "done"
        briefing = httpx.get(service.url + started["links"]["self_url"]).json()
        assert briefing["status"] == "done"
        assert briefing["parts"]["session"]["status"] == "done"
        assert httpx.get(service.url + briefing["links"]["session_url"]).status_code == 200


class TestDuringAQuestion:
    @pytest.fixture
    def questions_url(self, service: RunningService) -> str:
        """Of a session on the sample study."""
        briefing = httpx.post(f"{service.url}/v1/briefings?wait=60", json={"study_id": "sample"}, timeout=70).json()
        return service.url + str(briefing["links"]["questions_url"])

    @pytest.mark.parametrize("redis_server", [True], indirect=True)
    def test_the_answer_is_whole_and_kept_when_redis_comes_back(
        self, service: RunningService, redis_server: RedisServer, questions_url: str
    ) -> None:
        seen: list[tuple[str, dict[str, Any], str | None]] = []
        reader = collect(questions_url, "POST", seen, json={"question": "Through an outage?"})
        time.sleep(0.5)
        redis_server.kill()
        time.sleep(0.5)
        redis_server.start()
        reader.join(40)
        assert seen[-1][0] == "done"
        answer = seen[-1][1]["answer"]
        assert len(answer["sentences"]) == 40
        assert "answer-not-kept" not in [warning["code"] for warning in answer["warnings"]]
        history = httpx.get(questions_url.removesuffix("/questions")).json()["history"]
        assert [turn["question"] for turn in history] == ["Through an outage?"]

    def test_an_answer_that_cannot_be_kept_says_so(
        self, service: RunningService, redis_server: RedisServer, questions_url: str
    ) -> None:
        seen: list[tuple[str, dict[str, Any], str | None]] = []
        reader = collect(questions_url, "POST", seen, json={"question": "Into the void?"})
        time.sleep(0.5)
        redis_server.kill()
        redis_server.start()
        reader.join(40)
        answer = seen[-1][1]["answer"]
        assert len(answer["sentences"]) == 40
        assert "answer-not-kept" in [warning["code"] for warning in answer["warnings"]]
        gone = httpx.post(questions_url, json={"question": "And now?"})
        assert (gone.status_code, gone.json()["code"]) == (404, "session-not-found")

    def test_an_answer_that_cannot_be_begun_leaves_the_session_free(
        self, redis_server: RedisServer, questions_url: str
    ) -> None:
        answers = f"trauma:session:{questions_url.split('/')[-2]}:answers"
        with redis.Redis.from_url(redis_server.url) as store:
            store.set(answers, "no hash, so that no answer can be put into it")
            refused = httpx.post(questions_url, json={"question": "Now?"}, timeout=30)
            assert (refused.status_code, refused.json()["code"]) == (503, "store-unavailable")
            store.delete(answers)
        assert httpx.post(questions_url, json={"question": "And now?"}, timeout=30).status_code == 200


class TestBeforeAQuestion:
    def test_is_a_503_problem_and_no_stream(self, service: RunningService, redis_server: RedisServer) -> None:
        redis_server.kill()
        response = httpx.post(
            f"{service.url}/v1/sessions/{'0' * 32}/questions",
            headers={"Accept": "text/event-stream"},
            json={"question": "Anyone?"},
            timeout=30,
        )
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
