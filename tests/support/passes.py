"""What goes through a reader's model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trauma_api.engines.gemma import GemmaReader


@contextmanager
def passes(reader: GemmaReader) -> Iterator[list[tuple[int, int]]]:
    """The tokens and pictures of each pass through the model while the context is open."""
    seen: list[tuple[int, int]] = []

    def note(_model: Any, _args: Any, named: Any) -> None:
        pictures = named.get("mm_encoder_outputs")
        seen.append((named["input_ids"].shape[1], 0 if pictures is None else len(pictures["image"].pooler_output)))

    handle = reader._model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()
