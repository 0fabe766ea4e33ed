"""Errors of the device: full memory passes, anything else lasts, and neither keeps tensors alive."""

import weakref
from collections.abc import Callable

import pytest
import torch

from trauma_api.engines.base import EngineDeviceLostError, EngineError, EngineOutOfMemoryError
from trauma_api.engines.device import on_device


def cuda_error(code: int | None) -> torch.AcceleratorError:
    """As torch raises it; only C++ sets the code."""
    error = torch.AcceleratorError("CUDA error")
    if code is not None:
        error.error_code = code  # type: ignore[attr-defined]
    return error


def test_what_works_is_returned() -> None:
    assert on_device(lambda: 42) == 42


@pytest.mark.parametrize(
    ("make", "becomes"),
    [
        (lambda: torch.OutOfMemoryError("CUDA out of memory"), EngineOutOfMemoryError),
        (lambda: cuda_error(2), EngineOutOfMemoryError),  # cudaErrorMemoryAllocation, from outside torch's allocator
        (lambda: cuda_error(700), EngineDeviceLostError),  # cudaErrorIllegalAddress
        (lambda: cuda_error(710), EngineDeviceLostError),  # cudaErrorAssert
        (lambda: cuda_error(None), EngineDeviceLostError),
    ],
)
def test_errors_of_the_device_are_told_apart_and_keep_no_tensor(
    make: Callable[[], Exception], becomes: type[EngineError]
) -> None:
    seen: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        held = torch.zeros(4)
        seen.append(weakref.ref(held))
        raise make()

    with pytest.raises(becomes) as raised:
        on_device(work)
    assert raised.value.__context__ is None
    assert seen[0]() is None, "while the engine's error is held, the frames of torch's must be gone"


def test_any_other_error_passes_as_it_is() -> None:
    def work() -> None:
        raise ValueError("no error of the device")

    with pytest.raises(ValueError, match="no error of the device"):
        on_device(work)
