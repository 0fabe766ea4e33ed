"""From results and what the caller knows to the rows that fire and the scores that can be computed."""

from dataclasses import replace

from trauma_api.guidelines.case import Answer, Case
from trauma_api.guidelines.evaluate import fired_rows
from trauma_api.guidelines.hemodynamics import HemodynamicStatus, hemodynamic_status
from trauma_api.guidelines.scores import Score, abc_score, base_deficit_class, shock_index
from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.report import Hemodynamics, PhysiologyScore, Recommendation


def case_of(findings: Findings | None, context: ClinicalContext | None, vitals: Vitals | None) -> Case:
    """The case that the rules look at. What was not given, derived or read stays unknown."""
    stated = ClinicalContext() if context is None else context
    age = stated.age_years
    hemodynamics = _hemodynamics(vitals, stated)
    known = Case(
        hemodynamic_status=hemodynamics.status,
        peritonitis=stated.peritonitis,
        mechanism=stated.mechanism,
        fast=stated.fast,
        older_than_55=_answer(None if age is None else age > 55),
        older_than_60=_answer(None if age is None else age > 60),
        anticoagulated=_answer(stated.anticoagulated),
        pelvic_fracture=stated.pelvic_fracture,
        pancreatic_injury=stated.pancreatic_injury,
        derived=frozenset({"hemodynamic_status"}) if hemodynamics.origin == "derived" else frozenset(),
    )
    if findings is None:
        return known
    return replace(
        known,
        liver=findings.liver.value,
        spleen=findings.spleen.value,
        kidneys=findings.kidneys.value,
        bowel_and_mesentery=findings.bowel_and_mesentery.value,
        active_extravasation=findings.active_extravasation.value,
        hemoperitoneum=findings.hemoperitoneum.value,
    )


def _answer(known: bool | None) -> Answer:
    return "unknown" if known is None else "yes" if known else "no"


def hemodynamics_of(vitals: Vitals | None, context: ClinicalContext | None) -> Hemodynamics:
    """The hemodynamic status that the rules are given: as stated, else derived from the vitals, else unknown."""
    found = _hemodynamics(vitals, ClinicalContext() if context is None else context)
    source = found.source
    return Hemodynamics(
        status=found.status,
        origin=found.origin,
        definition=found.definition,
        citation=None if source is None else source.cited,
        url=None if source is None else source.url,
        inputs=list(found.inputs),
    )


def _hemodynamics(vitals: Vitals | None, stated: ClinicalContext) -> HemodynamicStatus:
    known = {} if vitals is None else vitals.model_dump(exclude_none=True)
    return hemodynamic_status(stated.hemodynamic_status, known, stated.age_years)


def recommendations_for(case: Case) -> list[Recommendation]:
    """The rows that fire, in the order of the table."""
    return [
        Recommendation(
            id=fired.row.id,
            source=fired.row.source.short,
            guideline=fired.row.source.guideline,
            level=fired.row.level,
            statement=fired.row.statement,
            citation=fired.row.source.citation,
            url=fired.row.source.url,
            inputs=list(fired.inputs),
            disposition=fired.row.disposition,
        )
        for fired in fired_rows(case)
    ]


def physiology_of(vitals: Vitals | None, context: ClinicalContext | None) -> list[PhysiologyScore]:
    """The scores that the given values allow."""
    given = Vitals() if vitals is None else vitals
    stated = ClinicalContext() if context is None else context
    scores = (
        shock_index(given.heart_rate_bpm, given.systolic_mmhg),
        base_deficit_class(given.base_deficit_mmol_l),
        abc_score(stated.mechanism, stated.fast, given.systolic_mmhg, given.heart_rate_bpm),
    )
    return [_shown(score) for score in scores if score is not None]


def _shown(score: Score) -> PhysiologyScore:
    return PhysiologyScore(
        name=score.name,
        low=round(score.low, 2),
        high=round(score.high, 2),
        meaning=score.meaning,
        definition=score.definition,
        source=score.source.short,
        citation=score.source.cited,
        url=score.source.url,
        inputs=list(score.inputs),
        missing=list(score.missing),
    )
