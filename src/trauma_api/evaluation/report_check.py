"""The report of a study that is evaluated: what the check of sentences did, and whether all its forms say the same.

Vital signs are made up by the study's name, so that reports hold numbers of every kind.
"""

import random
import re
from collections.abc import Iterable

from trauma_api.evaluation.results import ReportOutcome, SentenceOutcome
from trauma_api.schemas.briefings import Briefing
from trauma_api.schemas.patient import Vitals
from trauma_api.schemas.report import ProseSentence, ReportResult
from trauma_api.services.report_text import markdown, plain_text


def made_up_vitals(case_id: str) -> Vitals:
    """Vital signs that no patient had; the same for the same id."""
    draw = random.Random(case_id)  # noqa: S311  # makes up inputs, not secrets
    return Vitals(
        heart_rate_bpm=draw.randint(50, 150),
        systolic_mmhg=draw.randint(70, 180),
        diastolic_mmhg=draw.randint(30, 69),
        gcs=draw.randint(3, 15),
        temperature_c=round(draw.uniform(33, 39), 1),
        lactate_mmol_l=round(draw.uniform(0.5, 9), 1),
        base_deficit_mmol_l=draw.randint(-2, 12),
        hemoglobin_g_dl=round(draw.uniform(5, 16), 1),
    )


def outcomes_of(sentences: Iterable[ProseSentence]) -> tuple[SentenceOutcome, ...]:
    """What is kept of checked sentences."""
    return tuple(SentenceOutcome(outcome=one.outcome, reasons=tuple(one.reasons)) for one in sentences)


def report_outcome(briefing: Briefing, report: ReportResult) -> ReportOutcome:
    """What is kept of a report. Blocks."""
    return ReportOutcome(
        sentences=outcomes_of(sentence for section in report.sections for sentence in section.prose or ()),
        texts=len(_texts(report)),
        missing=missing_texts(briefing, report),
    )


def missing_texts(briefing: Briefing, report: ReportResult) -> dict[str, int]:
    """By form, how many statements and sentences do not stand in it letter for letter; the PDF where it can be read."""
    forms = {
        "text": plain_text(briefing, report),
        "Markdown": re.sub(r"\\(.)", r"\1", markdown(briefing, report)),
    }
    printed = _printed(briefing, report)
    if printed is not None:
        forms["PDF"] = printed
    bare = {form: _bare(text) for form, text in forms.items()}
    return {form: sum(_bare(text) not in content for text in _texts(report)) for form, content in bare.items()}


def _texts(report: ReportResult) -> list[str]:
    said = [one.text for section in report.sections for one in (*section.statements, *(section.prose or ()))]
    return [text for text in said if text]


def _bare(text: str) -> str:
    """Without spaces and line ends, which a page sets as it needs."""
    return re.sub(r"\s", "", text)


def _printed(briefing: Briefing, report: ReportResult) -> str | None:
    """The text of the PDF; None without the extra that reads it."""
    try:
        import pypdfium2
    except ModuleNotFoundError:
        return None
    # Imported here: what draws pages is needed by nobody else who measures.
    from trauma_api.services.report_pdf import write_pdf

    document = pypdfium2.PdfDocument(write_pdf(briefing, report, []))
    return "".join(page.get_textpage().get_text_range() for page in document)
