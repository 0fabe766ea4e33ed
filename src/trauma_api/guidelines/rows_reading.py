"""Rows on what a reading of the CT means and cannot exclude. They need no physiology and give no disposition."""

from trauma_api.guidelines.row import EXTRAVASATION, PELVIS, Row, when
from trauma_api.guidelines.sources import AAST_2018, CT_HOLLOW_VISCUS, EAST_PELVIS_2011

READING_ROWS = (
    Row(
        "OIS-1",
        AAST_2018,
        "note of the scale",
        "One contrast phase cannot tell a pseudoaneurysm from active bleeding: the one fades and the other grows on a"
        " delayed phase. Extravasation raises the grade of the organ it comes from.",
        (when(**EXTRAVASATION),),
    ),
    Row(
        "OIS-2",
        AAST_2018,
        "grade of the scale",
        "If the extravasation comes from the spleen (the reading gives no site), the splenic injury is grade IV inside"
        " the capsule and grade V beyond it, although low was read.",
        (when(**EXTRAVASATION, spleen="low_grade"),),
    ),
    Row(
        "OIS-3",
        AAST_2018,
        "grade of the scale",
        "If the extravasation comes from the liver (the reading gives no site), the liver injury is at least grade III"
        " inside the parenchyma and grade IV beyond it, although low was read.",
        (when(**EXTRAVASATION, liver="low_grade"),),
    ),
    Row(
        "OIS-4",
        AAST_2018,
        "grade of the scale",
        "If the extravasation comes from a kidney (the reading gives no site), the renal injury is at least grade III"
        " inside Gerota's fascia and grade IV beyond it, although low was read.",
        (when(**EXTRAVASATION, kidneys="low_grade"),),
    ),
    Row(
        "PEL-5b",
        EAST_PELVIS_2011,
        "Level I",
        "With a pelvic fracture a negative FAST does not exclude intraperitoneal bleeding.",
        (when(**PELVIS, fast="negative"),),
    ),
    Row(
        "PEL-9",
        EAST_PELVIS_2011,
        "Level II",
        "Pelvic fracture: no extravasation on CT does not always exclude active bleeding.",
        (when(**PELVIS, active_extravasation="absent"),),
    ),
    Row(
        "BWL-3",
        CT_HOLLOW_VISCUS,
        "systematic review",
        "No sign of bowel injury was read, but CT misses about a third of those that need an operation (pooled"
        " sensitivity 0.68): examine again; bowel injury is not excluded.",
        (when(bowel_and_mesentery="absent"),),
    ),
)
