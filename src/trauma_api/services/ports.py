"""How services reach models: async ports, so that where a model runs is a choice made in the container.

The ``Local*`` ports run an engine in this process, behind the gate. Work on many slices goes through in batches, so
that a long CT cannot keep others waiting and a cancelled job stops at the next batch.
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
from trauma_api.imaging.volume import ImageStack
from trauma_api.imaging.windowing import model_rgb
from trauma_api.services.gate import ComputeGate

Progress = Callable[[int, int], None]
"""Told how many slices are done, and of how many."""


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
    def minimum_component_ml(self) -> float: ...

    @property
    def component_core_probability(self) -> float: ...

    async def segment(
        self,
        voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
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
    except ContextFullError as error:
        raise PromptTooLongError from error
    except EngineCancelledError as error:
        raise asyncio.CancelledError from error
    except EngineError as error:
        raise EngineFailedError from error


class LocalTriage:
    """Triage in this process."""

    def __init__(self, engine: TriageEngine, gate: ComputeGate) -> None:
        self._engine, self._gate = engine, gate

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return self._engine.info

    async def score(
        self, stack: ImageStack, on_progress: Progress = ignore_progress, indices: Sequence[int] | None = None
    ) -> TriageScores:
        """Score the slices, batch by batch."""
        batches: list[TriageScores] = []
        wanted = range(stack.slice_count) if indices is None else indices
        for start in range(0, len(wanted), self._engine.batch_size):
            batch = wanted[start : start + self._engine.batch_size]
            with _translated():
                batches.append(await self._gate.run("triage", partial(self._score_batch, stack, batch)))
            on_progress(start + len(batch), len(wanted))
        return TriageScores(
            logits=np.concatenate([batch.logits for batch in batches]),
            suspicion=np.concatenate([batch.suspicion for batch in batches]),
        )

    def _score_batch(self, stack: ImageStack, indices: Sequence[int]) -> TriageScores:
        return self._engine.score([model_rgb(stack, index) for index in indices])


class LocalSegmentation:
    """Segmentation in this process."""

    def __init__(self, engine: Segmenter, gate: ComputeGate) -> None:
        self._engine, self._gate = engine, gate

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return self._engine.info

    @property
    def threshold(self) -> float:
        """The probability from which the checkpoint calls a voxel blood."""
        return self._engine.threshold

    @property
    def minimum_component_ml(self) -> float:
        """Connected regions of less blood than this are noise to the checkpoint."""
        return self._engine.minimum_component_ml

    @property
    def component_core_probability(self) -> float:
        """The probability at which that volume is counted, where it is above the threshold; 0 where it is not."""
        return self._engine.component_core_probability

    async def segment(
        self,
        voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
        spacing_zyx_mm: tuple[float, float, float],
        on_progress: Progress = ignore_progress,
    ) -> NDArray[np.uint8]:
        """Segment all slices, batch by batch."""
        total = int(voxels_zyx_hu.shape[0])
        probability = np.empty(voxels_zyx_hu.shape, dtype=np.uint8)
        for start in range(0, total, self._engine.batch_size):
            stop = min(start + self._engine.batch_size, total)
            work = partial(self._segment_batch, voxels_zyx_hu, spacing_zyx_mm, start, stop)
            with _translated():
                probability[start:stop] = await self._gate.run("segmentation", work)
            on_progress(stop, total)
        return probability

    def _segment_batch(
        self,
        voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
        spacing_zyx_mm: tuple[float, float, float],
        start: int,
        stop: int,
    ) -> NDArray[np.uint8]:
        batch = self._engine.probabilities(voxels_zyx_hu, spacing_zyx_mm, start, stop)
        return np.rint(batch * 255).astype(np.uint8)


class LocalGeneration:
    """Reading and writing in this process. A caller that is cancelled stops the model within one token.

    Whatever is no question lets the questions that wait go first, between two of its tokens.
    """

    def __init__(
        self, engine: ReaderEngine, gate: ComputeGate, *, stage: Literal["question", "reading"] = "reading"
    ) -> None:
        self._engine, self._gate, self._stage = engine, gate, stage

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
        with _translated():
            return await self._gate.run(self._stage, work, stop)
