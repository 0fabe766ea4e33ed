"""Facts: the one place where results become words and numbers become text.

Every output shows a number as it is formatted here. The model writes slots, ``{volume_ml}``, and never a number; what
was found has slots too, ``{spleen}``, so that prose and answers repeat a finding in the words of all other outputs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trauma_api.guidelines.risk import risk_level
from trauma_api.guidelines.scores import shock_index
from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.report import SectionName
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.prompts import vital_phrases
from trauma_api.services.study_storage import StoredStudy

NO_FINDINGS, NO_VOLUME = "Findings: not available.", "Hemorrhage volume: not available."
_GRADE_WORDS = {
    "none": "no injury seen",
    "low_grade": "low-grade injury (AAST I to III)",
    "high_grade": "high-grade injury (AAST IV or V)",
    "not_assessed": "not assessed",
}
_SLOT = re.compile(r"\{([a-z_]+)\}")
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
    """What the model is told, by section, and the text of each slot."""

    statements: Mapping[SectionName, tuple[str, ...]]
    slots: Mapping[str, str]
    missing: tuple[str, ...]
    values: Mapping[str, str]
    """The closed value of each finding, by field; empty without a reading."""
    stated: Mapping[str, str]
    """The statement of each fact, by its name; what stands where the model's own sentence cannot."""

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
    read, measured = _finding_statements(findings), _volume_statements(volume)
    read_in_all = _overall_statements(findings)
    technique = _technique(study)
    return Facts(
        statements={
            "indication": _indication(vitals, context),
            "technique": technique,
            "findings": (*(read.values() or (NO_FINDINGS,)), *_told(measured)),
            "impression": (*read_in_all.values(), *_told(measured)),
            "follow_up": (
                "A radiologist must read this study; clinical findings and physiology come before this report.",
            ),
        },
        slots=_slots(study, findings, volume, vitals),
        missing=_missing(findings, volume, vitals, context),
        values={} if findings is None else {name: getattr(findings, name).value for name in _finding_words(findings)},
        stated={
            **read,
            **read_in_all,
            **measured,
            **{name: f"{phrase[0].upper()}{phrase[1:]}." for name, phrase in vital_phrases(vitals).items()},
            **_shock_index_statement(vitals),
            "slice_count": technique[0],
        },
    )


def format_ml(volume_ml: float) -> str:
    """Millilitres as every output shows them."""
    return f"{volume_ml:.1f} mL"


def _indication(vitals: Vitals | None, context: ClinicalContext | None) -> tuple[str, ...]:
    mechanism = context.mechanism if context is not None else "unknown"
    statements = [f"Abdominal trauma, mechanism {mechanism}."]
    statements += vitals_statement(vitals)
    statements += _shock_index_statement(vitals).values()
    if context is not None and context.hemodynamic_status != "unknown":
        statements.append(f"Hemodynamic status as given: {context.hemodynamic_status.replace('_', ' ')}.")
    return tuple(statements)


def vitals_statement(vitals: Vitals | None) -> list[str]:
    """All vital signs in a sentence; none without any."""
    known = vital_phrases(vitals)
    return [f"Vital signs: {', '.join(known.values())}."] if known else []


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


def _shock_index_statement(vitals: Vitals | None) -> dict[str, str]:
    value = shock_index_text(vitals)
    return {} if value is None else {"shock_index": f"Shock index: {value}."}


def shock_index_text(vitals: Vitals | None) -> str | None:
    """The shock index as every output shows it; None where it cannot be computed."""
    score = None if vitals is None else shock_index(vitals.heart_rate_bpm, vitals.systolic_mmhg)
    return None if score is None else f"{round(score.low, 2):g}"


def _finding_statements(findings: Findings | None) -> dict[str, str]:
    if findings is None:
        return {}
    words = _finding_words(findings)
    named = {**_GRADED, **_SEEN, "hemoperitoneum": "Hemoperitoneum"}
    return {
        name: f"{title}: {words[name]} ({_percent(getattr(findings, name).probability)})."
        for name, title in named.items()
    }


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


def _volume_statements(volume: VolumeResult | None) -> dict[str, str]:
    if volume is None:
        return {}
    interval = f"{format_ml(volume.interval.low_ml)} to {format_ml(volume.interval.high_ml)}"
    statements = {
        "volume_ml": f"Hemorrhage volume: {format_ml(volume.volume_ml)} ({interval}), an unvalidated estimate.",
        "risk_level": f"Risk level by this project's convention: {risk_level(volume.volume_ml)}.",
    }
    most = slice_with_most_blood(volume)
    if most is not None:
        statements["bloodiest_slice"] = f"Slice with the most segmented blood: {most}."
    return statements


def _told(measured: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(measured.values()) or (NO_VOLUME,)


def slice_with_most_blood(volume: VolumeResult) -> int | None:
    """The index of the slice that holds most of the blood; None where there is none."""
    most = max(volume.slices, key=lambda one: one.volume_ml, default=None)
    return most.slice_index if most is not None and most.volume_ml > 0 else None


def _overall_statements(findings: Findings | None) -> dict[str, str]:
    if findings is None:
        return {}
    return {
        "injury_pattern": f"Injury pattern: {findings.injury_pattern.value.replace('_', ' ')}.",
        "severity": f"Severity as read: {findings.severity.value}.",
    }


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
        most = slice_with_most_blood(volume)
        if most is not None:
            slots["bloodiest_slice"] = str(most)
    slots["slice_count"] = str(study.stack.slice_count)
    if vitals is not None:
        slots |= {name: f"{value:g}" for name, value in vitals.model_dump(exclude_none=True).items()}
    ratio = shock_index_text(vitals)
    if ratio is not None:
        slots["shock_index"] = ratio
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
    """Put the facts into the slots of a sentence that the model wrote. Raises KeyError for a slot without a fact."""
    return _SLOT.sub(lambda slot: slots[slot[1]], written)
