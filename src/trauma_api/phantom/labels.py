"""What a voxel of a phantom is. Blood is labelled by the compartment that it lies in."""

from enum import IntEnum


class Label(IntEnum):
    """The label volume's values. Gaps are left so that a value keeps its meaning in later versions."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    BONE = 3
    LUNG = 4
    LIVER = 5
    SPLEEN = 6
    LEFT_KIDNEY = 7
    RIGHT_KIDNEY = 8
    STOMACH = 9
    BOWEL = 10
    BLADDER = 11
    AORTA = 12
    VEIN = 13
    VESSEL = 14
    PANCREAS = 15
    GALLBLADDER = 16
    SOFT_TISSUE = 17
    TABLE = 18
    METAL = 19
    CONTUSION = 20
    FREE_AIR = 21
    INJURED_BOWEL = 22
    ASCITES = 23
    OLD_HEMATOMA = 24
    CYST = 25
    INFARCT = 26
    LACERATION = 30
    SUBCAPSULAR = 31
    PERIHEPATIC = 32
    MORISON = 33
    PERISPLENIC = 34
    RIGHT_GUTTER = 35
    LEFT_GUTTER = 36
    PELVIC = 37
    MESENTERIC = 38
    RETROPERITONEAL = 39
    PERIRENAL = 40
    EXTRAVASATION = 41


BLOOD_LABELS = tuple(label for label in Label if label >= Label.LACERATION)
"""Blood outside vessels; what a hemorrhage mask must hold. A contusion is injured tissue, not blood."""

PERITONEAL_LABELS = (
    Label.PERIHEPATIC,
    Label.MORISON,
    Label.PERISPLENIC,
    Label.RIGHT_GUTTER,
    Label.LEFT_GUTTER,
    Label.PELVIC,
    Label.MESENTERIC,
)
"""The compartments of hemoperitoneum."""

INJURY_LABELS = (Label.CONTUSION, Label.FREE_AIR, Label.INJURED_BOWEL, Label.INFARCT, *BLOOD_LABELS)
"""What makes a slice one with injury or blood."""
