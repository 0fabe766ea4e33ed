"""Real CTs and edge cases: the geometry that the data's README states, and refusals instead of crashes."""

from pathlib import Path

import numpy as np
import pytest

from tests.imaging.series_builder import read
from trauma_api.errors import InputError
from trauma_api.imaging.volume import CTVolume

pytestmark = pytest.mark.real_data


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def refusal_of(path: Path, scratch: Path) -> InputError | None:
    try:
        read([path], scratch)
    except InputError as refusal:
        return refusal
    return None


@pytest.mark.parametrize(
    ("folder", "shape_zyx", "spacing_zyx_mm"),
    [
        ("chest_to_upper_abdomen_100slices", (100, 512, 512), (2.5, 0.898, 0.898)),
        ("enhanced_upper_abdomen_j2k/dicom", (20, 512, 512), (2.0, 0.977, 0.977)),
        ("liver_dome_3slices", (3, 512, 512), (1.0, 0.811, 0.811)),
        # The README counts columns first: 122 x 101 x 112.
        ("nonc_abdomen_pelvis_3mm", (112, 101, 122), (3.0, 3.0, 3.0)),
    ],
)
def test_real_ct_has_the_stated_geometry(
    real_data: Path,
    tmp_path: Path,
    folder: str,
    shape_zyx: tuple[int, int, int],
    spacing_zyx_mm: tuple[float, float, float],
) -> None:
    study = read(files_of(real_data / "ct" / folder), tmp_path)

    assert isinstance(study.stack, CTVolume)
    assert study.stack.voxels_zyx_hu.shape == shape_zyx
    assert study.stack.voxels_zyx_hu.dtype == np.int16
    assert study.stack.voxels_zyx_hu.min() == -1024
    assert study.stack.spacing_zyx_mm == pytest.approx(spacing_zyx_mm, abs=5e-4)
    assert [summary.modality for summary in study.series if summary.selected] == ["CT"]


def test_segmentations_and_foreign_files_beside_a_ct_are_left_out(real_data: Path, tmp_path: Path) -> None:
    study = read(files_of(real_data / "ct" / "liver_dome_3slices"), tmp_path)

    assert [(summary.modality, summary.reason) for summary in study.series] == [
        ("CT", "selected"),
        ("SEG", "not-ct"),
        ("SEG", "not-ct"),
    ]
    assert [warning.detail for warning in study.warnings] == ["4 files were left out, not being images."]


def test_one_image_in_the_lossless_syntaxes_decodes_to_the_same_hu(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "dicom_edge" / "transfer_syntax_same_image"
    uids = ["1.2", "1.2.1", "1.2.1.99", "1.2.2", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90", "1.2.5"]
    decoded = []
    for uid in uids:
        (path,) = folder.glob(f"*Syntax_1.2.840.10008.{uid}.dcm")
        study = read([path], tmp_path)
        assert isinstance(study.stack, CTVolume)
        assert not study.series[0].lossy
        decoded.append(study.stack.voxels_zyx_hu)

    for voxels in decoded[1:]:
        np.testing.assert_array_equal(voxels, decoded[0])


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"])
def test_retired_jpeg_is_refused_by_name(real_data: Path, tmp_path: Path, uid: str) -> None:
    (path,) = (real_data / "dicom_edge" / "transfer_syntax_same_image").glob(f"*_{uid}.dcm")

    with pytest.raises(InputError) as refusal:
        read([path], tmp_path)

    assert refusal.value.code == "no-decoder"
    assert uid in refusal.value.detail


@pytest.mark.parametrize("folder", ["dicom_edge", "fuzz"])
def test_every_edge_case_is_read_or_refused_in_words(real_data: Path, tmp_path: Path, folder: str) -> None:
    paths = files_of(real_data / folder)
    refusals = [(path.name, refusal) for path in paths if (refusal := refusal_of(path, tmp_path))]

    assert len(paths) > 100
    assert refusals
    assert all(refusal.code != InputError.code and name not in str(refusal) for name, refusal in refusals)
