"""What the reader learns to write besides the form: answers over several turns, and sections of the report.

Prompts and slots come from the service's own functions, so that training and serving cannot drift apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import numpy as np

from reader_questions import (
    AGAIN,
    AGAIN_ORGAN,
    HELD_OUT,
    ORGANS,
    SUMMARY,
    WHICH_ORGANS,
    Wordings,
    all_wordings,
    follow_up,
    not_answerable,
    one_of,
    pair,
    wording_of,
)
from trauma_api.engines.base import Turn
from trauma_api.guidelines.risk import risk_level
from trauma_api.imaging.volume import CTVolume, PictureStack
from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.base import RESEARCH_NOTICE, Caveat
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.report import SectionName
from trauma_api.schemas.studies import Eligibility
from trauma_api.schemas.volume import SegmentedSlices, SliceVolume, VolumeInterval, VolumeResult
from trauma_api.services.analysis import FORM
from trauma_api.services.facts import Facts, collect_facts
from trauma_api.services.faithfulness import NOT_DERIVABLE
from trauma_api.services.prompts import answer_turns, prose_turns, reading_turns
from trauma_api.services.report import PROSE_SECTIONS
from trauma_api.services.study_storage import StoredStudy, StudyRecord

PICTURE = PictureStack(np.zeros((1, 1, 1, 3), np.uint8))
"""Stands for each slice of a prompt; what the tower sees is put in later."""

SENTENCES: Mapping[str, str] = {
    "liver": "Liver: {liver}.",
    "spleen": "Spleen: {spleen}.",
    "kidneys": "Kidneys: {kidneys}.",
    "bowel_and_mesentery": "Bowel and mesentery injury: {bowel_and_mesentery}.",
    "active_extravasation": "Active extravasation: {active_extravasation}.",
    "hemoperitoneum": "Hemoperitoneum: {hemoperitoneum}.",
    "injury_pattern": "Injury pattern: {injury_pattern}.",
    "severity": "Severity as read: {severity}.",
    "volume_ml": "The segmented hemorrhage volume is {volume_ml} ({volume_low_ml} to {volume_high_ml}).",
    "risk_level": "The risk level is {risk_level}.",
    "bloodiest_slice": "Slice {bloodiest_slice} holds the most segmented blood.",
    "shock_index": "The shock index is {shock_index}.",
    "slice_count": "The study has {slice_count} slices.",
    "heart_rate_bpm": "The heart rate is {heart_rate_bpm} per minute.",
    "systolic_mmhg": "The systolic pressure is {systolic_mmhg} mmHg.",
    "diastolic_mmhg": "The diastolic pressure is {diastolic_mmhg} mmHg.",
    "respiratory_rate_bpm": "The respiratory rate is {respiratory_rate_bpm} per minute.",
    "gcs": "The GCS is {gcs}.",
    "temperature_c": "The temperature is {temperature_c} C.",
    "lactate_mmol_l": "The lactate is {lactate_mmol_l} mmol/L.",
    "base_deficit_mmol_l": "The base deficit is {base_deficit_mmol_l} mmol/L.",
    "hemoglobin_g_dl": "The hemoglobin is {hemoglobin_g_dl} g/dL.",
}
"""The sentence that states each fact. It never says yes or no, so it cannot contradict what was found."""

_SUMMARY = ("liver", "spleen", "kidneys", "bowel_and_mesentery", "active_extravasation", "volume_ml")
_FOUND = ("liver", "spleen", "kidneys", "bowel_and_mesentery", "active_extravasation", "hemoperitoneum")
_MAIN_FACTS = (*_FOUND, "volume_ml", "risk_level")
_WARNINGS = (
    Caveat(
        code="abdomen-incomplete-top",
        detail="The images do not reach above the diaphragm, so the upper abdomen is not shown completely. "
        "Injuries there, of the liver and spleen above all, cannot be excluded.",
    ),
    Caveat(
        code="abdomen-incomplete-bottom",
        detail="The images do not reach below the hips, so the abdomen and pelvis are not shown completely. "
        "Injuries and blood there cannot be excluded.",
    ),
)
"""What the service says of a study that shows the abdomen in part."""


@dataclass(frozen=True)
class Example:
    """Turns to read and texts to write, one for each assistant turn; the last is not among the turns."""

    turns: tuple[Turn, ...]
    answers: tuple[str, ...]
    slots: tuple[str, ...] = ()


def conversation(random: Random, slices: int) -> Example:
    """One to four questions on one study, with their answers."""
    facts = random_facts(random)
    history: list[tuple[str, str]] = []
    topic: str | None = None
    for _ in range(random.choice((1, 2, 3, 3, 4, 4))):
        question, answer, topic = _question(random, facts, topic, begun=bool(history))
        history.append((question, answer))
    return _asked(facts, slices, history)


def plain_conversation(random: Random, slices: int, wordings: Wordings) -> Example:
    """Three questions on facts, for the validation."""
    facts = random_facts(random)
    asked = random.sample(_MAIN_FACTS if wordings == "training" else tuple(HELD_OUT), 3)
    history = [(wording_of(random, fact, wordings), _stated(facts, fact)) for fact in asked]
    return _asked(facts, slices, history)


def _asked(facts: Facts, slices: int, history: Sequence[tuple[str, str]]) -> Example:
    *before, (question, _) = history
    turns = answer_turns(PICTURE, [0] * slices, facts.all_statements, facts.slot_names, before, question)
    return Example(turns, tuple(answer for _, answer in history), facts.slot_names)


def _question(random: Random, facts: Facts, topic: str | None, *, begun: bool) -> tuple[str, str, str | None]:
    """A question, the right answer, and what the conversation is about then."""
    kind = random.random()
    if kind < 0.12:
        return not_answerable(random), NOT_DERIVABLE, None
    if kind < 0.15:
        return one_of(random, SUMMARY), _text(facts, _SUMMARY), None
    if kind < 0.18:
        return one_of(random, WHICH_ORGANS), _text(facts, ORGANS), None
    if kind < 0.22:
        first, second = random.sample(ORGANS[:3], 2)
        return pair(random, first, second), _text(facts, (first, second)), None
    if kind < 0.33 and topic is not None:
        return one_of(random, AGAIN_ORGAN if topic in ORGANS else AGAIN), _stated(facts, topic), topic
    fact = random.choice(_MAIN_FACTS) if random.random() < 0.72 else random.choice(tuple(SENTENCES))
    if kind < 0.55 and begun:
        return follow_up(random, fact), _stated(facts, fact), fact
    return wording_of(random, fact), _stated(facts, fact), fact


def _stated(facts: Facts, fact: str) -> str:
    return _text(facts, (fact,))


def _text(facts: Facts, wanted: Sequence[str]) -> str:
    return " ".join(SENTENCES[name] for name in wanted if name in facts.slots) or NOT_DERIVABLE


def prose(random: Random) -> Example:
    """One section of a report, its facts in the order in which they are given."""
    facts = random_facts(random)
    section: SectionName = random.choice(PROSE_SECTIONS)
    turns = prose_turns(section, facts.statements[section], facts.slot_names)
    return Example(turns, (section_text(facts, section),), facts.slot_names)


def section_text(facts: Facts, section: SectionName) -> str:
    """The prose of a section."""
    if section == "findings":
        return _text(facts, (*_FOUND, "volume_ml"))
    return _text(facts, ("injury_pattern", "severity", "volume_ml", "risk_level"))


def reading(random: Random, slices: int) -> Example:
    """The prompt of a reading; what is to be written is the form."""
    vitals = random_vitals(random) if random.random() < 0.4 else None
    return Example(reading_turns(PICTURE, [0] * slices, vitals), ())


def random_facts(random: Random) -> Facts:
    """Facts as a briefing may leave them, whole or in part; there is always something."""
    findings = random_findings(random) if random.random() < 0.82 else None
    volume = random_volume(random) if findings is None or random.random() < 0.82 else None
    context = ClinicalContext(
        mechanism=random.choice(("blunt", "penetrating", "unknown")),
        hemodynamic_status=random.choice(("stable", "transient_responder", "unstable", "unknown", "unknown")),
    )
    vitals = random_vitals(random) if random.random() < 0.6 else None
    return collect_facts(random_study(random), findings, volume, vitals, context)


def random_findings(random: Random) -> Findings:
    """Any value of each field, half of the time mostly unremarkable, with some probability."""
    content: dict[str, Any] = {}
    quiet = random.random() < 0.5
    for name, values in FORM.choices.items():
        value = values[0] if quiet and random.random() < 0.7 else random.choice(values)
        chance = round(random.uniform(0.34, 1.0), 4)
        content[name] = {"value": value, "probability": chance, "probabilities": {value: chance}}
    return Findings.model_validate({**content, "bleeding_description": "blood", "differentials": []})


def random_volume(random: Random) -> VolumeResult:
    """From none to two litres."""
    volume_ml = random.choice((0.0, round(random.uniform(0, 6), 1), round(random.uniform(5, 2000), 1)))
    return VolumeResult(
        study_id="0" * 32,
        volume_ml=volume_ml,
        interval=VolumeInterval(low_ml=round(volume_ml * 0.9, 1), high_ml=round(volume_ml * 1.1 + 0.3, 1), method="-"),
        left_out_ml=0.0,
        threshold=0.5,
        risk_level=risk_level(volume_ml),
        risk_convention="-",
        spacing_zyx_mm=[5.0, 0.8, 0.8],
        segmented_slices=SegmentedSlices(first=0, last=0),
        slices=[SliceVolume(slice_index=random.randrange(400), volume_ml=volume_ml / 3)],
        mask_url="",
        provenance=[],
        warnings=[],
        notice=RESEARCH_NOTICE,
    )


def random_vitals(random: Random) -> Vitals:
    """Each value given half of the time."""
    drawn: dict[str, float] = {
        "heart_rate_bpm": random.randint(50, 150), "systolic_mmhg": random.randint(100, 180),
        "diastolic_mmhg": random.randint(40, 99), "respiratory_rate_bpm": random.randint(8, 40),
        "gcs": random.randint(3, 15), "temperature_c": round(random.uniform(33, 39), 1),
        "lactate_mmol_l": round(random.uniform(0.5, 9), 1), "base_deficit_mmol_l": random.randint(-2, 12),
        "hemoglobin_g_dl": round(random.uniform(5, 16), 1),
    }  # fmt: skip
    return Vitals.model_validate({name: value for name, value in drawn.items() if random.random() < 0.5})


def random_study(random: Random) -> StoredStudy:
    """A study of zeros that takes no memory."""
    count, pixel_mm = random.randint(20, 400), round(random.uniform(0.6, 0.98), 3)
    affine = np.diag([random.choice((1.0, 1.25, 2.0, 2.5, 3.0, 5.0)), pixel_mm, pixel_mm, 1.0])
    warnings = random.choice(((), (), (), *((warning,) for warning in _WARNINGS)))
    record = StudyRecord(
        study_id="0" * 32,
        source="dicom",
        series=[],
        warnings=list(warnings),
        eligibility=Eligibility(status="eligible", reasons=[], coverage=None),
        stack_shape=[count, 512, 512],
        stack_dtype="<i2",
        affine_lps=affine.tolist(),
        slice_thickness_mm=None,
        stated_spacing_zyx_mm=None,
        window_hu=None,
    )
    voxels = np.broadcast_to(np.int16(0), (count, 512, 512))
    return StoredStudy(record, CTVolume(voxels, affine), datetime.now(UTC))


def seeded(seed: int) -> Random:
    """A generator that gives the same examples each time."""
    return Random(seed)  # draws examples, not secrets


def tokenizer_texts() -> list[str]:
    """What the tokenizer has to spell: the service's prompts, questions, answers and forms."""
    random = seeded(11)
    texts: list[str] = []
    for _ in range(200):
        for example in (conversation(random, 1), prose(random), reading(random, 1)):
            texts += [part for turn in example.turns for part in turn.parts if isinstance(part, str)]
            texts += example.answers
    texts += [f'{name}":"{value}"' for name, values in FORM.choices.items() for value in values] * 20
    return [*texts, *all_wordings() * 4, *SENTENCES.values()]
