"""From tokens to pieces of text, as each token is made."""

from collections.abc import Callable, Iterable

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextStream:
    """Decodes one token at a time, in constant time per token, and passes on each piece that is complete.

    A character whose bytes are spread over several tokens is passed on with its last one. Special tokens have no text.
    The text of a generation is by definition its pieces joined, so a listener and the result never differ.
    """

    def __init__(self, tokenizer: Tokenizer, on_text: Callable[[str], None]) -> None:
        self._tokenizer, self._on_text = tokenizer, on_text
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._pieces: list[str] = []
        self._count = 0

    @property
    def text(self) -> str:
        """All pieces so far, joined."""
        return "".join(self._pieces)

    @property
    def token_count(self) -> int:
        """Tokens taken in so far."""
        return self._count

    def push(self, tokens: Iterable[int]) -> None:
        """Take in the next tokens."""
        for token in tokens:
            self._count += 1
            if piece := self._decoder.step(self._tokenizer, token):
                self._pieces.append(piece)
                self._on_text(piece)
