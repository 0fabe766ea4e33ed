"""What the model wrote, by sentence: shown where it passes the check, else written anew once, else replaced."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from trauma_api.schemas.report import ProseSentence
from trauma_api.services.evidence import evidence_of
from trauma_api.services.facts import Facts, fill_slots
from trauma_api.services.faithfulness import NOT_DERIVABLE, Verdict, check
from trauma_api.services.sentences import sentences_of

Rewrite = Callable[[Sequence[str], Sequence[str]], Awaitable[str]]
"""Writes anew from these statements alone, with these slots; what the model wrote, slots unfilled."""


@dataclass(frozen=True)
class Released:
    """A sentence as it is shown, and as it goes into the conversation's history, where its slots stay unfilled."""

    shown: ProseSentence
    written: str


class ProseCheck:
    """Checks the sentences of one text against the facts."""

    def __init__(self, facts: Facts, slices_read: Sequence[int], asked: Sequence[str] = ()) -> None:
        """``asked`` are the facts that the question is about, for sentences that name none."""
        self._facts = facts
        self._slices_read = slices_read
        self._asked = tuple(asked)
        self._told: set[str] = set()
        self.released: list[Released] = []

    def verdict(self, sentence: str) -> Verdict:
        """Whether a sentence may be shown."""
        return check(sentence, self._facts)

    def pass_on(self, sentence: str, verdict: Verdict) -> Released:
        """Release a sentence that passed."""
        return self._release(sentence, fill_slots(sentence, self._facts.slots), "as_written", (), verdict.topics)

    async def settle(self, sentence: str, verdict: Verdict, rewrite: Rewrite) -> Released:
        """Release a sentence where it passes, else the model's second attempt, else a statement, else nothing."""
        if not verdict.reasons:
            return self.pass_on(sentence, verdict)
        topics = [topic for topic in verdict.topics or self._asked if topic in self._facts.stated]
        if not topics:
            return self._without_fact(verdict)
        told = list(dict.fromkeys(self._facts.stated[topic] for topic in topics))
        anew = sentences_of(await rewrite(told, self._slots_of(topics)))
        second = self.verdict(anew[0]) if anew else verdict
        if not second.reasons and set(second.topics) == set(topics):
            filled = fill_slots(anew[0], self._facts.slots)
            return self._release(anew[0], filled, "rewritten", verdict.reasons, second.topics)
        statement = " ".join(text for text in told if text not in self._told)
        self._told |= set(told)
        return self._release(statement, statement, "replaced", verdict.reasons, topics)

    def nothing_shown(self) -> Released | None:
        """What stands where no sentence of an answer could be shown; None where one was."""
        if any(one.shown.text for one in self.released):
            return None
        return self._release(NOT_DERIVABLE, NOT_DERIVABLE, "replaced", ("nothing-written",), ())

    def _without_fact(self, verdict: Verdict) -> Released:
        # only a question that was asked for a fact needs to hear that there is none
        text = NOT_DERIVABLE if verdict.topics and self._asked else ""
        return self._release(text, text, "replaced", verdict.reasons, ())

    def _slots_of(self, topics: Sequence[str]) -> list[str]:
        more = ("volume_low_ml", "volume_high_ml") if "volume_ml" in topics else ()
        return [name for name in (*topics, *more) if name in self._facts.slots]

    def _release(
        self, written: str, text: str, outcome: str, reasons: Sequence[str], topics: Sequence[str]
    ) -> Released:
        if outcome == "replaced" and not text:
            outcome = "left_out"
        evidence = evidence_of(topics, self._facts, self._slices_read) if text else []
        shown = ProseSentence.model_validate(
            {"text": text, "outcome": outcome, "reasons": list(reasons), "evidence": evidence}
        )
        released = Released(shown, written)
        self.released.append(released)
        return released


async def checked_prose(text: str, facts: Facts, slices_read: Sequence[int], rewrite: Rewrite) -> list[ProseSentence]:
    """All sentences of a text that is complete."""
    checks = ProseCheck(facts, slices_read)
    for sentence in sentences_of(text):
        verdict = checks.verdict(sentence)
        # right as an answer, and no sentence of a report, whose facts are there
        unasked = replace(verdict, reasons=("unsupported-statement",)) if sentence == NOT_DERIVABLE else verdict
        await checks.settle(sentence, unasked, rewrite)
    return [one.shown for one in checks.released]
