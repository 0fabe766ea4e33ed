"""Facts: the one place where results become words and numbers become text.

Every output shows a number as it is formatted here. The model writes slots, ``{volume_ml}``, and never a number; what
was found has slots too, ``{spleen}``, so that prose and answers repeat a finding in the words of all other outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trauma_api.guidelines.risk import risk_level
from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.report import SectionName
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.prompts import vitals_in_words
from trauma_api.services.study_storage import StoredStudy

_GRADE_WORDS = {
    "none": "no injury seen",
    "low_grade": "low-grade injury (AAST I to III)",
    "high_grade": "high-grade injury (AAST IV or V)",
    "not_assessed": "not assessed",
}
_LIMITED_COVERAGE = frozenset({"abdomen-incomplete-top", "abdomen-incomplete-bottom", "region-uncertain"})
_GRADED: Mapping[str, str] = MappingProxyType({"liver": "Liver", "spleen": "Spleen", "kidneys": "Kidneys"})
_SEEN: Mapping[str, str] = MappingProxyType(
    {
        "bowel_and_mesentery": "Bowel and mesentery injury",
        "active_extravasation": "Active extravasation",
    }
)
_PRESENCE_WORDS = {"absent": "not seen", "present": "present", "not_assessed": "not assessed"}


@dataclass(frozen=True)
class Facts:
    """Statements by section, and the text of each slot."""

    statements: Mapping[SectionName, tuple[str, ...]]
    slots: Mapping[str, str]
    missing: tuple[str, ...]

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The slots that a text about these facts may use."""
        return tuple(self.slots)

    @property
    def all_statements(self) -> tuple[str, ...]:
        """All statements, in the order of the sections, each once."""
        return tuple(dict.fromkeys(statement for section in self.statements.values() for statement in section))


def collect_facts(
    study: StoredStudy,
    findings: Findings | None,
    volume: VolumeResult | None,
    vitals: Vitals | None,
    context: ClinicalContext | None,
) -> Facts:
    """Turn results into facts. What is not there is named as missing, never filled in."""
    finding_statements = _finding_statements(findings)
    volume_statements = _volume_statements(volume)
    return Facts(
        statements={
            "indication": _indication(vitals, context),
            "technique": _technique(study),
            "findings": (*finding_statements, *volume_statements),
            "impression": (*_impression(findings), *volume_statements),
            "follow_up": (
                "A radiologist must read this study; clinical findings and physiology come before this report.",
            ),
        },
        slots=_slots(study, findings, volume, vitals),
        missing=_missing(findings, volume, vitals, context),
    )


def format_ml(volume_ml: float) -> str:
    """Millilitres as every output shows them."""
    return f"{volume_ml:.1f} mL"


def _indication(vitals: Vitals | None, context: ClinicalContext | None) -> tuple[str, ...]:
    mechanism = context.mechanism if context is not None else "unknown"
    statements = [f"Abdominal trauma, mechanism {mechanism}."]
    known = vitals_in_words(vitals)
    if known:
        statements.append(f"Vital signs: {', '.join(known)}.")
    if context is not None and context.hemodynamic_status != "unknown":
        statements.append(f"Hemodynamic status as given: {context.hemodynamic_status.replace('_', ' ')}.")
    return tuple(statements)


def _technique(study: StoredStudy) -> tuple[str, ...]:
    stack, spacing = study.stack, study.stack.spacing_zyx_mm
    kind = "Pictures without Hounsfield units" if study.record.source == "pictures" else "CT"
    size = f"{kind}, slices: {stack.slice_count}, matrix {stack.shape_yx[0]} x {stack.shape_yx[1]}"
    if spacing is None:
        return (f"{size}; spacing not known.", *_not_shown(study))
    between = f"{spacing[0]:.2f} mm between slices" + (" on average" if study.record.slice_thickness_mm else "")
    return (f"{size}; {between}, pixels {spacing[1]:.3f} x {spacing[2]:.3f} mm.", *_not_shown(study))


def _not_shown(study: StoredStudy) -> tuple[str, ...]:
    """What a reader of the report must know that the slices do not show."""
    return tuple(warning.detail for warning in study.record.warnings if warning.code in _LIMITED_COVERAGE)


def _finding_statements(findings: Findings | None) -> tuple[str, ...]:
    if findings is None:
        return ("Findings: not available.",)
    words = _finding_words(findings)
    named = {**_GRADED, **_SEEN, "hemoperitoneum": "Hemoperitoneum"}
    return tuple(
        f"{title}: {words[name]} ({_percent(getattr(findings, name).probability)})." for name, title in named.items()
    )


def _finding_words(findings: Findings) -> dict[str, str]:
    """What was found, in the words of every output, by field."""
    words = {name: _GRADE_WORDS[getattr(findings, name).value] for name in _GRADED}
    words |= {name: _PRESENCE_WORDS[getattr(findings, name).value] for name in _SEEN}
    words["hemoperitoneum"] = findings.hemoperitoneum.value
    words["injury_pattern"] = findings.injury_pattern.value
    words["severity"] = findings.severity.value
    return {name: value.replace("_", " ") for name, value in words.items()}


def _percent(probability: float) -> str:
    return f"model probability {probability:.0%}"


def _volume_statements(volume: VolumeResult | None) -> tuple[str, ...]:
    if volume is None:
        return ("Hemorrhage volume: not available.",)
    interval = f"{format_ml(volume.interval.low_ml)} to {format_ml(volume.interval.high_ml)}"
    return (
        f"Hemorrhage volume: {format_ml(volume.volume_ml)} ({interval}), an unvalidated estimate.",
        f"Risk level by this project's convention: {risk_level(volume.volume_ml)}.",
    )


def _impression(findings: Findings | None) -> tuple[str, ...]:
    if findings is None:
        return ()
    return (
        f"Injury pattern: {findings.injury_pattern.value.replace('_', ' ')}.",
        f"Severity as read: {findings.severity.value}.",
    )


def _slots(
    study: StoredStudy, findings: Findings | None, volume: VolumeResult | None, vitals: Vitals | None
) -> dict[str, str]:
    slots = {} if findings is None else _finding_words(findings)
    if volume is not None:
        slots |= {
            "volume_ml": format_ml(volume.volume_ml),
            "volume_low_ml": format_ml(volume.interval.low_ml),
            "volume_high_ml": format_ml(volume.interval.high_ml),
            "risk_level": risk_level(volume.volume_ml),
        }
    slots["slice_count"] = str(study.stack.slice_count)
    if vitals is not None:
        slots |= {name: f"{value:g}" for name, value in vitals.model_dump(exclude_none=True).items()}
    return slots


def _missing(
    findings: Findings | None, volume: VolumeResult | None, vitals: Vitals | None, context: ClinicalContext | None
) -> tuple[str, ...]:
    missing = [name for name, part in (("findings", findings), ("volume", volume)) if part is None]
    given = {} if vitals is None else vitals.model_dump(exclude_none=True)
    missing += [name for name in Vitals.model_fields if name not in given]
    stated = ClinicalContext() if context is None else context
    missing += [name for name, value in stated.model_dump().items() if value in (None, "unknown")]
    return tuple(missing)


def fill_slots(written: str, slots: Mapping[str, str]) -> str:
    """Put the facts into the slots of a text that the model wrote."""
    filler = SlotFiller(slots)
    return filler.feed(written) + filler.rest()


class SlotFiller:
    """Fills slots in a stream: text passes through, a slot is held until it closes."""

    def __init__(self, slots: Mapping[str, str]) -> None:
        self._slots = slots
        self._open = ""

    def feed(self, text: str) -> str:
        """The next piece as it may be shown; may be empty while a slot is open."""
        shown: list[str] = []
        for character in text:
            if self._open:
                self._open += character
                if character == "}":
                    shown.append(self._slots[self._open[1:-1]])
                    self._open = ""
            elif character == "{":
                self._open = character
            else:
                shown.append(character)
        return "".join(shown)

    def rest(self) -> str:
        """What is shown of a slot that never closed, because the model was stopped in it: nothing."""
        self._open = ""
        return ""
