"""Patients as a trauma surgeon would write them down, and what the guidelines' texts say of each, in order.

``why`` derives the expectation from those texts. What is neither given nor read stays unknown.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from trauma_api.guidelines.case import needed
from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.services.recommendations import case_of, physiology_of, recommendations_for

STABLE = {"hemodynamic_status": "stable", "peritonitis": "absent", "mechanism": "blunt"}
UNSTABLE = {**STABLE, "hemodynamic_status": "unstable"}
TRANSIENT = {**STABLE, "hemodynamic_status": "transient_responder"}
ASKED = {"peritonitis": "absent", "mechanism": "blunt"}
STABBED = {**STABLE, "mechanism": "penetrating"}
CLEAN = {
    "liver": "none",
    "spleen": "none",
    "kidneys": "none",
    "bowel_and_mesentery": "absent",
    "active_extravasation": "absent",
    "hemoperitoneum": "none",
}
NOTHING_ASSESSED = dict.fromkeys(CLEAN, "not_assessed")
BLEEDS = {"active_extravasation": "present"}


@dataclass(frozen=True)
class Written:
    """One patient. ``read`` is what differs from a CT on which all was assessed and nothing found; None without one."""

    name: str
    why: str
    context: dict[str, Any]
    read: dict[str, str] | None
    rows: list[str]
    disposition: str | None = None
    asked_for: tuple[str, ...] = ()
    vitals: dict[str, float] = field(default_factory=dict)


CASES = [
    Written(
        "stable, nothing found",
        "No guideline treats a clean CT, but CT misses a third of bowel injuries.",
        STABLE,
        {},
        ["BWL-3"],
    ),
    Written(
        "stable, isolated low spleen",
        "EAST spleen: no routine laparotomy (SPL-2), where it can be watched (SPL-6, SPL-7).",
        STABLE,
        {"spleen": "low_grade"},
        ["SPL-2", "SPL-6", "SPL-7", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "stable, high spleen with blush",
        "Grade above III and blush: consider angiography (SPL-5, NICE-2), which a blush alone does not force (SPL-8); a"
        " high grade does not forbid the trial (SPL-3).",
        STABLE,
        {"spleen": "high_grade", "hemoperitoneum": "moderate", **BLEEDS},
        ["NICE-2", "SPL-5", "SPL-8", "SPL-2", "SPL-3", "SPL-6", "SPL-7", "OIS-1", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "stable, low spleen with blush",
        "The scale makes a bleeding spleen IV or V: if the blush is splenic, low was read too low (OIS-2).",
        STABLE,
        {"spleen": "low_grade", **BLEEDS},
        ["NICE-2", "SPL-5", "SPL-8", "SPL-2", "SPL-6", "SPL-7", "OIS-1", "OIS-2", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "stable, low spleen, moderate hemoperitoneum",
        "Moderate hemoperitoneum is one of the signs of SPL-5, without blush and without a high grade.",
        STABLE,
        {"spleen": "low_grade", "hemoperitoneum": "moderate"},
        ["SPL-5", "SPL-2", "SPL-6", "SPL-7", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "unstable before any reading",
        "Instability after blunt trauma is enough for laparotomy (SPL-1), in damage control (NICE-1).",
        UNSTABLE,
        None,
        ["SPL-1", "NICE-1"],
        "urgent_laparotomy",
    ),
    Written(
        "unstable, FAST positive, high spleen",
        "Laparotomy by SPL-1, BAT-2 and the WSES class IV, with blood (DCR); the CT adds no other plan.",
        {**UNSTABLE, "fast": "positive"},
        {"spleen": "high_grade", "hemoperitoneum": "large"},
        ["SPL-1", "BAT-2", "WSP-4", "NICE-1", "DCR-2", "DCR-4", "BWL-3"],
        "urgent_laparotomy",
    ),
    Written(
        "unstable, FAST negative, nothing found",
        "A negative FAST excludes nothing (NICE-4); physiology outranks a clean CT.",
        {**UNSTABLE, "fast": "negative"},
        {},
        ["SPL-1", "NICE-1", "NICE-4", "BWL-3"],
        "urgent_laparotomy",
    ),
    Written(
        "peritonitis, stable, nothing found",
        "Diffuse peritonitis alone is SPL-1's other half.",
        {**STABLE, "peritonitis": "present"},
        {},
        ["SPL-1", "BWL-3"],
        "urgent_laparotomy",
    ),
    Written(
        "peritonitis, stable, bowel suspected",
        "Peritonitis decides; no second CT after 6 hours (BWL-2 is for patients without it).",
        {**STABLE, "peritonitis": "present"},
        {"bowel_and_mesentery": "present"},
        ["SPL-1", "BWL-1"],
        "urgent_laparotomy",
    ),
    Written(
        "transient responder, high kidney",
        "AUA: operate at once, embolize in selected cases (REN-2); WSES counts such a patient as unstable (WSP-0).",
        TRANSIENT,
        {"kidneys": "high_grade"},
        ["WSP-0", "REN-2", "BWL-3"],
        "operation_or_angiography",
    ),
    Written(
        "transient responder, kidney and spleen",
        "WSES operates on the spleen of a transient responder; the kidney's choice of embolization falls beside it.",
        TRANSIENT,
        {"kidneys": "low_grade", "spleen": "low_grade"},
        ["WSP-4", "WSP-0", "BWL-3"],
        "urgent_laparotomy",
    ),
    Written(
        "transient responder, bleeding liver",
        "No level of EAST's liver guideline could be read for them: blood and NICE's radiology, but no disposition.",
        TRANSIENT,
        {"liver": "low_grade", **BLEEDS},
        ["WSP-0", "DCR-2", "DCR-4", "NICE-2", "OIS-1", "OIS-3", "BWL-3"],
    ),
    Written(
        "stable, high liver",
        "EAST liver: nonoperative whatever the grade.",
        STABLE,
        {"liver": "high_grade", "hemoperitoneum": "large"},
        ["LIV-0", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "stable, liver with blush",
        "Nonoperative (LIV-0) with radiology to be considered (NICE-2); a bleeding liver is III or more (OIS-3).",
        STABLE,
        {"liver": "low_grade", **BLEEDS},
        ["NICE-2", "LIV-0", "OIS-1", "OIS-3", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "stable, high kidney",
        "AUA: no intervention, delayed phase, repeat CT for IV and V; EAST's notes on shattered, leaking and"
        " devascularized kidneys.",
        STABLE,
        {"kidneys": "high_grade"},
        ["REN-1", "GU-1", "GU-2", "GU-3", "GU-4", "REN-3", "REN-4", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "stable, liver, spleen and kidney",
        "Not isolated, so not SPL-2; associated injuries do not forbid the trial (SPL-3), each organ is nonoperative.",
        STABLE,
        {"liver": "low_grade", "spleen": "low_grade", "kidneys": "low_grade"},
        ["SPL-3", "SPL-6", "SPL-7", "LIV-0", "REN-1", "REN-3", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "stable, bowel suspected beside a high liver",
        "The liver would be nonoperative, the bowel may not be: signs first (BWL-1), CT again (BWL-2).",
        STABLE,
        {"bowel_and_mesentery": "present", "liver": "high_grade"},
        ["BWL-1", "BWL-2"],
    ),
    Written(
        "stable, low liver, bowel not assessed",
        "Nobody looked at the bowel: no nonoperative disposition rests on that.",
        STABLE,
        {"bowel_and_mesentery": "not_assessed", "liver": "low_grade"},
        [],
    ),
    Written(
        "stable, free fluid without a solid organ",
        "WSES: a sensitive sign of bowel injury that does not decide alone.",
        STABLE,
        {"hemoperitoneum": "small"},
        ["BWL-4", "BWL-3"],
    ),
    Written(
        "stable, extravasation without organ injury",
        "As common as with one. No organ's row; from the mesentery it would be a hard sign (BWL-6).",
        STABLE,
        {"hemoperitoneum": "large", **BLEEDS},
        ["BWL-4", "BWL-6", "OIS-1", "BWL-3"],
    ),
    Written(
        "stab wound, stable, low liver",
        "EAST penetrating: no routine laparotomy if examined serially (PEN-2) and reliably (PEN-3); LIV-0 is blunt.",
        STABBED,
        {"liver": "low_grade"},
        ["PEN-3", "PEN-2", "BWL-3"],
    ),
    Written(
        "stab wound, stable, extravasation beside the liver",
        "Active bleeding is more than an unremarkable stab wound: PEN-2 falls, radiology may be considered.",
        STABBED,
        {"liver": "low_grade", **BLEEDS},
        ["NICE-2", "PEN-3", "OIS-1", "OIS-3", "BWL-3"],
    ),
    Written(
        "gunshot, unstable, high spleen",
        "PEN-1 and the WSES class IV, which names both mechanisms; SPL-1 and BAT-2 are blunt.",
        {**UNSTABLE, "mechanism": "penetrating", "fast": "positive"},
        {"spleen": "high_grade"},
        ["PEN-1", "WSP-4", "NICE-1", "DCR-2", "DCR-4", "BWL-3"],
        "urgent_laparotomy",
    ),
    Written(
        "stab wound, peritonitis, bowel suspected",
        "A diffusely tender abdomen is PEN-1; WTA's signs are for blunt trauma, those of WSES for both (BWL-5).",
        {**STABBED, "peritonitis": "present"},
        {"bowel_and_mesentery": "present"},
        ["PEN-1", "BWL-5"],
        "urgent_laparotomy",
    ),
    Written(
        "mechanism unknown",
        "EAST's spleen is blunt, its penetrating guideline another: the mechanism is asked for.",
        {"hemodynamic_status": "stable", "peritonitis": "absent"},
        {"spleen": "high_grade"},
        ["BWL-3"],
        asked_for=("mechanism",),
    ),
    Written(
        "hemodynamics unknown",
        "A torn bleeding spleen is laparotomy or observation, which only physiology tells.",
        ASKED,
        {"spleen": "high_grade", **BLEEDS},
        ["OIS-1", "BWL-3"],
        asked_for=("hemodynamic_status",),
    ),
    Written(
        "peritonitis unknown",
        "Blood is given while the abdomen is examined; no disposition before.",
        {"hemodynamic_status": "unstable", "mechanism": "blunt", "fast": "positive"},
        {"spleen": "high_grade", "hemoperitoneum": "large"},
        ["DCR-2", "DCR-4", "BWL-3"],
        asked_for=("peritonitis",),
    ),
    Written(
        "unstable by the vital signs",
        "Pressure 84 with GCS 13 and shock index 1.5: unstable by WSES, so as if given.",
        {**ASKED, "fast": "positive"},
        {"spleen": "high_grade", "hemoperitoneum": "large"},
        ["SPL-1", "BAT-2", "WSP-4", "NICE-1", "DCR-2", "DCR-4", "BWL-3"],
        "urgent_laparotomy",
        vitals={"heart_rate_bpm": 128, "systolic_mmhg": 84, "gcs": 13},
    ),
    Written(
        "normal vital signs",
        "They do not make a patient stable: nothing is derived, the status is asked for.",
        ASKED,
        {"spleen": "low_grade"},
        ["BWL-3"],
        asked_for=("hemodynamic_status",),
        vitals={"heart_rate_bpm": 95, "systolic_mmhg": 118, "gcs": 15, "base_deficit_mmol_l": 1},
    ),
    Written(
        "low pressure, awake, slow pulse",
        "WSES wants signs of hypoperfusion beside a pressure below 90: asked for, not guessed.",
        ASKED,
        {"spleen": "low_grade"},
        ["BWL-3"],
        asked_for=("hemodynamic_status",),
        vitals={"heart_rate_bpm": 80, "systolic_mmhg": 86, "gcs": 15},
    ),
    Written(
        "fast pulse of a child",
        "Shock index above 1 is normal in a small child; the definition is for adults.",
        {**ASKED, "age_years": 5},
        {"spleen": "low_grade"},
        ["BWL-3"],
        asked_for=("hemodynamic_status",),
        vitals={"heart_rate_bpm": 120, "systolic_mmhg": 100},
    ),
    Written(
        "stable as given, against the vital signs",
        "Who stands at the bedside decides.",
        STABLE,
        {"spleen": "low_grade"},
        ["SPL-2", "SPL-6", "SPL-7", "BWL-3"],
        "nonoperative",
        vitals={"heart_rate_bpm": 118, "systolic_mmhg": 96},
    ),
    Written(
        "56 years",
        "Above 55: age does not forbid the trial (SPL-3).",
        {**STABLE, "age_years": 56},
        {"spleen": "low_grade"},
        ["SPL-2", "SPL-3", "SPL-6", "SPL-7", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "55 years",
        "Not above 55: nothing to say of age.",
        {**STABLE, "age_years": 55},
        {"spleen": "low_grade"},
        ["SPL-2", "SPL-6", "SPL-7", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "nothing given, nothing assessed",
        "Nothing known fires nothing.",
        {},
        NOTHING_ASSESSED,
        [],
        asked_for=("hemodynamic_status", "peritonitis", "mechanism"),
    ),
    Written(
        "stable, nothing assessed",
        "Stable and blunt is no finding; not assessed is not normal.",
        STABLE,
        NOTHING_ASSESSED,
        [],
    ),
    Written(
        "pelvic fracture, unstable, FAST negative",
        "Laparotomy is EAST's word for blunt instability; the pelvis bleeds until other sources are found (PEL-1).",
        {**UNSTABLE, "pelvic_fracture": "present", "fast": "negative"},
        {},
        ["SPL-1", "NICE-1", "DCR-2", "DCR-4", "PEL-1", "PEL-11", "PEL-12", "PEL-5b", "PEL-9", "BWL-3"],
        "urgent_laparotomy",
    ),
    Written(
        "pelvic fracture, unstable, FAST positive",
        "Laparotomy first (PEL-5a), the pelvis once other sources are ruled out (PEL-1).",
        {**UNSTABLE, "pelvic_fracture": "present", "fast": "positive"},
        {"hemoperitoneum": "large"},
        [
            *("SPL-1", "BAT-2", "PEL-5a", "NICE-1", "DCR-2", "DCR-4", "PEL-1", "PEL-11", "PEL-12"),
            *("PEL-9", "BWL-3"),
        ],
        "urgent_laparotomy",
    ),
    Written(
        "pelvic fracture, stable, 70 years, extravasation",
        "From the pelvis it may need embolization though stable (PEL-2); above 60 likewise if the fracture is major.",
        {**STABLE, "pelvic_fracture": "present", "age_years": 70},
        BLEEDS,
        ["BWL-6", "PEL-2", "PEL-4", "PEL-7", "OIS-1", "BWL-3"],
    ),
    Written(
        "pelvic fracture beside a low spleen, stable",
        "The spleen is not isolated, so not SPL-2; the fracture does not forbid the trial (SPL-3).",
        {**STABLE, "pelvic_fracture": "present"},
        {"spleen": "low_grade"},
        ["SPL-3", "SPL-6", "SPL-7", "PEL-7", "PEL-9", "BWL-3"],
    ),
    Written(
        "pancreas I or II, stable",
        "EAST pancreas: nonoperative, conditional; the duct decides.",
        {**STABLE, "pancreatic_injury": "grade_i_ii"},
        {},
        ["PAN-1", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "pancreas III or IV beside a low liver, stable",
        "Operate on the pancreas, conditional: the liver's nonoperative row must not stand beside it.",
        {**STABLE, "pancreatic_injury": "grade_iii_iv"},
        {"liver": "low_grade"},
        ["PAN-2", "PAN-4", "BWL-3"],
        "operation",
    ),
    Written(
        "pancreas III or IV, transient responder",
        "The advice stands; what comes first is for those at the bedside: the row disposes of nothing.",
        {**STABLE, "hemodynamic_status": "transient_responder", "pancreatic_injury": "grade_iii_iv"},
        {},
        ["WSP-0", "PAN-2b", "BWL-3"],
    ),
    Written(
        "pancreas V, stable",
        "The guideline gives no recommendation, and says so.",
        {**STABLE, "pancreatic_injury": "grade_v"},
        {"spleen": "low_grade"},
        ["PAN-5", "SPL-6", "SPL-7", "BWL-3"],
    ),
    Written(
        "pancreas I or II, unstable",
        "Laparotomy by physiology; no resection for what is found there (PAN-3).",
        {**UNSTABLE, "pancreatic_injury": "grade_i_ii"},
        {},
        ["SPL-1", "NICE-1", "PAN-3", "BWL-3"],
        "urgent_laparotomy",
    ),
    Written(
        "anticoagulated, stable, low liver with a little blood",
        "NICE: reverse it where there is bleeding; the liver stays nonoperative.",
        {**STABLE, "anticoagulated": True},
        {"liver": "low_grade", "hemoperitoneum": "small"},
        ["NICE-3", "LIV-0", "BWL-3"],
        "nonoperative",
    ),
    Written(
        "anticoagulated, stable, nothing found",
        "NICE: no reversal without bleeding or its suspicion.",
        {**STABLE, "anticoagulated": True},
        {},
        ["BWL-3"],
    ),
]


def findings_of(read: dict[str, str]) -> Findings:
    values = {**CLEAN, "injury_pattern": "indeterminate", "severity": "moderate", **read}
    found = {name: {"value": value, "probability": 0.8, "probabilities": {}} for name, value in values.items()}
    return Findings.model_validate({**found, "bleeding_description": "", "differentials": []})


@pytest.mark.parametrize("written", CASES, ids=lambda written: written.name)
def test_rows_in_order_disposition_and_what_is_asked_for(written: Written) -> None:
    findings = None if written.read is None else findings_of(written.read)
    case = case_of(findings, ClinicalContext(**written.context), Vitals.model_validate(written.vitals))
    told = recommendations_for(case)
    assert [one.id for one in told] == written.rows
    assert {one.disposition for one in told} - {None} == ({written.disposition} - {None})
    assert needed(case) == written.asked_for


def test_a_derived_status_is_told_with_each_row_that_it_fired() -> None:
    written = next(one for one in CASES if one.name == "unstable by the vital signs")
    case = case_of(findings_of(written.read or {}), ClinicalContext(**written.context), Vitals(**written.vitals))
    by_status = [one for one in recommendations_for(case) if one.id != "BWL-3"]
    assert by_status
    assert all("hemodynamic_status=unstable (derived)" in one.inputs for one in by_status)


def test_scores_with_missing_inputs_are_ranges_and_pick_no_disposition() -> None:
    # pressure 85 gives 1 point; FAST and pulse could add 2 more, which would reach the 2 of massive transfusion
    vitals, context = Vitals(systolic_mmhg=85), ClinicalContext(mechanism="blunt", peritonitis="absent")
    (abc,) = physiology_of(vitals, context)
    assert (abc.name, abc.low, abc.high, abc.missing) == ("abc_score", 1, 3, ["fast", "heart_rate_bpm"])
    case = case_of(findings_of({"spleen": "high_grade"}), context, vitals)
    assert needed(case) == ("hemodynamic_status",)
    assert all(one.disposition is None for one in recommendations_for(case))
