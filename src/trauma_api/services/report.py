"""The report: statements from the results, prose by the model with its adapter off."""

import time
from collections.abc import Sequence

from trauma_api.engines.base import GenerationRequest
from trauma_api.errors import ConflictError, InputError
from trauma_api.guidelines.case import needed
from trauma_api.schemas.analysis import Findings
from trauma_api.schemas.base import RESEARCH_NOTICE
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.schemas.report import ReportResult, ReportSection, SectionName, Statement
from trauma_api.schemas.volume import VolumeResult
from trauma_api.services.checked_prose import checked_prose
from trauma_api.services.eligibility import require_eligible
from trauma_api.services.facts import Facts, collect_facts
from trauma_api.services.ports import GenerationPort
from trauma_api.services.prompts import prose_turns
from trauma_api.services.provenance import caveats_of, provenance_of
from trauma_api.services.recommendations import (
    case_of,
    hemodynamics_of,
    physiology_of,
    recommendations_for,
)
from trauma_api.services.report_sections import ReportInputs, report_statements
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
        slices_read: Sequence[int] = (),
    ) -> ReportResult:
        """Write a report. Raises StudyNotEligibleError, NothingToReportError, OtherStudyError, EngineFailedError."""
        require_eligible(study)
        if findings is None and volume is None:
            raise NothingToReportError
        if volume is not None and volume.study_id != study.record.study_id:
            raise OtherStudyError
        began = time.monotonic()
        facts = collect_facts(study, findings, volume, vitals, context)
        case = case_of(findings, context, vitals)
        inputs = ReportInputs(
            study=study,
            volume=volume,
            slices_read=slices_read,
            vitals=vitals,
            context=context,
            hemodynamics=hemodynamics_of(vitals, context),
            physiology=physiology_of(vitals, context),
            recommendations=recommendations_for(case),
            needed=needed(case),
        )
        sections = [
            await self._section(name, statements, facts, slices_read)
            for name, statements in report_statements(facts, inputs).items()
        ]
        return ReportResult(
            study_id=study.record.study_id,
            sections=sections,
            hemodynamics=inputs.hemodynamics,
            physiology=list(inputs.physiology),
            recommendations=list(inputs.recommendations),
            needed_for_disposition=list(inputs.needed),
            missing=list(facts.missing),
            provenance=[provenance_of(self._port.info, time.monotonic() - began, adapter_on=False)],
            warnings=[*study.record.warnings, *caveats_of(self._port.info)],
            notice=RESEARCH_NOTICE,
        )

    async def _section(
        self, name: SectionName, statements: list[Statement], facts: Facts, slices_read: Sequence[int]
    ) -> ReportSection:
        if name not in PROSE_SECTIONS:
            return ReportSection(name=name, statements=statements, prose=None, writer="service")

        async def write(told: Sequence[str], slots: Sequence[str]) -> str:
            request = GenerationRequest(
                turns=prose_turns(name, told, slots),
                max_new_tokens=self._prose_max_tokens,
                use_adapter=False,
                slots=tuple(slots),
            )
            return (await self._port.generate(request)).text

        written = await write(facts.statements[name], facts.slot_names)
        prose = await checked_prose(written, facts, slices_read, write)
        return ReportSection(name=name, statements=statements, prose=prose, writer="service_and_model")
