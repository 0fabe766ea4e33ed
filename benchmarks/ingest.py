"""Ingest against a plain loop of ``pydicom.dcmread`` and ``pixel_array``, in one run on one machine.

    python benchmarks/ingest.py [--data FOLDER] [--repeats N]

Times are medians of repeats with a warm page cache, and once more with the files evicted from it, beside the time that
reading their bytes alone then takes: the disk's limit. What was written before is flushed before each repeat. The
plain loop runs in a process of its own that is bound to one core, and does nothing with the pixels. Ingest identifies,
hashes, parses, chooses, decodes, turns, checks and keeps the study. Memory, looked at in a run of its own, is the
proportional set size of the service's process, the fork server and its children together, at its highest over what it
was before. The event loop's lag is how late a 5 ms sleep wakes up in the service's own loop while a client in another
process uploads the series over HTTP.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import uvicorn
from pydicom.uid import JPEG2000Lossless, generate_uid

from trauma_api.app import create_app
from trauma_api.imaging.sandbox.client import Sandbox
from trauma_api.imaging.uploads import UploadedFile, read_upload
from trauma_api.services.study_storage import StudyStorage
from trauma_api.settings import Settings

SLICES = 500
TICK_S = 0.005
MIB = 2**20

PLAIN_LOOP = """
import os, sys, time
from pathlib import Path
import pydicom
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
paths = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_file())
times = []
for _ in range(int(sys.argv[2]) + 1):
    began = time.perf_counter()
    for path in paths:
        pydicom.dcmread(path).pixel_array
    times.append(time.perf_counter() - began)
print(" ".join(str(value) for value in times[1:]))
"""

CLIENT = """
import sys
from pathlib import Path
import httpx
paths = sorted(path for path in Path(sys.argv[2]).iterdir() if path.is_file())
files = [("files", (str(number), path.open("rb"))) for number, path in enumerate(paths)]
answer = httpx.post(sys.argv[1] + "/v1/studies", files=files, timeout=300)
assert answer.status_code == 201, answer.text
"""


@dataclass(frozen=True)
class Measured:
    """What one series took."""

    name: str
    files: int
    megabytes: float
    volume_mib: float
    plain_s: float
    ingest_s: float
    cold_read_s: float
    cold_ingest_s: float
    peak_over_idle_mib: float
    upload_s: float
    lag_p99_ms: float
    lag_worst_ms: float


def main() -> None:
    """Run and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with real CTs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    real = arguments.data / "ct" / "chest_to_upper_abdomen_100slices"
    with tempfile.TemporaryDirectory(prefix="trauma-bench-") as name:
        series = written_series(real, Path(name))
        measured = [measure(title, folder, arguments.repeats) for title, folder in series.items()]
    print(json.dumps([vars(one) for one in measured], indent=2) if arguments.json else table(measured))


def written_series(real: Path, folder: Path) -> dict[str, Path]:
    """The real series, and its slices five times over as one series of 500, as they are and in JPEG 2000."""
    plain, packed = folder / "plain", folder / "j2k"
    plain.mkdir()
    packed.mkdir()
    sources = [pydicom.dcmread(path) for path in sorted(real.glob("*.dcm"))]
    sources.sort(key=lambda dataset: float(dataset.ImagePositionPatient[2]))
    series_uid = generate_uid()
    for index in range(SLICES):
        # Up and down again, so that neighbours are alike.
        turn, place = divmod(index, len(sources))
        dataset = sources[place if turn % 2 == 0 else -1 - place]
        x, y = dataset.ImagePositionPatient[:2]
        dataset.ImagePositionPatient = [x, y, float(index)]
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = series_uid, generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = index + 1
        dataset.save_as(plain / f"{index:04d}")
        again = pydicom.dcmread(plain / f"{index:04d}")
        again.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
        again.save_as(packed / f"{index:04d}")
    return {"100 slices, real": real, "500 slices, uncompressed": plain, "500 slices, JPEG 2000": packed}


def measure(name: str, folder: Path, repeats: int) -> Measured:
    """All figures of one series."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    loop = subprocess.run(
        [sys.executable, "-c", PLAIN_LOOP, str(folder), str(repeats)], check=True, capture_output=True, text=True
    )
    ingest_s, peak_mib, volume_mib = ingest(paths, repeats)
    cold_ingest_s, _, _ = ingest(paths, repeats, cold=True)
    upload_s, lags_ms = asyncio.run(upload_lags(folder, repeats))
    return Measured(
        name=name,
        files=len(paths),
        megabytes=sum(path.stat().st_size for path in paths) / 1e6,
        volume_mib=volume_mib,
        plain_s=statistics.median(float(value) for value in loop.stdout.split()),
        ingest_s=ingest_s,
        cold_read_s=statistics.median(cold_read(paths) for _ in range(repeats)),
        cold_ingest_s=cold_ingest_s,
        peak_over_idle_mib=peak_mib,
        upload_s=upload_s,
        lag_p99_ms=float(np.percentile(lags_ms, 99)),
        lag_worst_ms=max(lags_ms),
    )


def evict(paths: list[Path]) -> None:
    """Flush what was written, and drop the files from the page cache."""
    os.sync()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def cold_read(paths: list[Path]) -> float:
    """Seconds to read the bytes of the files from the disk, one after the other."""
    evict(paths)
    began = time.perf_counter()
    for path in paths:
        path.read_bytes()
    return time.perf_counter() - began


def ingest(paths: list[Path], repeats: int, *, cold: bool = False) -> tuple[float, float, float]:
    """Median seconds, highest memory over idle and size of the volume, in MiB."""
    files = [UploadedFile(position, path) for position, path in enumerate(paths)]
    sandbox = Sandbox(len(os.sched_getaffinity(0)))
    times = []
    with tempfile.TemporaryDirectory(prefix="trauma-bench-") as root:
        storage = StudyStorage(Path(root), ttl_s=3600)
        run(files, sandbox, storage)  # warms up the fork server
        for _ in range(repeats):
            evict(paths if cold else [])
            began = time.perf_counter()
            study_id = run(files, sandbox, storage)
            times.append(time.perf_counter() - began)
            storage.delete(study_id)
        # By itself, because looking at the memory of three processes takes a good part of a core.
        with highest_memory() as memory:
            stack = storage.open(run(files, sandbox, storage)).stack
        volume_bytes = stack.voxels_zyx_hu.nbytes  # type: ignore[union-attr]
        sandbox.close()
    return statistics.median(times), memory[-1] / MIB, volume_bytes / MIB


def run(files: list[UploadedFile], sandbox: Sandbox, storage: StudyStorage) -> str:
    """One ingest, from files in the spool to a kept study."""
    folder = Path(tempfile.mkdtemp(dir=storage.spool_root))
    try:
        return storage.save(read_upload(files, folder, sandbox))
    finally:
        shutil.rmtree(folder)


@contextmanager
def highest_memory() -> Iterator[list[int]]:
    """Appends the highest proportional set size of this process and its descendants over the first one, in bytes."""
    found: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        idle = highest = memory_bytes(os.getpid())
        while not stop.wait(0.02):
            highest = max(highest, memory_bytes(os.getpid()))
        found.append(highest - idle)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        stop.set()
        watcher.join()


def memory_bytes(pid: int) -> int:
    """Proportional set size of a process and its descendants."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                total = int(line.split()[1]) * 1024
        children = [
            child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return total
    return total + sum(memory_bytes(int(child)) for child in children)


async def upload_lags(folder: Path, repeats: int) -> tuple[float, list[float]]:
    """Median seconds of an upload over HTTP, and the event loop's lags meanwhile in milliseconds."""
    server = uvicorn.Server(uvicorn.Config(create_app(Settings(port=0)), port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
        await asyncio.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    lags_ms: list[float] = []
    times = []
    for _ in range(repeats):
        ticking = asyncio.create_task(tick(lags_ms))
        began = time.perf_counter()
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, f"http://127.0.0.1:{port}", str(folder)
        )
        if await client.wait() != 0:
            raise RuntimeError("the upload failed")
        times.append(time.perf_counter() - began)
        ticking.cancel()
    server.should_exit = True
    await serving
    return statistics.median(times), lags_ms


async def tick(lags_ms: list[float]) -> None:
    """Measures how late the event loop is, until cancelled."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(TICK_S)
        lags_ms.append((time.perf_counter() - began - TICK_S) * 1000)


def table(measured: list[Measured]) -> str:
    """The figures as Markdown, with the machine."""
    lines = [
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, "
        f"pydicom {pydicom.__version__}",
        "",
        "| series | plain loop | ingest | times as fast | cold: bytes alone | cold: ingest | volume | memory over idle "
        "| HTTP upload | loop lag p99 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} ({one.files} files, {one.megabytes:.0f} MB) | {one.plain_s:.2f} s | {one.ingest_s:.2f} s "
        f"| {one.plain_s / one.ingest_s:.2f} | {one.cold_read_s:.2f} s | {one.cold_ingest_s:.2f} s "
        f"| {one.volume_mib:.0f} MiB | {one.peak_over_idle_mib:.0f} MiB "
        f"| {one.upload_s:.2f} s | {one.lag_p99_ms:.1f} ms (worst {one.lag_worst_ms:.0f} ms) |"
        for one in measured
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
