"""How services reach models: async ports, so that where a model runs is a choice made in the container.

The ``Local*`` ports run an engine in this process, behind the gate. Work on many slices goes through in tiles, so that
a long CT cannot keep others waiting and a cancelled job stops at the next tile; where memory is short, in smaller ones.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from trauma_api.engines.base import (
    ContextFullError,
    EngineCancelledError,
    EngineDeviceLostError,
    EngineError,
    EngineInfo,
    EngineOutOfMemoryError,
    Generation,
    GenerationRequest,
    ReaderEngine,
    Segmenter,
    TriageEngine,
    TriageScores,
)
from trauma_api.errors import InputError, TraumaAPIError, UnavailableError
from trauma_api.imaging.measure import NoiseRule
from trauma_api.imaging.volume import HUArray, ImageStack
from trauma_api.imaging.windowing import trunk_slice
from trauma_api.log import get_logger
from trauma_api.services.gate import ComputeGate
from trauma_api.services.model_calls import MakeRoom, ModelCalls, make_no_room
from trauma_api.services.model_watch import ModelWatch

Progress = Callable[[int, int], None]
"""Told how many slices are done, and of how many."""

logger = get_logger()


def ignore_progress(_done: int, _total: int) -> None:
    """For callers that show none."""


class EngineFailedError(TraumaAPIError):
    """A model failed on this input."""

    code = "model-failed"
    title = "Model failed"
    public_message = "A model failed on this input. Report the request id to the service's operator."


class DeviceOutOfMemoryError(UnavailableError):
    """The accelerator had too little memory, also for the smallest piece of work."""

    code = "out-of-memory"
    title = "Out of memory"
    public_message = "The device had too little memory for this input. Try again when the service is less busy."
    retry_after_s = 15


class DeviceLostError(UnavailableError):
    """The device has failed for good: this process ends, and whatever runs it starts it again."""

    code = "device-lost"
    title = "Device lost"
    public_message = "The device that the models run on has failed, and the service restarts. Try again in a minute."
    retry_after_s = 60


class PromptTooLongError(InputError):
    """The question and the answer do not fit into the model's context."""

    code = "prompt-too-long"
    title = "Prompt too long"
    public_message = "The question is too long for the model's context. Ask a shorter one, or name fewer slices."


class TriagePort(Protocol):
    """Scores slices of a stack."""

    @property
    def info(self) -> EngineInfo: ...

    async def score(
        self, stack: ImageStack, on_progress: Progress = ..., indices: Sequence[int] | None = None
    ) -> TriageScores:
        """Scores of the slices ``indices``, in their order; of all where it is None."""
        ...


class SegmentationPort(Protocol):
    """Finds hemorrhage in every slice of a volume."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def threshold(self) -> float: ...

    @property
    def noise(self) -> NoiseRule | None: ...

    async def segment(
        self,
        voxels_zyx_hu: HUArray,
        spacing_zyx_mm: tuple[float, float, float],
        on_progress: Progress = ...,
    ) -> NDArray[np.uint8]:
        """Probability of hemorrhage, uint8 (slices, rows, columns), 255 for certain."""
        ...


class GenerationPort(Protocol):
    """Writes text or JSON about pictures and facts."""

    @property
    def info(self) -> EngineInfo: ...

    async def generate(
        self, request: GenerationRequest, on_text: Callable[[str], None] | None = None
    ) -> Generation: ...


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except EngineOutOfMemoryError as error:
        raise DeviceOutOfMemoryError from error
    except EngineDeviceLostError as error:
        raise DeviceLostError from error
    except ContextFullError as error:
        raise PromptTooLongError from error
    except EngineCancelledError as error:
        raise asyncio.CancelledError from error
    except EngineError as error:
        raise EngineFailedError from error


class LocalTriage:
    """Triage in this process."""

    def __init__(
        self,
        engine: TriageEngine,
        gate: ComputeGate,
        watch: ModelWatch | None = None,
        make_room: MakeRoom = make_no_room,
    ) -> None:
        self._engine = engine
        self._calls = ModelCalls(gate, watch, make_room)

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return self._engine.info

    async def score(
        self, stack: ImageStack, on_progress: Progress = ignore_progress, indices: Sequence[int] | None = None
    ) -> TriageScores:
        """Score the slices, tile by tile."""
        wanted = range(stack.slice_count) if indices is None else indices
        work = partial(self._score_tile, stack, wanted)
        with _translated():
            tiles = await self._calls.run_in_tiles("triage", work, len(wanted), self._engine.batch_size, on_progress)
        return TriageScores(
            logits=np.concatenate([tile.logits for tile in tiles]),
            suspicion=np.concatenate([tile.suspicion for tile in tiles]),
        )

    def _score_tile(self, stack: ImageStack, wanted: Sequence[int], start: int, stop: int) -> TriageScores:
        return self._engine.score([trunk_slice(stack, index) for index in wanted[start:stop]])


class LocalSegmentation:
    """Segmentation in this process."""

    def __init__(
        self,
        engine: Segmenter,
        gate: ComputeGate,
        watch: ModelWatch | None = None,
        make_room: MakeRoom = make_no_room,
    ) -> None:
        self._engine = engine
        self._calls = ModelCalls(gate, watch, make_room)

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return self._engine.info

    @property
    def threshold(self) -> float:
        """The probability from which the checkpoint calls a voxel blood."""
        return self._engine.threshold

    @property
    def noise(self) -> NoiseRule | None:
        """Which regions are noise to the checkpoint; None where all are blood."""
        return self._engine.noise

    async def segment(
        self,
        voxels_zyx_hu: HUArray,
        spacing_zyx_mm: tuple[float, float, float],
        on_progress: Progress = ignore_progress,
    ) -> NDArray[np.uint8]:
        """Segment all slices, tile by tile."""
        slice_count = int(voxels_zyx_hu.shape[0])
        probability = np.empty(voxels_zyx_hu.shape, dtype=np.uint8)
        work = partial(self._segment_tile, voxels_zyx_hu, spacing_zyx_mm, probability)
        with _translated():
            await self._calls.run_in_tiles("segmentation", work, slice_count, self._engine.batch_size, on_progress)
        return probability

    def _segment_tile(
        self,
        voxels_zyx_hu: HUArray,
        spacing_zyx_mm: tuple[float, float, float],
        into: NDArray[np.uint8],
        start: int,
        stop: int,
    ) -> None:
        tile = self._engine.probabilities(voxels_zyx_hu, spacing_zyx_mm, start, stop)
        into[start:stop] = np.rint(tile * 255).astype(np.uint8)


class LocalGeneration:
    """Reading and writing in this process. A caller that is cancelled stops the model within one token.

    Whatever is no question lets the questions that wait go first, between two of its tokens
    and between the parts of its prompt.
    """

    def __init__(
        self,
        engine: ReaderEngine,
        gate: ComputeGate,
        watch: ModelWatch | None = None,
        *,
        stage: Literal["question", "reading"] = "reading",
    ) -> None:
        self._engine, self._gate, self._stage = engine, gate, stage
        self._calls = ModelCalls(gate, watch)

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return self._engine.info

    async def generate(self, request: GenerationRequest, on_text: Callable[[str], None] | None = None) -> Generation:
        """Write; ``on_text`` is called on the event loop with each new piece."""
        stop = threading.Event()
        loop = asyncio.get_running_loop()

        def pass_on(text: str) -> None:
            if on_text is not None and not loop.is_closed():
                loop.call_soon_threadsafe(on_text, text)

        def stopped() -> bool:
            if self._stage != "question":
                self._gate.answer_questions()
            return stop.is_set()

        work = partial(self._engine.generate, request, pass_on, stopped)
        try:
            with _translated():
                return await self._calls.run(self._stage, work, stop)
        except DeviceOutOfMemoryError:
            logger.warning("memory.short", stage=self._stage, tile_slices=_picture_count(request))
            raise

    async def forget(self) -> None:
        """Have the reader drop what it keeps."""
        # as a question, because those are let in between two tokens of a reading
        await self._gate.run("question", self._engine.forget)


def _picture_count(request: GenerationRequest) -> int:
    return sum(not isinstance(part, str) for turn in request.turns for part in turn.parts)
