"""Writing from a cache of fixed size: the same text to the letter, on a CPU without the graph."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trauma_api.engines import graphs
from trauma_api.engines.base import CheckpointError, Generation, GenerationRequest, JsonForm, Turn
from trauma_api.engines.gemma import GemmaReader
from trauma_api.engines.graphs import Decoder, Decoders
from trauma_api.engines.prefixes import moved

Reading = Callable[..., tuple[Turn, ...]]
SLOTS = ("volume_ml", "risk_level")
# with 64 tokens each: within the sliding window of 512, at its edge, and beyond it
PICTURES = ((), (1, 2), tuple(range(7)), tuple(range(10)))


def with_decoders(reader: GemmaReader) -> tuple[GemmaReader, Decoders]:
    """The same model, writing through decoders."""
    decoders = Decoders(reader._model)
    return GemmaReader(reader._model, reader._prompts._processor, reader.info, decoders=decoders), decoders


@pytest.fixture
def decoding(reader: GemmaReader) -> GemmaReader:
    return with_decoders(reader)[0]


def prose(turns: tuple[Turn, ...], tokens: int = 60, **options: Any) -> GenerationRequest:
    return GenerationRequest(turns, max_new_tokens=tokens, use_adapter=False, slots=SLOTS, **options)


def form_of(turns: tuple[Turn, ...], form: JsonForm) -> GenerationRequest:
    return GenerationRequest(turns, max_new_tokens=64, use_adapter=False, form=form)


@pytest.mark.parametrize("seeds", PICTURES)
def test_prose_is_the_same(
    seeds: tuple[int, ...], reader: GemmaReader, decoding: GemmaReader, reading: Reading
) -> None:
    assert decoding.generate(prose(reading(*seeds))) == reader.generate(prose(reading(*seeds)))


@pytest.mark.parametrize("seeds", PICTURES)
def test_a_form_is_the_same(
    seeds: tuple[int, ...], reader: GemmaReader, decoding: GemmaReader, reading: Reading, form: JsonForm
) -> None:
    assert decoding.generate(form_of(reading(*seeds), form)) == reader.generate(form_of(reading(*seeds), form))


@pytest.mark.parametrize("seeds", PICTURES)
def test_text_beyond_the_room_goes_on_and_is_the_same(
    seeds: tuple[int, ...],
    reader: GemmaReader,
    reading: Reading,
    form: JsonForm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graphs, "SIZE_STEP", 8)
    short = GenerationRequest(reading(*seeds), max_new_tokens=1, use_adapter=False, form=form)
    decoding, decoders = with_decoders(reader)
    written = decoding.generate(short)
    assert written == reader.generate(short)
    ((_, decoder),) = decoders._free
    assert decoder.count == decoder.size < written.prompt_tokens + written.new_tokens


def test_a_conversation_goes_on_from_what_was_written(decoding: GemmaReader, reader: GemmaReader) -> None:
    opening = "Facts: the liver is torn. " * 40

    def answers(of: GemmaReader) -> list[Generation]:
        turns: list[Turn] = []
        said = []
        for question in ("Is the liver torn?", "How much blood is there?", "And the spleen?"):
            turns.append(Turn("user", (question if turns else f"{opening}{question}",)))
            said.append(of.generate(prose(tuple(turns), tokens=30, shared_text=opening)))
            turns.append(Turn("assistant", (said[-1].text,)))
        return said

    forgetting = GemmaReader(reader._model, reader._prompts._processor, reader.info, kept_bytes=0)
    assert answers(decoding) == answers(forgetting)
    kept = decoding._prefixes._kept.keys()
    longest = max(len(key.tokens) for key in kept)
    written = answers(decoding)[-1]
    assert longest == written.prompt_tokens + written.new_tokens - 1, "the last answer is kept with its prompt"


def test_a_decoder_is_used_again_and_none_by_two_texts_at_once(reader: GemmaReader, reading: Reading) -> None:
    decoding, decoders = with_decoders(reader)
    first, question = prose(reading(1, 2)), prose(reading(3), tokens=5)
    alone, answer = decoding.generate(first), decoding.generate(question)
    assert len(decoders._free) == 1
    answers: list[Generation] = []

    def asks() -> bool:
        answers.append(decoding.generate(question))
        return False

    assert decoding.generate(first, cancelled=asks) == alone
    assert len(answers) > 3
    assert all(one == answer for one in answers)
    assert len(decoders._free) == 2


def test_forgetting_lets_decoders_go(reader: GemmaReader, reading: Reading) -> None:
    decoding, decoders = with_decoders(reader)
    decoding.generate(prose(reading()))
    assert decoders.held_bytes > 0
    assert decoding.forget()
    assert decoders.held_bytes == 0


def test_what_a_graph_holds_waits_for_no_value(reader: GemmaReader, reading: Reading) -> None:
    """A capture fails where the host asks the device for a value; tensors without values refuse the same."""
    decoding, _ = with_decoders(reader)
    with torch.inference_mode():
        decoding.generate(prose(reading(1), shared_text="SLICE 1"))
        (key,) = decoding._prefixes._kept.keys()[-1:]
        cache = decoding._prefixes._kept.get(key)
        assert cache is not None
        without_values = copy.deepcopy(reader._model).to("meta")
        decoder = Decoder(without_values, moved(cache, torch.device("meta")), 2048)
        assert decoder.forward().device.type == "meta"
        with pytest.raises(RuntimeError, match="meta"):
            decoder.forward().argmax().item()


def test_graphs_without_a_device_for_them_are_refused(untrained_checkpoints: Path) -> None:
    with pytest.raises(CheckpointError, match="TRAUMA_READER_CUDA_GRAPHS"):
        GemmaReader.load(str(untrained_checkpoints / "reader"), device="cpu", cuda_graphs=True)
