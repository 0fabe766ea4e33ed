"""What an engine is to the rest of the service: numpy and dataclasses in and out, no torch, HTTP or asyncio.

Engines are synchronous and are called from one thread each. Long calls take a ``cancelled`` callable that they ask
between tokens or batches; when it says yes they stop and return or raise ``EngineCancelledError``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from trauma_api.imaging.measure import NoiseRule


class EngineError(Exception):
    """An engine failed on this input."""


class EngineOutOfMemoryError(EngineError):
    """The device ran out of memory; the engine has freed what it could."""


class EngineDeviceLostError(EngineError):
    """The device failed in a way that lasts: nothing in this process can use it any more."""


class ContextFullError(EngineError):
    """The prompt and what was to be written do not fit into the model's context."""


class EngineCancelledError(EngineError):
    """The caller asked to stop and there is no partial result."""


Role = Literal["triage", "reader", "segmenter"]
"""What a model is for."""


class CheckpointError(Exception):
    """A checkpoint is missing, gated, damaged or of the wrong architecture. The text tells the operator what to do."""


@dataclass(frozen=True)
class EngineInfo:
    """Where an engine's results come from. ``sha256`` covers all weight files of the checkpoint."""

    role: Role
    checkpoint: str
    architecture: str
    sha256: str
    trained_on: str
    """What the weights were trained on; "untrained" for weights at their random start."""
    adapter: str | None
    device: str
    dtype: str
    device_memory_bytes: int | None
    """Memory of the accelerator; None on a CPU."""
    slice_budget: int | None = None
    """Slices that a reader was trained to read together, where its checkpoint says so."""


@dataclass(frozen=True)
class TriageScores:
    """Both float32: ``logits`` (slices, statements) in the statements' order; ``suspicion`` (slices,), 0 to 1."""

    logits: NDArray[np.float32]
    suspicion: NDArray[np.float32]


SlicePixels = NDArray[np.uint8] | NDArray[np.int16] | NDArray[np.float32]
"""One slice: a picture, uint8 (rows, columns, 3), or CT in HU, int16 or float32 (rows, columns)."""


class TriageEngine(Protocol):
    """Scores slices against the injury statements and the normal one."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def batch_size(self) -> int: ...

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """Score slices, all of them pictures or all of them CT slices of one shape. Raises EngineError."""
        ...


class Segmenter(Protocol):
    """Finds hemorrhage, voxel by voxel."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def threshold(self) -> float:
        """The probability from which the checkpoint calls a voxel blood."""
        ...

    @property
    def noise(self) -> NoiseRule | None:
        """Which regions are noise to the checkpoint; None where all are blood."""
        ...

    def probabilities(
        self,
        voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
        spacing_zyx_mm: tuple[float, float, float],
        start: int,
        stop: int,
    ) -> NDArray[np.float32]:
        """Probability of hemorrhage for slices start to stop, float32 (stop - start, rows, columns).

        The whole volume is passed so that neighbouring slices can be looked at. Raises EngineError.
        """
        ...


ImageOrText = str | NDArray[np.uint8]
"""A piece of a turn: text, or a picture of shape (rows, columns, 3)."""


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation; only a user's turn may hold pictures."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[ImageOrText, ...]


@dataclass(frozen=True)
class JsonForm:
    """A JSON object to be filled in under a grammar.

    ``choices`` are its closed fields, in order, with their allowed values: each is decided by the probability of each
    value. ``free_schema`` is the JSON Schema of the remaining fields (``properties`` in order), which are written
    under its grammar after the closed ones. No value of a closed field may be the beginning of another.
    """

    choices: Mapping[str, tuple[str, ...]]
    free_schema: Mapping[str, Any]


@dataclass(frozen=True)
class GenerationRequest:
    """What to write: a JSON object with ``form``, else prose.

    ``max_new_tokens`` bounds prose, which may go on only to close an open slot; a form is always written to its end,
    and must therefore bound all its strings and arrays. Parts of a turn are trimmed and not separated, so neighbouring
    texts need their own punctuation. Prose is written under a grammar that has no digits: a number can only be a
    slot, ``{name}``, from ``slots``.
    """

    turns: tuple[Turn, ...]
    max_new_tokens: int
    use_adapter: bool
    form: JsonForm | None = None
    slots: tuple[str, ...] = ()
    shared_text: str = ""
    """The text of the turns up to which, pictures included, other requests will be the same; an engine may keep what it
    made of it. What is written does not depend on it."""


@dataclass(frozen=True)
class Generation:
    """What was written, and why it ended. ``choice_probabilities``: by closed field, then by value; each sums to 1."""

    text: str
    finish_reason: Literal["stop", "length", "cancelled"]
    prompt_tokens: int
    new_tokens: int
    choice_probabilities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class ReaderEngine(Protocol):
    """A vision-language model: reads several pictures together and writes text or JSON."""

    @property
    def info(self) -> EngineInfo: ...

    def generate(
        self,
        request: GenerationRequest,
        on_text: Callable[[str], None] = ...,
        cancelled: Callable[[], bool] = ...,
    ) -> Generation:
        """Write, calling ``on_text`` with each new piece of decoded text as its token is made.

        The pieces joined equal the result's text. When ``cancelled`` says yes, the text so far is returned with
        finish_reason "cancelled" within one token. ``use_adapter`` means nothing where no adapter is loaded.
        Raises EngineError.
        """
        ...

    def forget(self) -> bool:
        """Drop what is kept between requests, as when memory is short; says whether anything was kept.

        May be called between two tokens of a request, or two parts of its prompt, on the same thread.
        """
        ...
