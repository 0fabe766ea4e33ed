"""``trauma-api phantom``: what it lists, what it writes, and what it refuses."""

import math
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from trauma_api.cli import app
from trauma_api.phantom.labels import BLOOD_LABELS
from trauma_api.phantom.scenarios import SCENARIOS
from trauma_api.phantom.series import read_truth
from trauma_api.phantom.truth import LABELS_FILE

SCENARIO = "spleen-high-blush"


def invoke(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["phantom", *arguments])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder of one phantom by its seed, and what the command said."""
    out = tmp_path_factory.mktemp("out")
    return out, invoke(str(out), "--scenario", SCENARIO, "--seed", "8", "--count", "1")


def test_the_scenarios_are_listed_with_what_they_are() -> None:
    ended = invoke("--list")

    lines = ended.stdout.splitlines()
    assert ended.exit_code == 0
    assert [line.split()[0] for line in lines] == list(SCENARIOS)
    assert all(line.endswith(scenario.description) for line, scenario in zip(lines, SCENARIOS.values(), strict=True))


def test_a_phantom_is_written_and_described(written: tuple[Path, Result]) -> None:
    out, ended = written

    assert (ended.exit_code, ended.stderr) == (0, "")
    (folder,) = out.iterdir()
    assert folder.name == "phantom-000008"
    truth = read_truth(folder)
    assert (truth.scenario, truth.seed) == (SCENARIO, 8)
    assert {path.suffix for path in folder.iterdir()} == {".dcm", ".json", ".gz"}
    assert len(list(folder.glob("IM*.dcm"))) == truth.slice_count
    (line,) = ended.stdout.splitlines()
    assert f"{truth.total_ml:.1f} mL of blood" in line
    assert f"spleen AAST {truth.spleen.aast}" in line


def test_its_truth_is_what_its_labels_count(written: tuple[Path, Result]) -> None:
    folder = written[0] / "phantom-000008"
    truth = read_truth(folder)

    labels = np.asarray(nibabel.load(folder / LABELS_FILE).dataobj).transpose(2, 1, 0)
    blood_ml = np.count_nonzero(np.isin(labels, BLOOD_LABELS), axis=(1, 2)) * math.prod(truth.spacing_zyx_mm) / 1000
    assert truth.total_ml == pytest.approx(blood_ml.sum(), rel=1e-3)
    assert truth.total_ml == pytest.approx(sum(truth.compartments_ml.values()), rel=1e-3)
    np.testing.assert_allclose([one.blood_ml for one in truth.slices], blood_ml, atol=1e-3)


def test_a_phantom_that_is_there_is_kept(written: tuple[Path, Result]) -> None:
    out, ended = written
    truth_file = out / "phantom-000008" / "truth.json"
    before = truth_file.stat().st_mtime_ns

    again = invoke(str(out), "--scenario", SCENARIO, "--seed", "8", "--count", "1")

    assert (again.exit_code, again.stdout) == (0, ended.stdout)
    assert truth_file.stat().st_mtime_ns == before


def test_a_folder_of_something_else_is_refused(written: tuple[Path, Result], tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear colleague", encoding="utf-8")
    for folder in (tmp_path, written[0] / "phantom-000008"):
        ended = invoke(str(folder), "--scenario", SCENARIO, "--seed", "9")
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert ended.stderr == f"{folder} holds something else; name a new folder.\n"


def test_an_unknown_scenario_is_one_sentence(tmp_path: Path) -> None:
    ended = invoke(str(tmp_path / "out"), "--scenario", "unicorn")

    assert (ended.exit_code, ended.stdout) == (2, "")
    (sentence,) = ended.stderr.splitlines()
    assert sentence.endswith(".")
    assert SCENARIO in sentence
    assert not (tmp_path / "out").exists()


def test_without_a_folder_nothing_is_drawn() -> None:
    ended = invoke()

    assert (ended.exit_code, ended.stdout, ended.stderr) == (2, "", "Name the folder to write into.\n")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    ended = invoke(str(tmp_path / "file" / "out"), "--scenario", SCENARIO)

    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr == "The phantom cannot be written: Not a directory.\n"


def test_it_loads_no_model_library() -> None:
    code = "import sys, trauma_api.cli, trauma_api.phantom_command; print('torch' in sys.modules)"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout == "False\n"
