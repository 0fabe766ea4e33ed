"""SigLIP's vision tower by OpenVINO, which on most CPUs takes two thirds of the time that torch takes.

The tower is written down as OpenVINO's operations instead of being converted: tracing takes seconds at every start, and
with the operations at hand its weights can be held in 8 bits.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trauma_api.engines.base import EngineError

# OpenVINO's import reports itself over the network where this package is found (opt-out). A service that holds
# patients' data reports nothing to anybody, so the import finds none and takes the stub that it brings along.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

_Array = NDArray[Any]
_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": ops.relu,
    "gelu": partial(ops.gelu, approximation_mode="erf"),
    "gelu_pytorch_tanh": partial(ops.gelu, approximation_mode="tanh"),
}
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""What is not a linear layer stays in float32 beside int8: with bfloat16 there, OpenVINO would multiply in bfloat16."""
_INT8_GROUP = 128
"""Inputs that share a scale; of 16 to 1152 the one with which the shape of MedSigLIP is fastest."""
_LARGEST_INT8 = 127


class OpenVinoTower:
    """A `VisionTower` on the cores of this process. May be called from several threads at once."""

    device = torch.device("cpu")

    def __init__(self, tower: Any, precision: str, *, one_core: bool) -> None:
        """``tower`` is a ``SiglipVisionModel`` with its pooling head, ``precision`` float32, bfloat16 or int8.

        With ``one_core`` each call has one core and others go on beside it, else as many as torch would use there.
        Raises ValueError for a tower that is not written down here.
        """
        self.precision = precision
        self._one_core = one_core
        self._model = _Graph(tower, int8=precision == "int8").model()
        self._compiled: dict[int, openvino.CompiledModel] = {}
        self._compiling = Lock()

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings of pictures, float32 (pictures, channels, side, side) to (pictures, width). Raises EngineError."""
        compiled = self._for_threads(1 if self._one_core else torch.get_num_threads())
        try:
            embeddings = compiled.create_infer_request().infer([pixels.numpy()])[0]
        except RuntimeError as error:
            raise EngineError("OpenVINO did not get these slices through the triage model.") from error
        return torch.from_numpy(embeddings)

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
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _INT8_GROUP if self.precision == "int8" else 0,
        }
        return openvino.Core().compile_model(self._model, "CPU", options)


class _Graph:
    """The operations of one tower, in the order of transformers' ``SiglipVisionModel``."""

    def __init__(self, tower: Any, *, int8: bool) -> None:
        config = tower.config
        if config.hidden_act not in _ACTIVATIONS or not tower.use_head:
            raise ValueError(f"its vision tower has the activation {config.hidden_act} or no pooling head")
        self._tower, self._int8 = tower, int8
        self._act, self._eps = _ACTIVATIONS[config.hidden_act], config.layer_norm_eps
        self._heads, self._width = config.num_attention_heads, config.hidden_size
        self._side, self._channels = config.image_size, config.num_channels

    def model(self) -> openvino.Model:
        pixels = ops.parameter([-1, self._channels, self._side, self._side], np.float32, name="pixels")
        tokens = self._embed(pixels)
        for layer in self._tower.encoder.layers:
            tokens = ops.add(tokens, self._self_attention(layer.self_attn, self._norm(layer.layer_norm1, tokens)))
            tokens = ops.add(tokens, self._mlp(layer.mlp, self._norm(layer.layer_norm2, tokens)))
        return openvino.Model([self._pool(self._norm(self._tower.post_layernorm, tokens))], [pixels])

    def _embed(self, pixels: Any) -> Any:
        patches, positions = self._tower.embeddings.patch_embedding, self._tower.embeddings.position_embedding
        step = list(patches.stride)
        grid = ops.convolution(pixels, _values(patches.weight), step, [0, 0], [0, 0], [1, 1])
        flat = ops.transpose(ops.reshape(grid, [0, self._width, -1], special_zero=True), [0, 2, 1])
        return ops.add(flat, ops.constant(_values(patches.bias) + _values(positions.weight)[None]))

    def _self_attention(self, layer: Any, tokens: Any) -> Any:
        projections = (layer.q_proj, layer.k_proj, layer.v_proj)
        query, key, value = (self._linear(tokens, step.weight, step.bias) for step in projections)
        return self._linear(self._attend(query, key, value), layer.out_proj.weight, layer.out_proj.bias)

    def _attend(self, query: Any, key: Any, value: Any) -> Any:
        heads = (self._split(part) for part in (query, key, value))
        joined = ops.transpose(ops.scaled_dot_product_attention(*heads), [0, 2, 1, 3])
        return ops.reshape(joined, [0, 0, self._width], special_zero=True)

    def _split(self, tokens: Any) -> Any:
        shape = [0, 0, self._heads, self._width // self._heads]
        return ops.transpose(ops.reshape(tokens, shape, special_zero=True), [0, 2, 1, 3])

    def _pool(self, tokens: Any) -> Any:
        head = self._tower.head
        attention = head.attention
        weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        probe = head.probe @ weights[0].T + biases[0]
        key, value = (self._linear(tokens, weights[part], biases[part]) for part in (1, 2))
        # the probe is the same for all pictures: taken as often as there are of them
        count = ops.gather(ops.shape_of(tokens), [0], 0)
        query = ops.broadcast(ops.constant(_values(probe)), ops.concat([count, [1, self._width]], 0))
        pooled = self._linear(self._attend(query, key, value), attention.out_proj.weight, attention.out_proj.bias)
        pooled = ops.add(pooled, self._mlp(head.mlp, self._norm(head.layernorm, pooled)))
        return ops.reshape(pooled, [0, self._width], special_zero=True)

    def _mlp(self, layer: Any, tokens: Any) -> Any:
        inner = self._act(self._linear(tokens, layer.fc1.weight, layer.fc1.bias))
        return self._linear(inner, layer.fc2.weight, layer.fc2.bias)

    def _norm(self, layer: Any, tokens: Any) -> Any:
        centred = ops.mvn(tokens, [-1], True, self._eps, "inside_sqrt")
        return ops.add(ops.multiply(centred, _values(layer.weight)), _values(layer.bias))

    def _linear(self, tokens: Any, weight: torch.Tensor, bias: torch.Tensor) -> Any:
        held = _in_8_bits(_values(weight)) if self._int8 else ops.constant(_values(weight))
        return ops.add(ops.matmul(tokens, held, False, True), _values(bias))


def _in_8_bits(weight: _Array) -> Any:
    """float32 (outputs, inputs) as int8 with a scale for each output. OpenVINO rounds the other side as it comes."""
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / _LARGEST_INT8
    whole = np.round(weight / scale).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(whole), "f32"), ops.constant(scale.astype(np.float32)))


def _values(weight: torch.Tensor) -> _Array:
    values: _Array = weight.detach().float().numpy()
    return values
