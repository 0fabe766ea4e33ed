"""What all tests share: settings free of the environment, the shipped checkpoints loaded once, a real server."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from blockbuster import BlockBuster

from tests.support.service import RunningService, run_service
from trauma_api.container import Engines, load_engines
from trauma_api.settings import Settings

TRAINING = Path(__file__).parents[1] / "training"


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("TRAUMA_") and name != "TRAUMA_TEST_DATA":
                patch.delenv(name)
        for name in ("HF_TOKEN", "LORA_ADAPTER"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    """Any blocking call of our code on an event loop fails the test that makes it."""
    blockbuster = BlockBuster("trauma_api")
    blockbuster.activate()
    yield
    blockbuster.deactivate()


@pytest.fixture(scope="session")
def engines() -> Engines:
    """The phantom profile's engines, through the real loaders."""
    return load_engines(Settings())


@pytest.fixture(scope="session")
def untrained_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``triage``, ``reader`` and ``segmenter``, at their random start, by the project's own script."""
    out = tmp_path_factory.mktemp("checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TRAINING))
        spec = importlib.util.spec_from_file_location(
            "write_untrained_checkpoints", TRAINING / "write_untrained_checkpoints.py"
        )
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        script.write_checkpoints(out, seed=0)
    return out


@pytest.fixture(scope="session")
def service(engines: Engines) -> Iterator[RunningService]:
    """A service on a real socket, with the embedded Valkey."""
    with run_service(Settings(prose_max_tokens=32, answer_max_tokens=48), engines) as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    """A client of the shared service."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real CTs; tests that need it are skipped where it is absent."""
    folder = os.environ.get("TRAUMA_TEST_DATA")
    if folder is None or not Path(folder).is_dir():
        pytest.skip("TRAUMA_TEST_DATA names no folder")
    return Path(folder).resolve()
