"""The report as text, Markdown and PDF: the same words and numbers in each, and pictures in the last."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pypdfium2
import pypdfium2.raw
import pytest

from tests.support.engines import FailingReader, ScriptedReader, failure, small_engines
from tests.support.problems import problem_in
from tests.support.quick import quick_service
from tests.support.service import RunningService
from tests.support.studies import upload_slices
from trauma_api.schemas.briefings import Briefing
from trauma_api.schemas.report import ProseSentence, Statement
from trauma_api.services.report_pdf import write_pdf
from trauma_api.services.report_text import escaped, markdown, plain_text

PROSE = "About {volume_ml} of blood. The liver is torn. The pancreas is torn. Liver: {liver}."
BODY = {
    "vitals": {"heart_rate_bpm": 128, "systolic_mmhg": 84, "gcs": 13, "base_deficit_mmol_l": 7.5},
    "clinical_context": {"mechanism": "blunt", "peritonitis": "unknown", "fast": "positive", "age_years": 61},
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """Of a service whose reader writes right and wrong sentences."""
    with quick_service(small_engines(reader=ScriptedReader(PROSE))) as (_, client):
        yield client


@pytest.fixture(scope="module")
def briefing(client: httpx.Client) -> Briefing:
    """A finished one."""
    body = {"study_id": upload_slices(client, 12)["study_id"], **BODY}
    return Briefing.model_validate(client.post("/v1/briefings?wait=60", json=body).json())


def texts_of(briefing: Briefing) -> list[str]:
    """Every statement, shown sentence and recommendation of the report."""
    assert briefing.parts.report is not None
    report = briefing.parts.report.result
    assert report is not None
    said = [one.text for section in report.sections for one in (*section.statements, *(section.prose or ()))]
    return [text for text in said if text] + [one.citation for one in report.recommendations]


def bare(text: str) -> str:
    """Without spaces and line ends, which a page sets as it needs."""
    return re.sub(r"\s", "", text)


def pages_of(content: bytes) -> list[str]:
    """The text of each page."""
    return [page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(content)]


class TestForms:
    def test_every_text_stands_in_each_form_letter_for_letter(self, client: httpx.Client, briefing: Briefing) -> None:
        text = client.get(briefing.links.report_text_url)
        marked = client.get(briefing.links.report_markdown_url)
        pdf = client.get(briefing.links.report_pdf_url)
        assert [one.headers["content-type"] for one in (text, marked, pdf)] == [
            "text/plain; charset=utf-8",
            "text/markdown; charset=utf-8",
            "application/pdf",
        ]
        printed = bare("".join(pages_of(pdf.content)))
        unescaped = re.sub(r"\\(.)", r"\1", marked.text)
        texts = texts_of(briefing)
        assert len(texts) > 30
        assert any("84 mmHg" in said for said in texts)
        for said in texts:
            assert said in text.text
            assert said in unescaped
            assert bare(said) in printed
        for form in (text.text, unescaped, " ".join("".join(pages_of(pdf.content)).split())):
            assert briefing.notice in form

    def test_a_replaced_sentence_is_told_as_such(self, client: httpx.Client, briefing: Briefing) -> None:
        text = client.get(briefing.links.report_text_url).text
        assert "- Model: Liver: no injury seen." in text
        assert "- In place of a sentence of the model: Liver: no injury seen" in text
        assert "Sentences of the model that were left out: 1 (unsupported-statement)." in text
        assert "torn" not in text

    def test_the_pdf_has_two_pages_with_the_mask_drawn_into_the_slices(
        self, client: httpx.Client, briefing: Briefing
    ) -> None:
        content = client.get(briefing.links.report_pdf_url).content
        document = pypdfium2.PdfDocument(content)
        assert len(document) == 2
        pictures = list(document[1].get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]))
        assert len(pictures) == 3
        rgb = np.asarray(document[1].render(scale=2).to_pil().convert("RGB")).astype(int)
        red = (rgb[..., 0] > 150) & (rgb[..., 1] < 80) & (rgb[..., 2] < 80)
        assert red.sum() > 20
        assert pages_of(content)[1].count("Not for diagnosis.") == 3
        assert all("not a medical device" in page for page in pages_of(content))

    def test_the_same_briefing_gives_the_same_bytes(self, client: httpx.Client, briefing: Briefing) -> None:
        first, second = (client.get(briefing.links.report_pdf_url).content for _ in range(2))
        assert first == second


class TestShippedCheckpoints:
    def test_the_report_of_the_sample_is_the_same_in_each_form(self, service: RunningService) -> None:
        with httpx.Client(base_url=service.url, timeout=120) as client:
            sent = {"study_id": "sample", **BODY}
            briefing = Briefing.model_validate(client.post("/v1/briefings", json=sent).json())
            links = briefing.links
            while not briefing.is_final:
                briefing = Briefing.model_validate(client.get(links.self_url, params={"wait": 60}).json())
            assert briefing.status == "done"
            text, marked, pdf = (
                client.get(url).raise_for_status()
                for url in (links.report_text_url, links.report_markdown_url, links.report_pdf_url)
            )
        forms = [bare(text.text), bare(re.sub(r"\\(.)", r"\1", marked.text)), bare("".join(pages_of(pdf.content)))]
        assert [[said for said in texts_of(briefing) if bare(said) not in form] for form in forms] == [[], [], []]
        document = pypdfium2.PdfDocument(pdf.content)
        assert len(document) == 2
        assert len(list(document[1].get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]))) == 4


class TestWithout:
    def test_no_report_is_409_with_what_to_do(self) -> None:
        with quick_service(small_engines(reader=FailingReader(failure()))) as (_, client):
            body = {"study_id": upload_slices(client, 4)["study_id"]}
            links = client.post("/v1/briefings?wait=60", json=body).json()["links"]
            for name in ("report_text_url", "report_markdown_url", "report_pdf_url"):
                problem_in(client.get(links[name]), 409, "report-not-available")

    @pytest.mark.parametrize("form", ["txt", "md", "pdf"])
    def test_an_unknown_briefing_is_404(self, client: httpx.Client, form: str) -> None:
        problem_in(client.get(f"/v1/briefings/{'0' * 32}/report.{form}"), 404, "briefing-not-found")

    def test_without_the_study_there_are_no_pictures_but_the_text(self, client: httpx.Client) -> None:
        study_id = upload_slices(client, 6, seed=8)["study_id"]
        links = client.post("/v1/briefings?wait=60", json={"study_id": study_id}).json()["links"]
        client.delete(f"/v1/studies/{study_id}")
        problem_in(client.get(links["report_pdf_url"]), 404, "study-not-found")
        assert client.get(links["report_text_url"]).status_code == 200


def with_texts(briefing: Briefing, statements: list[str], sentence: str) -> tuple[Briefing, Any]:
    """The briefing with other statements and another sentence in its first section."""
    assert briefing.parts.report is not None
    report = briefing.parts.report.result
    assert report is not None
    first = report.sections[0].model_copy(
        update={
            "statements": [Statement(text=text, evidence=[]) for text in statements],
            "prose": [ProseSentence(text=sentence, outcome="as_written", reasons=[], evidence=[])],
        }
    )
    return briefing, report.model_copy(update={"sections": [first, *report.sections[1:]]})


class TestHostileText:
    MARKUP = "<b>bold</b> & **strong** [link](javascript:alert(1)) `code` <img src=x> | # _x_"

    def test_markdown_shows_it_as_it_is(self, briefing: Briefing) -> None:
        shown = markdown(*with_texts(briefing, [self.MARKUP], self.MARKUP))
        assert "<b>" not in shown
        assert re.search(r"(?<!\\)\]\(javascript", shown) is None
        assert escaped(self.MARKUP) in shown
        assert self.MARKUP in plain_text(*with_texts(briefing, [self.MARKUP], self.MARKUP))

    def test_a_page_shows_it_as_it_is(self, briefing: Briefing) -> None:
        content = write_pdf(*with_texts(briefing, [self.MARKUP], self.MARKUP), slices=[])
        assert bare("".join(pages_of(content))).count(bare(self.MARKUP)) == 2

    def test_what_does_not_fit_on_two_pages_goes_on(self, briefing: Briefing) -> None:
        statements = [
            f"Statement {number} of many, which is as long as a line of a report is." for number in range(300)
        ]
        pages = pages_of(write_pdf(*with_texts(briefing, statements, "Last."), slices=[]))
        assert len(pages) > 2
        printed = bare("".join(pages))
        assert all(bare(statement) in printed for statement in statements)
