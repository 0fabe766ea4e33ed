"""Ports: what happens where memory is short or the device is lost, and that the next job is unharmed."""

from collections.abc import Iterator

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
    SmallSegmenter,
    SmallTriage,
)
from trauma_api.engines.base import EngineDeviceLostError, GenerationRequest, Turn
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


@pytest.fixture
def gate() -> Iterator[ComputeGate]:
    """One permit, four places to wait."""
    gate = ComputeGate(permits=1, queue_limit=4)
    yield gate
    gate.close()


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
        assert gate.state == GateState(0, 0, 0)
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
        for port in (LocalGeneration(FailingReader(self.lost()), gate, watch),):
            with pytest.raises(DeviceLostError) as refused:
                await port.generate(QUESTION)
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
