"""Names and values of fields in a reader's words, for lines that no model sees."""

from collections.abc import Iterable

_WORDS = {
    "fast": "FAST",
    "gcs": "Glasgow Coma Scale",
    "abc_score": "ABC score",
    "age_years": "age in years",
    "heart_rate_bpm": "heart rate",
    "systolic_mmhg": "systolic pressure",
    "diastolic_mmhg": "diastolic pressure",
    "respiratory_rate_bpm": "respiratory rate",
    "temperature_c": "temperature",
    "lactate_mmol_l": "lactate",
    "base_deficit_mmol_l": "base deficit",
    "hemoglobin_g_dl": "hemoglobin",
    "anticoagulated": "anticoagulation",
    "older_than_55": "older than 55",
    "older_than_60": "older than 60",
    "grade_i_ii": "AAST grade I or II",
    "grade_iii_iv": "AAST grade III or IV",
    "grade_v": "AAST grade V",
}


def in_words(name: str) -> str:
    """A field's or value's name as it stands within a sentence."""
    return _WORDS.get(name, name.replace("_", " "))


def capitalized(name: str) -> str:
    """The same at the beginning of a line."""
    text = in_words(name)
    return text[0].upper() + text[1:]


def listed(names: Iterable[str]) -> str:
    """Several, with commas."""
    return ", ".join(in_words(name) for name in names)


def input_in_words(told: str) -> str:
    """``spleen=high_grade (derived)`` as ``spleen: high grade (derived)``."""
    name, _, value = told.partition("=")
    return f"{in_words(name)}: {in_words(value)}"
