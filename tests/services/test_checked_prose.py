"""Sentences that fail are written anew once, then replaced, and the result says so."""

from collections.abc import Sequence

import pytest

from tests.services.test_faithfulness import FACTS as CHECKED
from trauma_api.schemas.report import ProseSentence
from trauma_api.services.checked_prose import ProseCheck, checked_prose
from trauma_api.services.facts import Facts
from trauma_api.services.faithfulness import NOT_DERIVABLE
from trauma_api.services.sentences import SentenceSplitter, sentences_of

FACTS = Facts(
    statements=CHECKED.statements,
    slots=CHECKED.slots,
    missing=(),
    values=CHECKED.values,
    stated={"liver": "Liver: no injury seen (model probability 93%).", "volume_ml": "Hemorrhage volume: 412.7 mL."},
)
SLICES = [12, 40]


class Author:
    """Writes anew what it is told to, and remembers what it was asked."""

    def __init__(self, text: str = "") -> None:
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self._text = text

    async def __call__(self, statements: Sequence[str], slots: Sequence[str]) -> str:
        """The second attempt."""
        self.asked.append((tuple(statements), tuple(slots)))
        return self._text


def outcomes(sentences: Sequence[ProseSentence]) -> list[tuple[str, str]]:
    """Outcome and text of each."""
    return [(one.outcome, one.text) for one in sentences]


class TestCheckedProse:
    async def test_a_sentence_that_passes_is_shown_as_written_with_its_evidence(self) -> None:
        author = Author()
        (sentence,) = await checked_prose("Liver: {liver}.", FACTS, SLICES, author)
        assert outcomes([sentence]) == [("as_written", "Liver: no injury seen.")]
        assert [(one.kind, one.name) for one in sentence.evidence] == [
            ("finding", "liver"),
            ("slice", "12"),
            ("slice", "40"),
        ]
        assert author.asked == []

    async def test_a_wrong_one_is_written_anew_from_its_own_fact_alone(self) -> None:
        author = Author("Liver: {liver}.")
        (sentence,) = await checked_prose("The liver is torn.", FACTS, SLICES, author)
        assert outcomes([sentence]) == [("rewritten", "Liver: no injury seen.")]
        assert sentence.reasons
        assert author.asked == [((FACTS.stated["liver"],), ("liver",))]

    @pytest.mark.parametrize("second", ["The liver is torn.", "", "The volume is {volume_ml}."])
    async def test_after_a_second_failure_the_statement_stands_there(self, second: str) -> None:
        author = Author(second)
        (sentence,) = await checked_prose("The liver is torn.", FACTS, SLICES, author)
        assert outcomes([sentence]) == [("replaced", FACTS.stated["liver"])]
        assert sentence.reasons
        assert len(author.asked) == 1

    async def test_a_statement_stands_once(self) -> None:
        said = await checked_prose("The liver is torn. The liver bleeds.", FACTS, SLICES, Author())
        assert outcomes(said) == [("replaced", FACTS.stated["liver"]), ("left_out", "")]

    async def test_what_is_about_no_fact_is_left_out_and_said_to_be(self) -> None:
        author = Author()
        (sentence,) = await checked_prose("The pancreas is torn.", FACTS, SLICES, author)
        assert outcomes([sentence]) == [("left_out", "")]
        assert sentence.reasons == ["unsupported-statement"]
        assert author.asked == []

    async def test_that_nothing_can_be_told_is_no_sentence_of_a_report(self) -> None:
        said = await checked_prose(f"{NOT_DERIVABLE} Liver: {{liver}}.", FACTS, SLICES, Author())
        assert [one.outcome for one in said] == ["left_out", "as_written"]

    async def test_the_order_is_kept(self) -> None:
        text = "The volume is {volume_ml}. The liver is torn. Spleen: {spleen}."
        said = await checked_prose(text, FACTS, SLICES, Author())
        assert [one.outcome for one in said] == ["as_written", "replaced", "as_written"]


class TestAnswers:
    async def test_a_sentence_without_a_fact_is_replaced_by_what_was_asked_for(self) -> None:
        checks = ProseCheck(FACTS, SLICES, asked=("volume_ml",))
        await checks.settle("Yes.", checks.verdict("Yes."), Author())
        assert outcomes([checks.released[0].shown]) == [("replaced", FACTS.stated["volume_ml"])]

    async def test_a_fact_that_is_not_there_is_said_to_be_not_derivable(self) -> None:
        checks = ProseCheck(FACTS, SLICES, asked=("lactate_mmol_l",))
        sentence = "The lactate is {heart_rate_bpm}."
        await checks.settle(sentence, checks.verdict(sentence), Author())
        assert [one.shown.text for one in checks.released][-1] in (NOT_DERIVABLE, "")
        assert checks.nothing_shown() is None or checks.released[-1].shown.text == NOT_DERIVABLE

    async def test_the_history_keeps_slots_unfilled(self) -> None:
        checks = ProseCheck(FACTS, SLICES)
        released = checks.pass_on("Liver: {liver}.", checks.verdict("Liver: {liver}."))
        assert (released.written, released.shown.text) == ("Liver: {liver}.", "Liver: no injury seen.")

    def test_an_answer_of_nothing_says_so(self) -> None:
        checks = ProseCheck(FACTS, SLICES)
        instead = checks.nothing_shown()
        assert instead is not None
        assert (instead.shown.text, instead.shown.outcome) == (NOT_DERIVABLE, "replaced")
        assert checks.nothing_shown() is None


class TestSentences:
    @pytest.mark.parametrize(
        ("text", "sentences"),
        [
            ("One. Two.", ["One.", "Two."]),
            ("One.\nTwo", ["One.", "Two"]),
            ("Really?! Yes.", ["Really?!", "Yes."]),
            ("About {volume_ml} of blood.", ["About {volume_ml} of blood."]),
            ('He said "no." Then.', ['He said "no."', "Then."]),
            ("", []),
            ("\n\n", []),
        ],
    )
    def test_a_text_is_cut_at_its_sentences(self, text: str, sentences: list[str]) -> None:
        assert sentences_of(text) == sentences

    def test_a_stream_gives_each_out_once_it_is_certain(self) -> None:
        splitter = SentenceSplitter()
        assert [splitter.feed(piece) for piece in "A b. C."] == [[], [], [], [], [], ["A b."], []]
        assert splitter.rest() == ["C."]
        assert splitter.rest() == []
