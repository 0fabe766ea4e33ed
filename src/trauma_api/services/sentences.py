"""Sentences in a text that is still being written."""

import re

_END = re.compile(r"[.!?]+[\"')]*(?:\s+|$)|\n+")


class SentenceSplitter:
    """Cuts a stream into sentences: each is given out once it is certain where it ends."""

    def __init__(self) -> None:
        self._open = ""

    def feed(self, text: str) -> list[str]:
        """The sentences that the next piece completes, without the space around them.

        A full stop ends a sentence only when something follows it, as an abbreviation or a slot might.
        """
        self._open += text
        sentences = []
        while (end := _END.search(self._open)) and end.end() < len(self._open):
            sentences.append(self._open[: end.end()].strip())
            self._open = self._open[end.end() :]
        return [sentence for sentence in sentences if sentence]

    def rest(self) -> list[str]:
        """The last sentence, whether it came to its end or not; empty where nothing is left."""
        rest, self._open = self._open.strip(), ""
        return [rest] if rest else []


def sentences_of(text: str) -> list[str]:
    """All sentences of a whole text."""
    splitter = SentenceSplitter()
    return [*splitter.feed(text), *splitter.rest()]
