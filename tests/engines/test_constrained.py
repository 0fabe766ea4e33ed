"""Grammars: whatever a model would like to write, prose has no digits and a form is valid JSON."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import xgrammar

from trauma_api.engines.base import EngineError, JsonForm
from trauma_api.engines.constrained import PROSE_CHARACTERS, Grammars, TokenGuide, choice_probabilities, object_schema
from trauma_api.engines.decoding import write_prose
from trauma_api.engines.gemma import GemmaReader
from trauma_api.engines.streaming import TextStream

SLOTS = ("volume_ml", "risk_level")


@pytest.fixture(scope="module")
def grammars(reader: GemmaReader) -> Grammars:
    return reader._grammars


def any_text(guide: TokenGuide, reader: GemmaReader, seed: int, tokens: int, liked: str = "") -> str:
    """What a model with random logits writes; it likes the tokens of ``liked`` best."""
    random = torch.Generator().manual_seed(seed)
    vocabulary = reader._model.config.get_text_config().vocab_size
    stream = TextStream(reader._tokenizer.backend_tokenizer, lambda _text: None)
    while not guide.finished and stream.token_count < tokens:
        logits = torch.randn(vocabulary, generator=random)
        logits[reader._encode(liked)] += 4
        stream.push([guide.pick(logits)])
    return stream.text


@pytest.mark.parametrize("seed", range(10))
def test_any_form_is_valid_json(seed: int, grammars: Grammars, reader: GemmaReader, form: JsonForm) -> None:
    written = json.loads(any_text(grammars.form(form), reader, seed, tokens=2000))
    assert list(written) == [*form.choices, "bleeding_description", "differentials"]
    assert all(written[name] in values for name, values in form.choices.items())
    assert re.fullmatch(r"[A-Za-z ,;()/-]{0,80}", written["bleeding_description"])
    assert len(written["differentials"]) <= 3
    assert all(re.fullmatch(r"[A-Za-z -]{1,40}", item) for item in written["differentials"])


@pytest.mark.parametrize("liked", ["", "0123456789", "liver"])
def test_the_pick_is_the_best_token_that_is_allowed(
    liked: str, grammars: Grammars, reader: GemmaReader, form: JsonForm
) -> None:
    vocabulary = reader._model.config.get_text_config().vocab_size
    guide, mask = grammars.form(form), xgrammar.allocate_token_bitmask(1, vocabulary)
    random = torch.Generator().manual_seed(1)
    while not guide.finished:
        logits = torch.randn(vocabulary, generator=random)
        logits[reader._encode(liked)] += 9
        expected = logits.clone()
        guide._matcher.fill_next_token_bitmask(mask)
        xgrammar.apply_token_bitmask_inplace(expected[None], mask)
        assert guide.pick(logits) == expected.argmax()


@pytest.mark.parametrize("seed", range(10))
def test_prose_has_no_digits_and_only_known_slots(seed: int, grammars: Grammars, reader: GemmaReader) -> None:
    text = any_text(grammars.prose(SLOTS), reader, seed, tokens=150, liked='{}0123456789{volume_ml}<start_of_image>"')
    slots = re.findall(r"\{(.*?)\}", text)
    assert slots
    assert set(slots) <= set(SLOTS)
    # the last slot may still be open: the text was cut at 150 tokens
    outside = re.sub(r"\{[a-z_]*(\}|$)", "", text)
    assert re.fullmatch(f"{PROSE_CHARACTERS}*", outside)
    assert not any(character.isnumeric() for character in text)


@pytest.mark.parametrize("text", ["5", "²", "½", "٣", "Ⅷ", "一", "{", "<", "\t", "\r", "é"])
def test_prose_refuses_numbers_in_any_writing(text: str, grammars: Grammars) -> None:
    guide = grammars.prose(SLOTS)
    guide.accept_text("Blood: ")
    with pytest.raises(EngineError):
        guide.accept_text(text + "}" if text == "{" else text)


def test_prose_begins_with_a_letter_or_a_slot(grammars: Grammars) -> None:
    grammars.prose(SLOTS).accept_text("{risk_level} risk\n(see below): a 'small' amount, and/or none; is it? 'No'!")
    for start in (" ", "\n", ".", "{other}"):
        with pytest.raises(EngineError):
            grammars.prose(SLOTS).accept_text(start)


def test_prose_without_slots_has_no_braces(grammars: Grammars) -> None:
    guide = grammars.prose(())
    guide.accept_text("No injury")
    with pytest.raises(EngineError):
        guide.accept_text("{volume_ml}")


def test_a_slot_name_cannot_change_the_grammar(grammars: Grammars) -> None:
    with pytest.raises(EngineError, match="slot"):
        grammars.prose(('x" | [0-9] | "',))


def test_a_grammar_is_compiled_once(grammars: Grammars, form: JsonForm) -> None:
    grammars.form(form)
    grammars.prose(SLOTS)
    before = dict(grammars._compiled)
    grammars.form(form)
    grammars.prose(SLOTS)
    assert grammars._compiled == before


@pytest.mark.parametrize(
    "free",
    [
        {"type": "string"},
        {"type": "string", "pattern": "^[a-z]*$"},
        {"type": "string", "pattern": "^[a-z]{2,}$"},
        {"type": "string", "pattern": "^a+$", "maxLength": 5},
        {"type": "array", "items": {"type": "boolean"}},
        {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        {"type": "number"},
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    ],
)
def test_a_form_without_a_longest_text_is_refused(free: dict[str, Any], grammars: Grammars) -> None:
    with pytest.raises(EngineError, match="bound"):
        grammars.form(JsonForm(choices={}, free_schema={"properties": {"free": free}}))


@pytest.mark.parametrize(
    ("free", "text"),
    [
        ({"type": "string", "maxLength": 4}, '"abcd"'),
        ({"type": "string", "pattern": r"^[+*{}\]a]{0,4}\*$"}, '"{+]*"'),
        ({"type": "boolean"}, "true"),
        ({"type": "integer", "enum": [1, 2]}, "2"),
    ],
)
def test_a_bounded_form_is_accepted(free: dict[str, Any], text: str, grammars: Grammars) -> None:
    guide = grammars.form(JsonForm(choices={}, free_schema={"properties": {"free": free}}))
    guide.accept_text(f'{{"free":{text}}}')
    assert guide.finished


def test_max_length_is_honoured(grammars: Grammars) -> None:
    guide = grammars.form(JsonForm({}, {"properties": {"free": {"type": "string", "maxLength": 4}}}))
    with pytest.raises(EngineError):
        guide.accept_text('{"free":"abcde')


def test_the_object_has_all_fields_in_order(form: JsonForm) -> None:
    schema = object_schema(form)
    assert list(schema["properties"]) == schema["required"] == [*form.choices, "bleeding_description", "differentials"]
    assert schema["additionalProperties"] is False


class EvenState:
    """A model to which all tokens are equally probable."""

    logits = torch.zeros(1024)

    def logits_after(self, tokens: Sequence[int]) -> torch.Tensor:
        return torch.zeros(1024)

    def advance(self, tokens: Sequence[int]) -> None:
        """Nothing changes its mind."""


def test_a_value_of_more_tokens_is_not_less_probable() -> None:
    even: Any = EvenState()
    spelled = {"a": [0], "b": [1], "cc": [2, 2, 2, 2]}
    probabilities = choice_probabilities(even, tuple(spelled), spelled.__getitem__)
    assert probabilities == pytest.approx({"a": 1 / 3, "b": 1 / 3, "cc": 1 / 3})


def test_values_that_begin_alike_share_their_way() -> None:
    # At the first parting {5} stands against {7}: a half each; after 5, {1} stands against {2}: a quarter each.
    even: Any = EvenState()
    spelled = {"low": [5, 1], "lax": [5, 2], "high": [7, 7]}
    probabilities = choice_probabilities(even, tuple(spelled), spelled.__getitem__)
    assert probabilities == pytest.approx({"low": 0.25, "lax": 0.25, "high": 0.5})


def test_values_that_overlap_are_refused() -> None:
    even: Any = EvenState()
    with pytest.raises(EngineError, match="beginning"):
        choice_probabilities(even, ("no", "none"), lambda _text: [0])


class Dictation:
    """A guide that says given tokens, whatever the logits."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = iter(tokens)

    def pick(self, logits: torch.Tensor) -> int:
        return next(self._tokens)


def test_a_text_of_full_length_does_not_end_inside_a_slot(reader: GemmaReader) -> None:
    even: Any = EvenState()
    tokens = [*reader._encode("It is {risk_level}."), 1]
    open_at = len(reader._encode("It is {")) + 1
    stream = TextStream(reader._tokenizer.backend_tokenizer, lambda _text: None)
    finish = write_prose(even, Dictation(tokens), stream, frozenset({1}), open_at, lambda: False)
    assert finish == "length"
    assert stream.text in {"It is {risk_level}", "It is {risk_level}."}
