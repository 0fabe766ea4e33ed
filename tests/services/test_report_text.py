"""The report as plain text and Markdown: everything in it, digit for digit, and nothing of it as markup."""

import re

import pytest

from tests.support.reports import briefing_of, report_of, section, sentence, texts_in
from trauma_api.services.report_document import report_blocks
from trauma_api.services.report_text import escaped, markdown, plain_text

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
REPORT = report_of()
BRIEFING = briefing_of(REPORT)


def unescaped(text: str) -> str:
    """Markdown as it is shown."""
    return re.sub(r"\\(.)", r"\1", text)


FORMS = {"text": plain_text(BRIEFING, REPORT), "Markdown": unescaped(markdown(BRIEFING, REPORT))}


@pytest.mark.parametrize("form", FORMS)
class TestContent:
    def test_everything_stands_in_it_letter_for_letter(self, form: str) -> None:
        assert [said for said in texts_in(REPORT) if said not in FORMS[form]] == []

    def test_every_number_is_one_of_the_results(self, form: str) -> None:
        known = set(_NUMBER.findall(BRIEFING.model_dump_json())) | {"1"}  # how many sentences were left out
        assert set(_NUMBER.findall(FORMS[form])) <= known

    def test_sections_keep_their_order_and_the_notice_is_first_and_last(self, form: str) -> None:
        titles = [block.title for block in report_blocks(BRIEFING, REPORT)]
        assert titles[:2] == ["Indication", "Physiology"]
        assert titles[-3:] == ["Sources", "Models", "Warnings"]
        shown = FORMS[form].upper()
        places = [shown.index(f"\n## {title.upper()}" if form == "Markdown" else f"\n{title.upper()}\n")
                  for title in titles]  # fmt: skip
        assert places == sorted(places)
        assert FORMS[form].index(REPORT.notice) < FORMS[form].lower().index("\n- ")
        assert FORMS[form].rstrip().endswith(REPORT.notice)

    def test_whose_words_they_are_is_told(self, form: str) -> None:
        bare = FORMS[form].replace("*", "")
        assert "- Model: Spleen as read: high-grade injury" in bare
        assert "- Model, second attempt: Blood was marked: 412.6 mL." in bare
        assert "- In place of a sentence of the model: Liver: no injury seen (model probability 93%)." in bare
        assert "- Sentences of the model that were left out: 1 (unsupported-statement)." in bare


class TestEscaping:
    @pytest.mark.parametrize(
        "markup", ["**a**", "_a_", "`a`", "[a](b)", "![a](b)", "<b>", "| a |", "~~a~~", "&lt;", "# a"]
    )
    def test_markup_is_shown_as_it_is(self, markup: str) -> None:
        assert unescaped(escaped(markup)) == markup
        assert not re.search(r"(?<!\\)[`*_\[\]<>|#~&]", escaped(markup))

    @pytest.mark.parametrize("link", ["https://a.example/b", "http://a.example", "www.a.example", "a@b.example"])
    def test_what_readers_turn_into_a_link_by_itself_stays_text(self, link: str) -> None:
        assert unescaped(escaped(link)) == link
        assert not re.search(r"(?<!\\)://|www\.|(?<!\\)@", escaped(link))

    @pytest.mark.parametrize("opening", ["- a", "+ a", "1. a", "1) a", "    a", "---", "==="])
    def test_a_line_opens_no_block(self, opening: str) -> None:
        shown = markdown(BRIEFING, report_of(section("findings", opening, prose=[sentence(opening)])))
        (item, marked) = (line for line in shown.splitlines() if line.endswith(escaped(opening)))
        assert not re.match(r"- (?:[-+=]|\d+[.)]| )", item)
        assert marked.startswith("- *Model:* ")

    def test_a_text_of_several_lines_stays_one_line(self) -> None:
        assert escaped("a\n\n# b\r\nc") == "a \\# b c"
