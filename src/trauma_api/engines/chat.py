"""Turns as Gemma's chat template writes them: as tensors for the model, and as text."""

from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import TemplateError
from PIL import Image

from trauma_api.engines.base import EngineError, Turn


class ChatPrompts:
    """Prompts by a processor."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def tensors(self, turns: tuple[Turn, ...]) -> Any:
        """The processor's tensors. Text that spells a control token stays text, so no question can open a turn.

        Raises EngineError for turns that the template refuses, and for text or pictures where they must not be.
        """
        try:
            return self._applied(
                turns, tokenize=True, return_dict=True, return_tensors="pt", sanitize_control_tokens=True
            )
        except TemplateError as error:
            raise EngineError(f"The reader's chat template refuses these turns: {error}") from error

    def text(self, turns: tuple[Turn, ...]) -> str:
        """The same as text, each picture as one token."""
        text: str = self._applied(turns, tokenize=False)
        return text

    def _applied(self, turns: tuple[Turn, ...], **options: Any) -> Any:
        messages = [{"role": turn.role, "content": list(self._content(turn))} for turn in turns]
        return self._processor.apply_chat_template(messages, add_generation_prompt=True, **options)

    def _content(self, turn: Turn) -> Iterator[dict[str, Any]]:
        for part in turn.parts:
            if isinstance(part, str):
                # Gemma3Processor counts these in the text, also where they are only text, and fails
                if self._processor.tokenizer.image_token in part:
                    raise EngineError(
                        f"A turn's text spells {self._processor.tokenizer.image_token}, which stands for a picture."
                    )
                yield {"type": "text", "text": part}
            elif turn.role == "user":
                yield {"type": "image", "image": Image.fromarray(part)}
            else:
                raise EngineError(f"A {turn.role} turn holds a picture; only a user's turn may.")


def parts_of_prompt(token_types: Sequence[int], pictures_at_once: int) -> list[tuple[slice, int]]:
    """A prompt cut behind every so many pictures: which pictures each part shows, and the token that it ends before.

    ``token_types`` has 1 for a picture's tokens, between which no part ends. The last part ends with the prompt.
    """
    following = [*token_types[1:], 0]
    ends = [place + 1 for place, kind in enumerate(token_types) if kind == 1 and following[place] != 1]
    first_shown = range(0, max(len(ends), 1), pictures_at_once)
    shown = [slice(first, min(first + pictures_at_once, len(ends))) for first in first_shown]
    return [(part, ends[part.stop - 1]) for part in shown[:-1]] + [(shown[-1], len(token_types))]
