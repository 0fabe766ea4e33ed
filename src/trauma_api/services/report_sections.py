"""The statements of a report, section by section, each with what it rests on. No model writes here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trauma_api.guidelines.risk import RISK_CONVENTION
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.report import (
    Evidence,
    Hemodynamics,
    PhysiologyScore,
    Recommendation,
    SectionName,
    Statement,
)
from trauma_api.schemas.studies import Coverage, SeriesInfo
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.evidence import evidence_of, inputs_evidence, slice_evidence
from trauma_api.services.facts import NO_FINDINGS, NO_VOLUME, Facts, format_ml, vitals_statement
from trauma_api.services.plain_words import capitalized, in_words, listed
from trauma_api.services.prompts import vital_phrases
from trauma_api.services.study_storage import StoredStudy
from trauma_api.services.topics import FINDINGS

_STUDY = [Evidence(kind="study", name="series")]
_BY_ORGAN = FINDINGS[:6]
_OVERALL = ("active_extravasation", "injury_pattern", "severity", "volume_ml")
NOT_ASSESSED = (
    "Not assessed by this service: pancreas, adrenal glands, bladder and ureters, diaphragm, bones, great vessels and"
    " chest."
)
_NO_FINDINGS, _NO_VOLUME = (Statement(text=text, evidence=[]) for text in (NO_FINDINGS, NO_VOLUME))
_LIMITS = (
    "Grades are ranges of the AAST organ injury scale, 2018 revision: low is I to III, high is IV and V.",
    "One contrast phase cannot tell a pseudoaneurysm from active bleeding.",
    "A bowel or mesenteric injury is not excluded by this reading.",
    "The millilitres are what the segmentation marked. They are not the patient's blood loss, and no shock class or"
    " disposition follows from them.",
    RESEARCH_NOTICE,
)


@dataclass(frozen=True)
class ReportInputs:
    """All that a report is made from, but the facts that the model is told."""

    study: StoredStudy
    volume: VolumeResult | None
    slices_read: Sequence[int]
    vitals: Vitals | None
    context: ClinicalContext | None
    hemodynamics: Hemodynamics
    physiology: Sequence[PhysiologyScore]
    recommendations: Sequence[Recommendation]
    needed: Sequence[str]


def report_statements(facts: Facts, inputs: ReportInputs) -> dict[SectionName, list[Statement]]:
    """Every section in the order in which it is told."""
    return {
        "indication": _indication(facts, inputs),
        "physiology": _physiology(inputs),
        "technique": _technique(facts, inputs),
        "findings": _stated(_BY_ORGAN, facts, inputs) or [_NO_FINDINGS],
        "quantification": _quantification(facts, inputs),
        "impression": _impression(facts, inputs),
        "recommendations": _recommendations(inputs),
        "follow_up": _follow_up(facts),
        "limits": [_said(limit, _STUDY) for limit in _LIMITS],
    }


def _said(text: str, evidence: Iterable[Evidence]) -> Statement:
    return Statement(text=text, evidence=list(evidence))


def _stated(topics: Iterable[str], facts: Facts, inputs: ReportInputs) -> list[Statement]:
    return [
        _said(facts.stated[topic], evidence_of([topic], facts, inputs.slices_read))
        for topic in topics
        if topic in facts.stated
    ]


def _indication(facts: Facts, inputs: ReportInputs) -> list[Statement]:
    mechanism, *_ = facts.statements["indication"]
    known = inputs.context.model_dump() if inputs.context is not None else {}
    others = {
        name: value
        for name, value in known.items()
        if name not in ("mechanism", "hemodynamic_status") and value not in (None, "unknown")
    }
    statements = [_said(mechanism, inputs_evidence(["mechanism"]))]
    statements += [
        _said(f"{capitalized(name)}: {_value(value)}.", inputs_evidence([name])) for name, value in others.items()
    ]
    return statements


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return in_words(str(value))


def _status(hemodynamics: Hemodynamics) -> Statement:
    status = hemodynamics.status.replace("_", " ")
    if hemodynamics.origin == "unknown":
        return _said("Hemodynamic status: unknown; state it, as it comes before all CT findings.", [])
    names = [one.split("=")[0] for one in hemodynamics.inputs] or ["hemodynamic_status"]
    if hemodynamics.origin == "given":
        return _said(f"Hemodynamic status as given: {status}.", inputs_evidence(names))
    derived = f"Hemodynamic status derived from the vital signs: {status}. Definition: {hemodynamics.definition}"
    return _said(f"{derived.rstrip('.')}. [{hemodynamics.citation}]", inputs_evidence(names))


def _status_in_short(hemodynamics: Hemodynamics) -> Statement:
    status = hemodynamics.status.replace("_", " ")
    origin = {"given": " as given", "derived": ", derived from the vital signs", "unknown": ""}[hemodynamics.origin]
    return _said(f"Hemodynamic status{origin}: {status}.", _status(hemodynamics).evidence)


def _physiology(inputs: ReportInputs) -> list[Statement]:
    known = vital_phrases(inputs.vitals)
    statements = [_status(inputs.hemodynamics)]
    statements += [_said(text, inputs_evidence(known)) for text in vitals_statement(inputs.vitals)]
    statements += [_score(score) for score in inputs.physiology]
    missing = [name for name in Vitals.model_fields if name not in known]
    if missing:
        statements.append(_said(f"Not given, and not assumed: {listed(missing)}.", []))
    return statements


def _score(score: PhysiologyScore) -> Statement:
    value = f"{score.low:g}" if score.low == score.high else f"{score.low:g} to {score.high:g}"
    missing = f" Missing: {listed(score.missing)}." if score.missing else ""
    text = f"{capitalized(score.name)}: {value}, {score.meaning} ({score.definition}).{missing} [{score.source}]"
    return _said(text, [Evidence(kind="score", name=score.name), *inputs_evidence(score.inputs)])


def _technique(facts: Facts, inputs: ReportInputs) -> list[Statement]:
    statements = [_said(text, _STUDY) for text in facts.statements["technique"]]
    chosen = next((series for series in inputs.study.record.series if series.selected), None)
    if chosen is not None:
        statements.insert(1, _said(_series(chosen, len(inputs.study.record.series)), _STUDY))
    covered = _coverage(inputs.study.record.eligibility.coverage)
    if covered is not None:
        statements.append(_said(covered, _STUDY))
    if inputs.slices_read:
        indices = ", ".join(str(index) for index in inputs.slices_read)
        statements.append(
            _said(f"Slices read together, counted from 0: {indices}.", slice_evidence(inputs.slices_read))
        )
    return [*statements, _said(NOT_ASSESSED, _STUDY)]


def _coverage(coverage: Coverage | None) -> str | None:
    if coverage is None or coverage.first_abdomen_slice is None or coverage.abdomen_extent_mm is None:
        return None
    ends = {True: "included", False: "not included", None: "not known to be included"}
    return (
        f"The abdomen is seen on slices {coverage.first_abdomen_slice} to {coverage.last_abdomen_slice}, over "
        f"{coverage.abdomen_extent_mm:.0f} mm; its top is {ends[coverage.top_included]}, its bottom "
        f"{ends[coverage.bottom_included]}."
    )


def _series(series: SeriesInfo, count: int) -> str:
    phase = "not stated" if series.phase == "unknown" else f"{series.phase.replace('_', ' ')}, as the series states it"
    of = f"One series of {count} was used. " if count > 1 else ""
    return f"{of}Contrast phase: {phase}."


def _impression(facts: Facts, inputs: ReportInputs) -> list[Statement]:
    statements = [_status_in_short(inputs.hemodynamics), *_stated(_OVERALL, facts, inputs)]
    if not facts.values:
        statements.append(_NO_FINDINGS)
    return statements if inputs.volume is not None else [*statements, _NO_VOLUME]


def _quantification(facts: Facts, inputs: ReportInputs) -> list[Statement]:
    if inputs.volume is None:
        return [_NO_VOLUME]
    measured = [Evidence(kind="measurement", name="volume_ml")]
    segmented, count = inputs.volume.segmented_slices, inputs.study.stack.slice_count
    some = (
        f"Slices {segmented.first} to {segmented.last} of {count} were segmented; those far from the abdomen were not."
    )
    whole = segmented.last - segmented.first + 1 == count
    return [
        *_stated(("volume_ml",), facts, inputs),
        *([] if whole else [_said(some, measured)]),
        _said(f"How the interval was made: {inputs.volume.interval.method}", measured),
        *([_said(_left_out(inputs.volume.left_out_ml), measured)] if inputs.volume.left_out_ml > 0 else []),
        *_stated(("bloodiest_slice", "risk_level"), facts, inputs),
        _said(RISK_CONVENTION, measured),
    ]


def _left_out(left_out_ml: float) -> str:
    return (
        f"Not counted: {format_ml(left_out_ml)} in regions too small, or marked with too little certainty, to be told "
        "from noise."
    )


def _recommendations(inputs: ReportInputs) -> list[Statement]:
    statements = [
        _said(
            f"{one.statement} [{one.id}; {one.source}; {one.level}]",
            [Evidence(kind="rule", name=one.id), *_fired_by(one.inputs)],
        )
        for one in inputs.recommendations
    ]
    if inputs.needed:
        unknown = listed(inputs.needed)
        statements.append(_said(f"No disposition is given, as these are unknown: {unknown}. Supply them.", []))
    elif all(one.disposition is None for one in inputs.recommendations):
        statements.append(_said("No row of the guidelines that could be read disposes of this patient.", []))
    return statements


def _fired_by(inputs: Iterable[str]) -> list[Evidence]:
    names = [one.split("=")[0] for one in inputs]
    return [Evidence(kind="finding" if name in FINDINGS else "input", name=name) for name in names]


def _follow_up(facts: Facts) -> list[Statement]:
    statements = [_said(text, _STUDY) for text in facts.statements["follow_up"]]
    if facts.missing:
        statements.append(_said(f"This report had to do without: {listed(facts.missing)}.", []))
    return statements
