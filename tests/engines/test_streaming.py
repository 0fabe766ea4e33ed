"""Pieces of text: made at once, whole characters only, and together the text."""

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import GemmaTokenizer

from trauma_api.engines.gemma import GemmaReader
from trauma_api.engines.streaming import TextStream

TEXTS = ["Free fluid in the pelvis.", 'naïve {"liver":"none"}\n\n', "Blutung im Oberbauch, groß, 10 ½ µl 血"]


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS[:1], BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    return tokenizer


@pytest.fixture(scope="module")
def sentencepiece_style() -> Tokenizer:
    """Gemma's own kind: spaces as U+2581, and bytes for what is not in the vocabulary."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += list("Frefluidnthpvs.")
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer: Tokenizer = GemmaTokenizer(vocab=vocabulary, merges=[]).backend_tokenizer
    return tokenizer


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece_style"])
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text(kind: str, text: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    pieces: list[str] = []
    stream = TextStream(tokenizer, pieces.append)
    for token in tokens:
        stream.push([token])
    assert stream.text == "".join(pieces) == text
    assert stream.token_count == len(tokens)
    assert "\ufffd" not in stream.text
    assert all(pieces)


def test_a_piece_comes_with_its_token(reader: GemmaReader) -> None:
    tokenizer = reader._tokenizer.backend_tokenizer
    pieces: list[str] = []
    stream = TextStream(tokenizer, pieces.append)
    for token in tokenizer.encode("active extravasation", add_special_tokens=False).ids:
        before = len(pieces)
        stream.push([token])
        assert len(pieces) == before + 1


def test_special_tokens_have_no_text(reader: GemmaReader) -> None:
    stream = TextStream(reader._tokenizer.backend_tokenizer, lambda _text: None)
    stream.push(reader._stop_tokens)
    assert stream.text == ""
