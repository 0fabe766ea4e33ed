"""Rows for suspected bowel injury, and for pancreatic injury, which only the caller can state."""

from trauma_api.guidelines.row import BLUNT_STABLE, EXTRAVASATION, STABLE, Row, when
from trauma_api.guidelines.sources import EAST_PANCREAS_2017, WSES_BOWEL_2022, WTA_BOWEL_2021

_NO_SOLID_ORGAN = {"liver": "none", "spleen": "none", "kidneys": "none"}
_PANCREAS_INJURED = "grade_i_ii grade_iii_iv grade_v"
_OPERATE_ON_THE_DUCT = (
    "Pancreatic injury of grade III or IV on CT (its duct is injured): operate; delay likely adds complications and"
    " deaths."
)

BOWEL_AND_PANCREAS_ROWS = (
    Row(
        "BWL-1",
        WTA_BOWEL_2021,
        "none stated",
        "Suspected bowel or mesenteric injury: a radiologist must name its signs now. Hard signs (wall discontinuity,"
        " extraluminal air not from a pneumothorax, mesenteric blush) call for operation; several soft signs together"
        " make an injury likely. Delay worsens survival.",
        (when(bowel_and_mesentery="present"),),
        unless=(when(mechanism="penetrating"),),
    ),
    Row(
        "BWL-5",
        WSES_BOWEL_2022,
        "Moderate",
        "Suspected bowel injury: a radiologist must name its signs now. Highly specific ones (air or oral contrast"
        " outside the bowel, a defect of its wall) call for prompt exploration.",
        (when(bowel_and_mesentery="present", mechanism="penetrating"),),
    ),
    Row(
        "BWL-4",
        WSES_BOWEL_2022,
        "Moderate",
        "Free fluid without an injured solid organ is a sensitive sign of bowel injury: weigh it with the clinical"
        " picture; it does not decide alone.",
        (when(hemoperitoneum="small moderate large", **_NO_SOLID_ORGAN),),
        unless=(
            when(bowel_and_mesentery="present"),
            when(pancreatic_injury=_PANCREAS_INJURED),
            when(hemodynamic_status="unstable"),
        ),
    ),
    Row(
        "BWL-6",
        WTA_BOWEL_2021,
        "none stated",
        "Extravasation that no injured solid organ explains: if it is in the mesentery (the reading gives no site), it"
        " is a hard sign of bowel or mesenteric injury and calls for operation.",
        (when(**EXTRAVASATION, **_NO_SOLID_ORGAN),),
        unless=(when(bowel_and_mesentery="present"), when(mechanism="penetrating")),
    ),
    Row(
        "BWL-2",
        WSES_BOWEL_2022,
        "High",
        "Equivocal signs of bowel injury on the first CT: repeat it after about 6 hours.",
        (when(**STABLE, bowel_and_mesentery="present"),),
    ),
    Row(
        "PAN-2",
        EAST_PANCREAS_2017,
        "conditional",
        _OPERATE_ON_THE_DUCT,
        (when(**STABLE, mechanism="blunt penetrating", pancreatic_injury="grade_iii_iv"),),
        "operation",
    ),
    Row(
        "PAN-2b",
        EAST_PANCREAS_2017,
        "conditional",
        _OPERATE_ON_THE_DUCT,
        (
            when(pancreatic_injury="grade_iii_iv", hemodynamic_status="transient_responder unstable"),
            when(pancreatic_injury="grade_iii_iv", peritonitis="present"),
        ),
    ),
    Row(
        "PAN-4",
        EAST_PANCREAS_2017,
        "conditional",
        "Pancreatic injury of grade III or IV found at operation: resect.",
        (when(pancreatic_injury="grade_iii_iv", hemodynamic_status="stable"),),
    ),
    Row(
        "PAN-5",
        EAST_PANCREAS_2017,
        "no recommendation",
        "Destroyed head of the pancreas (grade V): the guideline found too little to recommend one operation over"
        " another; mortality is high.",
        (when(pancreatic_injury="grade_v"),),
    ),
    Row(
        "PAN-3",
        EAST_PANCREAS_2017,
        "conditional",
        "Pancreatic injury of grade I or II found at operation: do not resect.",
        (
            when(pancreatic_injury="grade_i_ii", hemodynamic_status="unstable"),
            when(pancreatic_injury="grade_i_ii", peritonitis="present"),
        ),
    ),
    Row(
        "PAN-1",
        EAST_PANCREAS_2017,
        "conditional",
        "Pancreatic injury of grade I or II on CT: manage it without operation. Where the duct is not surely intact,"
        " examine it (MRCP or ERCP), as that may change the grade and the plan.",
        (when(**BLUNT_STABLE, pancreatic_injury="grade_i_ii", bowel_and_mesentery="absent"),),
        "nonoperative",
    ),
)
