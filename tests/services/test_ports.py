"""Ports: what happens where memory is short or the device is lost, and that the next job is unharmed."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from tests.support.engines import (
    ConstantTriage,
    FailingReader,
    FailingTriage,
    OutOfMemoryReader,
    ScriptedReader,
    SlowReader,
    SmallSegmenter,
    SmallTriage,
    picture_count,
    small_engines,
)
from tests.support.quick import quick_service
from tests.support.studies import upload_slices
from tests.support.waiting import until
from trauma_api.engines.base import (
    EngineDeviceLostError,
    EngineOutOfMemoryError,
    Generation,
    GenerationRequest,
    SlicePixels,
    TriageScores,
    Turn,
)
from trauma_api.engines.device import on_device
from trauma_api.imaging.volume import PictureStack
from trauma_api.services.gate import ComputeGate, GateState
from trauma_api.services.model_watch import ModelWatch
from trauma_api.services.ports import (
    DeviceLostError,
    DeviceOutOfMemoryError,
    LocalGeneration,
    LocalSegmentation,
    LocalTriage,
)

STACK = PictureStack(np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8))
QUESTION = GenerationRequest((Turn("user", ("How much blood?",)),), max_new_tokens=4, use_adapter=False)


class Room:
    """Counts how often room was made."""

    def __init__(self) -> None:
        self.made = 0

    async def make(self) -> None:
        self.made += 1


class TestShortMemory:
    async def test_triage_goes_on_in_smaller_tiles_and_begins_the_next_job_with_whole_ones(
        self, gate: ComputeGate
    ) -> None:
        engine, room = SmallTriage(most=5), Room()
        port = LocalTriage(engine, gate, make_room=room.make)
        told: list[tuple[int, int]] = []
        with capture_logs() as logged:
            scores = await port.score(STACK, lambda done, total: told.append((done, total)))
        assert scores.suspicion.shape == (20,)
        assert engine.seen == [16, 8, 4, 4, 4, 4, 4]
        assert told == [(4, 20), (8, 20), (12, 20), (16, 20), (20, 20)]
        assert room.made == 2
        assert [(one["event"], one["stage"], one["tile_slices"]) for one in logged] == [
            ("memory.short", "triage", 8),
            ("memory.short", "triage", 4),
        ]
        engine.seen.clear()
        await port.score(STACK)
        assert engine.seen[0] == 16

    async def test_where_one_slice_does_not_fit_it_is_an_error_and_the_next_job_is_unharmed(
        self, gate: ComputeGate
    ) -> None:
        engine, room = SmallTriage(most=100), Room()
        port = LocalTriage(engine, gate, make_room=room.make)
        engine.full = True
        with pytest.raises(DeviceOutOfMemoryError):
            await port.score(STACK)
        assert engine.seen == [16, 8, 4, 2, 1]
        await until(lambda: gate.state == GateState(0, 0, 0))
        engine.full = False
        assert (await port.score(STACK)).suspicion.shape == (20,)

    async def test_segmentation_gives_the_same_in_smaller_tiles(self, gate: ComputeGate) -> None:
        box = (slice(1, 7), slice(2, 5), slice(2, 5)), 1.0
        engine = SmallSegmenter(1, box)
        voxels = np.zeros((9, 8, 8), np.int16)
        found = await LocalSegmentation(engine, gate).segment(voxels, (5.0, 1.0, 1.0))
        whole = await LocalSegmentation(SmallSegmenter(100, box), gate).segment(voxels, (5.0, 1.0, 1.0))
        np.testing.assert_array_equal(found, whole)
        assert engine.seen.count(1) == 9

    async def test_a_question_without_memory_is_an_error_and_the_next_one_is_answered(self, gate: ComputeGate) -> None:
        pictures = GenerationRequest((Turn("user", (STACK.pixels_zyxc[0], "?")),), max_new_tokens=4, use_adapter=False)
        port = LocalGeneration(OutOfMemoryReader(max_slices=0), gate, stage="question")
        with pytest.raises(DeviceOutOfMemoryError):
            await port.generate(pictures)
        assert (await port.generate(QUESTION)).text == "There is blood."


class KeepingReader(SlowReader):
    """Keeps something that fills the device until it is told to forget it."""

    keeps = True

    def forget(self) -> bool:
        """Make room."""
        self.keeps, kept = False, self.keeps
        return kept


class CrowdedTriage(ConstantTriage):
    """Fits only beside a reader that keeps nothing."""

    def __init__(self, beside: KeepingReader) -> None:
        super().__init__()
        self._beside = beside

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """Raises EngineOutOfMemoryError while the reader keeps anything."""
        if self._beside.keeps:
            raise EngineOutOfMemoryError("no memory")
        return super().score(slices)


async def test_a_reader_in_the_middle_of_a_text_makes_room_for_triage() -> None:
    gate, reader = ComputeGate(permits=2, queue_limit=4), KeepingReader()
    reading = LocalGeneration(reader, gate)
    text = asyncio.create_task(reading.generate(QUESTION))
    async with asyncio.timeout(10):
        while not reader.began.is_set():  # noqa: ASYNC110  # the reader's thread makes it true
            await asyncio.sleep(0.002)
        scores = await LocalTriage(CrowdedTriage(reader), gate, make_room=reading.forget).score(STACK)
    assert scores.suspicion.shape == (20,)
    assert not text.done()
    reader.release.set()
    assert (await text).text == "There is blood."
    gate.close()


class FullReader(ScriptedReader):
    """Has no memory for one kind of its work."""

    full_for = ""

    def generate(self, request: GenerationRequest, *callbacks: Any, **named: Any) -> Generation:
        """Raises EngineOutOfMemoryError for that kind: a reading, a report's prose or a question."""
        kind = "reading" if request.form else "question" if picture_count(request) else "report"
        if kind == self.full_for:
            raise EngineOutOfMemoryError("no memory")
        return super().generate(request, *callbacks, **named)


ALL_DONE = dict.fromkeys(("triage", "analysis", "volume", "report", "session"), ("done", None))
SHORT = ("unavailable", "out-of-memory")


class TestJobsInShortMemory:
    """A briefing and a question, over HTTP, with memory short at one stage; then the same with room."""

    def brief(self, client: httpx.Client, study_id: str) -> dict[str, Any]:
        """A briefing at its end."""
        briefing: dict[str, Any] = client.post("/v1/briefings?wait=30", json={"study_id": study_id}).json()
        return briefing

    def outcomes(self, briefing: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
        """Status and failure code of every part."""
        parts = briefing["parts"].items()
        return {name: (part["status"], part["failure"] and part["failure"]["code"]) for name, part in parts}

    def answer(self, client: httpx.Client, briefing: dict[str, Any]) -> tuple[str, str | None]:
        """Status and failure code of an answer."""
        asked = client.post(briefing["links"]["questions_url"], json={"question": "Is there blood?"}).json()
        return asked["status"], asked["failure_code"]

    @pytest.mark.parametrize(
        ("stage", "missing"),
        [
            ("triage", {"triage": SHORT, "analysis": ("unavailable", "needs-triage")}),
            ("reading", {"analysis": SHORT}),
            ("segmentation", {"volume": SHORT}),
            ("report", {"report": SHORT}),
            ("question", {}),
        ],
    )
    def test_only_what_needs_the_memory_is_missing_and_the_next_job_is_whole(
        self, stage: str, missing: dict[str, tuple[str, str | None]]
    ) -> None:
        triage, reader, segmenter = SmallTriage(most=100), FullReader(), SmallSegmenter(100)
        with quick_service(small_engines(triage, reader, segmenter)) as (service, client):
            study_id = upload_slices(client, 4)["study_id"]
            triage.full, segmenter.full = stage == "triage", stage == "segmentation"
            reader.full_for = stage
            briefing = self.brief(client, study_id)
            assert (briefing["status"], self.outcomes(briefing)) == ("done", {**ALL_DONE, **missing})
            failed = ("failed", "out-of-memory") if stage == "question" else ("done", None)
            assert self.answer(client, briefing) == failed
            service.wait_until_idle()
            triage.full = segmenter.full = False
            reader.full_for = ""
            briefing = self.brief(client, study_id)
            assert self.outcomes(briefing) == ALL_DONE
            assert self.answer(client, briefing) == ("done", None)


class TestLostDevice:
    def lost(self) -> EngineDeviceLostError:
        """What an engine raises when CUDA's context is spoilt."""

        def illegal_access() -> None:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

        with pytest.raises(EngineDeviceLostError) as raised:
            on_device(illegal_access)
        assert raised.value.__context__ is None
        return raised.value

    async def test_it_is_told_to_the_client_and_to_the_watch(self, gate: ComputeGate) -> None:
        watch = ModelWatch()
        with pytest.raises(DeviceLostError) as refused:
            await LocalGeneration(FailingReader(self.lost()), gate, watch).generate(QUESTION)
        assert (refused.value.code, refused.value.retryable) == ("device-lost", True)
        assert watch.device_lost
        assert not watch.ready

    async def test_it_is_seen_whichever_model_meets_it(self, gate: ComputeGate) -> None:
        watch = ModelWatch()
        with pytest.raises(DeviceLostError):
            await LocalTriage(FailingTriage(self.lost()), gate, watch).score(STACK)
        assert watch.device_lost


async def test_real_work_counts_as_a_sign_of_life(gate: ComputeGate) -> None:
    now = 100.0
    watch = ModelWatch(canary_interval_s=10.0, clock_s=lambda: now)
    now = 131.0
    assert not watch.ready
    await LocalTriage(ConstantTriage(), gate, watch).score(STACK)
    await LocalGeneration(ScriptedReader(), gate, watch).generate(QUESTION)
    assert not watch.ready
    await LocalSegmentation(SmallSegmenter(9), gate, watch).segment(np.zeros((1, 4, 4), np.int16), (5.0, 1.0, 1.0))
    assert watch.ready
    assert watch.detail == "triage 0 s ago, reader 0 s ago, segmenter 0 s ago"
