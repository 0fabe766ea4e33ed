"""Questions between two tokens of a reading: each text is to the letter what it is alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trauma_api.engines.base import Generation, GenerationRequest, JsonForm, Turn
from trauma_api.engines.gemma import GemmaReader

Reading = Callable[..., tuple[Turn, ...]]


@pytest.fixture(scope="module")
def adapted(adapter: Path, untrained_checkpoints: Path) -> GemmaReader:
    """A reader whose readings have an adapter on."""
    return GemmaReader.load(str(untrained_checkpoints / "reader"), adapter=str(adapter), device="cpu")


def prose(turns: tuple[Turn, ...]) -> GenerationRequest:
    return GenerationRequest(turns, max_new_tokens=8, use_adapter=False, slots=("volume_ml",))


def with_questions_between(
    reader: GemmaReader, request: GenerationRequest, question: GenerationRequest
) -> tuple[Generation, list[Generation]]:
    """The request, and the question each time that it looks whether it is cancelled."""
    answers: list[Generation] = []

    def answer() -> bool:
        answers.append(reader.generate(question))
        return False

    return reader.generate(request, cancelled=answer), answers


def test_a_reading_with_the_adapter_on_and_questions_with_it_off(
    adapted: GemmaReader, reading: Reading, form: JsonForm
) -> None:
    request = GenerationRequest(reading(1, 2), max_new_tokens=1, use_adapter=True, form=form)
    question = prose(reading(3, query="How much blood is there?"))
    alone, answer = adapted.generate(request), adapted.generate(question)
    read, answers = with_questions_between(adapted, request, question)
    assert read == alone
    assert len(answers) > 3
    assert all(one == answer for one in answers)


def test_prose_and_questions_both_with_the_adapter_off(adapted: GemmaReader, reading: Reading) -> None:
    request, question = prose(reading(1, 2)), prose(reading(3, query="How much blood is there?"))
    alone, answer = adapted.generate(request), adapted.generate(question)
    written, answers = with_questions_between(adapted, request, question)
    assert written == alone
    assert all(one == answer for one in answers)
    on = GenerationRequest(request.turns, max_new_tokens=8, use_adapter=True, slots=("volume_ml",))
    assert adapted.generate(on) != written, "the adapter must be back where it is asked for"
