"""The sample phantom is a valid CT series whose truth is exact."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.imaging.series_builder import read
from trauma_api.imaging.measure import measure_hemorrhage
from trauma_api.imaging.volume import CTVolume
from trauma_api.phantom.anatomy import BLOOD_LABELS, Label, draw_hu, draw_labels
from trauma_api.phantom.series import write_sample_study


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_sample_study(tmp_path / name, seed)

    first, again, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b", "c")
    )
    assert first == again
    assert len(first) == 49
    assert all(first[name] != other[name] for name in first)


def test_truth_beside_the_files_is_what_is_returned(tmp_path: Path) -> None:
    truth = write_sample_study(tmp_path)

    stated = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    assert stated["total_ml"] == truth.total_ml
    assert truth.total_ml == pytest.approx(truth.free_blood_ml + truth.laceration_ml + truth.extravasation_ml)
    assert sum(truth.volume_per_slice_ml) == pytest.approx(truth.total_ml)
    assert min(truth.free_blood_ml, truth.laceration_ml, truth.extravasation_ml) > 0


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_the_uploaded_series_measures_the_truth(tmp_path: Path, seed: int) -> None:
    truth = write_sample_study(tmp_path / "study", seed)

    study = read(sorted((tmp_path / "study").glob("*.dcm")), tmp_path / "scratch")

    assert isinstance(study.stack, CTVolume)
    assert study.stack.voxels_zyx_hu.shape == (48, 160, 160)
    spacing_zyx_mm = study.stack.spacing_zyx_mm
    assert spacing_zyx_mm is not None
    assert spacing_zyx_mm == pytest.approx((5.0, 2.2, 2.2))
    assert study.warnings == ()
    labels = draw_labels(seed)
    np.testing.assert_array_equal(study.stack.voxels_zyx_hu, draw_hu(labels, seed))
    blood = np.where(np.isin(labels, BLOOD_LABELS), 255, 0).astype(np.uint8)
    measured = measure_hemorrhage(blood, spacing_zyx_mm, 0.5, 0.3, 0.7)
    # One voxel is 5 * 2.2 * 2.2 mm3 = 0.0242 mL.
    assert measured.volume_ml == pytest.approx(np.count_nonzero(blood) * 0.0242)
    assert measured.volume_ml == pytest.approx(truth.total_ml, abs=1e-5)
    assert measured.volume_per_slice_ml == pytest.approx(truth.volume_per_slice_ml, abs=1e-5)


def test_liver_lies_on_the_patients_right_and_spine_behind() -> None:
    labels = draw_labels(7)

    columns = {label: np.nonzero(labels == label)[2].mean() for label in (Label.LIVER, Label.SPLEEN)}
    rows = {label: np.nonzero(labels == label)[1].mean() for label in (Label.LIVER, Label.BONE)}
    assert columns[Label.LIVER] < 80 < columns[Label.SPLEEN]
    assert rows[Label.LIVER] < rows[Label.BONE]


def test_the_patient_is_plainly_fictitious(tmp_path: Path) -> None:
    write_sample_study(tmp_path)

    dataset = pydicom.dcmread(tmp_path / "IM0001.dcm")
    assert dataset.PatientName == "PHANTOM^SAMPLE"
    assert dataset.SliceThickness == 5
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
