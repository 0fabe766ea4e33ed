"""What a sentence or a question is about: the facts by the words that people use for them."""

import re
from collections.abc import Mapping
from types import MappingProxyType

_CUES: Mapping[str, str] = MappingProxyType(
    {
        "liver": r"liver|hepatic",
        "spleen": r"spleen|splenic",
        "kidneys": r"kidneys?|renal",
        "bowel_and_mesentery": r"bowel|mesenter\w+|intestin\w+|gut|colon\w*|duoden\w+|jejun\w+|ileum|ileal",
        "active_extravasation": (
            r"(?:active\s+)?extravasat\w+|active(?:ly)?\s+(?:arterial\s+)?(?:bleed\w*|ha?emorrhag\w*)|blush|"
            r"(?:contrast|vascular)\s+leak\w*"
        ),
        "hemoperitoneum": r"ha?emoperitoneum|free\s+(?:fluid|blood)|(?:intra)?peritoneal\s+(?:fluid|blood)",
        "injury_pattern": r"patterns?",
        "severity": r"severity",
        "volume_ml": r"volumes?|millilit\w+|ml|amount\s+of\s+(?:blood|ha?emorrhage)",
        "risk_level": r"risk",
        "bloodiest_slice": r"slice",
        "slice_count": r"slices|images",
        "shock_index": r"shock\s+index",
        "heart_rate_bpm": r"heart\s+rate|pulse",
        "systolic_mmhg": r"systolic",
        "diastolic_mmhg": r"diastolic",
        "respiratory_rate_bpm": r"respiratory\s+rate|breathing",
        "gcs": r"gcs|glasgow|coma",
        "temperature_c": r"temperature",
        "lactate_mmol_l": r"lactate",
        "base_deficit_mmol_l": r"base\s+(?:deficit|excess)",
        "hemoglobin_g_dl": r"ha?emoglobin|hb",
    }
)
_ASKED_TOO: Mapping[str, str] = MappingProxyType(
    {
        "active_extravasation": r"bleed\w*|leak\w*",
        "volume_ml": r"how\s+much|ha?emorrhage",
        "hemoperitoneum": r"fluid",
        "risk_level": r"dangerous",
        "severity": r"how\s+(?:severe|serious|bad)",
    }
)
"""What a question may call it, and a statement may not."""

_IN_STATEMENTS = {topic: re.compile(rf"\b(?:{cues})\b", re.IGNORECASE) for topic, cues in _CUES.items()}
_IN_QUESTIONS = {
    topic: re.compile(rf"\b(?:{'|'.join(filter(None, (cues, _ASKED_TOO.get(topic))))})\b", re.IGNORECASE)
    for topic, cues in _CUES.items()
}
_SLOTS_OF_OTHERS = {"volume_low_ml": "volume_ml", "volume_high_ml": "volume_ml"}

FINDINGS = (
    "liver",
    "spleen",
    "kidneys",
    "bowel_and_mesentery",
    "active_extravasation",
    "hemoperitoneum",
    "injury_pattern",
    "severity",
)
SOLID_ORGANS = frozenset({"liver", "spleen", "kidneys"})


def topics_in(text: str) -> tuple[str, ...]:
    """The facts that a statement names, in a fixed order."""
    return tuple(topic for topic, cue in _IN_STATEMENTS.items() if cue.search(text))


def topics_asked(question: str) -> tuple[str, ...]:
    """The facts that a question is about; empty where it names none."""
    return tuple(topic for topic, cue in _IN_QUESTIONS.items() if cue.search(question))


def topic_of_slot(slot: str) -> str:
    """The fact that a slot states."""
    return _SLOTS_OF_OTHERS.get(slot, slot)


def without_topics(text: str) -> str:
    """The text without the words that name a fact."""
    for cue in _IN_STATEMENTS.values():
        text = cue.sub(" ", text)
    return text
