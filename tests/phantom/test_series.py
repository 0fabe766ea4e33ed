"""A phantom as files: valid DICOM, read back as it was drawn, with its labels and truth beside it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from tests.imaging.series_builder import read
from tests.support.small_phantom import small_phantom
from trauma_api.imaging.measure import measure_hemorrhage
from trauma_api.imaging.volume import CTVolume
from trauma_api.phantom.draw import Phantom
from trauma_api.phantom.labels import BLOOD_LABELS
from trauma_api.phantom.series import affine_lps, read_truth, write_phantom, write_slices
from trauma_api.phantom.truth import LABELS_FILE, TRUTH_FILE, Phase

DCIODVFY = Path(sys.executable).parent / "dciodvfy"
ODD_SPACING_ZYX_MM = (1.2345678901234567, 0.7312345678912345, 0.6987654321)
SERVICE_PHASE: dict[Phase, str] = {"none": "non_contrast", "arterial": "arterial", "portal": "portal_venous"}


def part(phantom: Phantom, slices: int) -> Phantom:
    """The first slices."""
    return replace(phantom, voxels_zyx_hu=phantom.voxels_zyx_hu[:slices], labels_zyx=phantom.labels_zyx[:slices])


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small phantom, written."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(small_phantom(), folder)
    return folder


class TestDicom:
    @pytest.mark.parametrize("phase", ["none", "arterial", "portal"])
    def test_a_validator_finds_no_error(self, tmp_path: Path, phase: Phase) -> None:
        phantom = replace(part(small_phantom(phase=phase), 3), spacing_zyx_mm=ODD_SPACING_ZYX_MM)
        write_slices(phantom, tmp_path)

        for path in sorted(tmp_path.iterdir()):
            found = subprocess.run([DCIODVFY, "-new", path], capture_output=True, text=True, check=True)
            lines = (found.stdout + found.stderr).splitlines()
            assert "CTImage" in lines
            assert [line for line in lines if line.startswith("Error")] == []
            # A phantom has no date; a DICOMDIR would want one.
            assert [line for line in lines if line.startswith("Warning") and "DICOMDIR" not in line] == []

    def test_the_patient_is_plainly_fictitious(self, written: Path) -> None:
        dataset = pydicom.dcmread(written / "IM0001.dcm")

        assert str(dataset.PatientName).startswith("PHANTOM")
        assert dataset.SeriesDescription == "Synthetic phantom, not a patient, portal venous phase"
        assert dataset.SliceThickness == 5
        assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"

    @pytest.mark.parametrize(("phase", "given"), [("none", False), ("arterial", True), ("portal", True)])
    def test_contrast_is_stated_where_there_is_some(self, tmp_path: Path, phase: Phase, given: bool) -> None:
        write_slices(part(small_phantom(phase=phase), 1), tmp_path)

        assert ("ContrastBolusAgent" in pydicom.dcmread(tmp_path / "IM0001.dcm")) is given

    @pytest.mark.parametrize("hu", [-1025, 3072])
    def test_what_does_not_fit_is_refused(self, tmp_path: Path, hu: int) -> None:
        phantom = part(small_phantom(), 1)
        phantom.voxels_zyx_hu[0, 0, 0] = hu

        with pytest.raises(ValueError, match="12 bits"):
            write_slices(phantom, tmp_path)


class TestReadBack:
    def test_the_service_reads_what_was_drawn(self, written: Path, tmp_path: Path) -> None:
        phantom = small_phantom()

        study = read(sorted(written.glob("*.dcm")), tmp_path)

        assert isinstance(study.stack, CTVolume)
        np.testing.assert_array_equal(study.stack.voxels_zyx_hu, phantom.voxels_zyx_hu)
        assert study.stack.spacing_zyx_mm == pytest.approx(phantom.spacing_zyx_mm)
        assert study.stack.affine_lps is not None
        np.testing.assert_allclose(study.stack.affine_lps, affine_lps(phantom), atol=1e-6)
        assert study.warnings == ()
        assert [summary.phase for summary in study.series] == ["portal_venous"]

    @pytest.mark.parametrize("phase", ["none", "arterial", "portal"])
    def test_spacing_of_many_digits_and_phase_arrive(self, tmp_path: Path, phase: Phase) -> None:
        phantom = replace(part(small_phantom(phase=phase), 24), spacing_zyx_mm=ODD_SPACING_ZYX_MM)
        write_slices(phantom, tmp_path / "study")

        study = read(sorted((tmp_path / "study").iterdir()), tmp_path)

        assert study.stack.spacing_zyx_mm == pytest.approx(ODD_SPACING_ZYX_MM, abs=1e-6)
        assert [summary.phase for summary in study.series] == [SERVICE_PHASE[phase]]

    @pytest.mark.parametrize("seed", [7, 8])
    def test_its_blood_measures_the_truth(self, tmp_path: Path, seed: int) -> None:
        phantom = small_phantom(seed)
        write_phantom(phantom, tmp_path / "study")

        stack = read(sorted((tmp_path / "study").glob("*.dcm")), tmp_path / "scratch").stack

        labels = np.asarray(nibabel.load(tmp_path / "study" / LABELS_FILE).dataobj).transpose(2, 1, 0)
        blood = np.where(np.isin(labels, BLOOD_LABELS), 255, 0).astype(np.uint8)
        assert stack.spacing_zyx_mm is not None
        measured = measure_hemorrhage(blood, stack.spacing_zyx_mm, 0.5, 0.3, 0.7)
        truth = read_truth(tmp_path / "study")
        assert measured.volume_ml == pytest.approx(truth.total_ml, abs=1e-5)
        per_slice_ml = [one.blood_ml for one in truth.slices]
        assert measured.volume_per_slice_ml == pytest.approx(per_slice_ml, abs=1e-5)


class TestLabels:
    def test_they_lie_on_the_slices_in_the_patient(self, written: Path) -> None:
        image = nibabel.load(written / LABELS_FILE)
        to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine

        assert nibabel.aff2axcodes(image.affine) == ("L", "P", "I")
        assert image.header.get_xyzt_units()[0] == "mm"
        for index, row, column in ((0, 0, 0), (47, 159, 0), (20, 31, 113)):
            dataset = pydicom.dcmread(written / f"IM{index + 1:04d}.dcm", stop_before_pixels=True)
            across, down = np.reshape(np.array(dataset.ImageOrientationPatient, dtype=float), (2, 3))
            row_mm, column_mm = dataset.PixelSpacing
            stated = np.array(dataset.ImagePositionPatient, dtype=float)
            stated = stated + across * column_mm * column + down * row_mm * row
            np.testing.assert_allclose((to_lps @ (column, row, index, 1))[:3], stated, atol=1e-4)

    def test_they_are_those_drawn(self, written: Path) -> None:
        image = nibabel.load(written / LABELS_FILE)

        assert image.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), small_phantom().labels_zyx)


class TestTruth:
    def test_it_is_read_as_it_was_drawn(self, written: Path) -> None:
        assert read_truth(written) == small_phantom().truth

    def test_what_is_missing_or_damaged_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_truth(tmp_path)
        (tmp_path / TRUTH_FILE).write_text("{}", encoding="utf-8")
        with pytest.raises(ValueError, match="seed"):
            read_truth(tmp_path)


class TestBytes:
    def test_they_are_the_same_for_the_same_seed_and_others_for_another(self, written: Path, tmp_path: Path) -> None:
        write_phantom(small_phantom(7), tmp_path / "again")
        write_phantom(small_phantom(8), tmp_path / "other")

        first, again, other = contents(written), contents(tmp_path / "again"), contents(tmp_path / "other")
        assert first == again
        assert len(first) == 48 + 2
        assert all(first[name] != other[name] for name in first)

    def test_one_patient_on_two_grids_is_two_series_of_one_study(self, tmp_path: Path) -> None:
        phantom = part(small_phantom(), 1)
        write_slices(phantom, tmp_path / "a")
        write_slices(replace(phantom, spacing_zyx_mm=(2.5, 2.2, 2.2)), tmp_path / "b")

        one, other = (pydicom.dcmread(tmp_path / name / "IM0001.dcm") for name in ("a", "b"))
        assert one.StudyInstanceUID == other.StudyInstanceUID
        assert one.SeriesInstanceUID != other.SeriesInstanceUID
        assert one.SOPInstanceUID != other.SOPInstanceUID
