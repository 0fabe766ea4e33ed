"""Clients that leave: the model stops, permits come back, and the session is free again."""

import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.engines import ConstantSegmenter, ConstantTriage
from tests.support.events import parse_events
from tests.support.service import RunningService, run_service
from tests.support.talkative_reader import TalkativeReader
from trauma_api.container import Engines
from trauma_api.settings import Settings

WORDS, PAUSE_S = 100, 0.02


@pytest.fixture(scope="module")
def reader(engines: Engines) -> TalkativeReader:
    """Two seconds of talk."""
    return TalkativeReader(engines.reader, words=WORDS, pause_s=PAUSE_S)


@pytest.fixture(scope="module")
def slow_service(engines: Engines, reader: TalkativeReader) -> Iterator[RunningService]:
    """A service with that reader."""
    slow = Engines(triage=ConstantTriage(), reader=reader, segmenter=ConstantSegmenter())
    with run_service(Settings(), slow) as running:
        yield running


@pytest.fixture(scope="module")
def questions_url(slow_service: RunningService) -> str:
    """Of a session on the sample study."""
    with httpx.Client(base_url=slow_service.url, timeout=60) as client:
        briefing = client.post("/v1/briefings?wait=60", json={"study_id": "sample"}).json()
        return slow_service.url + str(briefing["links"]["questions_url"])


def ask_and_leave(url: str, question: dict[str, Any], after_tokens: int) -> str:
    """Read so many tokens of the stream, then close the connection. Returns the answer's id."""
    seen = 0
    answer_id = ""
    headers = {"Accept": "text/event-stream"}
    with httpx.Client(timeout=30) as client, client.stream("POST", url, headers=headers, json=question) as response:
        for name, payload, _ in parse_events(response.iter_lines()):
            if name == "status":
                answer_id = payload["answer_id"]
            seen += name == "token"
            if seen == after_tokens:
                break
    return answer_id


class TestLeavingAStream:
    def test_stops_the_model_and_frees_permit_and_session(
        self, slow_service: RunningService, reader: TalkativeReader, questions_url: str
    ) -> None:
        said_before = reader.words_said
        answer_id = ask_and_leave(questions_url, {"question": "Long?"}, after_tokens=3)
        slow_service.wait_until_idle(timeout_s=1.0)
        said = reader.words_said - said_before
        assert 3 <= said < WORDS / 2
        answer = httpx.get(f"{questions_url}/{answer_id}").json()
        assert answer["status"] == "stopped"
        assert answer["failure_code"] == "answer-stopped"
        assert len(answer["sentences"]) >= 3
        assert answer["text"] == " ".join(sentence["text"] for sentence in answer["sentences"])
        assert httpx.post(questions_url, json={"question": "Again?"}, timeout=30).status_code == 200

    def test_lets_the_answer_go_on_when_asked_to(self, slow_service: RunningService, questions_url: str) -> None:
        question = {"question": "Go on?", "on_disconnect": "continue"}
        answer_id = ask_and_leave(questions_url, question, after_tokens=2)
        slow_service.wait_until_idle()
        answer = httpx.get(f"{questions_url}/{answer_id}").json()
        assert answer["status"] == "done"
        assert len(answer["sentences"]) == WORDS

    def test_running_answer_can_be_fetched_meanwhile(self, slow_service: RunningService, questions_url: str) -> None:
        question = {"question": "Meanwhile?", "on_disconnect": "continue"}
        answer_id = ask_and_leave(questions_url, question, after_tokens=2)
        answer = httpx.get(f"{questions_url}/{answer_id}").json()
        assert answer["status"] == "running"
        assert len(answer["sentences"]) >= 2
        slow_service.wait_until_idle()

    def test_resets_before_the_first_byte_leave_nothing_behind(
        self, slow_service: RunningService, questions_url: str
    ) -> None:
        parts = urlsplit(questions_url)
        body = b'{"question": "Gone?"}'
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        for _ in range(30):
            with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
                # Linger of zero seconds: closing sends a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                connection.sendall(head + body)
        time.sleep(0.2)
        slow_service.wait_until_idle(timeout_s=3.0)
        assert httpx.post(questions_url, json={"question": "Still there?"}, timeout=30).status_code == 200


class TestLeavingAJsonAnswer:
    def test_stops_the_model(self, slow_service: RunningService, reader: TalkativeReader, questions_url: str) -> None:
        said_before = reader.words_said
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(questions_url, json={"question": "Impatient?"}, timeout=0.3)
        slow_service.wait_until_idle(timeout_s=1.0)
        assert reader.words_said - said_before < WORDS / 2


class TestSecondQuestion:
    def test_is_409_while_the_first_is_answered(self, slow_service: RunningService, questions_url: str) -> None:
        headers = {"Accept": "text/event-stream"}
        with (
            httpx.Client(timeout=30) as client,
            client.stream("POST", questions_url, headers=headers, json={"question": "First?"}) as response,
        ):
            events = parse_events(response.iter_lines())
            assert next(events)[0] == "status"
            second = httpx.post(questions_url, json={"question": "Second?"})
            assert second.status_code == 409
            assert second.json()["code"] == "session-busy"
        slow_service.wait_until_idle()
