"""Decoding on a language model's own forward pass: a state that can be advanced, asked and forked."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from transformers import DynamicCache

from trauma_api.engines.base import ContextFullError, EngineError
from trauma_api.engines.prefixes import forked
from trauma_api.engines.streaming import TextStream

FinishReason = Literal["stop", "length", "cancelled"]


class Guide(Protocol):
    """What decides which token may come next."""

    def pick(self, logits: torch.Tensor) -> int:
        """The most probable token that is allowed, taken as said; ``logits`` is float32 (vocabulary,)."""
        ...


class Writable(Protocol):
    """What text is written from: a `ModelState`, or one whose tokens are taken in in another way."""

    logits: torch.Tensor
    """Of the next token, float32 (vocabulary,)."""

    def advance(self, tokens: Sequence[int]) -> None:
        """Take in the next tokens. Raises ContextFullError where the context is full."""
        ...


class ModelState:
    """A prompt and what was written after it: the key-value cache, and the logits of the next token."""

    def __init__(self, model: Any, cache: DynamicCache, logits: torch.Tensor) -> None:
        """``logits`` are those of the next token, (vocabulary,). Raises EngineError where they are not finite."""
        self._model, self.cache = model, cache
        self.advanced: list[int] = []
        """The tokens that were taken in since."""
        self._positions: int = model.config.get_text_config().max_position_embeddings
        self.logits = logits.float()
        if not bool(torch.isfinite(self.logits).all()):
            raise EngineError("The reader's output is not finite: its precision does not hold its activations.")

    def advance(self, tokens: Sequence[int]) -> None:
        """Take in the next tokens. Raises ContextFullError where the context is full."""
        self.logits = self._forward(tokens, self.cache, keep=1)[-1]
        self.advanced += tokens

    def take_over(self, cache: DynamicCache, tokens: Sequence[int], logits: torch.Tensor) -> None:
        """Go on from a cache in which further ``tokens`` were taken in elsewhere, with the next one's ``logits``."""
        self.cache, self.logits = cache, logits
        self.advanced += tokens

    def logits_after(self, tokens: Sequence[int]) -> torch.Tensor:
        """Logits of the token that would follow ``tokens``, (vocabulary,); the state stays as it is."""
        return self._forward(tokens, forked(self.cache), keep=1)[-1] if tokens else self.logits

    def _forward(self, tokens: Sequence[int], cache: DynamicCache, keep: int) -> torch.Tensor:
        if cache.get_seq_length() + len(tokens) > self._positions:
            raise ContextFullError(
                f"The prompt and the answer do not fit into the reader's {self._positions} positions."
            )
        ids = torch.tensor([list(tokens)], device=self.logits.device)
        output = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=keep)
        logits: torch.Tensor = output.logits[0].float()
        return logits


def write_prose(
    state: Writable,
    guide: Guide,
    stream: TextStream,
    stop_tokens: frozenset[int],
    max_new_tokens: int,
    cancelled: Callable[[], bool],
) -> FinishReason:
    """Write greedily until a stop token, ``max_new_tokens`` or a cancellation.

    A slot that is open when the tokens run out is written to its end, so that no text of full length ends inside one.
    """
    last: list[int] = []
    while not cancelled():
        if stream.token_count >= max_new_tokens and not _in_slot(stream.text):
            return "length"
        if last:
            state.advance(last)
        token = guide.pick(state.logits)
        if token in stop_tokens:
            return "stop"
        last = [token]
        stream.push(last)
    return "cancelled"


def _in_slot(text: str) -> bool:
    return text.rfind("{") > text.rfind("}")
