"""Rows for peritonitis, and for patients who are unstable or respond only for a time: before all CT findings."""

from trauma_api.guidelines.row import EXTRAVASATION, INJURED, NOT_HOLDING, PELVIS, Row, when
from trauma_api.guidelines.sources import (
    AUA_UROTRAUMA,
    EAST_BLUNT_ABDOMEN,
    EAST_PELVIS_2011,
    EAST_PENETRATING_2010,
    EAST_RESUSCITATION_2017,
    EAST_SPLEEN_2012,
    NICE_NG39,
    WSES_SPLEEN_2017,
)

_UNSTABLE = {"hemodynamic_status": "unstable", "peritonitis": "present absent"}
_PERITONITIS = {"hemodynamic_status": "stable transient_responder unstable", "peritonitis": "present"}
_BLEEDING = (
    when(**NOT_HOLDING, **EXTRAVASATION),
    when(**NOT_HOLDING, hemoperitoneum="moderate large"),
    when(**NOT_HOLDING, fast="positive"),
    when(**NOT_HOLDING, **PELVIS),
)

PHYSIOLOGY_ROWS = (
    Row(
        "SPL-1",
        EAST_SPLEEN_2012,
        "Level 1",
        "Diffuse peritonitis, or hemodynamic instability after blunt abdominal trauma: take the patient to laparotomy"
        " urgently.",
        (when(**_UNSTABLE, mechanism="blunt"), when(**_PERITONITIS, mechanism="blunt")),
        "urgent_laparotomy",
    ),
    Row(
        "PEN-1",
        EAST_PENETRATING_2010,
        "Level 1",
        "Penetrating abdominal trauma with hemodynamic instability or a diffusely tender abdomen: laparotomy at once.",
        (when(**_UNSTABLE, mechanism="penetrating"), when(**_PERITONITIS, mechanism="penetrating")),
        "urgent_laparotomy",
    ),
    Row(
        "BAT-2",
        EAST_BLUNT_ABDOMEN,
        "Level I",
        "FAST is positive and the patient unstable: exploratory laparotomy.",
        (when(**_UNSTABLE, mechanism="blunt", fast="positive"),),
        "urgent_laparotomy",
    ),
    Row(
        "PEL-5a",
        EAST_PELVIS_2011,
        "Level I",
        "Pelvic fracture, unstable, and FAST positive: FAST is specific enough here for a laparotomy to stop the"
        " bleeding.",
        (when(**_UNSTABLE, mechanism="blunt", fast="positive", **PELVIS),),
        "urgent_laparotomy",
    ),
    Row(
        "WSP-4",
        WSES_SPLEEN_2017,
        "class IV of the classification",
        "Splenic injury of any grade in an unstable patient, or in one who responds only for a time: operate.",
        (when(**NOT_HOLDING, peritonitis="present absent", mechanism="blunt penetrating", spleen=INJURED),),
        "urgent_laparotomy",
    ),
    Row(
        "WSP-0",
        WSES_SPLEEN_2017,
        "definition",
        "A patient who responds at first and then shows signs of ongoing loss counts as hemodynamically unstable.",
        (when(hemodynamic_status="transient_responder"),),
    ),
    Row(
        "NICE-1",
        NICE_NG39,
        "use",
        "Unstable and not responding to volume: when operating, do damage control surgery.",
        (when(**_UNSTABLE, mechanism="blunt penetrating"),),
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
        "NICE-3",
        NICE_NG39,
        "use",
        "Bleeding under an anticoagulant: reverse it fast (prothrombin complex for a vitamin K antagonist in an adult,"
        " no plasma for it; a hematologist's advice for any other drug).",
        (
            when(anticoagulated="yes", **NOT_HOLDING),
            when(anticoagulated="yes", **EXTRAVASATION),
            when(anticoagulated="yes", hemoperitoneum="small moderate large"),
        ),
    ),
    Row(
        "NICE-4",
        NICE_NG39,
        "be aware",
        "A negative FAST excludes neither intraperitoneal nor retroperitoneal bleeding.",
        (when(**NOT_HOLDING, fast="negative"),),
        unless=(when(**PELVIS),),
    ),
    Row(
        "REN-2",
        AUA_UROTRAUMA,
        "Standard, B",
        "Renal injury and no or only a transient response to resuscitation: operate at once, or embolize in selected"
        " cases.",
        (
            when(
                hemodynamic_status="transient_responder",
                peritonitis="absent",
                mechanism="blunt penetrating",
                kidneys=INJURED,
            ),
        ),
        "operation_or_angiography",
        unless=(when(spleen=INJURED),),
    ),
    Row(
        "PEL-1",
        EAST_PELVIS_2011,
        "Level I",
        "Pelvic fracture with instability or signs of ongoing bleeding: once sources outside the pelvis are ruled out,"
        " consider pelvic angiography with embolization.",
        (when(**NOT_HOLDING, **PELVIS),),
    ),
    Row(
        "PEL-11",
        EAST_PELVIS_2011,
        "Level III",
        "A pelvic binder reduces an unstable fracture and the pelvic volume; it may limit bleeding, an effect on"
        " mortality was not seen.",
        (when(**NOT_HOLDING, **PELVIS),),
    ),
    Row(
        "PEL-12",
        EAST_PELVIS_2011,
        "Level III",
        "Retroperitoneal packing of the pelvis controls bleeding as a salvage after embolization, or within a"
        " multidisciplinary pathway.",
        (when(**NOT_HOLDING, **PELVIS),),
    ),
)
