"""A device that failed for good: clients are told to come back, readiness fails, and the service ends."""

import time

from tests.support.engines import FailingTriage, small_engines
from tests.support.problems import problem_in
from tests.support.quick import quick_service
from trauma_api.app import DEVICE_LOST
from trauma_api.engines.base import EngineDeviceLostError


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
