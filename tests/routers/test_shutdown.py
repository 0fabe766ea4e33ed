"""SIGTERM to a real process: streams end with an event, and the process is gone within 10 seconds."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.events import parse_events


@pytest.fixture
def url() -> str:
    """Of a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def process(url: str, tmp_path: Path, untrained_checkpoints: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``trauma-api serve`` in a process of its own, started and ready. Its untrained reader writes until its limit."""
    command = [str(Path(sys.executable).parent / "trauma-api"), "serve", "--port", url.rpartition(":")[2]]
    environment = {
        **os.environ,
        "TRAUMA_READER_CHECKPOINT": str(untrained_checkpoints / "reader"),
        "TRAUMA_ANSWER_MAX_TOKENS": "2048",
        "TRAUMA_PROSE_MAX_TOKENS": "16",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log, stdout=log, cwd=tmp_path)
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline, "not ready"
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.2)
    yield process
    process.kill()
    process.wait(10)


def terminate(process: subprocess.Popen[bytes]) -> float:
    """Send SIGTERM and wait. Returns how long it took to exit."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(15)
    return time.monotonic() - began


class TestSigterm:
    def test_ends_a_briefing_and_its_stream_with_an_event(self, process: subprocess.Popen[bytes], url: str) -> None:
        started = httpx.post(f"{url}/v1/briefings", json={"study_id": "sample"}, timeout=30).json()
        headers = {"Accept": "text/event-stream"}
        with (
            httpx.Client(timeout=30) as client,
            client.stream("GET", url + started["links"]["events_url"], headers=headers) as response,
        ):
            events = parse_events(response.iter_lines())
            while next(events)[0] != "progress":
                pass
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            name, payload, _ = list(events)[-1]
            assert (name, payload["code"]) == ("failed", "service-stopping")
        process.wait(15)
        assert time.monotonic() - began < 10

    def test_ends_an_answer_with_an_error_event(self, process: subprocess.Popen[bytes], url: str) -> None:
        briefing = httpx.post(f"{url}/v1/briefings?wait=60", json={"study_id": "sample"}, timeout=70).json()
        headers = {"Accept": "text/event-stream"}
        with (
            httpx.Client(timeout=30) as client,
            client.stream(
                "POST",
                url + briefing["links"]["questions_url"],
                headers=headers,
                json={"question": "What are the findings?"},
            ) as response,
        ):
            events = parse_events(response.iter_lines())
            # no sentence is shown before it is whole, so the first token would come too late in a short answer
            assert next(events)[0] == "status"
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            name, payload, _ = list(events)[-1]
            assert (name, payload["code"]) == ("error", "service-stopping")
        process.wait(15)
        assert time.monotonic() - began < 10

    def test_exits_at_once_when_idle(self, process: subprocess.Popen[bytes]) -> None:
        assert terminate(process) < 10
