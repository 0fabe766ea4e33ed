"""Rows whose wording or level could not be read at a source: kept to be confirmed, never told to anybody.

A row that is confirmed moves to the table of its kind.
"""

from trauma_api.guidelines.row import BLUNT_STABLE, EXTRAVASATION, INJURED, STABLE, Row, when
from trauma_api.guidelines.sources import EAST_LIVER_2012, EAST_RENAL_2023

UNCONFIRMED_ROWS: tuple[Row, ...] = (
    Row(
        "LIV-4",
        EAST_LIVER_2012,
        "2, not read",
        "Transient response to resuscitation with a liver injury: angiography with embolization may come first, beside"
        " a possible operation.",
        (when(hemodynamic_status="transient_responder", mechanism="blunt", liver=INJURED),),
        confirmed=False,
    ),
    Row(
        "LIV-6",
        EAST_LIVER_2012,
        "2, not read",
        "Stable patient with a liver injury and a contrast blush: consider angiography with embolization.",
        (when(**BLUNT_STABLE, **EXTRAVASATION, liver=INJURED),),
        confirmed=False,
    ),
    Row(
        "LIV-7",
        EAST_LIVER_2012,
        "2, not read",
        "Nonoperative management of the liver only where the patient can be monitored and examined serially, and an"
        " operating room is available.",
        (when(**BLUNT_STABLE, liver=INJURED),),
        confirmed=False,
    ),
    Row(
        "REN-5",
        EAST_RENAL_2023,
        "conditional, vote not read",
        "Stable patient with renal injury and ongoing bleeding: embolize rather than not.",
        (when(**STABLE, **EXTRAVASATION, mechanism="blunt penetrating", kidneys=INJURED),),
        confirmed=False,
    ),
    Row(
        "REN-6",
        EAST_RENAL_2023,
        "conditional, vote not read",
        "High-grade renal injury without operation: image again by symptoms rather than by routine.",
        (when(**STABLE, mechanism="blunt penetrating", kidneys="high_grade"),),
        confirmed=False,
    ),
)
