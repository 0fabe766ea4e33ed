"""A finished briefing with a report of every kind of line, made by hand."""

from tests.support.briefings import briefing_without_parts
from trauma_api.schemas.base import RESEARCH_NOTICE, Caveat, ModelProvenance
from trauma_api.schemas.briefings import Briefing, BriefingParts, ReportPart
from trauma_api.schemas.report import (
    Hemodynamics,
    PhysiologyScore,
    ProseSentence,
    Recommendation,
    ReportResult,
    ReportSection,
    SectionName,
    Statement,
)
from trauma_api.services.plain_words import input_in_words

_PROVENANCE = ModelProvenance(
    role="reader",
    checkpoint="reader-by-hand",
    architecture="none",
    sha256="0123456789abcdef" * 4,
    trained_on="nothing; a test's report",
    adapter=None,
    device="cpu",
    dtype="float32",
    duration_s=0.0,
)
_RECOMMENDATION = Recommendation(
    id="rule-by-hand",
    guideline="A guideline",
    level="Level 2",
    source="Short 2012",
    statement="Observe for 48 hours.",
    citation="Author A. A journal 2012;73(5 Suppl 4):S294-S300",
    url="https://example.org/guideline?part=1&page=2",
    inputs=["spleen=high_grade", "hemodynamic_status=stable"],
    disposition=None,
)
_SCORE = PhysiologyScore(
    name="shock_index",
    low=1.52,
    high=1.52,
    meaning="raised",
    source="Author 1967",
    definition="heart rate over systolic pressure",
    citation="Author B. A journal 1967",
    url="https://example.org/score",
    inputs=["heart_rate_bpm=128", "systolic_mmhg=84"],
    missing=[],
)
_HEMODYNAMICS = Hemodynamics(
    status="unstable",
    origin="derived",
    definition="Systolic pressure below 90 mmHg",
    citation="Author C. A journal 2017",
    url="https://example.org/status",
    inputs=["systolic_mmhg=84"],
)


def section(name: SectionName, *texts: str, prose: list[ProseSentence] | None = None) -> ReportSection:
    """A section with these statements."""
    statements = [Statement(text=text, evidence=[]) for text in texts]
    return ReportSection(
        name=name, statements=statements, prose=prose, writer="service" if prose is None else "service_and_model"
    )


def sentence(text: str, outcome: str = "as_written", *reasons: str) -> ProseSentence:
    """A sentence of the model."""
    return ProseSentence.model_validate({"text": text, "outcome": outcome, "reasons": list(reasons), "evidence": []})


SECTIONS = (
    section("indication", "Abdominal trauma, mechanism blunt."),
    section(
        "physiology",
        "Hemodynamic status derived from the vital signs: unstable.",
        "Vital signs: heart rate 128/min, systolic pressure 84 mmHg.",
        "Shock index: 1.52, raised (heart rate over systolic pressure). [Author B. A journal 1967]",
    ),
    section("technique", "CT, slices: 48, matrix 512 x 512; 5.00 mm between slices, pixels 0.781 x 0.781 mm."),
    section(
        "findings",
        "Spleen: high-grade injury (AAST IV or V) (model probability 87%).",
        prose=[
            sentence("Spleen as read: high-grade injury (AAST IV or V)."),
            sentence("Blood was marked: 412.6 mL.", "rewritten", "unsupported-statement"),
            sentence("Liver: no injury seen (model probability 93%).", "replaced", "contradicts-finding"),
            sentence("", "left_out", "unsupported-statement"),
        ],
    ),
    section("quantification", "Hemorrhage volume: 412.6 mL (301.9 mL to 530.2 mL), an unvalidated estimate."),
    section("impression", "Slice with the most segmented blood: 17."),
    section("recommendations", "Observe for 48 hours. [rule-by-hand; Short 2012; Level 2]"),
    section("follow_up", "A radiologist must read this study."),
    section("limits", "Grades are ranges of the AAST organ injury scale, 2018 revision."),
)


def report_of(*sections: ReportSection) -> ReportResult:
    """A report with these sections; without any, with `SECTIONS`."""
    return ReportResult(
        study_id="d" * 32,
        sections=list(sections or SECTIONS),
        hemodynamics=_HEMODYNAMICS,
        physiology=[_SCORE],
        recommendations=[_RECOMMENDATION],
        needed_for_disposition=["peritonitis"],
        missing=["peritonitis"],
        provenance=[_PROVENANCE],
        warnings=[Caveat(code="thick-slices", detail="Slices are 5 mm apart.")],
        notice=RESEARCH_NOTICE,
    )


def briefing_of(report: ReportResult) -> Briefing:
    """A briefing that ended with this report."""
    part = ReportPart(status="done", failure=None, result=report)
    return briefing_without_parts(
        parts=BriefingParts(triage=None, analysis=None, volume=None, report=part, session=None)
    )


def texts_in(report: ReportResult) -> list[str]:
    """All that every form has to show: statements, sentences, sources, models and warnings."""
    said = [one.text for part in report.sections for one in (*part.statements, *(part.prose or ())) if one.text]
    sources = [text for one in report.recommendations for text in (one.guideline, one.citation, one.url, *one.inputs)]
    sources = [input_in_words(text) if "=" in text and "://" not in text else text for text in sources]
    sources += [text for one in report.physiology for text in (one.citation, one.url)]
    models = [text for one in report.provenance for text in (one.checkpoint, one.trained_on, one.sha256[:12])]
    return [*said, *sources, *models, *(one.detail for one in report.warnings), report.notice]
