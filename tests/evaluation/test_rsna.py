"""RSNA 2023: its tables, its layout of files, and its loss against the reference values of its training labels."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.support.small_phantom import small_phantom
from trauma_api.evaluation.cases import FolderError
from trauma_api.evaluation.labels import instance_numbers
from trauma_api.evaluation.rsna import COLUMNS, rsna_cases
from trauma_api.evaluation.rsna_loss import WEIGHTS, Group, group_loss, rsna_loss
from trauma_api.phantom.series import affine_lps, write_slices

# Of the 3,147 patients of train.csv: healthy, then the other classes.
PATIENTS = 3147
COUNTS = {
    "bowel": (3083, 64),
    "extravasation": (2947, 200),
    "kidneys": (2965, 115, 67),
    "liver": (2826, 259, 62),
    "spleen": (2793, 199, 155),
    "any_injury": (2292, 855),
}


def group(name: str, chances: tuple[float, ...]) -> Group:
    """The group of all training patients, with the same prediction for each."""
    truth = np.repeat(np.arange(len(chances)), COUNTS[name])
    return Group(np.arange(PATIENTS), np.tile(np.array(chances), (PATIENTS, 1)), truth)


def constant_loss(predicted: dict[str, tuple[float, ...]]) -> float:
    """The loss of predicting the same for every patient."""
    any_chance = max(1 - chances[0] for chances in predicted.values())
    groups = {name: group(name, chances) for name, chances in predicted.items()}
    groups["any_injury"] = group("any_injury", (1 - any_chance, any_chance))
    return float(rsna_loss(groups, np.ones((1, PATIENTS)))[0])


class TestLoss:
    def test_uniform_predictions(self) -> None:
        uniform = {name: (1 / len(counts),) * len(counts) for name, counts in COUNTS.items() if name != "any_injury"}
        assert constant_loss(uniform) == pytest.approx(0.884, abs=0.0005)

    def test_the_weighted_prior(self) -> None:
        prior: dict[str, tuple[float, ...]] = {}
        for name in COUNTS.keys() - {"any_injury"}:
            weighted = np.array(COUNTS[name]) * np.array(WEIGHTS[name])
            prior[name] = tuple((weighted / weighted.sum()).tolist())
        assert constant_loss(prior) == pytest.approx(0.609, abs=0.0005)

    def test_certain_and_wrong_costs_as_much_as_the_last_published_digit_allows(self) -> None:
        wrong = Group(np.array([0]), np.array([[1.0, 0.0]]), np.array([1]))
        assert group_loss("bowel", wrong, np.ones((1, 1)))[0] == pytest.approx(-np.log(5e-5), abs=1e-3)

    def test_weights_are_of_the_true_class(self) -> None:
        # -ln 0.8 with weight 1 and -ln 0.5 with weight 4.
        rows = Group(np.array([0, 1]), np.array([[0.8, 0.1, 0.1], [0.3, 0.2, 0.5]]), np.array([0, 2]))
        expected = (-np.log(0.8) - 4 * np.log(0.5)) / 5
        assert group_loss("liver", rows, np.ones((1, 2)))[0] == pytest.approx(expected)


def write_table(path: Path, columns: tuple[str, ...], *rows: dict[str, object]) -> None:
    """A CSV with these columns."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)


def patient_row(patient: str, **ones: int) -> dict[str, object]:
    """A row of train.csv: healthy, but for what is given."""
    healthy = {f"{group}_healthy": 1 for group in ("bowel", "extravasation", "kidney", "liver", "spleen")}
    return {**dict.fromkeys(COLUMNS, 0), **healthy, "patient_id": patient, **ones}


@pytest.fixture
def rsna_folder(tmp_path: Path) -> Path:
    """One healthy patient in DICOM, one injured in NIfTI with a mask, one without images."""
    write_table(
        tmp_path / "train.csv",
        COLUMNS,
        patient_row("10"),
        patient_row("20", spleen_healthy=0, spleen_high=1, any_injury=1),
        patient_row("30"),
        patient_row("40", liver_low=1),
    )
    write_table(
        tmp_path / "image_level_labels.csv",
        ("patient_id", "series_id", "instance_number", "injury_name"),
        {"patient_id": "20", "series_id": "7", "instance_number": 3, "injury_name": "Bowel"},
        {"patient_id": "20", "series_id": "7", "instance_number": 5, "injury_name": "Active_Extravasation"},
    )
    write_table(
        tmp_path / "train_series_meta.csv",
        ("patient_id", "series_id", "aortic_hu", "incomplete_organ"),
        {"patient_id": "20", "series_id": "7", "aortic_hu": 194.0, "incomplete_organ": 1},
    )
    write_slices(small_phantom(), tmp_path / "train_images" / "10" / "5")
    write_nifti(tmp_path / "train_images" / "20" / "7.nii.gz", small_phantom().voxels_zyx_hu)
    write_nifti(tmp_path / "masks" / "7.nii.gz", (small_phantom().labels_zyx >= 30).astype(np.uint8))
    return tmp_path


def write_nifti(path: Path, array_zyx: np.ndarray) -> None:
    """On the voxels of the small phantom."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps(small_phantom())[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(array_zyx.transpose(2, 1, 0), affine_ras)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


class TestCases:
    def test_patients_series_and_what_is_missing(self, rsna_folder: Path) -> None:
        found = rsna_cases(rsna_folder)
        healthy, injured = found.cases
        assert (healthy.case_id, healthy.patient_id, len(healthy.images)) == ("10__5", "10", 48)
        assert (healthy.truth.any_injury, healthy.labels, healthy.incomplete_organ) == (False, None, False)
        assert (injured.truth.spleen, injured.truth.liver, injured.truth.any_injury) == ("high", "healthy", True)
        assert injured.labelled_instances == {3, 5}
        assert injured.incomplete_organ
        assert injured.labels is not None
        assert [(case.case_id, case.code) for case in found.broken] == [
            ("30", "no-images"),
            ("40", "truth-unreadable"),
        ]

    def test_a_changed_row_or_mask_changes_the_digest(self, rsna_folder: Path) -> None:
        before = [case.digest for case in rsna_cases(rsna_folder).cases]
        write_nifti(rsna_folder / "masks" / "7.nii.gz", np.zeros((48, 160, 160), np.uint8))
        after = [case.digest for case in rsna_cases(rsna_folder).cases]
        assert (before[0] == after[0], before[1] == after[1]) == (True, False)

    def test_a_table_without_its_columns_is_refused(self, tmp_path: Path) -> None:
        write_table(tmp_path / "train.csv", ("patient_id",), {"patient_id": "1"})
        with pytest.raises(FolderError, match="bowel_healthy"):
            rsna_cases(tmp_path)

    def test_instances_are_found_by_their_place(self, rsna_folder: Path) -> None:
        files = sorted((rsna_folder / "train_images" / "10" / "5").iterdir(), reverse=True)
        assert instance_numbers(tuple(files)) == list(range(1, 49))
