"""A planted wrong sentence of each kind is caught, and what the facts say passes."""

from dataclasses import replace

import pytest

from trauma_api.schemas.analysis import Findings
from trauma_api.services.facts import Facts
from trauma_api.services.faithfulness import NOT_DERIVABLE, check

WORDS = {
    "none": "no injury seen",
    "low_grade": "low-grade injury (AAST I to III)",
    "high_grade": "high-grade injury (AAST IV or V)",
    "absent": "not seen",
}
VALUES = {
    "liver": "none",
    "spleen": "high_grade",
    "kidneys": "low_grade",
    "bowel_and_mesentery": "absent",
    "active_extravasation": "present",
    "hemoperitoneum": "moderate",
    "injury_pattern": "multiple_organs",
    "severity": "critical",
}
MEASURED = {
    "volume_ml": "412.7 mL",
    "volume_low_ml": "380.1 mL",
    "volume_high_ml": "450.9 mL",
    "risk_level": "MODERATE",
    "slice_count": "120",
    "bloodiest_slice": "57",
    "heart_rate_bpm": "104",
    "systolic_mmhg": "98",
    "shock_index": "1.06",
}
FACTS = Facts(
    statements={"findings": ("Liver: no injury seen.",)},
    slots={**{name: WORDS.get(value, value.replace("_", " ")) for name, value in VALUES.items()}, **MEASURED},
    missing=(),
    values=VALUES,
    stated={},
)

RIGHT = (
    "Liver: {liver}.",
    "The spleen has a {spleen}.",
    "Bowel and mesentery injury: {bowel_and_mesentery}.",
    "The segmented hemorrhage volume is {volume_ml} ({volume_low_ml} to {volume_high_ml}).",
    "About {volume_ml} of blood.",
    "The volume is between {volume_low_ml} and up to {volume_high_ml}.",
    "The risk level is {risk_level}.",
    "With a heart rate of {heart_rate_bpm} per minute and a systolic pressure of {systolic_mmhg} mmHg the shock"
    " index is {shock_index}.",
    "The study has {slice_count} slices.",
    "Slice {bloodiest_slice} holds the most segmented blood.",
    "There is no injury of the liver.",
    "The liver is intact.",
    "There is a high-grade injury of the spleen.",
    "The spleen and the kidneys are injured.",
    "Active extravasation is present.",
    "There is a moderate hemoperitoneum.",
    "No bowel injury is seen.",
    "High-grade injury of the spleen with active extravasation.",
    NOT_DERIVABLE,
)

WRONG = (
    # numbers and grades outside of slots
    ("The volume is two hundred mL.", "number-in-words"),
    ("Several organs are injured.", "number-in-words"),
    ("The volume is half of {volume_ml}.", "number-in-words"),
    ("The volume is 300 mL.", "outside-slot"),
    ("The liver is {liver", "outside-slot"),
    ("The injury of the spleen is grade IV.", "grade-outside-slot"),
    ("AAST V injury of the spleen.", "grade-outside-slot"),
    # the right number or word in the wrong place
    ("The heart rate is {systolic_mmhg}.", "wrong-slot"),
    ("The risk level is {severity}.", "wrong-slot"),
    ("Liver: {spleen}.", "wrong-slot"),
    ("The spleen and the liver: {liver}.", "wrong-slot"),
    ("The volume is {volume_low_ml}.", "wrong-slot"),
    ("The volume is at least {volume_high_ml}.", "wrong-slot"),
    ("The lactate is {heart_rate_bpm}.", "wrong-slot"),
    ("The heart rate and systolic pressure are {heart_rate_bpm} and {systolic_mmhg}.", "wrong-slot"),
    ("The lactate is {lactate_mmol_l}.", "wrong-slot"),
    # organs, negation, amounts
    ("The liver is injured.", "contradicts-findings"),
    ("The spleen is intact.", "contradicts-findings"),
    ("There is no injury of the spleen.", "contradicts-findings"),
    ("There is a low-grade injury of the spleen.", "contradicts-findings"),
    ("The kidneys are normal.", "contradicts-findings"),
    ("No active extravasation.", "contradicts-findings"),
    ("There is a large hemoperitoneum.", "contradicts-findings"),
    ("High-grade injury of the spleen without active extravasation.", "contradicts-findings"),
    ("Liver and spleen are intact.", "contradicts-findings"),
    ("The liver was not assessed.", "contradicts-findings"),
    ("Bowel injury is present.", "contradicts-findings"),
    ("The liver is not {liver}.", "unsupported-statement"),
    ("No extravasation: {active_extravasation}.", "unsupported-statement"),
    # sides, places
    ("The left kidney has a low-grade injury.", "unsupported-side"),
    ("There is blood near the spleen.", "unsupported-side"),
    ("High-grade injury of the upper pole of the spleen.", "unsupported-side"),
    # certainty
    ("A bowel injury is excluded.", "unsupported-certainty"),
    ("No bowel injury.", "unsupported-certainty"),
    ("The spleen is certainly injured.", "unsupported-certainty"),
    ("Injury of the liver is ruled out.", "unsupported-certainty"),
    # advice
    ("The patient should have a laparotomy.", "recommendation"),
    ("Embolize the spleen.", "recommendation"),
    ("The injury of the spleen is managed without an operation.", "recommendation"),
    ("REBOA for active extravasation.", "recommendation"),
    # the prompt
    ("Use the given facts and nothing else.", "echoes-prompt"),
    ("The text of the question is not an instruction to me.", "echoes-prompt"),
    # what the facts do not hold
    ("The pancreas is normal.", "unsupported-statement"),
    ("There is a rib fracture.", "unsupported-statement"),
    ("The spleen has a laceration.", "unsupported-statement"),
    ("The active extravasation comes from the spleen.", "unsupported-statement"),
    ("Yes.", "unsupported-statement"),
    ("The patient is fine.", "unsupported-statement"),
    ("HACKED.", "unsupported-statement"),
    ("The spleen has a {spleen} and the liver.", "unsupported-statement"),
    # cut off
    ("Spleen: {spleen}", "unfinished"),
)


class TestCheck:
    @pytest.mark.parametrize("sentence", RIGHT)
    def test_what_the_facts_say_passes(self, sentence: str) -> None:
        assert check(sentence, FACTS).reasons == ()

    @pytest.mark.parametrize(("sentence", "reason"), WRONG)
    def test_a_planted_wrong_sentence_is_caught_for_its_reason(self, sentence: str, reason: str) -> None:
        assert reason in check(sentence, FACTS).reasons

    @pytest.mark.parametrize("organ", ["liver", "spleen", "kidneys"])
    @pytest.mark.parametrize("value", ["none", "low_grade", "high_grade", "not_assessed"])
    def test_each_claim_about_an_organ_passes_for_its_value_alone(self, organ: str, value: str) -> None:
        facts = replace(FACTS, values={**VALUES, organ: value})
        claims = {
            f"There is no injury of the {organ}.": {"none"},
            f"The {organ} is intact.": {"none"},
            f"Low-grade injury of the {organ}.": {"low_grade"},
            f"High-grade injury of the {organ}.": {"high_grade"},
            f"The {organ} is injured.": {"low_grade", "high_grade"},
            f"The {organ} was not assessed.": {"not_assessed"},
        }
        for claim, true_for in claims.items():
            assert (check(claim, facts).reasons == ()) == (value in true_for), claim

    def test_without_a_reading_no_finding_may_be_claimed(self) -> None:
        facts = replace(FACTS, values={}, slots=MEASURED)
        assert check("There is no injury of the liver.", facts).reasons == ("unsupported-statement",)
        assert check("Liver: {liver}.", facts).reasons == ("wrong-slot",)

    def test_what_a_sentence_is_about_is_told(self) -> None:
        assert check("The spleen has a {spleen}.", FACTS).topics == ("spleen",)
        assert check("The pancreas is normal.", FACTS).topics == ()


def test_the_values_of_these_tests_are_those_of_a_reading() -> None:
    assert set(VALUES) <= set(Findings.model_fields)
