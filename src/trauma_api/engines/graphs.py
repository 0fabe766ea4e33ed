"""Writing from a cache of fixed size, whose tensors never move, so that on CUDA a token is the replay of one graph.

Token by token a large model is bound by the launching of its many small kernels, which a CUDA graph does at once. A
graph knows no sizes that change: keys and values lie in rings as long as a layer's window or the whole text, and what
is not yet written in them is masked by the position, a number on the device.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache

from trauma_api.engines.decoding import ModelState, Writable
from trauma_api.engines.prefixes import forked

SIZE_STEP = 2048
"""Rings are as long as a multiple of this, as each length is a graph of its own."""
_KEPT_DECODERS = 4
_WARM_UPS = 2
"""Runs before a capture, in which libraries choose their kernels and take their memory."""


class RingCache:
    """Keys and values of each layer, in the order in which they came in, over again from the start where it is full."""

    def __init__(self, like: DynamicCache, size: int, position: torch.Tensor) -> None:
        """Room for ``size`` tokens, of sliding layers for those of their window. ``position`` is the next token's,
        int64 (1,) on the device; whoever runs the model sets it."""
        self._position = position
        self._sizes = [min(layer.sliding_window, size) if layer.is_sliding else size for layer in like.layers]
        self._keys = [_empty(layer.keys, count) for layer, count in zip(like.layers, self._sizes, strict=True)]
        self._values = [_empty(layer.values, count) for layer, count in zip(like.layers, self._sizes, strict=True)]
        self._sliding = [layer.is_sliding for layer in like.layers]

    @property
    def nbytes(self) -> int:
        """What it holds, whether written or not."""
        return sum(tensor.nbytes for tensor in (*self._keys, *self._values))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_args: Any, **_options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in one token's keys and values, (1, heads, 1, size of a head), and return all of them."""
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        slot = self._position % self._sizes[layer_idx]
        keys.index_copy_(2, slot, key_states)
        values.index_copy_(2, slot, value_states)
        return keys, values

    def masks(self) -> dict[str, torch.Tensor]:
        """By kind of layer what is added to the attention of the token at the position: nothing for what is written."""
        kinds = dict(zip(self._sliding, zip(self._sizes, self._keys, strict=True), strict=True))
        found = {}
        for is_sliding, (size, keys) in kinds.items():
            written = torch.arange(size, device=keys.device) <= self._position
            hidden = torch.full((), torch.finfo(keys.dtype).min, dtype=keys.dtype, device=keys.device)
            name = "sliding_attention" if is_sliding else "full_attention"
            found[name] = torch.where(written, torch.zeros_like(hidden), hidden)[None, None, None]
        return found

    def fill(self, cache: DynamicCache) -> None:
        """Take over what a cache of a prompt holds, of no more tokens than there is room for."""
        count = cache.get_seq_length()
        for place, layer in enumerate(cache.layers):
            slots = self._slots(place, count - layer.keys.shape[2], count)
            self._keys[place].index_copy_(2, slots, layer.keys)
            self._values[place].index_copy_(2, slots, layer.values)

    def as_dynamic(self, like: DynamicCache, count: int) -> DynamicCache:
        """A cache that grows, of the first ``count`` tokens."""
        grown = forked(like)
        for place, layer in enumerate(grown.layers):
            # a sliding layer keeps one less than its window, as the next token sees itself as well
            first = max(count - layer.sliding_window + 1, 0) if layer.is_sliding else 0
            slots = self._slots(place, first, count)
            layer.keys = self._keys[place].index_select(2, slots)
            layer.values = self._values[place].index_select(2, slots)
            if layer.is_sliding:
                layer.cumulative_length = count
        return grown

    def _slots(self, place: int, first: int, end: int) -> torch.Tensor:
        return torch.arange(first, end, device=self._keys[place].device) % self._sizes[place]


class Decoder:
    """One token at a time through the model; on CUDA as a graph, which is captured at the first one."""

    def __init__(self, model: Any, like: DynamicCache, size: int) -> None:
        device = like.layers[0].keys.device
        self._model, self.size = model, size
        self._ids = torch.zeros(1, 1, dtype=torch.long, device=device)
        self._position = torch.zeros(1, dtype=torch.long, device=device)
        self.cache = RingCache(like, size, self._position)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = torch.empty(0)
        self.count = 0
        """Tokens that were taken in."""

    def begin(self, cache: DynamicCache) -> None:
        """Go on from a prompt."""
        self.cache.fill(cache)
        self.count = cache.get_seq_length()

    def step(self, token: int) -> torch.Tensor:
        """Take in a token, and return the logits of the next one, float32 (vocabulary,)."""
        self._ids.fill_(token)
        self._position.fill_(self.count)
        if self._ids.device.type == "cuda":
            self._graph = self._graph or self._captured()
            self._graph.replay()
        else:
            self._logits = self.forward()
        self.count += 1
        # the next replay writes over what this one gave
        return self._logits.float().clone()

    def forward(self) -> torch.Tensor:
        """What a graph is captured from: nothing here may depend on a value that the host would have to wait for."""
        output = self._model(
            input_ids=self._ids,
            attention_mask=self.cache.masks(),
            position_ids=self._position[None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[0, -1]
        return logits

    def _captured(self) -> torch.cuda.CUDAGraph:
        """Each run before it writes the same token's keys and values to the same place."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                self.forward()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._logits = self.forward()
        return graph


class DecodedState:
    """A state whose next tokens go through a decoder as long as that has room, and through the model after."""

    def __init__(self, state: ModelState, decoder: Decoder) -> None:
        self._state, self._decoder = state, decoder
        self._since: list[int] = []
        self.logits = state.logits
        decoder.begin(state.cache)

    def advance(self, tokens: Sequence[int]) -> None:
        """Take in the next tokens. Raises ContextFullError where the context is full."""
        room = self._decoder.size - self._decoder.count
        for token in tokens[:room]:
            self.logits = self._decoder.step(token)
            self._since.append(token)
        if len(tokens) > room:
            self.hand_back()
            self._state.advance(tokens[room:])
            self.logits = self._state.logits

    def hand_back(self) -> None:
        """Let the state that it began with go on from where this one is."""
        if self._since:
            grown = self._decoder.cache.as_dynamic(self._state.cache, self._decoder.count)
            self._state.take_over(grown, self._since, self.logits)
            self._since = []


class Decoders:
    """Decoders of one model, each lent to one text at a time and used again, as a graph takes time to capture."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._positions: int = model.config.get_text_config().max_position_embeddings
        self._free: list[tuple[tuple[bool, int], Decoder]] = []

    @property
    def held_bytes(self) -> int:
        """What those hold that no text is written with."""
        return sum(decoder.cache.nbytes for _, decoder in self._free)

    def forget(self) -> None:
        """Drop those that no text is written with."""
        self._free.clear()

    @contextmanager
    def writing(self, state: ModelState, *, adapter_on: bool, new_tokens: int) -> Iterator[Writable]:
        """``state`` with a decoder, for about so many tokens; at the end it holds what was written.

        A graph is captured with the adapter on or off, so each has its own.
        """
        needed = state.cache.get_seq_length() + new_tokens
        key = (adapter_on, min(-(-needed // SIZE_STEP) * SIZE_STEP, self._positions))
        place = next((place for place, (its_key, _) in enumerate(self._free) if its_key == key), None)
        decoder = Decoder(self._model, state.cache, key[1]) if place is None else self._free.pop(place)[1]
        # after an error it is not used again
        decoded = DecodedState(state, decoder)
        yield decoded
        decoded.hand_back()
        self._free = [*self._free, (key, decoder)][-_KEPT_DECODERS:]


def _empty(like: torch.Tensor, count: int) -> torch.Tensor:
    return like.new_zeros(*like.shape[:2], count, like.shape[3])
