"""The report as PDF: everything in it, on two pages where it fits, in letters that can be read."""

import io
import re

import numpy as np
import pypdfium2
import pypdfium2.raw
import pytest
from PIL import Image

from tests.support.reports import SECTIONS, briefing_of, report_of, section, sentence, texts_in
from trauma_api.schemas.report import ReportResult
from trauma_api.services.report_document import TITLE, KeySlice
from trauma_api.services.report_pdf import write_pdf

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
LEAST_POINTS = 7.0
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def picture(colour: tuple[int, int, int]) -> bytes:
    """A PNG of one colour, wider than high."""
    out = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "PNG")
    return out.getvalue()


SLICES = [
    KeySlice(picture(colour), f"Slice {17 + at}: 2.5 mL of blood marked red. Not for diagnosis.")
    for at, colour in enumerate(COLOURS)
]


def printed(report: ReportResult, slices: list[KeySlice] = SLICES) -> pypdfium2.PdfDocument:
    """The PDF of a report, opened."""
    return pypdfium2.PdfDocument(write_pdf(briefing_of(report), report, slices))


def texts(document: pypdfium2.PdfDocument) -> list[str]:
    """The text of each page, without spaces and line ends, which a page sets as it needs."""
    return [re.sub(r"\s", "", page.get_textpage().get_text_range()) for page in document]


def bare(text: str) -> str:
    """The same of another text."""
    return re.sub(r"\s", "", text)


def least_size(document: pypdfium2.PdfDocument) -> float:
    """The size of the smallest letters, in points."""
    sizes: list[float] = []
    for page in document:
        held = page.get_textpage()
        sizes += [pypdfium2.raw.FPDFText_GetFontSize(held.raw, at) for at in range(held.count_chars())]
    return min(size for size in sizes if size > 1)  # line ends, which are not drawn, have the size 1


def with_statements(count: int) -> ReportResult:
    """A report with so many statements more than usual."""
    many = [f"Statement {number} of many, which is as long as a line of a report is." for number in range(count)]
    return report_of(section("indication", *many), *SECTIONS[1:])


class TestContent:
    def test_everything_stands_in_it_letter_for_letter(self) -> None:
        report = report_of()
        content = "".join(texts(printed(report)))
        assert [said for said in texts_in(report) if bare(said) not in content] == []
        assert [one.caption for one in SLICES if bare(one.caption) not in content] == []

    def test_every_number_is_one_of_the_results(self) -> None:
        report = report_of()
        known = set(_NUMBER.findall(briefing_of(report).model_dump_json()))
        known |= {*_NUMBER.findall(" ".join(one.caption for one in SLICES)), "1", "2"}  # left out sentences, pages
        shown = " ".join(page.get_textpage().get_text_range() for page in printed(report))
        assert set(_NUMBER.findall(shown)) <= known

    def test_it_has_two_pages_with_the_slices_on_the_second_in_their_order(self) -> None:
        document = printed(report_of())
        assert len(document) == 2
        counts = [len(list(page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]))) for page in document]
        assert counts == [0, 4]
        rgb = np.asarray(document[1].render(scale=1).to_pil().convert("RGB")).astype(int)
        places = [np.argwhere((abs(rgb - colour) < 12).all(axis=-1)).min(axis=0) for colour in COLOURS]
        (first, second, third, fourth) = places
        assert first[0] == second[0] < third[0] == fourth[0]
        assert first[1] == third[1] < second[1] == fourth[1]

    def test_a_report_without_slices_has_no_heading_for_them(self) -> None:
        assert "Keyslices" not in "".join(texts(printed(report_of(), [])))

    def test_metadata_name_no_study(self) -> None:
        metadata = printed(report_of()).get_metadata_dict()
        assert (metadata["Title"], metadata["Author"]) == (TITLE, "trauma-api")
        assert not any("d" * 32 in value or "b" * 32 in value for value in metadata.values())

    def test_the_same_report_gives_the_same_bytes(self) -> None:
        report = report_of()
        assert write_pdf(briefing_of(report), report, SLICES) == write_pdf(briefing_of(report), report, SLICES)


class TestFit:
    @pytest.mark.parametrize("count", [0, 20, 40, 70])
    def test_what_is_too_much_for_the_first_page_is_on_the_second(self, count: int) -> None:
        report = with_statements(count)
        document = printed(report)
        assert len(document) == 2
        assert least_size(document) >= LEAST_POINTS
        content = "".join(texts(document))
        assert all(bare(said) in content for said in texts_in(report))

    def test_what_is_too_much_for_two_pages_is_on_further_ones(self) -> None:
        report = with_statements(250)
        document = printed(report)
        assert len(document) > 2
        assert least_size(document) >= LEAST_POINTS
        content = "".join(re.sub(bare(f"{report.notice} Page") + r"\d+\.", "", page) for page in texts(document))
        assert all(bare(said) in content for said in texts_in(report) if said != report.notice)
        assert all(bare(report.notice) in page for page in texts(document))

    def test_a_word_longer_than_a_line_is_not_cut(self) -> None:
        word = "x" * 600
        assert word in "".join(texts(printed(report_of(section("findings", word)))))


class TestText:
    @pytest.mark.parametrize(
        "markup", ["<b>a</b>", "a &amp; b", "</para><para>", '<img src="x"/>', "<a href='x'>", "<"]
    )
    def test_markup_is_shown_as_it_is(self, markup: str) -> None:
        report = report_of(section("findings", markup, prose=[sentence(markup)]))
        assert bare(f"-{markup}-Model:{markup}") in "".join(texts(printed(report)))

    def test_characters_that_a_font_has_are_shown(self) -> None:
        said = "Größe ≥ 5 µm, π ± β, 48° “quoted”"
        assert bare(said) in "".join(texts(printed(report_of(section("findings", said)))))

    def test_a_character_that_no_font_has_is_named(self) -> None:
        content = "".join(texts(printed(report_of(section("findings", "a \u4e2d b \U0001f600 c \x01 d")))))
        assert "a[U+4E2D]b[U+1F600]c[U+0001]d" in content
