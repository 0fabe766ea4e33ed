"""Phases, kernels and kinds from the words that scanners and people write."""

import pytest

from trauma_api.imaging.stated_words import is_derived, is_localizer, is_sharp_kernel, stated_phase, states_agent
from trauma_api.imaging.study import Phase

WORDS: dict[Phase, list[str]] = {
    "non_contrast": [
        "Abdomen nativ 5.0", "ABD W/O CONTRAST", "w/o", "Abdomen ohne KM", "TDM sans injection", "SIN CONTRASTE",
        "addome senza mdc", "Abdome sem contraste", "buik zonder contrast", "Unenhanced", "NC 3mm", "Non-Contrast",
        "s/ contraste", "fase basale", "blanco", "NATIVE_ABD",
    ],
    "arterial": [
        "ART 1.0", "Abdomen arteriell", "temps artériel", "fase arteriosa", "Arterial_Phase", "late arterial", "35s",
        "CTA", "Angio-TC", "arteriële fase", "Thx Abd 30 sec",
    ],
    "portal_venous": [
        "PV 3mm", "PVP", "Abdomen portalvenös", "portal-venous", "VEN", "temps portal", "fase venosa", "portovenosa",
        "70s", "Abd 70 sec", "veneuze fase", "PORTAL_VENOUS", "Abdomen portovenoes",
    ],
    "delayed": [
        "Delayed 5min", "Spätphase", "tardif", "fase tardía", "fase tardiva", "excretory", "urographic", "180s",
        "5 min", "laat", "Ausscheidungsphase", "fase excretora", "Urographie",
    ],
    "unknown": [
        "", "Abdomen 3.0 B30s", "Abd/Pel 5mm", "arterial/venous", "without contrast and delayed", "Parthenon", "Venice",
        "party", "0.5s", "Delphi", "Kopf 1.25", "50s", "Reconstruction del abdomen", "CONTRAST", "with contrast",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("text", "phase"), [(text, phase) for phase, texts in WORDS.items() for text in texts])
def test_words_name_a_phase_whole_and_in_any_language(text: str, phase: Phase) -> None:
    assert stated_phase([text], None) == phase


def test_the_more_specific_text_goes_first_and_contradictions_are_unknown() -> None:
    assert stated_phase(["PV", "Abdomen arterial"], None) == "portal_venous"
    assert stated_phase(["Abd 3.0", "Abdomen arterial"], None) == "arterial"
    assert stated_phase(["art + ven", "arterial"], None) == "unknown"
    assert stated_phase(["nativ"], True) == "unknown"
    assert stated_phase(["nativ"], False) == "non_contrast"
    assert stated_phase(["ART"], False) == "arterial"
    assert stated_phase([], True) == "unknown"


@pytest.mark.parametrize(
    ("names", "sharp"),
    [
        (["B30f"], False), (["B60s"], True), (["B80f"], True), (["Br40d", "3"], False), (["Br60f", "3"], True),
        (["Bl57d"], True), (["I70f", "2"], True), (["STANDARD"], False), (["BONEPLUS"], True), (["LUNG"], True),
        (["EDGE"], True), (["SOFT"], False), (["FC08-H"], False), (["FC30"], True), (["FC52"], True), (["FC43"], None),
        (["YC"], True), (["B"], False), (["L"], True), (["HD BONE"], True), (["my kernel"], None), ([], None),
    ],
)  # fmt: skip
def test_kernels_for_bone_and_lung_are_known_by_their_makers_names(names: list[str], sharp: bool | None) -> None:
    assert is_sharp_kernel(names) is sharp


def test_kinds_are_a_closed_set() -> None:
    assert is_localizer(["ORIGINAL", "PRIMARY", "topogram"])
    assert not is_localizer(["ORIGINAL", "PRIMARY", "STOPPED"])
    assert is_derived(["DERIVED"])
    assert not is_derived(["ORIGINAL", "PRIMARY", "AXIAL", "SECONDARY_NOTE"])


@pytest.mark.parametrize(("text", "stated"), [("Ultravist 370", True), ("none", False), ("  ", False), ("No", False)])
def test_agents_are_stated_or_denied(text: str, stated: bool) -> None:
    assert states_agent(text) is stated
