"""Errors of the device: full memory passes, anything else lasts, and neither keeps tensors alive."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch

from trauma_api.engines.base import EngineDeviceLostError, EngineError, EngineOutOfMemoryError
from trauma_api.engines.device import on_device, parts_for_cores, side_by_side


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


class TestPartsForCores:
    @pytest.mark.parametrize(
        ("threads", "start", "stop", "parts"),
        [
            (1, 0, 4, [(0, 4)]),
            (2, 8, 12, [(8, 10), (10, 12)]),
            (2, 0, 3, [(0, 1), (1, 3)]),
            (8, 5, 7, [(5, 6), (6, 7)]),
            (2, 5, 6, [(5, 6)]),
        ],
    )
    def test_are_even_and_none_is_empty(
        self, threads: int, start: int, stop: int, parts: list[tuple[int, int]]
    ) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            assert parts_for_cores(start, stop, torch.device("cpu")) == parts
        finally:
            torch.set_num_threads(before)
        assert parts_for_cores(start, stop, torch.device("cuda")) == [(start, stop)]


class TestSideBySide:
    @pytest.fixture(autouse=True)
    def threads(self) -> Iterator[None]:
        """Four threads for the test's own thread."""
        before = torch.get_num_threads()
        torch.set_num_threads(4)
        yield
        torch.set_num_threads(before)

    def test_pieces_run_at_the_same_time_and_share_the_threads(self) -> None:
        both = threading.Barrier(2)

        def piece(name: str) -> tuple[str, int]:
            both.wait(10)
            return name, torch.get_num_threads()

        assert side_by_side([partial(piece, "a"), partial(piece, "b")]) == [("a", 2), ("b", 2)]
        assert torch.get_num_threads() == 4

    def test_one_piece_has_all_of_them(self) -> None:
        assert side_by_side([torch.get_num_threads]) == [4]
        assert side_by_side([]) == []

    @pytest.mark.parametrize("failing", [0, 1])
    def test_a_piece_that_fails_fails_all_once_every_one_has_ended(self, failing: int) -> None:
        ended = []

        def piece(number: int) -> None:
            if number == failing:
                raise EngineError(str(number))
            time.sleep(0.1)
            ended.append(number)

        with pytest.raises(EngineError, match=str(failing)):
            side_by_side([partial(piece, 0), partial(piece, 1)])
        assert ended == [1 - failing]
        assert torch.get_num_threads() == 4
