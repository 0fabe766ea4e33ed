"""The recommendations as data, in the order in which they are told: physiology before CT findings.

Rows whose wording could not be read at a source stand last and never fire. Statements are in this project's words.
Nothing is keyed on millilitres.
"""

from trauma_api.guidelines.row import Row
from trauma_api.guidelines.rows_bowel_pancreas import BOWEL_AND_PANCREAS_ROWS
from trauma_api.guidelines.rows_physiology import PHYSIOLOGY_ROWS
from trauma_api.guidelines.rows_reading import READING_ROWS
from trauma_api.guidelines.rows_stable import BLEEDING_ROWS, NONOPERATIVE_ROWS
from trauma_api.guidelines.rows_unconfirmed import UNCONFIRMED_ROWS

ROWS: tuple[Row, ...] = (
    *PHYSIOLOGY_ROWS,
    *BOWEL_AND_PANCREAS_ROWS,
    *BLEEDING_ROWS,
    *NONOPERATIVE_ROWS,
    *READING_ROWS,
    *UNCONFIRMED_ROWS,
)
