"""The reading: slices and a form go to the model, findings with probabilities come back."""

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, get_args

import anyio.to_thread
from pydantic import BaseModel

from trauma_api.engines.base import Generation, GenerationRequest, JsonForm
from trauma_api.schemas.analysis import (
    AnalysisResult,
    Findings,
    Hemoperitoneum,
    HemoperitoneumFinding,
    InjuryPattern,
    InjuryPatternFinding,
    OrganFinding,
    OrganGrade,
    Presence,
    PresenceFinding,
    Severity,
    SeverityFinding,
)
from trauma_api.schemas.base import RESEARCH_NOTICE, Caveat
from trauma_api.schemas.patient import Vitals
from trauma_api.services.eligibility import require_eligible
from trauma_api.services.ports import DeviceOutOfMemoryError, EngineFailedError, GenerationPort
from trauma_api.services.prompts import reading_turns
from trauma_api.services.provenance import caveats_of, provenance_of
from trauma_api.services.studies import SliceOutOfRangeError
from trauma_api.services.study_storage import StoredStudy

# Letters and plain punctuation only: numbers are facts and never come from the model, and a control character or a
# quote inside a string would have to be escaped.
_WORDS = "^[A-Za-z][A-Za-z ,;()/-]{0,%d}$"

FORM = JsonForm(
    choices={
        "liver": get_args(OrganGrade),
        "spleen": get_args(OrganGrade),
        "kidneys": get_args(OrganGrade),
        "bowel_and_mesentery": get_args(Presence),
        "active_extravasation": get_args(Presence),
        "hemoperitoneum": get_args(Hemoperitoneum),
        "injury_pattern": get_args(InjuryPattern),
        "severity": get_args(Severity),
    },
    free_schema={
        "type": "object",
        "properties": {
            "bleeding_description": {"type": "string", "pattern": _WORDS % 159},
            "differentials": {
                "type": "array",
                "items": {"type": "string", "pattern": _WORDS % 39},
                "maxItems": 5,
            },
        },
        "required": ["bleeding_description", "differentials"],
        "additionalProperties": False,
    },
)

FORM_MAX_TOKENS = 1024
"""More than the longest form has characters, so that the grammar ends the object and not the limit."""

_F = TypeVar("_F", bound=BaseModel)


class AnalysisService:
    """Reads selected slices together."""

    def __init__(self, port: GenerationPort) -> None:
        self._port = port

    async def run(
        self, study: StoredStudy, slice_indices: Sequence[int], vitals: Vitals | None = None
    ) -> AnalysisResult:
        """Read the given slices.

        Raises StudyNotEligibleError, SliceOutOfRangeError, EngineFailedError, DeviceOutOfMemoryError.
        """
        require_eligible(study)
        began = time.monotonic()
        indices = sorted(set(slice_indices))
        if indices[-1] >= study.stack.slice_count:
            raise SliceOutOfRangeError
        generation, read = await self._read(study, indices, vitals)
        warnings = [*study.record.warnings, *caveats_of(self._port.info)]
        if len(read) < len(indices):
            warnings.append(
                Caveat(
                    code="fewer-slices-read",
                    detail=f"Memory was short: {len(read)} of {len(indices)} slices were read.",
                )
            )
        return AnalysisResult(
            study_id=study.record.study_id,
            slice_indices=read,
            findings=_findings(generation),
            provenance=[provenance_of(self._port.info, time.monotonic() - began)],
            warnings=warnings,
            notice=RESEARCH_NOTICE,
        )

    async def _read(
        self, study: StoredStudy, indices: list[int], vitals: Vitals | None
    ) -> tuple[Generation, list[int]]:
        """Read; when memory is short, with half the slices, down to one."""
        while True:
            turns = await anyio.to_thread.run_sync(partial(reading_turns, study.stack, indices, vitals))
            request = GenerationRequest(turns=turns, max_new_tokens=FORM_MAX_TOKENS, use_adapter=True, form=FORM)
            try:
                return await self._port.generate(request), indices
            except DeviceOutOfMemoryError:
                if len(indices) == 1:
                    raise
            indices = indices[::2] if len(indices) > 2 else indices[:1]


def _findings(generation: Generation) -> Findings:
    try:
        form = json.loads(generation.text)
    except json.JSONDecodeError as error:
        raise EngineFailedError from error
    chances = generation.choice_probabilities
    return Findings(
        liver=_finding(OrganFinding, "liver", form, chances),
        spleen=_finding(OrganFinding, "spleen", form, chances),
        kidneys=_finding(OrganFinding, "kidneys", form, chances),
        bowel_and_mesentery=_finding(PresenceFinding, "bowel_and_mesentery", form, chances),
        active_extravasation=_finding(PresenceFinding, "active_extravasation", form, chances),
        hemoperitoneum=_finding(HemoperitoneumFinding, "hemoperitoneum", form, chances),
        injury_pattern=_finding(InjuryPatternFinding, "injury_pattern", form, chances),
        severity=_finding(SeverityFinding, "severity", form, chances),
        bleeding_description=form["bleeding_description"],
        differentials=form["differentials"],
    )


def _finding(kind: type[_F], name: str, form: Mapping[str, Any], chances: Mapping[str, Mapping[str, float]]) -> _F:
    probabilities = {value: round(chance, 4) for value, chance in chances[name].items()}
    return kind(value=form[name], probability=probabilities[form[name]], probabilities=probabilities)
