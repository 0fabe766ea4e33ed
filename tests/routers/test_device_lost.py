"""A device that failed for good: clients are told to come back, readiness fails, and the service ends."""

import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.support.engines import FailingTriage, small_engines
from tests.support.problems import problem_in
from tests.support.processes import START_LIMIT_S, environment, free_port
from tests.support.quick import quick_service
from tests.support.studies import upload_slices
from trauma_api.app import DEVICE_LOST
from trauma_api.engines.base import EngineDeviceLostError

LOST_AT_THE_FIRST_CT = """
import sys, torch
from trauma_api.cli import app
from trauma_api.engines.siglip import SiglipTriage
whole = SiglipTriage._embed
def lost(self, slices):
    if slices[0].ndim == 2:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    return whole(self, slices)
SiglipTriage._embed = lost
app(["serve", "--port", sys.argv[1]])
"""
"""`serve`, which passes its canary, a picture in colours, and then meets what CUDA raises."""


def test_readiness_fails_and_the_service_drains() -> None:
    lost = FailingTriage(EngineDeviceLostError("The device failed with error 700."))
    with quick_service(small_engines(triage=lost)) as (service, client):
        assert client.get("/readyz").status_code == 200
        assert problem_in(client.post("/v1/triage", json={"study_id": "sample"}), 503, "device-lost")
        unready = client.get("/readyz")
        assert unready.status_code == 503
        models = next(part for part in unready.json()["parts"] if part["name"] == "models")
        assert not models["ready"]
        assert "has failed" in models["detail"]
        deadline = time.monotonic() + 10
        while not service.container.draining.is_set():
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.01)
        # what `serve` ends with, so that a supervisor starts it again
        assert service.app.state.end_error == DEVICE_LOST


def test_serve_ends_with_a_status_by_which_a_supervisor_starts_it_again(tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", LOST_AT_THE_FIRST_CT, str(port)],
            env=environment(), stdout=output, stderr=subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, process)
            study_id = upload_slices(client, 2)["study_id"]
            problem_in(client.post("/v1/triage", json={"study_id": study_id}), 503, "device-lost")
        assert process.wait(30) == 1
    finally:
        process.kill()
        process.wait(10)
    written = log.read_text()
    assert '"event": "device.lost"' in written
    assert written.endswith(f"{DEVICE_LOST}\n")


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while process.poll() is None:
        assert time.monotonic() < deadline, "not ready"
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the service ended")
