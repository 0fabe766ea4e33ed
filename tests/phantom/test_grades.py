"""AAST 2018 grades from the criteria, read off the revision's tables one row each."""

import pytest

from trauma_api.phantom.count import hemoperitoneum_size
from trauma_api.phantom.injuries import OrganInjury, grade_injury, rsna_grade
from trauma_api.phantom.labels import Label

SPLEEN, LIVER, KIDNEY = Label.SPLEEN, Label.LIVER, Label.LEFT_KIDNEY


@pytest.mark.parametrize(
    ("organ", "injury", "grade"),
    [
        (SPLEEN, OrganInjury(laceration_depths_mm=(8,)), 1),
        (SPLEEN, OrganInjury(laceration_depths_mm=(20,)), 2),
        (SPLEEN, OrganInjury(laceration_depths_mm=(31,)), 3),
        (SPLEEN, OrganInjury(subcapsular_share=0.09), 1),
        (SPLEEN, OrganInjury(subcapsular_share=0.3), 2),
        (SPLEEN, OrganInjury(subcapsular_share=0.6), 3),
        (SPLEEN, OrganInjury(hematoma_mm=49), 2),
        (SPLEEN, OrganInjury(hematoma_mm=50), 3),
        (SPLEEN, OrganInjury(laceration_depths_mm=(5,), blush="contained"), 4),
        (SPLEEN, OrganInjury(laceration_depths_mm=(5,), blush="free"), 5),
        (SPLEEN, OrganInjury(laceration_depths_mm=(20,), infarct_share=0.3), 4),
        (SPLEEN, OrganInjury(laceration_depths_mm=(40,), shattered=True), 5),
        (SPLEEN, OrganInjury(laceration_depths_mm=(20, 15)), 3),
        (SPLEEN, OrganInjury(laceration_depths_mm=(35, 31)), 3),
        (LIVER, OrganInjury(hematoma_mm=60), 2),
        (LIVER, OrganInjury(laceration_depths_mm=(31,)), 3),
        (LIVER, OrganInjury(contusion_mm=20), 1),
        (LIVER, OrganInjury(laceration_depths_mm=(20,), blush="contained"), 3),
        (LIVER, OrganInjury(laceration_depths_mm=(20,), blush="free"), 4),
        (LIVER, OrganInjury(laceration_depths_mm=(40,), shattered=True), 4),
        (KIDNEY, OrganInjury(contusion_mm=20), 1),
        (KIDNEY, OrganInjury(laceration_depths_mm=(9,)), 2),
        (KIDNEY, OrganInjury(laceration_depths_mm=(11,)), 3),
        (KIDNEY, OrganInjury(perirenal_mm=8), 2),
        (KIDNEY, OrganInjury(laceration_depths_mm=(11,), blush="contained"), 3),
        (KIDNEY, OrganInjury(laceration_depths_mm=(11,), blush="free"), 4),
        (KIDNEY, OrganInjury(laceration_depths_mm=(11,), infarct_share=0.3), 4),
        (KIDNEY, OrganInjury(laceration_depths_mm=(11,), shattered=True), 5),
    ],
)
def test_a_grade_is_its_highest_criterion(organ: Label, injury: OrganInjury, grade: int) -> None:
    assert grade_injury(organ, injury).aast == grade


def test_an_organ_without_injury_has_grade_0() -> None:
    truth = grade_injury(SPLEEN, None)

    assert (truth.aast, truth.rsna, truth.criteria) == (0, "healthy", ())


@pytest.mark.parametrize(("aast", "rsna"), [(0, "healthy"), (1, "low"), (3, "low"), (4, "high"), (5, "high")])
def test_rsna_classes(aast: int, rsna: str) -> None:
    assert rsna_grade(aast) == rsna


@pytest.mark.parametrize(
    ("volumes", "size"),
    [
        ({}, "none"),
        ({Label.PERISPLENIC: 4.0}, "none"),
        ({Label.PERISPLENIC: 30.0}, "small"),
        ({Label.PERISPLENIC: 30.0, Label.MORISON: 20.0}, "small"),
        ({Label.PERISPLENIC: 30.0, Label.LEFT_GUTTER: 20.0}, "moderate"),
        ({Label.PERISPLENIC: 30.0, Label.LEFT_GUTTER: 20.0, Label.PELVIC: 40.0}, "large"),
    ],
)
def test_hemoperitoneum_is_sized_by_the_spaces_it_fills(volumes: dict[Label, float], size: str) -> None:
    assert hemoperitoneum_size(volumes) == size
