"""A reader that takes its time, for tests of what happens meanwhile."""

import json
import time
from collections.abc import Callable

from trauma_api.engines.base import EngineInfo, Generation, GenerationRequest, ReaderEngine

SENTENCE = "The study has {slice_count} slices. "


class TalkativeReader:
    """Answers with ``words`` sentences, one every ``pause_s`` seconds, and stops within one when asked to.

    Each is `SENTENCE`. Forms take as long as an answer; report prose, which comes without pictures, is two sentences.
    """

    def __init__(self, like: ReaderEngine, *, words: int, pause_s: float) -> None:
        self._info = like.info
        self._words = words
        self._pause_s = pause_s
        self.words_said = 0

    @property
    def info(self) -> EngineInfo:
        """That of the reader it stands beside."""
        return self._info

    def generate(
        self,
        request: GenerationRequest,
        on_text: Callable[[str], None] = lambda _text: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Generation:
        """Talk, or fill in a form with the first value of each field."""
        if request.form is not None:
            return self._fill_in(request)
        said: list[str] = []
        asked = any(not isinstance(part, str) for turn in request.turns for part in turn.parts)
        for _ in range(self._words if asked else 2):
            time.sleep(self._pause_s)
            if cancelled():
                return Generation("".join(said), "cancelled", prompt_tokens=1, new_tokens=len(said))
            said.append(SENTENCE)
            self.words_said += 1
            on_text(said[-1])
        return Generation("".join(said), "stop", prompt_tokens=1, new_tokens=len(said))

    def _fill_in(self, request: GenerationRequest) -> Generation:
        assert request.form is not None
        time.sleep(self._pause_s * self._words)
        choices = request.form.choices
        form = {name: values[0] for name, values in choices.items()}
        chances = {name: {value: float(value == values[0]) for value in values} for name, values in choices.items()}
        text = json.dumps({**form, "bleeding_description": "none", "differentials": []})
        return Generation(text, "stop", prompt_tokens=1, new_tokens=1, choice_probabilities=chances)

    def forget(self) -> bool:
        """It keeps nothing."""
        return False
