"""Times, what goes through models, and the rows that the compute benchmark prints."""

import platform
import statistics
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch.nn.modules.module import register_module_forward_hook
from transformers import Gemma3ForConditionalGeneration, SiglipVisionModel

T = TypeVar("T")


@dataclass(frozen=True)
class Timed(Generic[T]):
    """What work gave, and how long it took; loading models and opening studies apart."""

    seconds: float
    value: T


@dataclass(frozen=True)
class Row:
    """One comparison. ``agrees`` is whether what both sides gave is as much the same as it must be."""

    name: str
    what: str
    baseline_s: float
    service_s: float
    goal: float
    agreement: str
    agrees: bool

    @property
    def times_as_fast(self) -> float:
        """The baseline's time over the service's."""
        return self.baseline_s / self.service_s

    @property
    def reached(self) -> bool:
        """Whether it is fast enough, and right."""
        return self.times_as_fast >= self.goal and self.agrees


def versions() -> str:
    """What was measured with."""
    return f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"


async def medians(
    baseline: Callable[[], Awaitable[Timed[Any]]], service: Callable[[], Awaitable[Timed[Any]]], repeats: int
) -> tuple[float, float]:
    """Median seconds of each side. They take turns, so that what else the machine does meets both."""
    pairs = [((await baseline()).seconds, (await service()).seconds) for _ in range(repeats)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


@dataclass
class Passes:
    """What went through the models of this process.

    ``pooled`` are the embeddings of triage's pictures, (pictures, width) of each pass; ``pictures`` those that went
    through the reader's tower; ``tokens`` those of each pass through the reader.
    """

    pooled: list[NDArray[np.float32]] = field(default_factory=list)
    pictures: int = 0
    tokens: list[int] = field(default_factory=list)


@contextmanager
def watch(*, wanted: bool = True) -> Iterator[Passes]:
    """Note what goes through any model of this process; nothing unless ``wanted``, as looking takes time too."""
    passes = Passes()

    def note(module: Any, _args: Any, named: dict[str, Any], output: Any) -> None:
        if isinstance(module, Gemma3ForConditionalGeneration):
            passes.tokens.append(named["input_ids"].shape[1])
        elif isinstance(module, SiglipVisionModel) and output.pooler_output is not None:
            passes.pooled.append(output.pooler_output.float().cpu().numpy())
        elif isinstance(module, SiglipVisionModel):
            passes.pictures += len(output.last_hidden_state)

    if not wanted:
        yield passes
        return
    handle = register_module_forward_hook(note, with_kwargs=True)
    try:
        yield passes
    finally:
        handle.remove()
