"""The whole evaluation over small phantoms, through the real container, with engines that answer at once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from tests.evaluation.test_rsna import patient_row, write_nifti, write_table
from tests.support.engines import (
    Box,
    ConstantSegmenter,
    ConstantTriage,
    FailingReader,
    ScriptedReader,
    failure,
    small_engines,
)
from tests.support.small_phantom import VOXEL_ML, small_phantom
from trauma_api.cli import app
from trauma_api.container import Engines
from trauma_api.engines.base import SlicePixels, TriageScores
from trauma_api.evaluation.campaign import Request, conversations_of, evaluate, find_cases
from trauma_api.evaluation.cases import FolderError
from trauma_api.evaluation.report import Evaluation
from trauma_api.evaluation.rsna import COLUMNS
from trauma_api.phantom.labels import BLOOD_LABELS
from trauma_api.phantom.series import write_phantom, write_slices
from trauma_api.settings import Settings

# 10 slices x 20 rows x 20 columns = 4000 voxels of 0.0242 mL.
BOX: Box = (slice(10, 20), slice(60, 80), slice(110, 130))
BOX_ML = 4000 * VOXEL_ML


class TruthfulSegmenter(ConstantSegmenter):
    """Knows where the blood of the small phantom of seed 7 is."""

    def probabilities(
        self,
        voxels_zyx_hu: NDArray[np.int16] | NDArray[np.float32],
        spacing_zyx_mm: tuple[float, float, float],
        start: int,
        stop: int,
    ) -> NDArray[np.float32]:
        """1 in blood."""
        self.calls += 1
        return np.isin(small_phantom(7).labels_zyx[start:stop], BLOOD_LABELS).astype(np.float32)


class CountingTriage(ConstantTriage):
    """Counts the slices that it has seen."""

    def __init__(self, sha256: str = "0" * 64) -> None:
        super().__init__()
        self.info = self.info.__class__(**{**vars(self.info), "sha256": sha256})
        self.seen = 0

    def score(self, slices: Sequence[SlicePixels]) -> TriageScores:
        """As its base."""
        self.seen += len(slices)
        return super().score(slices)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantoms, one of them unenhanced."""
    root = tmp_path_factory.mktemp("phantoms")
    write_phantom(small_phantom(7), root / "a")
    write_phantom(small_phantom(8, "none"), root / "b")
    return root


def run(folder: Path, out: Path, engines: Engines | None = None, **request: Any) -> Evaluation:
    """Evaluate with small engines, without showing anything."""
    chosen = engines or small_engines(segmenter=ConstantSegmenter((BOX, 1.0)))
    return evaluate(Settings(), Request(folder, out, **request), Console(quiet=True), chosen)


class TestPhantoms:
    def test_every_part_is_measured_and_written(self, phantoms: Path, tmp_path: Path) -> None:
        evaluation = run(phantoms, tmp_path)
        assert (evaluation.studies, evaluation.patients, list(evaluation.failures)) == (2, 2, [])
        volume = evaluation.figures["volume"]
        truth_ml = sum(small_phantom(seed).truth.total_ml for seed in (7, 8)) / 2
        assert volume["bias"].estimate.value == pytest.approx(BOX_ML - truth_ml, abs=0.1)
        assert evaluation.figures["segmentation"]["Dice from 20 mL, mean"].rows == 2
        # Constant suspicion: every pair is a tie.
        assert evaluation.figures["triage"]["slice AUROC"].estimate.value == 0.5
        # The unenhanced phantom has no truth for it.
        assert evaluation.figures["finding: extravasation"]["sensitivity"].rows == 1
        # The reader says no injury: the spleen of both is missed.
        assert evaluation.figures["finding: spleen injury"]["sensitivity"].estimate.value == 0
        assert {"ingest, median", "triage, median", "reading, median", "volume, median"} <= set(
            evaluation.figures["latency"]
        )

    def test_results_are_written_for_machines_and_people(self, phantoms: Path, tmp_path: Path) -> None:
        evaluation = run(phantoms, tmp_path)
        written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        bias = evaluation.figures["volume"]["bias"].estimate
        assert written["figures"]["volume"]["bias"]["value"] == bias.value
        assert written["bootstrap"]["by"] == "patient"
        report = (tmp_path / "report.md").read_text(encoding="utf-8")
        assert "Research use only" in report
        assert "Nothing failed." in report
        assert str(phantoms.parent) not in report + json.dumps(written)
        assert list(evaluation.plots) == ["volume.png"]
        assert (tmp_path / "volume.png").read_bytes().startswith(b"\x89PNG")

    def test_the_mask_is_compared_on_the_voxels_of_the_study(self, phantoms: Path, tmp_path: Path) -> None:
        evaluation = run(phantoms, tmp_path, small_engines(segmenter=TruthfulSegmenter()), limit=1)
        assert evaluation.studies == 1
        assert evaluation.figures["segmentation"]["Dice from 20 mL, mean"].estimate.value == 1
        assert evaluation.figures["volume"]["bias"].estimate.value == pytest.approx(0, abs=0.05)

    def test_a_folder_may_be_the_study_itself(self, phantoms: Path) -> None:
        assert [case.case_id for case in find_cases(phantoms / "a").cases] == ["a"]

    def test_a_folder_without_truth_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FolderError, match=r"truth\.json"):
            find_cases(tmp_path)


class TestFailures:
    def test_a_failed_part_is_listed_and_the_others_count(self, phantoms: Path, tmp_path: Path) -> None:
        evaluation = run(phantoms, tmp_path, small_engines(reader=FailingReader(failure())))
        assert {(item.case_id, item.stage, item.code) for item in evaluation.failures} == {
            (case, stage, "model-failed") for case in ("a", "b") for stage in ("reading", "reading_alone", "report")
        }
        assert evaluation.figures["finding: any injury"]["AUROC"].rows == 0
        assert evaluation.figures["volume"]["bias"].rows == 2
        assert "| a | reading | model-failed |" in (tmp_path / "report.md").read_text(encoding="utf-8")

    def test_an_unreadable_truth_is_listed(self, phantoms: Path, tmp_path: Path) -> None:
        folder = tmp_path / "studies"
        write_phantom(small_phantom(), folder / "good")
        write_phantom(small_phantom(), folder / "old")
        (folder / "old" / "truth.json").write_text('{"total_ml": 3}', encoding="utf-8")
        evaluation = run(folder, tmp_path / "out", parts=frozenset({"triage"}))
        assert [(item.case_id, item.code) for item in evaluation.failures] == [("old", "truth-unreadable")]
        assert evaluation.studies == 1

    def test_labels_of_another_grid_are_refused(self, phantoms: Path, tmp_path: Path) -> None:
        folder = tmp_path / "study"
        write_phantom(small_phantom(), folder)
        write_nifti(folder / "labels.nii.gz", small_phantom().labels_zyx[1:])
        evaluation = run(folder, tmp_path / "out")
        assert [(item.stage, item.code) for item in evaluation.failures] == [("truth", "labels-mismatch")]

    def test_a_truth_of_another_number_of_slices_is_listed(self, phantoms: Path, tmp_path: Path) -> None:
        folder = tmp_path / "study"
        write_phantom(small_phantom(), folder)
        (folder / "IM0048.dcm").unlink()
        evaluation = run(folder, tmp_path / "out", parts=frozenset({"triage"}))
        assert [(item.stage, item.code) for item in evaluation.failures] == [("truth", "labels-mismatch")]
        assert evaluation.figures["triage"]["slice AUROC"].rows == 0
        assert evaluation.figures["triage"]["study AUROC"].rows == 1

    def test_a_part_that_needs_triage_is_unavailable_without_it(self, phantoms: Path, tmp_path: Path) -> None:
        evaluation = run(phantoms, tmp_path, parts=frozenset({"reading"}), ablation=False, limit=1)
        assert [(item.stage, item.code) for item in evaluation.failures] == [("reading", "needs-triage")]


class TestResuming:
    def test_what_is_finished_is_not_run_again(self, phantoms: Path, tmp_path: Path) -> None:
        triage = CountingTriage()
        first = run(phantoms, tmp_path, small_engines(triage=triage), limit=1)
        assert triage.seen == 48
        second = run(phantoms, tmp_path, small_engines(triage=triage))
        assert triage.seen == 96
        third = run(phantoms, tmp_path, small_engines(triage=triage))
        assert triage.seen == 96
        assert (first.studies, second.studies) == (1, 2)
        assert third.figures == second.figures

    def test_another_checkpoint_or_truth_runs_anew(self, phantoms: Path, tmp_path: Path) -> None:
        folder = tmp_path / "study"
        write_phantom(small_phantom(), folder)
        run(folder, tmp_path / "out")
        other = CountingTriage("1" * 64)
        run(folder, tmp_path / "out", small_engines(triage=other))
        assert other.seen == 48
        text = (folder / "truth.json").read_text(encoding="utf-8").replace('"moderate"', '"large"')
        (folder / "truth.json").write_text(text, encoding="utf-8")
        run(folder, tmp_path / "out", small_engines(triage=other))
        assert other.seen == 96

    def test_failures_and_broken_files_are_run_again(self, phantoms: Path, tmp_path: Path) -> None:
        run(phantoms, tmp_path, small_engines(reader=FailingReader(failure())), limit=1)
        assert not run(phantoms, tmp_path, small_engines(), limit=1).failures
        (tmp_path / "studies" / "a.json").write_text("{", encoding="utf-8")
        triage = CountingTriage()
        run(phantoms, tmp_path, small_engines(triage=triage), limit=1)
        assert triage.seen == 48


class TestQuestions:
    def test_answers_are_judged_and_kept(self, phantoms: Path, tmp_path: Path) -> None:
        reader = ScriptedReader("The hemorrhage volume is {volume_ml}.")
        evaluation = run(phantoms, tmp_path, small_engines(reader=reader), questions=12)
        asked = [
            item
            for case in ("a", "b")
            for item in json.loads((tmp_path / "questions" / f"{case}.json").read_text(encoding="utf-8"))["asked"]
        ]
        assert {item["fact"] for item in asked if item["right"]} <= {"volume_ml"}
        assert [item["right"] for item in asked if item["fact"] == "volume_ml"].count(False) == 0
        share = sum(item["right"] for item in asked) / len(asked)
        assert evaluation.figures["answers"]["right, all"].estimate.value == pytest.approx(share)
        requests = len(reader.requests)
        run(phantoms, tmp_path, small_engines(reader=reader), questions=12)
        assert len(reader.requests) == requests

    def test_they_are_spread_evenly(self, phantoms: Path) -> None:
        cases = find_cases(phantoms).cases
        assert conversations_of(cases, 9) == [2, 1]
        assert conversations_of(cases, 0) == [0, 0]

    def test_they_need_results(self, phantoms: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="--questions"):
            Request(phantoms, tmp_path, frozenset({"triage"}), questions=3)


class TestRsna:
    def test_series_of_a_patient_count_as_one(self, tmp_path: Path) -> None:
        rows = patient_row("20", spleen_healthy=0, spleen_high=1, any_injury=1), patient_row("30")
        write_table(tmp_path / "train.csv", COLUMNS, *rows)
        images = tmp_path / "train_images"
        write_nifti(images / "20" / "1.nii.gz", small_phantom().voxels_zyx_hu)
        write_slices(small_phantom(), images / "20" / "2")
        write_slices(small_phantom(9), images / "30" / "3")
        blood = np.isin(small_phantom().labels_zyx, BLOOD_LABELS).astype(np.uint8)
        for series in ("1", "2"):
            write_nifti(tmp_path / "masks" / f"{series}.nii.gz", blood)
        evaluation = run(tmp_path, tmp_path / "out", small_engines(segmenter=TruthfulSegmenter()))
        assert (evaluation.studies, evaluation.patients, list(evaluation.failures)) == (3, 2, [])
        assert evaluation.figures["RSNA 2023 loss"]["score"].rows == 2
        assert evaluation.figures["segmentation"]["Dice from 20 mL, mean"].estimate.value == 1
        assert evaluation.figures["segmentation"]["Dice from 20 mL, mean"].rows == 2
        # Only the slices of the healthy patient are known.
        assert evaluation.figures["triage"]["slice AUROC"].rows == 48


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [(["--stages", "triage,prose"], "--stages takes"), ([], "no such folder")],
    )
    def test_misuse_is_told_in_a_sentence(self, tmp_path: Path, arguments: list[str], message: str) -> None:
        result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "absent"), *arguments])
        assert result.exit_code == 2
        assert message in result.output
