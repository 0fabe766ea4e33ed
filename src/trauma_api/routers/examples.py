"""Examples that can be executed as they stand in Swagger UI."""

from typing import Any

from fastapi.openapi.models import Example

TRIAGE_REQUEST: dict[str, Example] = {"sample": Example(summary="The sample study", value={"study_id": "sample"})}
ANALYSIS_REQUEST: dict[str, Example] = {
    "sample": Example(summary="Slices that triage selects", value={"study_id": "sample"}),
    "chosen": Example(summary="Chosen slices", value={"study_id": "sample", "slice_indices": [12, 20, 28]}),
}
VOLUME_REQUEST = TRIAGE_REQUEST
BRIEFING_REQUEST: dict[str, Example] = {
    "sample": Example(
        summary="The sample study and a patient in shock",
        value={
            "study_id": "sample",
            "vitals": {"heart_rate_bpm": 128, "systolic_mmhg": 84, "diastolic_mmhg": 50, "gcs": 13},
            "clinical_context": {"mechanism": "blunt", "hemodynamic_status": "unstable", "fast": "positive"},
        },
    )
}
QUESTION_REQUEST: dict[str, Example] = {
    "bleeding": Example(summary="A question", value={"question": "Is there active bleeding, and where?"})
}

_GRADES = ("none", "low_grade", "high_grade", "not_assessed")
_PRESENCES = ("absent", "present", "not_assessed")


def _finding(value: str, values: tuple[str, ...]) -> dict[str, Any]:
    rest = round(0.2 / (len(values) - 1), 4)
    probabilities = {other: 0.8 if other == value else rest for other in values}
    return {"value": value, "probability": 0.8, "probabilities": probabilities}


_FINDINGS: dict[str, Any] = {
    "liver": _finding("none", _GRADES),
    "spleen": _finding("high_grade", _GRADES),
    "kidneys": _finding("none", _GRADES),
    "bowel_and_mesentery": _finding("not_assessed", _PRESENCES),
    "active_extravasation": _finding("present", _PRESENCES),
    "hemoperitoneum": _finding("moderate", ("none", "small", "moderate", "large", "not_assessed")),
    "injury_pattern": _finding(
        "isolated_organ",
        ("no_injury", "isolated_organ", "multiple_organs", "bleeding_without_organ_injury", "indeterminate"),
    ),
    "severity": _finding("severe", ("none", "mild", "moderate", "severe", "critical")),
    "bleeding_description": "contrast leaks beside the spleen",
    "differentials": ["pseudoaneurysm"],
}

REPORT_REQUEST: dict[str, Example] = {
    "sample": Example(
        summary="Made-up findings on the sample study",
        value={
            "study_id": "sample",
            "findings": _FINDINGS,
            "vitals": {"heart_rate_bpm": 118, "systolic_mmhg": 96, "gcs": 14},
            "clinical_context": {"mechanism": "blunt", "peritonitis": "absent"},
        },
    )
}
