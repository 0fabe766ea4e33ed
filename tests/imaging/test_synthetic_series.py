"""A box of known size, written in every way that slices come, measures true; what cannot be measured is refused."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from tests.imaging.series_builder import SeriesBuilder
from tests.support.ct_phantom import (
    BLOOD_HU,
    BOX_ML,
    MARKER_CENTRE_MM,
    MARKER_HU,
    TISSUE_HU,
    SliceGrid,
    along_z,
    head_to_feet,
    hu_at,
    oblique,
    tilted,
)
from tests.support.reading import read_files
from trauma_api.errors import InputError
from trauma_api.imaging.measure import measure_hemorrhage
from trauma_api.imaging.study import ReadStudy
from trauma_api.imaging.volume import CTVolume

REGULAR = SliceGrid(head_to_feet())
FEET_FIRST = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
BLOCKS = SliceGrid(along_z([*(125.0 - 10.0 * np.arange(13)), *(-2.5 - 5.0 * np.arange(16))]))
"""10 mm slices above the origin, 5 mm slices below, touching; the box reaches into both."""

GRIDS = {
    "regular": REGULAR,
    "written-feet-to-head": REGULAR.part(slice(None, None, -1)),
    "feet-first": replace(REGULAR.part(slice(None, None, -1)), orientation=FEET_FIRST),
    "prone": replace(REGULAR, orientation=PRONE),
    "upside-down": replace(REGULAR, orientation=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)),
    "rotated-90": replace(REGULAR, orientation=(0.0, 1.0, 0.0, -1.0, 0.0, 0.0)),
    "rotated-270": replace(REGULAR, orientation=(0.0, -1.0, 0.0, 1.0, 0.0, 0.0)),
    "transposed": replace(REGULAR, orientation=(0.0, 1.0, 0.0, 1.0, 0.0, 0.0)),
    "tilted-15": tilted(15),
    "tilted-back-15": tilted(-15),
    "oblique-10": oblique(10),
    "oblique-10-both": oblique(10, -10),
    "oblique-25": oblique(-25),
    "wide-pixels": SliceGrid(head_to_feet(), spacing_yx_mm=(3.0, 4.0), shape_yx=(128, 96)),
    "tall-pixels": SliceGrid(head_to_feet(), spacing_yx_mm=(4.0, 3.0), shape_yx=(96, 128)),
    "tall-pixels-rotated-90": SliceGrid(head_to_feet(), (0.0, 1.0, 0.0, -1.0, 0.0, 0.0), (3.0, 4.0), (128, 96)),
    "not-square": SliceGrid(head_to_feet(), shape_yx=(72, 96)),
    "mixed-spacing": BLOCKS,
    "mixed-spacing-tilted": replace(tilted(15), centres_mm=BLOCKS.centres_mm),
    "mixed-spacing-feet-to-head": replace(BLOCKS.part(slice(None, None, -1)), orientation=FEET_FIRST),
}


def series(grid: SliceGrid, with_box: bool = True, **overrides: Any) -> list[Dataset]:
    """One dataset per slice, as signed 16 bit values."""
    builder = SeriesBuilder(
        grid.hu(with_box),
        grid.positions_mm.tolist(),
        grid.orientation,
        grid.spacing_yx_mm,
        overrides={"SeriesInstanceUID": "1.2.3", **overrides},
    )
    return builder.datasets()


def write(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.dcm" for number in range(len(datasets))]
    for path, dataset in zip(paths, datasets, strict=True):
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return paths


def read(datasets: Sequence[Dataset], folder: Path, pinned: str | None = None) -> ReadStudy:
    return read_files(write(datasets, folder / "sent"), folder / "scratch", series=pinned)


def refusal_of(datasets: Sequence[Dataset], folder: Path) -> str:
    with pytest.raises(InputError) as refusal:
        read(datasets, folder)
    return refusal.value.code


def volume_of(study: ReadStudy) -> CTVolume:
    assert isinstance(study.stack, CTVolume)
    return study.stack


def box_ml(study: ReadStudy) -> float:
    """The box as the service measures blood."""
    volume = volume_of(study)
    hu = volume.voxels_zyx_hu
    blood = (hu > (TISSUE_HU + BLOOD_HU) / 2) & (hu < (BLOOD_HU + MARKER_HU) / 2)
    assert volume.spacing_zyx_mm is not None
    probability = blood.astype(np.uint8) * 255
    return measure_hemorrhage(probability, volume.spacing_zyx_mm, 0.5, 0.5, 0.5, volume.slice_thickness_mm).volume_ml


def assert_true(study: ReadStudy, grid: SliceGrid) -> None:
    """The box has its size, the marker is where the patient has it, and the affine says so of every voxel."""
    volume = volume_of(study)
    assert volume.slice_count == len(grid.centres_mm)
    assert box_ml(study) == pytest.approx(BOX_ML, rel=0.01)
    marker_zyx = np.argwhere(volume.voxels_zyx_hu == MARKER_HU).mean(axis=0)
    np.testing.assert_allclose(marker_zyx, grid.canonical_index_zyx(MARKER_CENTRE_MM), atol=0.5)
    middle_zyx = (np.asarray(volume.voxels_zyx_hu.shape) - 1) / 2
    assert (np.sign(marker_zyx - middle_zyx) == (-1, -1, 1)).all(), "the marker is at the head, in front and left"
    if volume.slice_thickness_mm is None:
        np.testing.assert_array_equal(volume.voxels_zyx_hu, hu_at(_centres_mm(volume)))


def _centres_mm(volume: CTVolume) -> NDArray[np.float64]:
    assert volume.affine_lps is not None
    index = np.moveaxis(np.indices(volume.voxels_zyx_hu.shape), 0, -1)
    return np.asarray(index @ volume.affine_lps[:3, :3].T + volume.affine_lps[:3, 3])


@pytest.mark.parametrize("name", GRIDS)
def test_the_box_measures_true_on_every_grid(tmp_path: Path, name: str) -> None:
    grid = GRIDS[name]

    study = read(series(grid), tmp_path)

    assert_true(study, grid)
    codes = {warning.code for warning in study.warnings}
    assert codes == ({"variable-slice-distance"} if name.startswith("mixed-spacing") else set())


@pytest.mark.parametrize("name", ["regular", "tilted-15", "mixed-spacing"])
def test_the_order_of_files_and_their_numbers_mean_nothing(tmp_path: Path, name: str) -> None:
    datasets = series(GRIDS[name])
    generator = np.random.default_rng(3)
    in_order = volume_of(read(datasets, tmp_path / "in-order")).voxels_zyx_hu
    for dataset, number in zip(datasets, generator.permutation(len(datasets)), strict=True):
        dataset.InstanceNumber = int(number)

    study = read([datasets[number] for number in generator.permutation(len(datasets))], tmp_path / "shuffled")

    assert_true(study, GRIDS[name])
    np.testing.assert_array_equal(volume_of(study).voxels_zyx_hu, in_order)


def test_slices_at_varying_distance_have_their_own_thickness(tmp_path: Path) -> None:
    volume = volume_of(read(series(BLOCKS), tmp_path))

    assert volume.slice_thickness_mm == pytest.approx([10.0] * 12 + [8.75, 6.25] + [5.0] * 15)


STORED = {
    "signed": (1, 1.0, 0.0, 16),
    "signed-offset": (1, 1.0, -1024.0, 16),
    "signed-12-bit": (1, 1.0, 0.0, 12),
    "unsigned": (0, 1.0, -1024.0, 16),
    "unsigned-8192": (0, 1.0, -8192.0, 16),
    "unsigned-above-32767": (0, 1.0, -40000.0, 16),
    "unsigned-12-bit": (0, 1.0, -1024.0, 12),
    "half-slope": (0, 0.5, -1000.0, 16),
    "signed-half-slope": (1, 0.5, 24.0, 16),
    "slope-of-4": (1, 4.0, 0.0, 12),
}
"""PixelRepresentation, slope, intercept and bits stored; bits above those are zero, of negative values too."""


def store_as(dataset: Dataset, hu: NDArray[np.int16], stored_as: tuple[int, float, float, int]) -> None:
    sign, slope, intercept, bits = stored_as
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = sign, bits, bits - 1
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    stored = ((hu - intercept) / slope).astype(np.int64) & (2**bits - 1)
    dataset.PixelData = stored.astype("<u2").tobytes()


@pytest.mark.parametrize("name", STORED)
def test_stored_values_become_hu_whatever_their_sign_and_rescale(tmp_path: Path, name: str) -> None:
    datasets = series(REGULAR)
    for dataset, hu in zip(datasets, REGULAR.hu(), strict=True):
        store_as(dataset, hu, STORED[name])

    assert_true(read(datasets, tmp_path), REGULAR)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    datasets = series(REGULAR)
    for number, (dataset, hu) in enumerate(zip(datasets, REGULAR.hu(), strict=True)):
        store_as(dataset, hu, (1, 1.0 if number % 2 else 0.5, -10.0 * number, 16))

    assert_true(read(datasets, tmp_path), REGULAR)


def _by_acquisition_number(datasets: Sequence[Dataset], second: bool) -> None:
    for dataset in datasets:
        dataset.AcquisitionNumber = 2 if second else 1


def _by_acquisition_time(datasets: Sequence[Dataset], second: bool) -> None:
    for number, dataset in enumerate(datasets):
        dataset.AcquisitionTime = f"10{1 if second else 0:02d}{number / 10 + 10:09.6f}"


@pytest.mark.parametrize("mark", [_by_acquisition_number, _by_acquisition_time])
def test_two_phases_of_one_series_are_told_apart_and_either_can_be_pinned(
    tmp_path: Path, mark: Callable[[Sequence[Dataset], bool], None]
) -> None:
    shorter = REGULAR.part(slice(3, None))
    bleeding, before = series(REGULAR), series(shorter, with_box=False)
    mark(bleeding, True)
    mark(before, False)
    interleaved = [bleeding[0], *before, *bleeding[1:]]
    expected_ml = {len(bleeding): BOX_ML, len(before): 0.0}

    study = read(interleaved, tmp_path / "unpinned")

    assert {summary.series_uid for summary in study.series} == {"1.2.3"}
    assert {summary.slice_count for summary in study.series} == set(expected_ml)
    assert [summary.reason for summary in study.series].count("selected") == 1
    assert box_ml(study) == pytest.approx(expected_ml[study.stack.slice_count], rel=0.01)
    for summary in study.series:
        pinned = read(interleaved, tmp_path / summary.series_id, summary.series_id)
        assert pinned.stack.slice_count == summary.slice_count
        assert [other.series_id for other in pinned.series if other.reason == "pinned"] == [summary.series_id]
        assert box_ml(pinned) == pytest.approx(expected_ml[summary.slice_count], rel=0.01)


def test_files_that_are_sent_twice_count_once(tmp_path: Path) -> None:
    datasets = series(REGULAR)

    study = read([*datasets, *datasets[10:13]], tmp_path)

    assert_true(study, REGULAR)
    assert [warning.code for warning in study.warnings] == ["duplicate-files"]


def test_copies_of_a_slice_with_other_bytes_count_once(tmp_path: Path) -> None:
    copies = series(REGULAR)[10:13]
    datasets = series(REGULAR)
    for copy, dataset in zip(copies, datasets[10:13], strict=True):
        copy.SOPInstanceUID = dataset.SOPInstanceUID
        copy.PatientName = "OTHER^NAME"

    study = read([*copies, *datasets], tmp_path)

    assert_true(study, REGULAR)
    assert [warning.code for warning in study.warnings] == ["duplicate-slices"]


@pytest.mark.parametrize("again", [slice(None), slice(10, 13)])
def test_other_slices_at_the_same_positions_are_refused(tmp_path: Path, again: slice) -> None:
    second = series(REGULAR, with_box=False)[again]

    assert refusal_of([*series(REGULAR), *second], tmp_path) == "duplicate-slice-positions"


@pytest.mark.parametrize("missing", [slice(15, 16), slice(2, 5)])
@pytest.mark.parametrize("name", ["regular", "tilted-15", "oblique-10-both"])
def test_a_gap_is_refused(tmp_path: Path, name: str, missing: slice) -> None:
    datasets = series(GRIDS[name])
    del datasets[missing]

    assert refusal_of(datasets, tmp_path) == "missing-slices"


def test_a_gap_in_one_of_two_blocks_is_refused(tmp_path: Path) -> None:
    datasets = series(BLOCKS)
    del datasets[6]

    assert refusal_of(datasets, tmp_path) == "missing-slices"


CORONAL = SliceGrid(np.asarray([(0.0, 4.0 * number - 30, 0.0) for number in range(16)]), (1, 0, 0, 0, 0, -1))
SAGITTAL = SliceGrid(np.asarray([(4.0 * number - 30, 0.0, 0.0) for number in range(16)]), (0, 1, 0, 0, 0, -1))


@pytest.mark.parametrize("grid", [oblique(45), oblique(35), oblique(25, 25), CORONAL, SAGITTAL])
def test_slices_that_are_not_axial_are_refused(tmp_path: Path, grid: SliceGrid) -> None:
    assert refusal_of(series(grid), tmp_path) == "not-axial"


@pytest.mark.parametrize(("grid", "orientation"), [(CORONAL, "coronal"), (SAGITTAL, "sagittal")])
def test_reformats_among_the_axial_slices_are_a_series_of_their_own(
    tmp_path: Path, grid: SliceGrid, orientation: str
) -> None:
    axial, other = series(REGULAR), series(grid)

    study = read([*other[:8], *axial, *other[8:]], tmp_path)

    assert_true(study, REGULAR)
    assert {(summary.orientation, summary.slice_count, summary.reason) for summary in study.series} == {
        ("axial", len(axial), "selected"),
        (orientation, len(other), "not-axial"),
    }


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def enhanced(grid: SliceGrid) -> Dataset:
    """The slices as frames of one Enhanced CT image, in no order, each second one with another rescale."""
    frames = np.random.default_rng(5).permutation(len(grid.centres_mm)).tolist()
    gone = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
    (dataset,) = series(grid.part([0]), with_box=True, **dict.fromkeys(gone))
    hu = grid.hu()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = b"".join((hu[frame] + 1000 * (frame % 2)).astype("<i2").tobytes() for frame in frames)
    dataset.SharedFunctionalGroupsSequence = [
        _item(
            PlaneOrientationSequence=[_item(ImageOrientationPatient=list(grid.orientation))],
            PixelMeasuresSequence=[_item(PixelSpacing=list(grid.spacing_yx_mm), SliceThickness=10.0)],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=grid.positions_mm[frame].tolist())],
            PixelValueTransformationSequence=[
                _item(RescaleSlope=1, RescaleIntercept=-1000 * (frame % 2), RescaleType="HU")
            ],
        )
        for frame in frames
    ]
    return dataset


@pytest.mark.parametrize("name", ["regular", "tilted-15", "rotated-90", "tall-pixels", "mixed-spacing"])
def test_frames_of_enhanced_ct_measure_true(tmp_path: Path, name: str) -> None:
    assert_true(read([enhanced(GRIDS[name])], tmp_path), GRIDS[name])


def test_enhanced_ct_without_some_of_its_frames_is_refused(tmp_path: Path) -> None:
    grid = REGULAR.part([*range(10), *range(12, 26)])

    assert refusal_of([enhanced(grid)], tmp_path) == "missing-slices"


@pytest.mark.parametrize("name", ["regular", "feet-first", "tilted-15"])
def test_legacy_converted_enhanced_ct_measures_true(tmp_path: Path, name: str) -> None:
    singles = series(
        GRIDS[name], RescaleType="HU", StudyInstanceUID="1.2.8", PatientID="x", PatientBirthDate="", PatientSex="",
        StudyID="1", StudyDate="", StudyTime="", AccessionNumber="", ReferringPhysicianName="", Manufacturer="m",
        SeriesNumber=1, FrameOfReferenceUID="1.2.9", PositionReferenceIndicator="", PatientPosition="HFS",
        SliceThickness=10.0, AcquisitionNumber=1, BurnedInAnnotation="NO",
    )  # fmt: skip
    shuffled = [singles[number] for number in np.random.default_rng(7).permutation(len(singles))]
    for number, dataset in enumerate(shuffled):
        dataset.InstanceNumber = number + 1
    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=shuffled, series_instance_uid=generate_uid(), series_number=2,
        sop_instance_uid=generate_uid(), instance_number=1,
    )  # fmt: skip

    assert_true(read([converted], tmp_path), GRIDS[name])


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_every_lossless_encoding_gives_the_same_voxels(tmp_path: Path, syntax: UID) -> None:
    datasets = series(GRIDS["tall-pixels"])
    for dataset in datasets:
        if syntax == DeflatedExplicitVRLittleEndian:
            dataset.file_meta.TransferSyntaxUID = syntax
        else:
            dataset.compress(syntax)

    study = read(datasets, tmp_path)

    sent = pydicom.dcmread(tmp_path / "sent" / "0.dcm", stop_before_pixels=True)
    assert sent.file_meta.TransferSyntaxUID == syntax
    assert_true(study, GRIDS["tall-pixels"])
