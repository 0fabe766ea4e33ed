"""The reader: Gemma 3 looks at several pictures together and writes JSON or prose under a grammar."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from trauma_api.engines.base import (
    CheckpointError,
    ContextFullError,
    EngineInfo,
    EngineOutOfMemoryError,
    Generation,
    GenerationRequest,
    Turn,
)
from trauma_api.engines.chat import ChatPrompts, parts_of_prompt
from trauma_api.engines.checkpoints import open_checkpoint
from trauma_api.engines.constrained import Grammars, fill_form
from trauma_api.engines.decoding import FinishReason, ModelState, Writable, write_prose
from trauma_api.engines.device import (
    Device,
    choose_device,
    choose_dtype,
    dtype_name,
    on_device,
)
from trauma_api.engines.gemma_loading import Quantization, attach_adapter, load_model, load_processor
from trauma_api.engines.graphs import Decoders
from trauma_api.engines.prefixes import ByteBudget, Prefixes, picture_digest
from trauma_api.engines.streaming import TextStream
from trauma_api.log import get_logger

IMAGES_AT_ONCE = 4
"""Pictures that go through the vision tower, and then with their text through the language model, together: 85 at 896
pixels would need gigabytes of activations, and keep questions waiting."""

KEPT_BYTES_ON_CPU, KEPT_SHARE_OF_DEVICE = 128 * 2**20, 1 / 8
"""Of what was made of pictures, and as many of prompts."""
KEPT_BYTES_ON_HOST = 4 * 2**30
"""Of prompts that have no room on an accelerator any more."""
_UNSURE_TOKENS = 3
"""At the end of what is shared, tokens that may depend on what follows."""
_END_OF_TURN = "<end_of_turn>"
_ROUND_TRIP = '{"liver":"low_grade","bowel_and_mesentery":"absent"}'

logger = get_logger()


def ignore_text(_text: str) -> None:
    """For callers that want the whole text only."""


def never() -> bool:
    """For callers that do not cancel."""
    return False


class GemmaReader:
    """Implements ReaderEngine with ``Gemma3ForConditionalGeneration``. One thread at a time may call it.

    The adapter, where there is one, is on for a request with ``use_adapter`` and off for any other.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        info: EngineInfo,
        *,
        adapter: Any | None = None,
        kept_bytes: int | None = None,
        decoders: Decoders | None = None,
    ) -> None:
        """``adapter`` is PEFT's handle on an adapter that was put into ``model``; ``kept_bytes`` bounds what is kept of
        pictures, and of prompts, each; 0 keeps nothing, None goes by the device's memory. ``decoders``, where there
        are any, are of the same model, and texts are written through them."""
        self._model, self._info, self._adapter = model, info, adapter
        self._tokenizer, self._prompts = processor.tokenizer, ChatPrompts(processor)
        self._stop_tokens = _stop_tokens(model, self._tokenizer)
        vocabulary = model.config.get_text_config().vocab_size
        self._decoders = decoders
        self._grammars = Grammars(self._tokenizer, vocabulary, sorted(self._stop_tokens))
        memory = info.device_memory_bytes
        by_device = KEPT_BYTES_ON_CPU if memory is None else int(memory * KEPT_SHARE_OF_DEVICE)
        kept_bytes = by_device if kept_bytes is None else kept_bytes
        self._features: ByteBudget[tuple[bool, str], torch.Tensor] = ByteBudget(kept_bytes)
        self._prefixes = Prefixes(kept_bytes, 0 if memory is None else KEPT_BYTES_ON_HOST)

    @classmethod
    def load(
        cls,
        checkpoint: str,
        *,
        adapter: str | None = None,
        quantization: Quantization = "none",
        device: Device = "auto",
        token: str | None = None,
        cache_dir: Path | None = None,
        cuda_graphs: bool = False,
    ) -> "GemmaReader":
        """Load a local folder or hub id, and a LoRA adapter's. Raises CheckpointError."""
        found = open_checkpoint(checkpoint, "reader", token=token, cache_dir=cache_dir)
        place = choose_device(device)
        if cuda_graphs and place.type != "cuda":
            raise CheckpointError("The reader's CUDA graphs need a CUDA device; set TRAUMA_READER_CUDA_GRAPHS=false.")
        processor = load_processor(found)
        model = load_model(found, place, quantization)
        handle = None if adapter is None else attach_adapter(model, adapter, token=token, cache_dir=cache_dir)
        dtype = dtype_name(choose_dtype(place))
        info = found.engine_info(place, dtype if quantization == "none" else f"{quantization}/{dtype}", adapter)
        decoders = Decoders(model) if cuda_graphs else None
        reader = cls(model, processor, info, adapter=handle, decoders=decoders)
        reader._require_round_trip()
        return reader

    @property
    def info(self) -> EngineInfo:
        """Where the results come from."""
        return self._info

    def generate(
        self,
        request: GenerationRequest,
        on_text: Callable[[str], None] = ignore_text,
        cancelled: Callable[[], bool] = never,
    ) -> Generation:
        """Write, calling ``on_text`` with each new piece of decoded text as its token is made.

        ``max_new_tokens`` bounds prose. A form is always written to its end, which its schema bounds. Where the
        device's memory is full, what is kept is dropped, and if that made room and no text was handed on yet, the
        request begins anew. Raises EngineError.
        """
        handed_on: list[str] = []

        def hand_on(text: str) -> None:
            handed_on.append(text)
            on_text(text)

        work = partial(self._generate, request, hand_on, cancelled)
        makes_room = self._keeps_anything
        written = self._attempt(work)
        if written is None and makes_room and not handed_on:
            logger.warning("memory.short", stage="reader", tile_slices=len(digests_of(request.turns)))
            written = self._attempt(work)
        if written is None:
            raise EngineOutOfMemoryError("The device's memory was full, and nothing that is kept could make room.")
        return written

    def _attempt(self, work: Callable[[], Generation]) -> Generation | None:
        """What ``work`` writes; None where memory was short, and then nothing is kept any more."""
        try:
            return on_device(work)
        except EngineOutOfMemoryError:
            pass
        self.forget()
        return None

    def forget(self) -> bool:
        """Drop what is kept of pictures and prompts; says whether anything was. Also between two tokens."""
        kept = self._keeps_anything
        self._features.clear()
        self._prefixes.clear()
        if self._decoders is not None:
            self._decoders.forget()
        return kept

    @property
    def _keeps_anything(self) -> bool:
        decoders_bytes = 0 if self._decoders is None else self._decoders.held_bytes
        return self._features.held_bytes + self._prefixes.held_bytes + decoders_bytes > 0

    @torch.inference_mode()
    def _generate(
        self, request: GenerationRequest, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> Generation:
        stream = TextStream(self._tokenizer.backend_tokenizer, on_text)
        inputs, pictures = self._prompts.tensors(request.turns), digests_of(request.turns)
        choices: dict[str, dict[str, float]] = {}
        finish: FinishReason = "cancelled"
        with self._adapter_for(request):
            state = self._prefill(request, inputs, pictures, cancelled)
            if state is not None and request.form is not None:
                guide = self._grammars.form(request.form)
                writing = partial(self._writing, request)
                finish, choices = fill_form(state, request.form, guide, stream, self._encode, cancelled, writing)
            elif state is not None:
                prose = self._grammars.prose(request.slots)
                with self._writing(request, state) as writable:
                    finish = write_prose(writable, prose, stream, self._stop_tokens, request.max_new_tokens, cancelled)
                self._keep_conversation(request, inputs, pictures, state)
        return Generation(
            text=stream.text,
            finish_reason=finish,
            prompt_tokens=inputs["input_ids"].shape[1],
            new_tokens=stream.token_count,
            choice_probabilities=choices,
        )

    def _writing(self, request: GenerationRequest, state: ModelState) -> AbstractContextManager[Writable]:
        """``state``, whose next tokens go through a decoder where there are any; it holds them at the end."""
        if self._decoders is None:
            return nullcontext(state)
        on = self._adapter_on(request)
        return self._decoders.writing(state, adapter_on=on, new_tokens=request.max_new_tokens)

    def _adapter_on(self, request: GenerationRequest) -> bool:
        return self._adapter is not None and request.use_adapter

    def _adapter_for(self, request: GenerationRequest) -> AbstractContextManager[None]:
        if self._adapter is None or request.use_adapter:
            return nullcontext()
        switched_off: AbstractContextManager[None] = self._adapter.disable_adapter()
        return switched_off

    def _prefill(
        self, request: GenerationRequest, inputs: Any, pictures: tuple[str, ...], cancelled: Callable[[], bool]
    ) -> ModelState | None:
        """The state after the prompt; None when cancelled on the way."""
        tokens: list[int] = inputs["input_ids"][0].tolist()
        positions = self._model.config.get_text_config().max_position_embeddings
        if len(tokens) >= positions:
            raise ContextFullError(f"The prompt's {len(tokens)} tokens do not fit the reader's {positions}.")
        known = self._prefixes.longest(self._adapter_on(request), pictures, tokens)
        if known is not None:
            count, cache = known
            return self._go_on(cache, tokens[count:])
        features = self._seen(request, inputs, pictures, cancelled)
        if features is None or cancelled():
            return None
        shared = self._shared_tokens(request, tokens)
        state = self._read(inputs, features, shared or len(tokens), cancelled)
        if state is None or not shared:
            return state
        self._prefixes.keep(self._adapter_on(request), pictures, tokens[:shared], state.cache)
        return self._go_on(state.cache, tokens[shared:])

    def _seen(
        self, request: GenerationRequest, inputs: Any, pictures: tuple[str, ...], cancelled: Callable[[], bool]
    ) -> list[torch.Tensor] | None:
        """The tower's features of each picture, of those that it has seen from memory; None when cancelled."""
        keys = [(self._adapter_on(request), digest) for digest in pictures]
        known = {key: self._features.get(key) for key in keys}
        new = [place for place, key in enumerate(keys) if known[key] is None]
        for start in range(0, len(new), IMAGES_AT_ONCE):
            if cancelled():
                return None
            places = new[start : start + IMAGES_AT_ONCE]
            pixels = inputs["pixel_values"][places].to(self._model.device, self._model.dtype)
            seen = self._model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
            for place, one in zip(places, seen.unbind(), strict=True):
                known[keys[place]] = one
                self._features.put(keys[place], one, one.nbytes)
        return [feature for key in keys if (feature := known[key]) is not None]

    def _read(
        self, inputs: Any, features: list[torch.Tensor], count: int, cancelled: Callable[[], bool]
    ) -> ModelState | None:
        """The state after the first ``count`` tokens, all pictures among them; None when cancelled on the way.

        A few pictures at a time with the text before them, so that others can be let in between.
        """
        # a plain DynamicCache would keep all positions of the sliding layers
        cache = DynamicCache(config=self._model.config.get_text_config())
        place, done, state = self._model.device, 0, None
        for shown, end in parts_of_prompt(inputs["token_type_ids"][0, :count].tolist(), IMAGES_AT_ONCE):
            if done and cancelled():
                return None
            output = self._model(
                input_ids=inputs["input_ids"][:, done:end].to(place),
                # without them the tokens of a picture do not see each other, and nothing complains; from the first
                # token on, also for a later part, as the mask looks them up by the place in the whole prompt
                token_type_ids=inputs["token_type_ids"][:, :end].to(place),
                mm_encoder_outputs=_as_encoder_outputs(features[shown]),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            done, state = end, ModelState(self._model, cache, output.logits[0, -1])
        return state

    def _go_on(self, cache: DynamicCache, tokens: list[int]) -> ModelState:
        """The state after more tokens, none of which is of a picture."""
        output = self._model(
            input_ids=torch.tensor([tokens], device=self._model.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return ModelState(self._model, cache, output.logits[0, -1])

    def _shared_tokens(self, request: GenerationRequest, tokens: list[int]) -> int:
        """How many tokens stand for what is shared; 0 where nothing is. Some too few rather than one too many."""
        rendered = self._prompts.text(request.turns) if request.shared_text else ""
        before, _, own = rendered.partition(request.shared_text) if request.shared_text else ("", "", "")
        if not before or not own:
            return 0
        count = len(tokens) - len(self._encode(own)) - _UNSURE_TOKENS
        image = self._tokenizer.convert_tokens_to_ids(self._tokenizer.image_token)
        return count if count > 0 and image not in tokens[count:] else 0

    def _keep_conversation(
        self, request: GenerationRequest, inputs: Any, pictures: tuple[str, ...], state: ModelState
    ) -> None:
        """Keep the state after the answer, from which the next question of the conversation goes on."""
        if request.shared_text:
            tokens = [*inputs["input_ids"][0].tolist(), *state.advanced]
            self._prefixes.keep(self._adapter_on(request), pictures, tokens, state.cache)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False) if text else []
        return ids

    def _require_round_trip(self) -> None:
        """Fixed text is written by its tokens, so the tokenizer must give text back as it was."""
        stream = TextStream(self._tokenizer.backend_tokenizer, ignore_text)
        stream.push(self._encode(_ROUND_TRIP))
        if stream.text != _ROUND_TRIP:
            raise CheckpointError(
                f"The tokenizer of {self._info.checkpoint} changes the text it is given; name a Gemma 3 checkpoint."
            )


def digests_of(turns: tuple[Turn, ...]) -> tuple[str, ...]:
    """Of each picture, in their order."""
    return tuple(picture_digest(part) for turn in turns for part in turn.parts if not isinstance(part, str))


def _as_encoder_outputs(features: list[torch.Tensor]) -> dict[str, BaseModelOutputWithPooling] | None:
    return {"image": BaseModelOutputWithPooling(pooler_output=torch.stack(features))} if features else None


def _stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    tokens = set(configured if isinstance(configured, list) else [configured])
    tokens |= {tokenizer.eos_token_id, tokenizer.get_vocab().get(_END_OF_TURN)}
    return frozenset(token for token in tokens if token is not None)
