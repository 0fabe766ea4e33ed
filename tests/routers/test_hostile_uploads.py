"""Whatever a file does, the service goes on: no crash, no hang, nothing left behind, the next study as ever."""

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.attacks import ANY_REFUSAL, READ, Attack, attacks, mutation_sources, mutations
from tests.support.processes import served
from tests.support.studies import form_files, phantom_slices

MUTATIONS = 2_000
LONGEST_S = 10.0
MOST_GROWTH_BYTES = 64 * 2**20
RAW = {"Content-Type": "application/octet-stream"}


def _children() -> Iterator[str]:
    """Ids of this process's children, by the thread that started them; threads may end while they are looked at."""
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            yield from (task / "children").read_text().split()


@dataclass
class Victim:
    """A service in a process of its own, and what it was before it was attacked."""

    client: httpx.Client
    data: Path
    log: Path
    idle_bytes: int = 0
    good: tuple[Any, ...] = ()

    def good_study(self) -> tuple[Any, ...]:
        """A good study, uploaded anew: its geometry, series and pixels."""
        study = self.client.post("/v1/studies", files=form_files(phantom_slices(8))).json()
        picture = self.client.get(f"/v1/studies/{study['study_id']}/slices/4.png").content
        assert self.client.delete(f"/v1/studies/{study['study_id']}").status_code == 204
        kept = {name: value for name, value in study.items() if name != "expires_at"}
        return kept, hashlib.sha256(picture).hexdigest()

    def memory_bytes(self) -> int:
        """Resident memory of the service's process."""
        (pid,) = [
            child
            for child in _children()
            if b"serve" in Path(f"/proc/{child}/cmdline").read_bytes()
            and str(self.data) in Path(f"/proc/{child}/environ").read_text()
        ]
        status = Path(f"/proc/{pid}/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))

    def send(self, content: bytes) -> httpx.Response:
        """Upload one file as it is, with a time limit."""
        began = time.monotonic()
        response = self.client.post("/v1/studies", content=content, headers=RAW)
        assert time.monotonic() - began < LONGEST_S
        return response

    def check_unharmed(self) -> None:
        """As before: memory, spool, the next good study; and nothing said about anybody."""
        assert self.memory_bytes() - self.idle_bytes < MOST_GROWTH_BYTES
        assert list((self.data / "spool").iterdir()) == []
        assert self.good_study() == self.good
        log = self.log.read_text()
        assert "SECRET" not in log
        assert "Traceback" not in log


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A service to attack, after it has read a first study."""
    folder = tmp_path_factory.mktemp("victim")
    data, log = folder / "data", folder / "log"
    with (
        served(log, TRAUMA_DATA_DIR=str(data), TRAUMA_DISK_RESERVE_BYTES="0") as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        victim = Victim(client, data, log)
        victim.good = victim.good_study()
        victim.idle_bytes = victim.memory_bytes()
        yield victim


def check_answer(response: httpx.Response) -> None:
    """Read, or refused with a code and in words; never failed."""
    assert response.status_code == 201 or 400 <= response.status_code < 500, response.text
    if response.status_code != 201:
        assert response.json()["code"] not in {"unusable-input", "internal-error"}
        assert not response.json()["retryable"]
    assert "SECRET" not in response.text


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: attack.name)
def test_an_attack_costs_one_refusal(victim: Victim, attack: Attack) -> None:
    response = victim.send(attack.build())

    check_answer(response)
    if attack.code == READ:
        assert response.status_code == 201
        assert response.json()["slice_count"] == 1
    else:
        assert response.status_code != 201
        assert attack.code in {ANY_REFUSAL, response.json()["code"]}
    victim.check_unharmed()


def test_nothing_is_written_where_an_archive_points(victim: Victim) -> None:
    assert not Path("/tmp/trauma-escape").exists()  # noqa: S108
    assert not Path("/tmp/trauma-escape-2").exists()  # noqa: S108


def test_damaged_files_are_read_or_refused(victim: Victim) -> None:
    codes: set[int] = set()
    with ThreadPoolExecutor(os.cpu_count() or 1) as senders:
        for response in senders.map(victim.send, mutations(mutation_sources(), MUTATIONS, seed=3)):
            check_answer(response)
            codes.add(response.status_code)
    assert {201, 422} <= codes
    victim.check_unharmed()


@pytest.mark.real_data
def test_the_fuzzing_corpus_is_read_or_refused(victim: Victim, real_data: Path) -> None:
    paths = sorted(path for path in (real_data / "fuzz").rglob("*") if path.is_file())
    assert len(paths) > 100
    with ThreadPoolExecutor(os.cpu_count() or 1) as senders:
        for response in senders.map(victim.send, (path.read_bytes() for path in paths)):
            check_answer(response)
    victim.check_unharmed()
