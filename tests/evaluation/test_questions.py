"""Scripted questions, and how an answer is judged."""

from pathlib import Path

import pytest

from tests.support.engines import ConstantSegmenter
from tests.support.reading import read_files
from tests.support.studies import write_slices
from trauma_api.evaluation.questions import FACTS, Expected, expected_answers, is_right, script
from trauma_api.schemas.analysis import Findings
from trauma_api.services.analysis import FORM
from trauma_api.services.gate import ComputeGate
from trauma_api.services.ports import LocalSegmentation
from trauma_api.services.study_storage import StoredStudy, StudyStorage
from trauma_api.services.volume import VolumeService

GRADES = frozenset({"no injury seen", "high-grade injury (AAST IV or V)", "not assessed"})
SPLEEN = Expected("spleen", "low-grade injury (AAST I to III)", GRADES, positive=True)
LIVER = Expected("liver", "no injury seen", (GRADES - {"no injury seen"}) | {SPLEEN.right}, positive=False)
VOLUME = Expected("volume_ml", "12.3 mL", frozenset(), None)
RISK = Expected("risk_level", "MODERATE", frozenset({"LOW", "HIGH"}), None)
BLEEDING = Expected("active_extravasation", "present", frozenset({"not seen", "not assessed"}), positive=True)


@pytest.fixture
def storage(tmp_path: Path) -> StudyStorage:
    """Studies kept for half an hour."""
    return StudyStorage(tmp_path / "kept", ttl_s=1800)


@pytest.fixture
def study(storage: StudyStorage, tmp_path: Path) -> StoredStudy:
    """Eight slices, kept."""
    return storage.open(storage.save(read_files(write_slices(tmp_path / "slices", 8), tmp_path / "scratch")))


@pytest.mark.parametrize(
    ("expected", "answer", "right"),
    [
        (SPLEEN, "The spleen shows a low-grade injury (AAST I to III).", True),
        (SPLEEN, "Low-grade injury (AAST I to III).", True),
        (SPLEEN, "Yes, low-grade injury (AAST I to III).", True),
        (SPLEEN, "No, low-grade injury (AAST I to III).", False),
        (SPLEEN, "The spleen shows no injury seen.", False),
        (SPLEEN, "The spleen: low-grade injury (AAST I to III), or no injury seen.", False),
        (SPLEEN, "The spleen: low-grade injury (AAST I to III). The liver: no injury seen.", True),
        (SPLEEN, "The liver: low-grade injury (AAST I to III).", False),
        (LIVER, "No injury seen.", True),
        (LIVER, "Yes: no injury seen.", False),
        (LIVER, "", False),
        (VOLUME, "The volume is 12.3 mL.", True),
        (VOLUME, "The volume is 112.3 mL.", False),
        (VOLUME, "The volume is 12.3 mL (10.0 mL to 15.0 mL).", True),
        (VOLUME, "The volume is 12.3 mL or 20.0 mL.", False),
        (RISK, "The risk level is MODERATE.", True),
        (RISK, "The risk level is MODERATE, not LOW.", False),
        (RISK, "Not derivable from this study.", False),
        (BLEEDING, "Active extravasation: present.", True),
        (BLEEDING, "No, active extravasation is present.", False),
        (BLEEDING, "Active extravasation: not seen.", False),
    ],
)
def test_judgement(expected: Expected, answer: str, right: bool) -> None:
    assert is_right(answer, expected, frozenset({"10.0 mL", "15.0 mL"})) is right


@pytest.mark.parametrize(("held_out", "follow_up"), [(False, "And the spleen?"), (True, "Same for the spleen?")])
def test_a_script_has_three_turns_on_different_facts_and_is_always_the_same(held_out: bool, follow_up: str) -> None:
    scripts = [script(FACTS, f"case {number}", held_out=held_out) for number in range(60)]
    assert scripts[0] == script(FACTS, "case 0", held_out=held_out)
    assert all(len({fact for fact, _ in turns}) == 3 for turns in scripts)
    assert {fact for turns in scripts for fact, _ in turns} == set(FACTS)
    questions = [question for turns in scripts for _, question in turns]
    assert follow_up in questions
    assert not any("{" in question for question in questions)
    assert not any(turns[0][1].startswith(("And", "Same", "Now")) for turns in scripts)


def test_wordings_that_are_held_out_are_not_among_the_plain_ones() -> None:
    plain, held_out = (
        {question for number in range(200) for _, question in script(FACTS, f"{number}", held_out=kind)}
        for kind in (False, True)
    )
    assert not plain & held_out


def findings(**values: str) -> Findings:
    """Findings without injury, apart from those given."""
    told: dict[str, object] = {"bleeding_description": "none", "differentials": []}
    for field, choices in FORM.choices.items():
        value = values.get(field, choices[0])
        told[field] = {"value": value, "probability": 1.0, "probabilities": {value: 1.0}}
    return Findings.model_validate(told)


@pytest.mark.parametrize(
    "values", [{}, {"spleen": "high_grade", "active_extravasation": "present", "hemoperitoneum": "large"}]
)
async def test_each_fact_said_by_its_slot_is_right_and_any_other_value_is_wrong(
    values: dict[str, str], study: StoredStudy, storage: StudyStorage
) -> None:
    gate = ComputeGate(permits=1, queue_limit=1)
    box = (slice(0, 1), slice(0, 100), slice(0, 100)), 1.0
    volume = await VolumeService(LocalSegmentation(ConstantSegmenter(box), gate), storage).run(study)
    gate.close()
    expected = expected_answers(study, findings(**values), volume)
    assert set(expected) == set(FACTS)
    for fact, item in expected.items():
        title = fact.replace("_ml", "").replace("_", " ").capitalize()
        assert is_right(f"{title}: {item.right}.", item)
        assert all(not is_right(f"{title}: {wrong}.", item) for wrong in item.wrong)
    assert len(expected["spleen"].wrong) == 3
