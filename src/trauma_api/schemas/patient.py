"""What the caller knows of the patient: vitals and clinical context. All optional; nothing is assumed."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trauma_api.schemas.base import Schema


class Vitals(Schema):
    """Vital signs and blood values at the time of the CT."""

    heart_rate_bpm: Annotated[float, Field(ge=0, le=300)] | None = None
    systolic_mmhg: Annotated[float, Field(ge=0, le=300)] | None = None
    diastolic_mmhg: Annotated[float, Field(ge=0, le=250)] | None = None
    respiratory_rate_bpm: Annotated[float, Field(ge=0, le=100)] | None = None
    gcs: Annotated[int, Field(ge=3, le=15)] | None = None
    temperature_c: Annotated[float, Field(ge=10, le=45)] | None = None
    lactate_mmol_l: Annotated[float, Field(ge=0, le=40)] | None = None
    base_deficit_mmol_l: Annotated[float, Field(ge=-30, le=40, description="Positive: a deficit.")] | None = None
    hemoglobin_g_dl: Annotated[float, Field(ge=0, le=30)] | None = None

    @model_validator(mode="after")
    def _pressures_in_order(self) -> Self:
        if (
            self.systolic_mmhg is not None
            and self.diastolic_mmhg is not None
            and self.diastolic_mmhg > self.systolic_mmhg
        ):
            raise ValueError("diastolic_mmhg is above systolic_mmhg")
        return self


class ClinicalContext(Schema):
    """What the team at the bedside knows. Closed choices: free text would reach prompts and logs."""

    mechanism: Literal["blunt", "penetrating", "unknown"] = "unknown"
    hemodynamic_status: Literal["stable", "transient_responder", "unstable", "unknown"] = "unknown"
    peritonitis: Literal["present", "absent", "unknown"] = "unknown"
    fast: Literal["positive", "negative", "indeterminate", "unknown"] = "unknown"
    pelvic_fracture: Literal["present", "absent", "unknown"] = Field(
        default="unknown", description="As the caller knows it; the reading of the CT does not assess the pelvis."
    )
    pancreatic_injury: Literal["none", "grade_i_ii", "grade_iii_iv", "grade_v", "unknown"] = Field(
        default="unknown", description="AAST grade as the caller knows it; the reading does not assess the pancreas."
    )
    age_years: Annotated[int, Field(ge=0, le=130)] | None = None
    anticoagulated: bool | None = None
