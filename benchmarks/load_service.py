"""``trauma-api serve`` in a process of its own, a client of it, and the memory that it takes."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from trauma_api.phantom.draw import Phantom
from trauma_api.phantom.series import write_slices

START_LIMIT_S = 180.0
BRIEFING_LIMIT_S = 3600.0
PATIENT = {
    "vitals": {"heart_rate_bpm": 128, "systolic_mmhg": 84, "diastolic_mmhg": 50, "gcs": 13},
    "clinical_context": {"mechanism": "blunt", "hemodynamic_status": "unstable", "fast": "positive"},
}


@dataclass(frozen=True)
class Memory:
    """What the service's process has resident, and what the others have to themselves."""

    service_mib: float
    valkey_mib: float
    uploads_mib: float

    @property
    def total_mib(self) -> float:
        """All processes together."""
        return self.service_mib + self.valkey_mib + self.uploads_mib


class Service:
    """The service in its own process, and a client of it."""

    def __init__(self, pid: int, client: httpx.Client) -> None:
        self._pid, self._client = pid, client

    def memory(self) -> Memory:
        """What it takes now."""
        by_kind = {"valkey": 0.0, "uploads": 0.0}
        for pid in _descendants(self._pid):
            kind = "valkey" if "valkey" in _read(pid, "comm") else "uploads"
            by_kind[kind] += _size_mib(pid, "Pss_Anon")
        return Memory(_size_mib(self._pid, "Rss"), by_kind["valkey"], by_kind["uploads"])

    def upload(self, phantom: Phantom) -> str:
        """A phantom as a DICOM series. Returns the study's id."""
        with tempfile.TemporaryDirectory(prefix="trauma-bench-") as name, ExitStack() as stack:
            write_slices(phantom, Path(name))
            paths = sorted(Path(name).iterdir())
            files = [("files", (str(i), stack.enter_context(path.open("rb")))) for i, path in enumerate(paths)]
            return str(self._sent("POST", "/v1/studies", files=files)["study_id"])

    def brief(self, study_id: str) -> str:
        """A briefing from request to end. Returns where to ask about it."""
        deadline = time.monotonic() + BRIEFING_LIMIT_S
        briefing = self._sent("POST", "/v1/briefings", json={"study_id": study_id, **PATIENT})
        while briefing["status"] in {"queued", "running"}:
            if time.monotonic() > deadline:
                raise RuntimeError("a briefing does not end")
            briefing = self._sent("GET", f"{briefing['links']['self_url']}?wait=60")
        unavailable = [name for name, part in briefing["parts"].items() if part is None or part["status"] != "done"]
        if briefing["status"] != "done" or unavailable:
            raise RuntimeError(f"a briefing is {briefing['status']}; not done: {', '.join(unavailable)}")
        return str(briefing["links"]["questions_url"])

    def ask(self, questions_url: str, question: str) -> None:
        """A question from request to end."""
        answer = self._sent("POST", questions_url, json={"question": question})
        if answer["status"] != "done" or answer["warnings"]:
            raise RuntimeError(f"an answer is {answer['status']}, with {answer['warnings']}")

    def _sent(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        response = self._client.request(method, url, **options)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


@contextmanager
def served() -> Iterator[Service]:
    """The service on a free port, started and idle."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [str(Path(sys.executable).parent / "trauma-api"), "serve", "--port", port]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=BRIEFING_LIMIT_S) as client:
            _wait_for(client, process)
            yield Service(process.pid, client)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError("the service did not start; see what `trauma-api serve` says")


def _read(pid: int, name: str) -> str:
    """A file of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _size_mib(pid: int, field: str) -> float:
    sizes = (line.split() for line in _read(pid, "smaps_rollup").splitlines())
    return next((int(size[1]) for size in sizes if size[0] == f"{field}:"), 0) / 1024


def _tasks(pid: int) -> list[Path]:
    """Of a process; none when it has ended."""
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _descendants(pid: int) -> Iterator[int]:
    for task in _tasks(pid):
        for child in map(int, _read(pid, f"task/{task.name}/children").split()):
            yield child
            yield from _descendants(child)
