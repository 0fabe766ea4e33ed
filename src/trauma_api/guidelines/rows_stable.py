"""Rows for stable patients: bleeding that CT shows, then the trial of nonoperative management and what it needs.

The reading does not say where an extravasation comes from: a row about one says what follows if it is from there.
"""

from trauma_api.guidelines.row import BLUNT_STABLE, EXTRAVASATION, INJURED, PELVIS, STABLE, Row, when
from trauma_api.guidelines.sources import (
    AUA_UROTRAUMA,
    EAST_GENITOURINARY_2004,
    EAST_LIVER_2012,
    EAST_PELVIS_2011,
    EAST_PENETRATING_2010,
    EAST_SPLEEN_2012,
    NICE_NG39,
)

_BLUNT_SPLEEN = {**BLUNT_STABLE, "spleen": INJURED}
_BLUNT_KIDNEY_HIGH = {**BLUNT_STABLE, "kidneys": "high_grade"}
_HOLDING_BLEEDER = {"hemodynamic_status": "stable transient_responder", "peritonitis": "absent", **EXTRAVASATION}
_PANCREAS_TO_OPERATE = when(pancreatic_injury="grade_iii_iv grade_v")

BLEEDING_ROWS = (
    Row(
        "PEL-2",
        EAST_PELVIS_2011,
        "Level I",
        "Pelvic fracture and extravasation: if it is arterial and in the pelvis (the reading gives no site), pelvic"
        " angiography with embolization may be needed, whatever the hemodynamic status.",
        (when(**PELVIS, **EXTRAVASATION),),
    ),
    Row(
        "PEL-4",
        EAST_PELVIS_2011,
        "Level II",
        "Older than 60 with a pelvic fracture: if it is a major one (open book, butterfly segment or vertical shear),"
        " consider pelvic angiography, whatever the hemodynamic status.",
        (when(**PELVIS, older_than_60="yes"),),
    ),
    Row(
        "NICE-2",
        NICE_NG39,
        "consider",
        "Extravasation and an injured solid organ: if it is arterial and from that organ (the reading gives no site),"
        " consider interventional radiology.",
        (
            when(**_HOLDING_BLEEDER, liver=INJURED),
            when(**_HOLDING_BLEEDER, spleen=INJURED),
            when(**_HOLDING_BLEEDER, kidneys=INJURED),
        ),
    ),
    Row(
        "SPL-5",
        EAST_SPLEEN_2012,
        "Level 2",
        "Splenic injury treated without operation, with AAST grade above III, a contrast blush of the spleen (the"
        " reading gives no site), moderate (here: or large) hemoperitoneum, or signs of ongoing splenic bleeding:"
        " consider angiography.",
        (
            when(**BLUNT_STABLE, spleen="high_grade"),
            when(**_BLUNT_SPLEEN, **EXTRAVASATION),
            when(**_BLUNT_SPLEEN, hemoperitoneum="moderate large"),
        ),
    ),
    Row(
        "SPL-8",
        EAST_SPLEEN_2012,
        "Level 3",
        "A contrast blush of the spleen alone is no absolute indication for operation or angiography; weigh age, grade"
        " and hypotension.",
        (when(**_BLUNT_SPLEEN, **EXTRAVASATION),),
    ),
)

NONOPERATIVE_ROWS = (
    Row(
        "SPL-2",
        EAST_SPLEEN_2012,
        "Level 2",
        "Stable, no peritonitis, splenic injury isolated as far as was read: routine laparotomy is not indicated.",
        (when(**_BLUNT_SPLEEN, liver="none", kidneys="none", bowel_and_mesentery="absent"),),
        "nonoperative",
        unless=(when(**PELVIS), when(pancreatic_injury="grade_i_ii"), _PANCREAS_TO_OPERATE),
    ),
    Row(
        "SPL-3",
        EAST_SPLEEN_2012,
        "Level 2",
        "Neither a high grade, nor a large hemoperitoneum, nor age above 55, nor associated injuries rule out a trial"
        " of nonoperative management of the spleen in a stable patient.",
        (
            when(**BLUNT_STABLE, spleen="high_grade"),
            when(**_BLUNT_SPLEEN, hemoperitoneum="large"),
            when(**_BLUNT_SPLEEN, older_than_55="yes"),
            when(**_BLUNT_SPLEEN, liver=INJURED),
            when(**_BLUNT_SPLEEN, kidneys=INJURED),
            when(**_BLUNT_SPLEEN, **PELVIS),
        ),
        unless=(_PANCREAS_TO_OPERATE,),
    ),
    Row(
        "SPL-6",
        EAST_SPLEEN_2012,
        "Level 2",
        "Nonoperative management of the spleen only where the patient can be monitored and examined serially, and an"
        " operating room is available for urgent laparotomy.",
        (when(**_BLUNT_SPLEEN),),
    ),
    Row(
        "SPL-7",
        EAST_SPLEEN_2012,
        "Level 3",
        "Persistent systemic inflammation, increasing or persistent pain, or an unexplained drop of hemoglobin decide"
        " whether and how often the spleen is imaged again.",
        (when(**_BLUNT_SPLEEN),),
    ),
    Row(
        "PEN-3",
        EAST_PENETRATING_2010,
        "Level 1",
        "Penetrating trauma, stable, and no reliable examination (injured brain or cord, intoxication, sedation):"
        " further tests for an intraperitoneal injury, or laparotomy.",
        (when(**STABLE, mechanism="penetrating"),),
    ),
    Row(
        "PEN-2",
        EAST_PENETRATING_2010,
        "Level 2",
        "Penetrating trauma, stable, no peritonitis: no routine laparotomy for a stab wound (where the expertise is at"
        " hand) or a tangential gunshot wound; examine serially, by the same experienced people.",
        (when(**STABLE, mechanism="penetrating"),),
        unless=(
            when(bowel_and_mesentery="present"),
            when(**EXTRAVASATION),
            when(hemoperitoneum="moderate large"),
            _PANCREAS_TO_OPERATE,
        ),
    ),
    Row(
        "LIV-0",
        EAST_LIVER_2012,
        "conclusion of the guideline, level not read",
        "Nonoperative management is the treatment of choice for blunt liver injury in a hemodynamically stable patient,"
        " whatever the grade or the patient's age.",
        (when(**BLUNT_STABLE, liver=INJURED, bowel_and_mesentery="absent"),),
        "nonoperative",
        unless=(_PANCREAS_TO_OPERATE,),
    ),
    Row(
        "REN-1",
        AUA_UROTRAUMA,
        "Standard, B",
        "Stable patient with renal injury: manage it without intervention.",
        (when(**BLUNT_STABLE, kidneys=INJURED, bowel_and_mesentery="absent"),),
        "nonoperative",
        unless=(_PANCREAS_TO_OPERATE,),
    ),
    Row(
        "GU-1",
        EAST_GENITOURINARY_2004,
        "Level II",
        "A shattered but perfused kidney in a stable patient who needs little transfusion has few complications under"
        " conservative management; most of them can be treated without open surgery.",
        (when(**_BLUNT_KIDNEY_HIGH),),
    ),
    Row(
        "GU-2",
        EAST_GENITOURINARY_2004,
        "Level III",
        "Angiographic embolization may raise the success of nonoperative management of a kidney.",
        (when(**_BLUNT_KIDNEY_HIGH), when(**BLUNT_STABLE, kidneys=INJURED, **EXTRAVASATION)),
    ),
    Row(
        "GU-3",
        EAST_GENITOURINARY_2004,
        "Level III",
        "A blunt renal laceration that leaks urine has few complications without operation.",
        (when(**_BLUNT_KIDNEY_HIGH),),
    ),
    Row(
        "GU-4",
        EAST_GENITOURINARY_2004,
        "Level III",
        "A major renal laceration with devascularized segments often has urologic complications under conservative"
        " management (38 to 82 %).",
        (when(**_BLUNT_KIDNEY_HIGH),),
    ),
    Row(
        "REN-3",
        AUA_UROTRAUMA,
        "Clinical Principle",
        "Suspected renal injury in a stable patient: CT needs an immediate and a delayed phase to show a urine leak.",
        (when(hemodynamic_status="stable", kidneys=INJURED),),
    ),
    Row(
        "REN-4",
        AUA_UROTRAUMA,
        "Recommendation, C",
        "Renal injury of AAST grade IV or V, or clinical complications: repeat CT.",
        (when(hemodynamic_status="stable", kidneys="high_grade"),),
    ),
    Row(
        "PEL-7",
        EAST_PELVIS_2011,
        "Level II",
        "Stable with a pelvic fracture: contrast CT of abdomen and pelvis decides on intra-abdominal bleeding, whatever"
        " FAST showed.",
        (when(hemodynamic_status="stable", **PELVIS),),
    ),
)
