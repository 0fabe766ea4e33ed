"""The status: given wins; only unstable is ever derived, by the published definition, from an adult's vital signs."""

import pytest

from trauma_api.guidelines.hemodynamics import Status, hemodynamic_status
from trauma_api.guidelines.sources import WSES_SPLEEN_2017

IN_SHOCK = {"heart_rate_bpm": 130.0, "systolic_mmhg": 80.0, "gcs": 12.0, "base_deficit_mmol_l": 9.0}


@pytest.mark.parametrize("given", ["stable", "transient_responder", "unstable"])
def test_a_given_status_wins(given: Status) -> None:
    found = hemodynamic_status(given, IN_SHOCK, None)
    assert (found.status, found.origin) == (given, "given")
    assert (found.definition, found.source, found.inputs) == (None, None, ())


@pytest.mark.parametrize(
    ("vitals", "inputs"),
    [
        pytest.param(
            {"systolic_mmhg": 89.5, "gcs": 14.0}, ("systolic_mmhg=89.5", "gcs=14"), id="low pressure, altered"
        ),
        pytest.param(
            {"systolic_mmhg": 85.0, "base_deficit_mmol_l": 5.1},
            ("systolic_mmhg=85", "base_deficit_mmol_l=5.1"),
            id="low pressure, acidosis",
        ),
        pytest.param(
            {"heart_rate_bpm": 121.0, "systolic_mmhg": 120.0, "gcs": 15.0},
            ("heart_rate_bpm=121", "systolic_mmhg=120"),
            id="shock index above 1 at a normal pressure",
        ),
        pytest.param(
            {"heart_rate_bpm": 91.0, "systolic_mmhg": 90.0},
            ("heart_rate_bpm=91", "systolic_mmhg=90"),
            id="shock index above 1 at 90, which the note leaves out",
        ),
        pytest.param(
            {"heart_rate_bpm": 20.0, "systolic_mmhg": 0.0},
            ("heart_rate_bpm=20", "systolic_mmhg=0"),
            id="no pressure",
        ),
    ],
)
def test_unstable_is_derived_with_what_it_rests_on(vitals: dict[str, float], inputs: tuple[str, ...]) -> None:
    found = hemodynamic_status("unknown", vitals, 40)
    assert (found.status, found.origin, found.source) == ("unstable", "derived", WSES_SPLEEN_2017)
    assert found.inputs == inputs
    assert found.definition is not None
    assert found.definition.startswith("Hemodynamic instability of an adult: ")


def test_each_part_that_is_met_is_told_once() -> None:
    found = hemodynamic_status("unknown", IN_SHOCK, None)
    assert found.inputs == ("heart_rate_bpm=130", "systolic_mmhg=80", "gcs=12", "base_deficit_mmol_l=9")
    assert found.definition is not None
    assert found.definition.count("; or ") == 2


@pytest.mark.parametrize(
    "vitals",
    [
        pytest.param({}, id="nothing known"),
        pytest.param({"heart_rate_bpm": 150.0, "gcs": 6.0, "base_deficit_mmol_l": 12.0}, id="no pressure given"),
        pytest.param({"systolic_mmhg": 70.0}, id="low pressure alone"),
        pytest.param({"systolic_mmhg": 80.0, "gcs": 15.0, "base_deficit_mmol_l": 5.0}, id="low pressure, no sign met"),
        pytest.param({"systolic_mmhg": 90.0, "gcs": 8.0}, id="drowsy at 90"),
        pytest.param({"heart_rate_bpm": 100.0, "systolic_mmhg": 100.0}, id="shock index of 1"),
        pytest.param({"systolic_mmhg": 130.0, "base_deficit_mmol_l": 14.0}, id="acidosis at a normal pressure"),
        pytest.param({"heart_rate_bpm": 70.0, "systolic_mmhg": 125.0, "gcs": 15.0}, id="all normal"),
        pytest.param({"lactate_mmol_l": 8.0, "hemoglobin_g_dl": 6.0}, id="not of the definition"),
    ],
)
def test_vitals_that_do_not_meet_it_leave_the_status_unknown(vitals: dict[str, float]) -> None:
    found = hemodynamic_status("unknown", vitals, None)
    assert (found.status, found.origin) == ("unknown", "unknown")
    assert (found.definition, found.source, found.inputs) == (None, None, ())


@pytest.mark.parametrize(("age_years", "status"), [(17, "unknown"), (18, "unstable"), (None, "unstable")])
def test_the_definition_is_for_adults(age_years: float | None, status: Status) -> None:
    assert hemodynamic_status("unknown", IN_SHOCK, age_years).status == status
