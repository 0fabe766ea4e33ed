"""Small engines of known behaviour, for what the shipped checkpoints cannot be made to do on purpose."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trauma_api.container import Engines
from trauma_api.engines.base import (
    EngineError,
    EngineInfo,
    EngineOutOfMemoryError,
    Generation,
    GenerationRequest,
    JsonForm,
    ReaderEngine,
    Segmenter,
    SlicePixels,
    TriageEngine,
    TriageScores,
)
from trauma_api.imaging.measure import NoiseRule

HOLD_LIMIT_S = 30.0
"""No held engine waits longer, so that a failing test ends."""

STATEMENTS = 5


def engine_info(role: Literal["triage", "reader", "segmenter"], sha256: str = "0" * 64) -> EngineInfo:
    """Provenance of an engine in this module."""
    return EngineInfo(
        role=role,
        checkpoint=f"constant-{role}",
        architecture="constant",
        sha256=sha256,
        trained_on="nothing; a test's engine",
        adapter=None,
        device="cpu",
        dtype="float32",
        device_memory_bytes=None,
    )


class ConstantTriage:
    """Finds every slice equally suspicious."""

    def __init__(self, suspicion: float = 0.5) -> None:
        self.info = engine_info("triage")
        self.batch_size = 16
        self._suspicion = suspicion

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """The same score for each picture."""
        count = len(slices)
        return TriageScores(
            logits=np.zeros((count, STATEMENTS), dtype=np.float32),
            suspicion=np.full(count, self._suspicion, dtype=np.float32),
        )


class FailingTriage(ConstantTriage):
    """Fails on every picture."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """Always raises."""
        raise self._error


class SmallTriage(ConstantTriage):
    """Has memory for a few pictures only, and for none while ``full`` is set. Remembers how many each call had."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.full = False
        self._most = most

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """Raises EngineOutOfMemoryError when there are more pictures than fit."""
        self.seen.append(len(slices))
        if self.full or len(slices) > self._most:
            raise EngineOutOfMemoryError("no memory")
        return super().score(slices)


Box = tuple[slice, slice, slice]


class ConstantSegmenter:
    """Marks the same boxes (slices, rows, columns) in every volume, later ones over earlier ones."""

    def __init__(self, *boxes: tuple[Box, float], sha256: str = "0" * 64) -> None:
        self.info = engine_info("segmenter", sha256)
        self.batch_size = 8
        self.threshold = 0.5
        self.noise: NoiseRule | None = None
        self.calls = 0
        self._boxes = boxes

    def probabilities(
        self,
        voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
        spacing_zyx_mm: tuple[float, float, float],
        start: int,
        stop: int,
    ) -> NDArray[np.float32]:
        """The boxes' probabilities, 0 elsewhere."""
        self.calls += 1
        probability = np.zeros(voxels_zyx_hu.shape, dtype=np.float32)
        for box, value in self._boxes:
            probability[box] = value
        return probability[start:stop]


class FailingSegmenter(ConstantSegmenter):
    """Fails on every volume."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def probabilities(
        self,
        voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
        spacing_zyx_mm: tuple[float, float, float],
        start: int,
        stop: int,
    ) -> NDArray[np.float32]:
        """Always raises."""
        raise self._error


class SmallSegmenter(ConstantSegmenter):
    """Has memory for a few slices only, and for none while ``full`` is set. Remembers how many each call had."""

    def __init__(self, most: int, *boxes: tuple[Box, float]) -> None:
        super().__init__(*boxes)
        self.seen: list[int] = []
        self.full = False
        self._most = most

    def probabilities(
        self,
        voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
        spacing_zyx_mm: tuple[float, float, float],
        start: int,
        stop: int,
    ) -> NDArray[np.float32]:
        """Raises EngineOutOfMemoryError when there are more slices than fit."""
        self.seen.append(stop - start)
        if self.full or stop - start > self._most:
            raise EngineOutOfMemoryError("no memory")
        return super().probabilities(voxels_zyx_hu, spacing_zyx_mm, start, stop)


class ScriptedReader:
    """Fills each form with its first choices, and writes the same prose each time. Remembers what it was asked."""

    def __init__(self, prose: str = "There is blood.") -> None:
        self.info = engine_info("reader")
        self.requests: list[GenerationRequest] = []
        self._prose = prose

    def generate(
        self,
        request: GenerationRequest,
        on_text: Callable[[str], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Generation:
        """Write, one character a token."""
        self.requests.append(request)
        text = self._prose if request.form is None else _filled(request.form)
        written = ""
        for character in text:
            if cancelled():
                return Generation(written, "cancelled", 1, len(written))
            written += character
            on_text(character)
        return Generation(written, "stop", 1, len(written), _chances(request.form))

    def forget(self) -> bool:
        """It keeps nothing."""
        return False


class FailingReader(ScriptedReader):
    """Fails on every request, or only on prose."""

    def __init__(self, error: Exception, *, on_forms: bool = True) -> None:
        super().__init__()
        self._error = error
        self._on_forms = on_forms

    def generate(
        self,
        request: GenerationRequest,
        on_text: Callable[[str], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Generation:
        """Raises, except on forms when told so."""
        if request.form is not None and not self._on_forms:
            return super().generate(request, on_text, cancelled)
        raise self._error


class OutOfMemoryReader(ScriptedReader):
    """Has memory for a few slices only."""

    def __init__(self, max_slices: int) -> None:
        super().__init__()
        self.seen: list[int] = []
        self._max_slices = max_slices

    def generate(
        self,
        request: GenerationRequest,
        on_text: Callable[[str], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Generation:
        """Raises EngineOutOfMemoryError when there are more pictures than fit."""
        count = picture_count(request)
        self.seen.append(count)
        if count > self._max_slices:
            raise EngineOutOfMemoryError("no memory")
        return super().generate(request, on_text, cancelled)


class SlowReader(ScriptedReader):
    """Waits at every request until it is released or cancelled; ``began`` is set while it waits."""

    def __init__(self, prose: str = "There is blood.", *, on_forms: bool = True) -> None:
        super().__init__(prose)
        self.began = threading.Event()
        self.release = threading.Event()
        self.was_cancelled = threading.Event()
        self._on_forms = on_forms

    def generate(
        self,
        request: GenerationRequest,
        on_text: Callable[[str], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Generation:
        """Wait, then write."""
        if self._on_forms or request.form is None:
            self.began.set()
            for _ in _moments():
                if self.release.is_set():
                    break
                if cancelled():
                    self.was_cancelled.set()
                    break
        return super().generate(request, on_text, cancelled)


def small_engines(
    triage: TriageEngine | None = None, reader: ReaderEngine | None = None, segmenter: Segmenter | None = None
) -> Engines:
    """Engines that answer at once, apart from those that are given."""
    box = (slice(0, 1), slice(0, 10), slice(0, 10)), 1.0
    return Engines(
        triage=triage or ConstantTriage(),
        reader=reader or ScriptedReader(),
        segmenter=segmenter or ConstantSegmenter(box),
    )


def picture_count(request: GenerationRequest) -> int:
    """How many pictures a request holds."""
    return sum(not isinstance(part, str) for turn in request.turns for part in turn.parts)


def failure() -> EngineError:
    """What an engine raises when it cannot work on its input."""
    return EngineError("a failure made on purpose")


def _moments() -> Iterator[None]:
    pause = threading.Event()
    for _ in range(int(HOLD_LIMIT_S / 0.01)):
        yield
        pause.wait(0.01)


def _filled(form: JsonForm) -> str:
    chosen: dict[str, object] = {name: values[0] for name, values in form.choices.items()}
    return json.dumps({**chosen, "bleeding_description": "none seen", "differentials": []})


def _chances(form: JsonForm | None) -> dict[str, dict[str, float]]:
    if form is None:
        return {}
    return {
        name: {value: 0.7 if value == values[0] else 0.3 / (len(values) - 1) for value in values}
        for name, values in form.choices.items()
    }
