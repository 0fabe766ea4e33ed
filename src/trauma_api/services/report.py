"""The report: statements from the results, prose by the model with its adapter off."""

import time

from trauma_api.engines.base import GenerationRequest
from trauma_api.errors import ConflictError, InputError
from trauma_api.guidelines.case import needed
from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.report import ReportResult, ReportSection, SectionName
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.eligibility import require_eligible
from trauma_api.services.facts import Facts, collect_facts, fill_slots
from trauma_api.services.ports import GenerationPort
from trauma_api.services.prompts import prose_turns
from trauma_api.services.provenance import caveats_of, provenance_of
from trauma_api.services.recommendations import (
    case_of,
    physiology_of,
    recommendations_for,
)
from trauma_api.services.study_storage import StoredStudy

PROSE_SECTIONS: tuple[SectionName, ...] = ("findings", "impression")


class NothingToReportError(InputError):
    """Neither findings nor a volume."""

    code = "nothing-to-report"
    title = "Nothing to report on"
    public_message = (
        "A report needs findings or a volume: run POST /v1/analysis or POST /v1/volume and send its result."
    )


class OtherStudyError(ConflictError):
    """The volume is of another study."""

    code = "result-of-other-study"
    title = "Result of another study"
    public_message = "The volume result belongs to another study than study_id names. Send results of one study."


class ReportService:
    """Writes reports."""

    def __init__(self, port: GenerationPort, *, prose_max_tokens: int) -> None:
        self._port = port
        self._prose_max_tokens = prose_max_tokens

    async def run(
        self,
        study: StoredStudy,
        findings: Findings | None,
        volume: VolumeResult | None,
        vitals: Vitals | None = None,
        context: ClinicalContext | None = None,
    ) -> ReportResult:
        """Write a report. Raises StudyNotEligibleError, NothingToReportError, OtherStudyError, EngineFailedError."""
        require_eligible(study)
        if findings is None and volume is None:
            raise NothingToReportError
        if volume is not None and volume.study_id != study.record.study_id:
            raise OtherStudyError
        began = time.monotonic()
        facts = collect_facts(study, findings, volume, vitals, context)
        case = case_of(findings, context)
        sections = [await self._section(name, facts) for name in facts.statements]
        return ReportResult(
            study_id=study.record.study_id,
            sections=sections,
            physiology=physiology_of(vitals, context),
            recommendations=recommendations_for(case),
            needed_for_disposition=list(needed(case)),
            missing=list(facts.missing),
            provenance=[provenance_of(self._port.info, time.monotonic() - began, adapter_on=False)],
            warnings=[*study.record.warnings, *caveats_of(self._port.info)],
            notice=RESEARCH_NOTICE,
        )

    async def _section(self, name: SectionName, facts: Facts) -> ReportSection:
        statements = list(facts.statements[name])
        if name not in PROSE_SECTIONS:
            return ReportSection(name=name, statements=statements, prose=None, writer="service")
        slots = facts.slot_names
        request = GenerationRequest(
            turns=prose_turns(name, statements, slots),
            max_new_tokens=self._prose_max_tokens,
            use_adapter=False,
            slots=slots,
        )
        generation = await self._port.generate(request)
        prose = fill_slots(generation.text, facts.slots).strip()
        return ReportSection(name=name, statements=statements, prose=prose, writer="service_and_model")
