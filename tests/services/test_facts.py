"""Facts: results in words, and numbers into the slots of what the model wrote."""

import pytest

from trauma_api.schemas.analysis import (
    Findings,
)
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.facts import collect_facts, fill_slots, format_ml
from trauma_api.services.study_storage import StoredStudy

SLOTS = {"volume_ml": "123.4 mL", "gcs": "13"}


class TestFillSlots:
    def test_each_slot_gets_its_fact_and_the_rest_stays(self) -> None:
        assert fill_slots("{gcs} and {volume_ml}, {gcs}.", SLOTS) == "13 and 123.4 mL, 13."
        assert fill_slots("", SLOTS) == ""

    def test_a_slot_without_a_fact_is_no_text(self) -> None:
        with pytest.raises(KeyError):
            fill_slots("{lactate_mmol_l}", SLOTS)


class TestFormat:
    @pytest.mark.parametrize(
        ("volume_ml", "text"), [(0.0, "0.0 mL"), (4.94, "4.9 mL"), (500.06, "500.1 mL"), (1234.5, "1234.5 mL")]
    )
    def test_millilitres_have_one_decimal(self, volume_ml: float, text: str) -> None:
        assert format_ml(volume_ml) == text


class TestCollectFacts:
    def test_findings_are_said_with_their_probability(self, study: StoredStudy, findings: Findings) -> None:
        said = collect_facts(study, findings, None, None, None).statements
        assert "Liver: no injury seen (model probability 80%)." in said["findings"]
        # 0.914 is 91 %, 0.666 is 67 %.
        assert "Spleen: high-grade injury (AAST IV or V) (model probability 91%)." in said["findings"]
        assert "Kidneys: not assessed (model probability 80%)." in said["findings"]
        assert "Active extravasation: present (model probability 67%)." in said["findings"]
        assert "Bowel and mesentery injury: not seen (model probability 80%)." in said["findings"]
        assert "Hemoperitoneum: moderate (model probability 50%)." in said["findings"]
        assert "Injury pattern: isolated organ." in said["impression"]
        assert "Severity as read: severe." in said["impression"]

    def test_the_volume_is_said_alike_in_findings_impression_and_slot(
        self, study: StoredStudy, findings: Findings, volume: VolumeResult
    ) -> None:
        facts = collect_facts(study, findings, volume, None, None)
        sentence = "Hemorrhage volume: 123.4 mL (98.8 mL to 150.0 mL), an unvalidated estimate."
        assert sentence in facts.statements["findings"]
        assert sentence in facts.statements["impression"]
        assert "Risk level by this project's convention: MODERATE." in facts.statements["findings"]
        assert facts.slots["volume_ml"] == "123.4 mL"

    def test_without_findings_none_is_invented(self, study: StoredStudy, volume: VolumeResult) -> None:
        facts = collect_facts(study, None, volume, None, None)
        assert facts.statements["findings"][0] == "Findings: not available."
        assert not any("Liver" in statement or "Severity" in statement for statement in facts.all_statements)
        assert "findings" in facts.missing
        assert "volume" not in facts.missing

    def test_without_a_volume_no_number_of_millilitres_is_anywhere(
        self, study: StoredStudy, findings: Findings
    ) -> None:
        facts = collect_facts(study, findings, None, None, None)
        assert "Hemorrhage volume: not available." in facts.statements["findings"]
        assert "Hemorrhage volume: not available." in facts.statements["impression"]
        assert not any(" mL" in statement or "Risk level" in statement for statement in facts.all_statements)
        assert not any(name.startswith("volume") for name in facts.slots)
        assert "volume" in facts.missing

    def test_vitals_become_slots_and_words_and_only_those_that_were_given(
        self, study: StoredStudy, findings: Findings
    ) -> None:
        vitals = Vitals(heart_rate_bpm=128, gcs=13, temperature_c=35.5)
        facts = collect_facts(study, findings, None, vitals, None)
        assert {name: text for name, text in facts.slots.items() if name in Vitals.model_fields} == {
            "heart_rate_bpm": "128",
            "gcs": "13",
            "temperature_c": "35.5",
        }
        assert facts.slot_names == tuple(facts.slots)
        assert "Vital signs: heart rate 128 per minute, GCS 13, temperature 35.5 C." in facts.statements["indication"]

    def test_what_was_found_has_slots_in_the_words_of_the_statements(
        self, study: StoredStudy, findings: Findings, volume: VolumeResult
    ) -> None:
        facts = collect_facts(study, findings, volume, None, None)
        assert facts.slots == {
            "liver": "no injury seen",
            "spleen": "high-grade injury (AAST IV or V)",
            "kidneys": "not assessed",
            "bowel_and_mesentery": "not seen",
            "active_extravasation": "present",
            "hemoperitoneum": "moderate",
            "injury_pattern": "isolated organ",
            "severity": "severe",
            "volume_ml": "123.4 mL",
            "volume_low_ml": "98.8 mL",
            "volume_high_ml": "150.0 mL",
            "risk_level": "MODERATE",
            "slice_count": "8",
        }
        for name in ("liver", "spleen", "kidneys", "active_extravasation", "hemoperitoneum", "injury_pattern"):
            assert any(f": {facts.slots[name]}" in statement for statement in facts.all_statements)

    def test_slots_exist_only_for_results_that_exist(
        self, study: StoredStudy, findings: Findings, volume: VolumeResult
    ) -> None:
        assert set(collect_facts(study, None, volume, None, None).slots) == {
            "volume_ml",
            "volume_low_ml",
            "volume_high_ml",
            "risk_level",
            "slice_count",
        }
        without_volume = collect_facts(study, findings, None, None, None).slots
        assert "risk_level" not in without_volume
        assert without_volume["spleen"] == "high-grade injury (AAST IV or V)"

    def test_all_statements_hold_each_once(self, study: StoredStudy, findings: Findings, volume: VolumeResult) -> None:
        said = collect_facts(study, findings, volume, None, None).all_statements
        assert len(said) == len(set(said))

    def test_missing_names_every_input_that_nobody_gave(self, study: StoredStudy, findings: Findings) -> None:
        vitals = Vitals(heart_rate_bpm=128, systolic_mmhg=84)
        context = ClinicalContext(mechanism="blunt", peritonitis="absent", anticoagulated=False, age_years=0)
        facts = collect_facts(study, findings, None, vitals, context)
        # False and 0 were given; "unknown" and null were not.
        assert facts.missing == (
            "volume",
            "diastolic_mmhg",
            "respiratory_rate_bpm",
            "gcs",
            "temperature_c",
            "lactate_mmol_l",
            "base_deficit_mmol_l",
            "hemoglobin_g_dl",
            "hemodynamic_status",
            "fast",
            "pelvic_fracture",
            "pancreatic_injury",
        )

    def test_nothing_known_of_the_patient_is_all_named_missing(self, study: StoredStudy, findings: Findings) -> None:
        missing = collect_facts(study, findings, None, None, None).missing
        assert set(missing) == {"volume", *Vitals.model_fields, *ClinicalContext.model_fields}

    def test_context_is_said_in_words(self, study: StoredStudy, findings: Findings) -> None:
        context = ClinicalContext(mechanism="penetrating", hemodynamic_status="transient_responder")
        said = collect_facts(study, findings, None, None, context).statements["indication"]
        assert said == (
            "Abdominal trauma, mechanism penetrating.",
            "Hemodynamic status as given: transient responder.",
        )

    def test_the_technique_names_the_true_geometry(self, study: StoredStudy, findings: Findings) -> None:
        said = collect_facts(study, findings, None, None, None).statements["technique"]
        assert said[0] == "CT, slices: 8, matrix 160 x 160; 5.00 mm between slices, pixels 2.200 x 2.200 mm."
        assert [sentence.split(",")[0] for sentence in said[1:]] == [
            "The images do not reach above the diaphragm",
            "The images do not reach below the hips",
        ]
