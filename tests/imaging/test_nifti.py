"""NIfTI volumes come out as the same canonical volume whatever their axes; what is no CT is refused."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.imaging.series_builder import ramp, read
from trauma_api.errors import InputError
from trauma_api.imaging.volume import CTVolume

# Index (i, j, k) to RAS (x right, y front, z head): i runs to the left, j to the front, k to the head.
LAS = np.array([[-0.5, 0, 0, 10], [0, 0.8, 0, 16], [0, 0, 3, 88], [0, 0, 0, 1]], dtype=np.float64)


def write_nifti(
    path: Path, voxels_ijk: NDArray[np.generic], affine: NDArray[np.float64] = LAS, unit: str = "mm"
) -> Path:
    image = nib.Nifti1Image(voxels_ijk, affine)
    image.header.set_xyzt_units(unit)
    path.write_bytes(image.to_bytes())
    return path


def as_stored(canonical: NDArray[np.int16]) -> NDArray[np.int16]:
    """From canonical order to i towards the left, j towards the front, k towards the head."""
    return np.ascontiguousarray(canonical.transpose(2, 1, 0)[:, ::-1, ::-1])


def test_axes_are_brought_into_canonical_order_and_ras_becomes_lps(tmp_path: Path) -> None:
    canonical = ramp()

    study = read([write_nifti(tmp_path / "ct", as_stored(canonical))], tmp_path / "scratch")

    assert isinstance(study.stack, CTVolume)
    np.testing.assert_array_equal(study.stack.voxels_zyx_hu, canonical)
    assert study.stack.voxels_zyx_hu.dtype == np.int16
    assert study.stack.spacing_zyx_mm == pytest.approx((3.0, 0.8, 0.5))
    assert study.stack.affine_lps is not None
    # The canonical first voxel is i = 0, j = 5, k = 4: RAS (10, 16 + 5 * 0.8, 88 + 4 * 3), so LPS (-10, -20, 100).
    np.testing.assert_allclose(study.stack.affine_lps[:3, 3], [-10, -20, 100])
    assert study.warnings == ()


def test_permuted_axes_give_the_same_volume(tmp_path: Path) -> None:
    canonical = ramp()
    permuted = as_stored(canonical).transpose(2, 0, 1)

    study = read([write_nifti(tmp_path / "ct", permuted, LAS[:, [2, 0, 1, 3]])], tmp_path / "scratch")

    assert isinstance(study.stack, CTVolume)
    np.testing.assert_array_equal(study.stack.voxels_zyx_hu, canonical)


def test_a_compressed_file_has_the_digest_of_its_content(tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "ct", as_stored(ramp()))
    packed = tmp_path / "packed.dcm"
    packed.write_bytes(gzip.compress(plain.read_bytes()))

    assert read([packed], tmp_path / "s1").digest == read([plain], tmp_path / "s2").digest


def test_unstated_units_are_taken_as_millimetres_with_a_warning(tmp_path: Path) -> None:
    study = read([write_nifti(tmp_path / "ct", as_stored(ramp()), unit="unknown")], tmp_path / "scratch")

    assert [warning.code for warning in study.warnings] == ["nifti-units-unknown"]


def test_a_label_map_beside_a_ct_is_left_out(tmp_path: Path) -> None:
    ct = write_nifti(tmp_path / "ct", as_stored(ramp()))
    labels = write_nifti(tmp_path / "labels", np.ones((4, 6, 5), dtype=np.uint8))

    study = read([labels, ct], tmp_path / "scratch")

    assert [summary.reason for summary in study.series] == ["not-hu", "selected"]
    assert study.digest == read([ct], tmp_path / "again").digest


def rotated_about_x(degrees: float) -> NDArray[np.float64]:
    turn = np.eye(4)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    return np.asarray(turn @ LAS)


def test_what_is_no_ct_volume_is_refused_by_code(tmp_path: Path) -> None:
    ct = as_stored(ramp())
    cases = {
        "not-hu": write_nifti(tmp_path / "labels", np.ones((4, 6, 5), dtype=np.uint8)),
        "nifti-not-3d": write_nifti(tmp_path / "4d", np.full((4, 4, 4, 2), -500, dtype=np.int16)),
        "nifti-units": write_nifti(tmp_path / "micron", ct, unit="micron"),
        "not-axial": write_nifti(tmp_path / "oblique", ct, rotated_about_x(40)),
    }
    unplaced = nib.Nifti1Image(ct, LAS)
    unplaced.header.set_xyzt_units("mm")
    unplaced.set_qform(None, code=0)
    unplaced.set_sform(None, code=0)
    cases["nifti-no-orientation"] = tmp_path / "unplaced"
    cases["nifti-no-orientation"].write_bytes(unplaced.to_bytes())
    cases["malformed-nifti"] = tmp_path / "cut"
    cases["malformed-nifti"].write_bytes((tmp_path / "oblique").read_bytes()[:400])

    for code, path in cases.items():
        with pytest.raises(InputError) as refusal:
            read([path], tmp_path / "scratch")
        assert refusal.value.code == code


def test_two_ct_volumes_are_refused(tmp_path: Path) -> None:
    one = write_nifti(tmp_path / "one", as_stored(ramp()))
    two = write_nifti(tmp_path / "two", as_stored(ramp() + np.int16(1)))

    with pytest.raises(InputError) as refusal:
        read([one, two], tmp_path / "scratch")

    assert refusal.value.code == "several-volumes"
