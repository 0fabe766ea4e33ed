"""From what the caller sent to the case of the rules and the hemodynamic status that is shown."""

from trauma_api.guidelines.case import Case
from trauma_api.schemas.patient import ClinicalContext, Vitals
from trauma_api.services.recommendations import case_of, hemodynamics_of, recommendations_for

SHOCK = Vitals(heart_rate_bpm=128, systolic_mmhg=84, diastolic_mmhg=50, gcs=13)


class TestCaseOf:
    def test_nothing_sent_is_nothing_known(self) -> None:
        assert case_of(None, None, None) == Case()

    def test_what_only_the_caller_knows_is_passed_on(self) -> None:
        context = ClinicalContext(
            pelvic_fracture="present", pancreatic_injury="grade_v", anticoagulated=False, age_years=60
        )
        assert case_of(None, context, None) == Case(
            pelvic_fracture="present",
            pancreatic_injury="grade_v",
            anticoagulated="no",
            older_than_55="yes",
            older_than_60="no",
        )

    def test_a_derived_status_is_marked(self) -> None:
        case = case_of(None, None, SHOCK)
        assert (case.hemodynamic_status, case.derived) == ("unstable", frozenset({"hemodynamic_status"}))

    def test_a_given_status_is_not_marked(self) -> None:
        case = case_of(None, ClinicalContext(hemodynamic_status="unstable"), SHOCK)
        assert (case.hemodynamic_status, case.derived) == ("unstable", frozenset())


class TestHemodynamicsOf:
    def test_derived_comes_with_definition_citation_and_numbers_as_shown_elsewhere(self) -> None:
        shown = hemodynamics_of(SHOCK, ClinicalContext(mechanism="blunt"))
        assert (shown.status, shown.origin) == ("unstable", "derived")
        assert shown.inputs == ["heart_rate_bpm=128", "systolic_mmhg=84", "gcs=13"]
        assert shown.definition is not None
        assert shown.citation is not None
        assert "WSES" in shown.citation
        assert (shown.url or "").startswith("https://")

    def test_given(self) -> None:
        shown = hemodynamics_of(SHOCK, ClinicalContext(hemodynamic_status="stable"))
        assert (shown.status, shown.origin, shown.definition, shown.inputs) == ("stable", "given", None, [])

    def test_unknown(self) -> None:
        for vitals in (None, Vitals(), Vitals(systolic_mmhg=120, heart_rate_bpm=80)):
            shown = hemodynamics_of(vitals, None)
            assert (shown.status, shown.origin, shown.citation, shown.url) == ("unknown", "unknown", None, None)


def test_recommendations_carry_their_source_and_what_fired_them() -> None:
    case = case_of(None, ClinicalContext(mechanism="blunt", peritonitis="absent"), SHOCK)
    first = recommendations_for(case)[0]
    assert (first.id, first.level, first.disposition) == ("SPL-1", "Level 1", "urgent_laparotomy")
    assert first.inputs == ["hemodynamic_status=unstable (derived)", "peritonitis=absent", "mechanism=blunt"]
    assert first.url.startswith("https://www.east.org/")
