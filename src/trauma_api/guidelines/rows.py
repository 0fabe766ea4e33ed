"""The recommendations as data, in the order in which they are told: physiology before CT findings.

A row fires where one of its conditions holds: all named inputs have one of the named values. Rows whose wording could
not be read at a source are not here. Statements are in this project's words. Nothing is keyed on millilitres.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trauma_api.guidelines.sources import (
    AAST_2018,
    AUA_UROTRAUMA,
    CT_HOLLOW_VISCUS,
    EAST_BLUNT_ABDOMEN,
    EAST_LIVER_2012,
    EAST_RESUSCITATION_2017,
    EAST_SPLEEN_2012,
    WSES_BOWEL_2022,
    WTA_BOWEL_2021,
    Source,
)

Condition = Mapping[str, frozenset[str]]
Disposition = Literal["urgent_laparotomy", "operation_or_angiography", "nonoperative"]


@dataclass(frozen=True)
class Row:
    """One recommendation. ``disposition`` is what it comes down to, None for what qualifies or supports others."""

    id: str
    source: Source
    level: str
    statement: str
    any_of: tuple[Condition, ...]
    disposition: Disposition | None = None


def _when(**inputs: str) -> Condition:
    """``_when(spleen="low_grade high_grade")``: values are separated by spaces."""
    return {name: frozenset(values.split()) for name, values in inputs.items()}


_INJURED = "low_grade high_grade"
_BLUNT_STABLE = {"hemodynamic_status": "stable", "peritonitis": "absent", "mechanism": "blunt"}
_BLUNT_UNSTABLE = {"hemodynamic_status": "unstable", "peritonitis": "present absent", "mechanism": "blunt"}
_BLEEDING = (
    _when(hemodynamic_status="unstable", active_extravasation="present"),
    _when(hemodynamic_status="unstable", hemoperitoneum="moderate large"),
)

ROWS: tuple[Row, ...] = (
    Row(
        "SPL-1",
        EAST_SPLEEN_2012,
        "Level 1",
        "Diffuse peritonitis, or hemodynamic instability after blunt abdominal trauma: take the patient to laparotomy"
        " urgently.",
        (
            _when(**_BLUNT_UNSTABLE),
            _when(peritonitis="present", mechanism="blunt", hemodynamic_status="stable transient_responder unstable"),
        ),
        "urgent_laparotomy",
    ),
    Row(
        "BAT-2",
        EAST_BLUNT_ABDOMEN,
        "Level I",
        "FAST is positive and the patient unstable: exploratory laparotomy.",
        (_when(**_BLUNT_UNSTABLE, fast="positive"),),
        "urgent_laparotomy",
    ),
    Row(
        "DCR-2",
        EAST_RESUSCITATION_2017,
        "strong",
        "Severe bleeding: give plasma and platelets at high ratios to red cells, with packs close to 1:1:1.",
        _BLEEDING,
    ),
    Row(
        "DCR-4",
        EAST_RESUSCITATION_2017,
        "conditional",
        "Severe bleeding: tranexamic acid may be given in hospital within 3 hours of the injury.",
        _BLEEDING,
    ),
    Row(
        "REN-2",
        AUA_UROTRAUMA,
        "Standard, B",
        "Renal injury and no or only a transient response to resuscitation: operate at once, or embolize in selected"
        " cases.",
        (
            _when(
                hemodynamic_status="transient_responder",
                peritonitis="absent",
                mechanism="blunt penetrating",
                kidneys=_INJURED,
            ),
        ),
        "operation_or_angiography",
    ),
    Row(
        "BWL-1",
        WTA_BOWEL_2021,
        "none stated",
        "Suspected bowel or mesenteric injury: a radiologist must name its signs now. Hard signs (wall discontinuity,"
        " extraluminal air not from a pneumothorax, mesenteric blush) call for operation; several soft signs together"
        " make an injury likely. Delay worsens survival.",
        (_when(bowel_and_mesentery="present"),),
    ),
    Row(
        "BWL-2",
        WSES_BOWEL_2022,
        "none stated",
        "Equivocal signs of bowel injury on the first CT: repeat it after about 6 hours.",
        (_when(bowel_and_mesentery="present", hemodynamic_status="stable", peritonitis="absent"),),
    ),
    Row(
        "SPL-5",
        EAST_SPLEEN_2012,
        "Level 2",
        "Splenic injury treated without operation, with AAST grade above III, a contrast blush, moderate (here: or"
        " large) hemoperitoneum, or signs of ongoing splenic bleeding: consider angiography.",
        (
            _when(**_BLUNT_STABLE, spleen="high_grade"),
            _when(**_BLUNT_STABLE, spleen=_INJURED, active_extravasation="present"),
            _when(**_BLUNT_STABLE, spleen=_INJURED, hemoperitoneum="moderate large"),
        ),
    ),
    Row(
        "SPL-8",
        EAST_SPLEEN_2012,
        "Level 3",
        "A contrast blush alone is no absolute indication for operation or angiography; weigh age, grade and"
        " hypotension.",
        (_when(**_BLUNT_STABLE, spleen=_INJURED, active_extravasation="present"),),
    ),
    Row(
        "SPL-2",
        EAST_SPLEEN_2012,
        "Level 2",
        "Stable, no peritonitis, isolated splenic injury: routine laparotomy is not indicated.",
        (_when(**_BLUNT_STABLE, spleen=_INJURED, liver="none", kidneys="none", bowel_and_mesentery="absent"),),
        "nonoperative",
    ),
    Row(
        "SPL-3",
        EAST_SPLEEN_2012,
        "Level 2",
        "Neither a high grade, nor a large hemoperitoneum, nor age above 55, nor associated injuries rule out a trial"
        " of nonoperative management of the spleen in a stable patient.",
        (
            _when(**_BLUNT_STABLE, spleen="high_grade"),
            _when(**_BLUNT_STABLE, spleen=_INJURED, hemoperitoneum="large"),
            _when(**_BLUNT_STABLE, spleen=_INJURED, older_than_55="yes"),
            _when(**_BLUNT_STABLE, spleen=_INJURED, liver=_INJURED),
            _when(**_BLUNT_STABLE, spleen=_INJURED, kidneys=_INJURED),
        ),
    ),
    Row(
        "SPL-6",
        EAST_SPLEEN_2012,
        "Level 2",
        "Nonoperative management of the spleen only where the patient can be monitored and examined serially, and an"
        " operating room is available for urgent laparotomy.",
        (_when(**_BLUNT_STABLE, spleen=_INJURED),),
    ),
    Row(
        "SPL-7",
        EAST_SPLEEN_2012,
        "Level 3",
        "Persistent systemic inflammation, increasing or persistent pain, or an unexplained drop of hemoglobin decide"
        " whether and how often the spleen is imaged again.",
        (_when(**_BLUNT_STABLE, spleen=_INJURED),),
    ),
    Row(
        "LIV-0",
        EAST_LIVER_2012,
        "conclusion of the guideline, level not read",
        "Nonoperative management is the treatment of choice for blunt liver injury in a hemodynamically stable patient,"
        " whatever the grade or the patient's age.",
        (_when(**_BLUNT_STABLE, liver=_INJURED, bowel_and_mesentery="absent"),),
        "nonoperative",
    ),
    Row(
        "REN-1",
        AUA_UROTRAUMA,
        "Standard, B",
        "Stable patient with renal injury: manage it without intervention.",
        (
            _when(
                hemodynamic_status="stable",
                peritonitis="absent",
                mechanism="blunt",
                kidneys=_INJURED,
                bowel_and_mesentery="absent",
            ),
        ),
        "nonoperative",
    ),
    Row(
        "REN-3",
        AUA_UROTRAUMA,
        "Clinical Principle",
        "Suspected renal injury in a stable patient: CT needs an immediate and a delayed phase to show a urine leak.",
        (_when(hemodynamic_status="stable", kidneys=_INJURED),),
    ),
    Row(
        "REN-4",
        AUA_UROTRAUMA,
        "Recommendation, C",
        "Renal injury of AAST grade IV or V, or clinical complications: repeat CT.",
        (_when(hemodynamic_status="stable", kidneys="high_grade"),),
    ),
    Row(
        "OIS-1",
        AAST_2018,
        "note of the scale",
        "One contrast phase cannot tell a pseudoaneurysm from active bleeding: the one fades and the other grows on a"
        " delayed phase. Extravasation raises the grade of the organ it comes from.",
        (_when(active_extravasation="present"),),
    ),
    Row(
        "BWL-3",
        CT_HOLLOW_VISCUS,
        "systematic review",
        "No sign of bowel injury was read, but CT misses about a third of those that need an operation (pooled"
        " sensitivity 0.68): examine again; bowel injury is not excluded.",
        (_when(bowel_and_mesentery="absent"),),
    ),
)
