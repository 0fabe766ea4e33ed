"""Plots are PNG files of what there are results for; without matplotlib a sentence says what to install."""

import sys
from pathlib import Path

import pytest

from tests.evaluation.test_cohort import HEALTHY, reading, result
from trauma_api.evaluation.cohort import patients_of
from trauma_api.evaluation.plots import PlotsUnavailableError, write_plots

INJURED = HEALTHY.model_copy(update={"liver": "low", "extravasation": True, "any_injury": True})
PATIENTS = patients_of(
    [
        result("a", "a"),
        result("b", "b", truth=INJURED, reading=reading(liver=(0.2, 0.6, 0.2, 0.0))),
        result("c", "c", reading=reading(liver=(0.7, 0.2, 0.1, 0.0))),
    ]
)


def test_all_plots_are_drawn(tmp_path: Path) -> None:
    names = write_plots(tmp_path, PATIENTS)
    assert names == [
        "roc.png",
        "reliability.png",
        "ablation_any_injury.png",
        "ablation_extravasation.png",
        "volume.png",
    ]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_nothing_to_draw_draws_nothing(tmp_path: Path) -> None:
    assert write_plots(tmp_path, ()) == []


def test_without_matplotlib_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotsUnavailableError, match=r"pip install 'trauma-api\[evaluate\]'"):
        write_plots(tmp_path, PATIENTS)
