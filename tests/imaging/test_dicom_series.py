"""Which series is chosen, what is refused, and how stored values become HU."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from tests.imaging.series_builder import SeriesBuilder, ramp, read, stacked
from trauma_api.errors import InputError
from trauma_api.imaging.volume import CTVolume


def refusal_of(paths: list[Path], scratch: Path, **stated: Any) -> InputError:
    with pytest.raises(InputError) as refusal:
        read(paths, scratch, **stated)
    return refusal.value


def test_the_longer_of_two_like_series_is_chosen_and_the_others_say_why_not(tmp_path: Path) -> None:
    small = SeriesBuilder(ramp(3), stacked(3), series_uid="1.2.1").write(tmp_path / "small")
    large = SeriesBuilder(ramp(60), stacked(60), series_uid="1.2.2").write(tmp_path / "large")
    scout = SeriesBuilder(
        ramp(1), stacked(1), series_uid="1.2.3", overrides={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    ).write(tmp_path / "scout")
    magnetic = SeriesBuilder(ramp(2), stacked(2), series_uid="1.2.4", overrides={"Modality": "MR"}).write(
        tmp_path / "mr"
    )

    study = read([*scout, *small, *magnetic, *large], tmp_path / "scratch")

    assert {summary.series_uid: summary.reason for summary in study.series} == {
        "1.2.1": "lower-score",
        "1.2.2": "selected",
        "1.2.3": "localizer",
        "1.2.4": "not-ct",
    }
    assert [summary.series_uid for summary in study.series if summary.selected] == ["1.2.2"]
    assert study.stack.slice_count == 60


def test_a_larger_unusable_series_is_left_out_with_a_warning(tmp_path: Path) -> None:
    gap = SeriesBuilder(ramp(4), [(0, 0, 0), (0, 0, -1), (0, 0, -2), (0, 0, -9)]).write(tmp_path / "gap")
    whole = SeriesBuilder(ramp(3), stacked(3)).write(tmp_path / "whole")

    study = read([*gap, *whole], tmp_path / "scratch")

    assert [summary.reason for summary in study.series] == ["missing-slices", "selected"]
    assert [warning.code for warning in study.warnings] == ["larger-series-left-out"]


def test_of_two_equal_series_one_is_chosen_with_a_warning_and_the_other_can_be_pinned(tmp_path: Path) -> None:
    one = SeriesBuilder(ramp(3), stacked(3)).write(tmp_path / "one")
    two = SeriesBuilder(ramp(3) + 1, stacked(3)).write(tmp_path / "two")

    study = read([*one, *two], tmp_path / "scratch")
    turned_round = read([*two, *one], tmp_path / "scratch")

    assert sorted(summary.reason for summary in study.series) == ["equal-score", "selected"]
    assert [warning.code for warning in study.warnings] == ["several-candidates"]
    assert study.digest == turned_round.digest
    other = next(summary for summary in study.series if not summary.selected)
    for pin in (other.series_id, other.series_uid):
        pinned = read([*one, *two], tmp_path / "scratch", series=pin)
        assert [summary.series_id for summary in pinned.series if summary.selected] == [other.series_id]
        assert pinned.digest != study.digest
    assert refusal_of([*one, *two], tmp_path / "scratch", series="1.2.3").code == "no-such-series"


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ({"Modality": "MR"}, "no-ct-series"),
        ({"RescaleSlope": None}, "no-rescale"),
        ({"RescaleSlope": 0}, "no-rescale"),
        ({"RescaleType": "mg/ml"}, "not-hu"),
        ({"RescaleType": "US", "RescaleIntercept": 0}, "not-hu"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "not-hu"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"NumberOfFrames": 3}, "multi-frame-not-supported"),
        ({"Rows": 5_000}, "image-too-large"),
        ({"PixelData": b"\0\0"}, "undecodable-pixels"),
        ({"PixelData": None}, "undecodable-pixels"),
        ({"Rows": None}, "malformed-dicom"),
    ],
)
def test_what_cannot_be_used_is_refused_by_code(tmp_path: Path, overrides: dict[str, Any], code: str) -> None:
    paths = SeriesBuilder(ramp(), stacked(5), overrides=overrides).write(tmp_path / "SECRET")

    refusal = refusal_of(paths, tmp_path / "scratch")

    assert refusal.code == code
    assert "SECRET" not in str(refusal)


@pytest.mark.parametrize("suffix", ["53", "55"])
def test_a_syntax_without_decoder_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    uid = f"1.2.840.10008.1.2.4.{suffix}"
    paths = SeriesBuilder(
        ramp(1), stacked(1), transfer_syntax=uid, overrides={"PixelData": encapsulate([b"\xff\xd8\xff\xd9"])}
    ).write(tmp_path / "in")

    refusal = refusal_of(paths, tmp_path / "scratch")

    assert refusal.code == "no-decoder"
    assert uid in refusal.detail
    assert "JPEG" in refusal.detail


def test_run_length_encoded_slices_decode_to_the_same_values(tmp_path: Path) -> None:
    paths = SeriesBuilder(ramp(), stacked(5)).write(tmp_path / "in")
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        dataset.save_as(path)

    study = read(paths, tmp_path / "scratch")

    assert isinstance(study.stack, CTVolume)
    np.testing.assert_array_equal(study.stack.voxels_zyx_hu, ramp())
    assert study.series[0].transfer_syntax_uid == RLELossless
    assert not study.series[0].lossy


def test_padding_below_the_hu_scale_becomes_air(tmp_path: Path) -> None:
    voxels = ramp()
    voxels[0, 0, 0] = -3024
    paths = SeriesBuilder(voxels, stacked(5), overrides={"PixelPaddingValue": -2000}).write(tmp_path / "in")

    study = read(paths, tmp_path / "scratch")

    assert isinstance(study.stack, CTVolume)
    assert study.stack.voxels_zyx_hu[0, 0, 0] == -1024
    assert study.stack.voxels_zyx_hu[0, 0, 1] == -299


def test_a_slope_other_than_one_gives_floating_hu(tmp_path: Path) -> None:
    paths = SeriesBuilder(ramp(), stacked(5), overrides={"RescaleSlope": 0.5}).write(tmp_path / "in")

    study = read(paths, tmp_path / "scratch")

    assert isinstance(study.stack, CTVolume)
    assert study.stack.voxels_zyx_hu.dtype == np.float32
    # The first voxel is stored as -300 + 1024 = 724, and 0.5 * 724 - 1024 = -662.
    assert study.stack.voxels_zyx_hu[0, 0, 0] == -662


def test_lossy_compression_in_the_history_is_flagged(tmp_path: Path) -> None:
    paths = SeriesBuilder(ramp(), stacked(5), overrides={"LossyImageCompression": "01"}).write(tmp_path / "in")

    study = read(paths, tmp_path / "scratch")

    assert study.series[0].lossy
    assert [warning.code for warning in study.warnings] == ["lossy-source"]


def test_a_dataset_without_preamble_and_meta_is_recognised(tmp_path: Path) -> None:
    paths = []
    for index, dataset in enumerate(SeriesBuilder(ramp(), stacked(5)).datasets()):
        paths.append(tmp_path / f"{index}.bin")
        del dataset.file_meta
        dataset.save_as(paths[-1], implicit_vr=True, little_endian=True)

    study = read(paths, tmp_path / "scratch")

    assert isinstance(study.stack, CTVolume)
    np.testing.assert_array_equal(study.stack.voxels_zyx_hu, ramp())


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def test_enhanced_ct_frames_are_placed_by_their_functional_groups(tmp_path: Path) -> None:
    voxels = ramp(4)
    dataset = SeriesBuilder(voxels[:1], stacked(1)).datasets()[0]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(dataset, keyword)
    del dataset.RescaleIntercept
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    dataset.NumberOfFrames = 4
    dataset.PixelData = (voxels[::-1] + 1024).astype("<i2").tobytes()
    dataset.SharedFunctionalGroupsSequence = [
        _item(
            PlaneOrientationSequence=[_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[_item(PixelSpacing=[0.8, 0.5])],
            PixelValueTransformationSequence=[_item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(PlanePositionSequence=[_item(ImagePositionPatient=list(position))]) for position in reversed(stacked(4))
    ]
    dataset.save_as(tmp_path / "enhanced", enforce_file_format=True)

    study = read([tmp_path / "enhanced"], tmp_path / "scratch")

    assert isinstance(study.stack, CTVolume)
    np.testing.assert_array_equal(study.stack.voxels_zyx_hu, voxels)
    assert study.stack.spacing_zyx_mm == pytest.approx((3.0, 0.8, 0.5))
