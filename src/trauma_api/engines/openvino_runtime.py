"""OpenVINO on the cores of this process, for networks that are written down as its operations.

Converting torch's modules instead takes seconds at every start, and operations at hand can hold weights in 8 bits.
"""

import os
from threading import Lock
from typing import Any

import openvino
import torch
from numpy.typing import NDArray

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""What is not a linear layer stays in float32 beside int8: with bfloat16 there, OpenVINO would multiply in bfloat16."""
_KEPT_OPERATIONS = 256
"""Compiled operations that are kept, of all sizes of pictures. Without a bound memory grows with each new size."""
_INT8_GROUP = 128
"""Inputs that share a scale; of 16 to 1152 the one with which the shape of MedSigLIP is fastest."""


class OpenVinoNetwork:
    """A network with one input and one output. May be called from several threads at once."""

    def __init__(self, model: openvino.Model, precision: str, *, one_core: bool) -> None:
        """``precision`` is float32, bfloat16 or int8, which is that of weights held in 8 bits.

        With ``one_core`` each call has one core and others go on beside it, else as many as torch would use there.
        """
        self.precision = precision
        self._model, self._one_core = model, one_core
        self._compiled: dict[int, openvino.CompiledModel] = {}
        self._compiling = Lock()

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """The network's output for ``images``, float32 on the CPU. Raises RuntimeError where OpenVINO fails."""
        compiled = self._for_threads(1 if self._one_core else torch.get_num_threads())
        return torch.from_numpy(compiled.create_infer_request().infer([images.numpy()])[0])

    def _for_threads(self, threads: int) -> openvino.CompiledModel:
        with self._compiling:
            if threads not in self._compiled:
                self._compiled[threads] = self._compile(threads)
            return self._compiled[threads]

    def _compile(self, threads: int) -> openvino.CompiledModel:
        side_by_side = max(len(os.sched_getaffinity(0)) // threads, 1)
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "INFERENCE_NUM_THREADS": threads * side_by_side,
            "NUM_STREAMS": side_by_side,
            "ENABLE_CPU_PINNING": False,  # the other models use the same cores
            "CPU_RUNTIME_CACHE_CAPACITY": _KEPT_OPERATIONS,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _INT8_GROUP if self.precision == "int8" else 0,
        }
        return openvino.Core().compile_model(self._model, "CPU", options)


def values_of(weight: torch.Tensor) -> NDArray[Any]:
    """A weight as float32, for a constant of the graph."""
    values: NDArray[Any] = weight.detach().float().numpy()
    return values
