"""The statements of a report: what each section says, and what each statement rests on."""

from pathlib import Path

import pytest

from trauma_api.guidelines.case import needed
from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.report import SectionName, Statement
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.facts import collect_facts
from trauma_api.services.recommendations import case_of, hemodynamics_of, physiology_of, recommendations_for
from trauma_api.services.report_sections import ReportInputs, report_statements
from trauma_api.services.study_storage import StoredStudy

STABLE = ClinicalContext(mechanism="blunt", hemodynamic_status="stable", peritonitis="absent", fast="positive")
VITALS = Vitals(heart_rate_bpm=90, systolic_mmhg=120)


def sections(
    study: StoredStudy,
    findings: Findings | None,
    volume: VolumeResult | None,
    vitals: Vitals | None = VITALS,
    context: ClinicalContext | None = STABLE,
) -> dict[SectionName, list[Statement]]:
    """All sections."""
    case = case_of(findings, context, vitals)
    inputs = ReportInputs(
        study=study,
        volume=volume,
        slices_read=[3, 5],
        vitals=vitals,
        context=context,
        hemodynamics=hemodynamics_of(vitals, context),
        physiology=physiology_of(vitals, context),
        recommendations=recommendations_for(case),
        needed=needed(case),
    )
    facts = collect_facts(study, findings, volume, vitals, context)
    return report_statements(facts, inputs)


def said(statements: list[Statement]) -> str:
    """All texts."""
    return " ".join(statement.text for statement in statements)


class TestSections:
    def test_physiology_comes_before_findings(
        self,
        study: StoredStudy,
        findings: Findings,
        volume: VolumeResult,
    ) -> None:
        names = list(sections(study, findings, volume))
        assert names.index("physiology") < names.index("findings") < names.index("recommendations")

    def test_every_finding_names_its_slices_and_every_recommendation_its_row(
        self,
        study: StoredStudy,
        findings: Findings,
        volume: VolumeResult,
    ) -> None:
        told = sections(study, findings, volume)
        for statement in told["findings"]:
            kinds = [(one.kind, one.name) for one in statement.evidence]
            assert kinds[0][0] == "finding"
            assert kinds[1:] == [("slice", "3"), ("slice", "5")]
        rows = [statement for statement in told["recommendations"] if statement.evidence]
        assert rows
        for statement in rows:
            assert statement.evidence[0].kind == "rule"
            assert f"[{statement.evidence[0].name}; " in statement.text
            assert len(statement.evidence) > 1

    def test_millilitres_fire_nothing(
        self,
        study: StoredStudy,
        findings: Findings,
        volume: VolumeResult,
    ) -> None:
        flood = volume.model_copy(update={"volume_ml": 2400.0})
        none = volume.model_copy(update={"volume_ml": 0.0})
        first, second = (sections(study, findings, one)["recommendations"] for one in (flood, none))
        assert first == second
        assert "not the patient's blood loss" in said(sections(study, findings, flood)["limits"])

    def test_an_unknown_status_is_asked_for(
        self,
        study: StoredStudy,
        findings: Findings,
        volume: VolumeResult,
    ) -> None:
        told = sections(study, findings, volume, vitals=None, context=None)
        assert "Hemodynamic status: unknown" in said(told["physiology"])
        assert "hemodynamic status, peritonitis, mechanism. Supply them." in said(told["recommendations"])

    def test_a_derived_status_prints_its_definition_and_source(
        self,
        study: StoredStudy,
        findings: Findings,
        volume: VolumeResult,
    ) -> None:
        context = ClinicalContext(mechanism="blunt", peritonitis="absent")
        told = sections(study, findings, volume, Vitals(heart_rate_bpm=130, systolic_mmhg=80, gcs=12), context)
        (status, *_) = told["physiology"]
        assert "derived from the vital signs: unstable" in status.text
        assert "WSES" in status.text
        assert {one.name for one in status.evidence} <= {"heart_rate_bpm", "systolic_mmhg", "gcs"}

    def test_bowel_is_never_excluded_and_one_phase_is_told(
        self,
        study: StoredStudy,
        findings: Findings,
        volume: VolumeResult,
    ) -> None:
        limits = said(sections(study, findings, volume)["limits"])
        assert "bowel or mesenteric injury is not excluded" in limits
        assert "pseudoaneurysm" in limits
        everything = " ".join(said(one) for one in sections(study, findings, volume).values())
        assert "REBOA" not in everything

    def test_blood_that_was_left_out_as_noise_is_told(
        self,
        study: StoredStudy,
        findings: Findings,
        volume: VolumeResult,
    ) -> None:
        some = volume.model_copy(update={"left_out_ml": 3.24})
        assert "Not counted: 3.2 mL in regions" in said(sections(study, findings, some)["quantification"])
        assert "Not counted" not in said(sections(study, findings, volume)["quantification"])

    @pytest.mark.parametrize("without", ["findings", "volume"])
    def test_what_is_not_there_is_said(
        self,
        study: StoredStudy,
        findings: Findings,
        volume: VolumeResult,
        without: str,
    ) -> None:
        told = sections(study, None if without == "findings" else findings, None if without == "volume" else volume)
        words = {"findings": "Findings: not available.", "volume": "Hemorrhage volume: not available."}[without]
        assert words in said(told["impression"])
        assert f"had to do without: {without}" in said(told["follow_up"])


def test_no_statement_holds_a_path(study: StoredStudy, tmp_path: Path) -> None:
    told = sections(study, None, None)
    assert str(tmp_path) not in " ".join(said(one) for one in told.values())
