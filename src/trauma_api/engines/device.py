"""Where a model runs, in which precision, and what happens when its device fails."""

import gc
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeVar

import torch
import transformers

from trauma_api.engines.base import CheckpointError, EngineDeviceLostError, EngineOutOfMemoryError

Device = Literal["auto", "cpu", "cuda"]
_Result = TypeVar("_Result")
_MEMORY_ALLOCATION = 2
"""CUDA's code of an allocation that failed: the one of its errors that ends here and leaves the device usable."""


def choose_device(wanted: Device) -> torch.device:
    """The device to run on. Raises CheckpointError for "cuda" where there is none: the CPU is never taken instead."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("No CUDA device was found; install a driver and a CUDA build of torch, or ask for cpu.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def choose_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 from compute capability 8.0, else float32.

    Gemma 3 overflows in float16, and ``torch.cuda.is_bf16_supported`` also says yes where bfloat16 is emulated.
    """
    return torch.bfloat16 if device.type == "cuda" and _has_bfloat16(device) else torch.float32


def _has_bfloat16(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


def cpu_prefers_bfloat16(capabilities: Mapping[str, Any] | None = None) -> bool:
    """Whether a CPU is faster in bfloat16 than in float32: this one, or that of ``torch.cpu.get_capabilities``.

    It is with AMX, and with AVX512_BF16 on AMD's cores. On Intel's, AVX512_BF16 takes half as long again as float32
    (benchmarks/LOG.md). Elsewhere bfloat16 is emulated, and slower.
    """
    found = torch.cpu.get_capabilities() if capabilities is None else capabilities
    is_intel = str(found.get("cpu_name")).startswith("Intel")
    return bool(found.get("amx_bf16") or (found.get("avx512_bf16") and not is_intel))


def choose_vision_dtype(device: torch.device) -> torch.dtype:
    """The same for triage and segmentation, which also on a CPU run in bfloat16 where that is faster."""
    return torch.bfloat16 if device.type == "cpu" and cpu_prefers_bfloat16() else choose_dtype(device)


def dtype_name(dtype: torch.dtype) -> str:
    """As results state it, for example "float32"."""
    return str(dtype).removeprefix("torch.")


def device_memory_bytes(device: torch.device) -> int | None:
    """The accelerator's memory; None on a CPU."""
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None


def on_device(work: Callable[[], _Result]) -> _Result:
    """Run ``work`` on the model's device.

    When the memory is full, free what can be freed and raise EngineOutOfMemoryError. Any other error of the device
    spoils its context for the rest of the process, and raises EngineDeviceLostError. Both are raised outside the except
    blocks because the exception keeps the frames, and so the tensors, alive
    (https://github.com/pytorch/pytorch/issues/18853).
    """
    code: int | None = _MEMORY_ALLOCATION
    try:
        return work()
    except torch.OutOfMemoryError:
        pass
    except torch.AcceleratorError as error:
        code = getattr(error, "error_code", None)
    if code != _MEMORY_ALLOCATION:
        raise EngineDeviceLostError(f"The device failed with error {code}, and needs a new process to be used again.")
    gc.collect()
    torch.cuda.empty_cache()
    raise EngineOutOfMemoryError("The device's memory was full; what the engine held for this input has been freed.")


def silence_libraries() -> None:
    """Let transformers print errors only: its advice and progress bars are for the authors of a checkpoint."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def limit_threads(count: int) -> None:
    """Use at most ``count`` CPU threads for each operation.

    Holds for this thread and those that run their first operation later. Engines that run side by side share the
    cores: with more threads than cores together, each waits for the others and small models become ten times slower.
    """
    torch.set_num_threads(count)


def parts_for_cores(start: int, stop: int, device: torch.device) -> list[tuple[int, int]]:
    """``start`` to before ``stop`` in parts as even as can be: one for each CPU thread that this one may use.

    One part on an accelerator, which works on a whole batch at once. No part is empty.
    """
    count = min(torch.get_num_threads(), stop - start) if device.type == "cpu" else 1
    return list(pairwise(start + (stop - start) * part // count for part in range(count + 1)))


def side_by_side(pieces: Sequence[Callable[[], _Result]]) -> list[_Result]:
    """What each piece of work returns, done at the same time on CPU threads that share this one's cores.

    Cores that work on pieces of a batch wait for each other once, in the end; cores that share every operation wait
    after each, and for long where another thread takes one of them. Raises what the first piece to fail raises, when
    all have ended.
    """
    if len(pieces) < 2:
        return [piece() for piece in pieces]
    threads = torch.get_num_threads()
    share = partial(torch.set_num_threads, max(threads // len(pieces), 1))
    share()
    try:
        with ThreadPoolExecutor(len(pieces) - 1, initializer=share) as others:
            begun = [others.submit(piece) for piece in pieces[1:]]
            return [pieces[0](), *(piece.result() for piece in begun)]
    finally:
        torch.set_num_threads(threads)
