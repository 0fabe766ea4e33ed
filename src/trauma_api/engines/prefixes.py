"""What the reader has seen before: pictures as features, and prompts as key-value caches to go on from.

Both are kept by least recent use within a number of bytes. A cache is only ever forked: its layers replace their
tensors when they grow and never write into them, so a fork shares all memory and leaves the original as it was.
"""

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class ByteBudget(Generic[Key, Value]):
    """A mapping that forgets what was not used for longest when it holds more bytes than it may."""

    def __init__(self, budget_bytes: int, on_forgotten: Callable[[Key, Value, int], None] | None = None) -> None:
        """``on_forgotten`` is told what had to go for want of room, with its bytes."""
        self._budget_bytes = budget_bytes
        self._on_forgotten = on_forgotten
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._bytes = 0

    @property
    def held_bytes(self) -> int:
        """What is held now."""
        return self._bytes

    def get(self, key: Key) -> Value | None:
        """The value, now used last; None where it is not kept."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: Key, value: Value, size_bytes: int) -> None:
        """Keep a value; one that is larger than the budget is not kept."""
        self.drop(key)
        if size_bytes > self._budget_bytes:
            return
        self._kept[key] = (value, size_bytes)
        self._bytes += size_bytes
        while self._bytes > self._budget_bytes:
            gone, (its_value, freed) = self._kept.popitem(last=False)
            self._bytes -= freed
            if self._on_forgotten is not None:
                self._on_forgotten(gone, its_value, freed)

    def drop(self, key: Key) -> None:
        """Forget a value, if it is kept."""
        if key in self._kept:
            self._bytes -= self._kept.pop(key)[1]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._bytes = 0

    def keys(self) -> list[Key]:
        """Least recently used first."""
        return list(self._kept)


def picture_digest(picture: NDArray[np.uint8]) -> str:
    """Of a picture's shape and pixels."""
    content = hashlib.sha256(repr(picture.shape).encode())
    content.update(np.ascontiguousarray(picture).tobytes())
    return content.hexdigest()


@dataclass(frozen=True)
class PrefixKey:
    """What must be the same for keys and values to be: the adapter, the pictures, and every token."""

    adapter_on: bool
    pictures: tuple[str, ...]
    tokens: tuple[int, ...]


class Prefixes:
    """Prompts that may be gone on from: on the model's device, and what has no room there in the host's memory."""

    def __init__(self, budget_bytes: int, host_budget_bytes: int = 0) -> None:
        self._host: ByteBudget[PrefixKey, tuple[DynamicCache, torch.device]] = ByteBudget(host_budget_bytes)
        self._kept: ByteBudget[PrefixKey, DynamicCache] = ByteBudget(budget_bytes, self._move_to_host)

    @property
    def held_bytes(self) -> int:
        """What is held on the device now."""
        return self._kept.held_bytes

    @property
    def host_bytes(self) -> int:
        """What is held in the host's memory now."""
        return self._host.held_bytes

    def longest(
        self, adapter_on: bool, pictures: tuple[str, ...], tokens: Sequence[int]
    ) -> tuple[int, DynamicCache] | None:
        """A fork of the longest prompt that these tokens go on from, and its number of tokens; at least one is left."""
        begin = [
            key
            for key in [*self._kept.keys(), *self._host.keys()]
            if (key.adapter_on, key.pictures) == (adapter_on, pictures)
            and len(key.tokens) < len(tokens)
            and tuple(tokens[: len(key.tokens)]) == key.tokens
        ]
        if not begin:
            return None
        best = max(begin, key=lambda key: len(key.tokens))
        cache = self._kept.get(best)
        if cache is None:
            cache = self._back_from_host(best)
        return None if cache is None else (len(best.tokens), forked(cache))

    def _move_to_host(self, key: PrefixKey, cache: DynamicCache, size_bytes: int) -> None:
        # of a model on the CPU this moves nothing, and the budget there is 0
        self._host.put(key, (moved(cache, torch.device("cpu")), cache.layers[0].keys.device), size_bytes)

    def _back_from_host(self, key: PrefixKey) -> DynamicCache | None:
        known = self._host.get(key)
        if known is None:
            return None
        self._host.drop(key)
        cache = moved(*known)
        self._kept.put(key, cache, _bytes_of(cache))
        return cache

    def keep(self, adapter_on: bool, pictures: tuple[str, ...], tokens: Sequence[int], cache: DynamicCache) -> None:
        """Keep the state after these tokens."""
        compact, key = compacted(cache), PrefixKey(adapter_on, pictures, tuple(tokens))
        self._host.drop(key)
        self._kept.put(key, compact, _bytes_of(compact))

    def clear(self) -> None:
        """Forget everything, as when memory is short."""
        self._kept.clear()
        self._host.clear()


def forked(cache: DynamicCache) -> DynamicCache:
    """A cache that goes on from another and shares its tensors."""
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    return fork


def moved(cache: DynamicCache, device: torch.device) -> DynamicCache:
    """A cache of the same content on another device."""
    elsewhere = forked(cache)
    for layer in elsewhere.layers:
        layer.keys, layer.values = layer.keys.to(device), layer.values.to(device)
    return elsewhere


def _bytes_of(cache: DynamicCache) -> int:
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def compacted(cache: DynamicCache) -> DynamicCache:
    """A fork whose sliding layers do not hold on to what slid out: after a prefill they are views of all of it."""
    fork = forked(cache)
    for layer in fork.layers:
        layer.keys, layer.values = _own(layer.keys), _own(layer.values)
    return fork


def _own(tensor: torch.Tensor) -> torch.Tensor:
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole else tensor.clone()
