"""What real and drawn series are judged to show. The expected answers were read off the pictures."""

from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from tests.imaging.test_anatomy import (
    SPACING_YX_MM,
    Slice,
    abdomen,
    air,
    chest,
    ellipse,
    head,
    hips,
    legs,
    neck,
    plain_trunk,
)
from tests.support.small_phantom import small_phantom
from trauma_api.imaging.anatomy import slice_stats
from trauma_api.imaging.eligibility import assess, region_of, slices_to_look_at
from trauma_api.imaging.study import Eligibility
from trauma_api.phantom.series import write_slices

BOTH_ENDS = {"abdomen-incomplete-top", "abdomen-incomplete-bottom"}
UNCERTAIN = {"region-uncertain"}
SAMPLES = "dicom_edge"

HU = NDArray[Any]
Change = Callable[[HU], HU]


class Series:
    """A stack, head to feet, that decodes a slice when it is asked for."""

    def __init__(self, load: Callable[[int], HU], centres_mm: Sequence[float], spacing: tuple[float, float]) -> None:
        self.load = load
        self.centres_mm = tuple(centres_mm)
        self.spacing_yx_mm = spacing

    def part(self, first: int, last: int) -> "Series":
        """The slices from ``first`` up to ``last``."""
        return Series(lambda index: self.load(first + index), self.centres_mm[first:last], self.spacing_yx_mm)

    def scaled(self, factor: float) -> "Series":
        """The same patient, larger or smaller."""
        y, x = self.spacing_yx_mm
        return Series(self.load, [factor * z for z in self.centres_mm], (factor * y, factor * x))

    def changed(self, change: Change) -> "Series":
        """The same series with other values."""
        return Series(lambda index: change(self.load(index)), self.centres_mm, self.spacing_yx_mm)

    def assess(self, at_most: int | None = None) -> Eligibility:
        """Judge it as the service does."""
        indices = slices_to_look_at(self.centres_mm, at_most)
        stats = [
            slice_stats(np.maximum(self.load(index), -1024).astype(np.float32), self.spacing_yx_mm) for index in indices
        ]
        return assess(indices, stats, self.centres_mm)


def read_dicom(paths: Sequence[Path]) -> Series:
    """Slices of one orientation, rows front to back and columns right to left as written."""
    headers = [(pydicom.dcmread(path, force=True, stop_before_pixels=True), path) for path in paths]
    headers.sort(key=lambda one: -float(one[0].ImagePositionPatient[2]) if "ImagePositionPatient" in one[0] else 0)

    def load(index: int) -> HU:
        dataset = pydicom.dcmread(headers[index][1], force=True)
        stored = dataset.pixel_array.astype(np.float32)
        scaled = stored * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
        return np.asarray(scaled[0] if scaled.ndim == 3 else scaled, dtype=np.float32)

    first = headers[0][0]
    rows_mm, columns_mm = (float(value) for value in first.get("PixelSpacing", (1, 1)))
    centres = [float(header.ImagePositionPatient[2]) for header, _ in headers] if len(headers) > 1 else [0.0]
    return Series(load, centres, (rows_mm, columns_mm))


def chest_series(real_data: Path) -> Series:
    return read_dicom(sorted((real_data / "ct/chest_to_upper_abdomen_100slices").glob("*.dcm")))


def pelvis_series(real_data: Path) -> Series:
    path = real_data / "ct/nonc_abdomen_pelvis_3mm/example_ct.nii.gz"
    image = nibabel.as_closest_canonical(nibabel.load(path))
    voxels = image.get_fdata(dtype=np.float32)[::-1, ::-1, ::-1].transpose(2, 1, 0)
    centres = [-3.0 * index for index in range(len(voxels))]
    return Series(lambda index: np.ascontiguousarray(voxels[index]), centres, (3.0, 3.0))


def enhanced_series(real_data: Path) -> Series:
    return read_dicom(sorted((real_data / "ct/enhanced_upper_abdomen_j2k/dicom").iterdir()))


def dome_series(real_data: Path) -> Series:
    return read_dicom(sorted((real_data / "ct/liver_dome_3slices").glob("0*.dcm")))


def drawn(*slices: Slice) -> Series:
    """Drawn slices 10 mm apart."""
    return Series(lambda index: slices[index], [10.0 * number for number in range(len(slices))], SPACING_YX_MM)


def codes(eligibility: Eligibility) -> set[str]:
    """All codes of a judgement, of which it has reasons or warnings but not both."""
    assert bool(eligibility.reasons) == (eligibility.status == "ineligible")
    assert not (eligibility.reasons and eligibility.warnings)
    return {one.code for one in (*eligibility.reasons, *eligibility.warnings)}


def seen(eligibility: Eligibility) -> tuple[Any, ...]:
    """Its coverage: first and last slice, extent in mm, top and bottom included."""
    assert eligibility.coverage is not None
    return astuple(eligibility.coverage)


class TestSlicesToLookAt:
    def test_thin_slices_are_thinned_out_to_about_5_mm(self) -> None:
        chosen = slices_to_look_at([0.625 * index for index in range(640)])
        assert chosen[0] == 0
        assert chosen[-1] == 639
        assert set(np.diff(chosen)) <= {7, 8, 9}
        assert len(chosen) == pytest.approx(81, abs=1)

    def test_thick_slices_are_all_looked_at(self) -> None:
        assert slices_to_look_at([-8.0 * index for index in range(30)]) == tuple(range(30))

    def test_quick_look_is_spread_evenly_over_the_length(self) -> None:
        chosen = slices_to_look_at([-1.0 * index for index in range(401)], at_most=9)
        assert chosen == tuple(range(0, 401, 50))

    def test_distance_counts_where_it_varies(self) -> None:
        centres = [*(1.0 * index for index in range(50)), *(50.0 + 10 * index for index in range(50))]
        chosen = slices_to_look_at(centres)
        assert sum(index < 50 for index in chosen) == pytest.approx(10, abs=2)
        assert sum(index >= 50 for index in chosen) == 50

    @pytest.mark.parametrize(("centres", "expected"), [([], ()), ([0.0], (0,)), ([0.0, 1.0, 2.0], (0, 2))])
    def test_few_slices(self, centres: list[float], expected: tuple[int, ...]) -> None:
        assert slices_to_look_at(centres) == expected


class TestRealSeries:
    """Where the pixels of real series lie in the body."""

    @pytest.mark.real_data
    def test_chest_series_that_ends_in_the_liver_lacks_the_bottom(self, real_data: Path) -> None:
        found = chest_series(real_data).assess()
        assert codes(found) == {"abdomen-incomplete-bottom"}
        assert seen(found)[0] == (pytest.approx(90, abs=3), 99)
        assert seen(found)[1] == pytest.approx(25, abs=8)
        assert seen(found)[2:] == (True, False)

    @pytest.mark.real_data
    def test_abdomen_and_pelvis_from_below_the_dome_lacks_the_top(self, real_data: Path) -> None:
        found = pelvis_series(real_data).assess()
        assert codes(found) == {"abdomen-incomplete-top"}
        assert seen(found) == ((0, 111), pytest.approx(336), False, True)

    @pytest.mark.real_data
    def test_upper_abdomen_lacks_both_ends(self, real_data: Path) -> None:
        found = enhanced_series(real_data).assess()
        assert codes(found) == BOTH_ENDS
        assert seen(found) == ((0, 19), pytest.approx(40), False, False)

    @pytest.mark.real_data
    def test_three_slices_of_the_liver_are_enough_to_be_eligible(self, real_data: Path) -> None:
        found = dome_series(real_data).assess()
        assert codes(found) == BOTH_ENDS
        assert seen(found)[0] == (0, 2)

    @pytest.mark.real_data
    @pytest.mark.parametrize(
        ("first", "last", "expected"),
        [
            (0, 12, {"not-abdomen"}),
            (0, 60, {"not-abdomen"}),
            (30, 86, {"not-abdomen"}),
            (60, 100, {"abdomen-incomplete-bottom"}),
            (92, 100, BOTH_ENDS),
        ],
        ids=["shoulders", "shoulders to heart", "lungs", "heart to liver", "liver"],
    )
    def test_parts_of_the_chest_series(self, real_data: Path, first: int, last: int, expected: set[str]) -> None:
        assert codes(chest_series(real_data).part(first, last).assess()) == expected

    @pytest.mark.real_data
    @pytest.mark.parametrize(
        ("first", "last", "expected"),
        [(0, 30, BOTH_ENDS), (30, 60, BOTH_ENDS), (80, 112, {"abdomen-incomplete-top"}), (100, 112, BOTH_ENDS)],
        ids=["upper", "middle", "pelvis", "hip joints"],
    )
    def test_parts_of_the_abdomen(self, real_data: Path, first: int, last: int, expected: set[str]) -> None:
        assert codes(pelvis_series(real_data).part(first, last).assess()) == expected

    @pytest.mark.real_data
    @pytest.mark.parametrize("index", [0, 20, 45, 75, 85, 111])
    def test_single_slices_of_the_abdomen_are_eligible(self, real_data: Path, index: int) -> None:
        part = pelvis_series(real_data).part(index, index + 1)
        single = Series(part.load, [0.0], part.spacing_yx_mm)
        assert codes(single.assess()) == BOTH_ENDS

    @pytest.mark.real_data
    @pytest.mark.parametrize("series", [chest_series, pelvis_series])
    def test_nine_slices_tell_the_same(self, real_data: Path, series: Callable[[Path], Series]) -> None:
        whole = series(real_data)
        assert codes(whole.assess(at_most=9)) == codes(whole.assess())

    @pytest.mark.real_data
    def test_head_chest_and_abdomen_in_one_series_are_complete(self, real_data: Path) -> None:
        upper, lower = chest_series(real_data), pelvis_series(real_data)
        brain = read_dicom([real_data / SAMPLES / "malformed_headers/head_signed_RI0.dcm"])
        stats = [slice_stats(brain.load(0), brain.spacing_yx_mm)] * 10
        stats += [slice_stats(upper.load(index), upper.spacing_yx_mm) for index in range(0, 100, 4)]
        stats += [slice_stats(lower.load(index), lower.spacing_yx_mm) for index in range(0, 112, 3)]
        found = assess(range(len(stats)), stats, [9.0 * number for number in range(len(stats))])
        assert codes(found) == set()
        assert found.status == "eligible"
        assert seen(found)[0] == (pytest.approx(33, abs=2), len(stats) - 1)

    @pytest.mark.real_data
    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("malformed_headers/head_signed_RI0.dcm", {"not-abdomen"}),
            ("transfer_syntax_same_image/CTImage.dcm", {"not-abdomen"}),
            ("malformed_headers/CT_small.dcm", UNCERTAIN),
            ("segmentation_objects/ct_image.dcm", UNCERTAIN),
            ("geometry/lspine_tilt5p5.dcm", UNCERTAIN),
            ("dicomdir/98892001/CT5N/2062", UNCERTAIN),
            ("dicomdir/77654033/CT2/17106", {"hu-implausible"}),
            ("enhanced_multiframe/eCT_Supplemental.dcm", {"hu-implausible"}),
            ("enhanced_multiframe/legacy_converted_singles/IMG0001.dcm", {"hu-implausible"}),
            ("localizer_and_sc/localizer_chest_jpeg70.dcm", {"hu-implausible"}),
        ],
        ids=[
            "brain",
            "shoulders",
            "piece of a thoracic spine",
            "the same piece",
            "zoomed lumbar spine",
            "16 pixels of a heart",
            "16 pixels of a skull",
            "blood-flow map",
            "label map",
            "localizer",
        ],
    )
    def test_single_images_of_other_kinds(self, real_data: Path, path: str, expected: set[str]) -> None:
        assert codes(read_dicom([real_data / SAMPLES / path]).assess()) == expected

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("name", ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"])
    def test_heads_are_ineligible(self, name: str) -> None:
        path = get_testdata_file(name, download=False)
        assert isinstance(path, str)
        assert codes(read_dicom([Path(path)]).assess()) == {"not-abdomen"}


class TestOtherPatients:
    """The real abdomens, made smaller, larger, noisier or cut off, stay eligible."""

    @pytest.mark.real_data
    @pytest.mark.parametrize("factor", [0.35, 0.5, 1.3])
    @pytest.mark.parametrize("series", [chest_series, pelvis_series, enhanced_series, dome_series])
    def test_size_of_the_patient_changes_nothing(
        self, real_data: Path, series: Callable[[Path], Series], factor: float
    ) -> None:
        found = series(real_data)
        assert codes(found.scaled(factor).assess(20)) == codes(found.assess(20))

    @pytest.mark.real_data
    def test_noise_changes_nothing(self, real_data: Path) -> None:
        random = np.random.default_rng(3)
        for series in (pelvis_series(real_data), enhanced_series(real_data)):
            noisy = series.changed(lambda hu: hu + random.normal(0, 40, hu.shape))
            assert codes(noisy.assess(9)) == codes(series.assess(9))

    @pytest.mark.real_data
    @pytest.mark.parametrize("radius", [0.45, 0.3, 0.2])
    def test_field_of_view_that_cuts_the_body_off_is_eligible(self, real_data: Path, radius: float) -> None:
        def crop(hu: HU) -> HU:
            y, x = np.ogrid[: hu.shape[0], : hu.shape[1]]
            inside = np.hypot(y - hu.shape[0] / 2, x - hu.shape[1] / 2) < radius * hu.shape[0]
            return np.where(inside, hu, -1024)

        for series in (pelvis_series(real_data), enhanced_series(real_data), dome_series(real_data)):
            assert series.changed(crop).assess(9).status == "eligible"

    @pytest.mark.real_data
    def test_zoomed_image_without_the_skin_is_eligible(self, real_data: Path) -> None:
        zoomed = enhanced_series(real_data).changed(lambda hu: hu[180:330, 180:330].copy())
        assert zoomed.assess(5).status == "eligible"

    @pytest.mark.real_data
    def test_lungs_full_of_blood_do_not_make_an_abdomen_ineligible(self, real_data: Path) -> None:
        filled = chest_series(real_data).changed(lambda hu: np.where((hu < -500) & (hu > -955), 30, hu))
        assert filled.assess(20).status == "eligible"

    def test_small_phantom_is_an_abdomen(self, tmp_path: Path) -> None:
        write_slices(small_phantom(), tmp_path)
        found = read_dicom(sorted(tmp_path.glob("*.dcm"))).assess()
        assert codes(found) == BOTH_ENDS
        assert seen(found) == ((0, 47), pytest.approx(240), False, False)


class TestDrawnSeries:
    def test_each_drawing_is_told_apart(self) -> None:
        drawings = {"head": head, "neck": neck, "chest": chest, "abdomen": abdomen, "hips": hips, "legs": legs}
        assert {name: region_of(slice_stats(draw(), SPACING_YX_MM)) for name, draw in drawings.items()} == {
            name: name for name in drawings
        }

    def test_whole_body_is_complete(self) -> None:
        parts = (head, neck, neck, chest, chest, chest, abdomen, abdomen, abdomen, hips, hips, legs)
        found = drawn(*(draw() for draw in parts)).assess()
        assert codes(found) == set()
        assert seen(found) == ((6, 10), pytest.approx(50), True, True)

    @pytest.mark.parametrize("draw", [head, neck, chest, legs])
    @pytest.mark.parametrize("count", [1, 3, 12])
    def test_only_another_region_is_ineligible(self, draw: Callable[[], Slice], count: int) -> None:
        found = drawn(*(draw() for _ in range(count))).assess()
        assert codes(found) == {"not-abdomen"}

    @pytest.mark.parametrize("parts", [(head, head, neck), (neck, chest, chest), (head, plain_trunk, neck, neck)])
    def test_other_regions_together_are_ineligible(self, parts: Sequence[Callable[[], Slice]]) -> None:
        assert codes(drawn(*(draw() for draw in parts)).assess()) == {"not-abdomen"}

    def test_unknown_slices_below_the_lungs_are_given_the_benefit_of_the_doubt(self) -> None:
        found = drawn(chest(), chest(), chest(), plain_trunk(), plain_trunk()).assess()
        assert codes(found) == UNCERTAIN

    def test_one_slice_taken_for_another_region_does_not_matter(self) -> None:
        found = drawn(chest(), abdomen(), abdomen(), neck(), abdomen(), abdomen()).assess()
        assert codes(found) == {"abdomen-incomplete-bottom"}

    def test_much_abdomen_above_the_lungs_is_doubted_but_not_refused(self) -> None:
        upside_down = drawn(*(draw() for draw in (abdomen, abdomen, abdomen, chest, chest, chest, chest, neck)))
        assert codes(upside_down.assess()) == UNCERTAIN

    def test_plain_ellipse_is_eligible_but_uncertain(self) -> None:
        found = drawn(plain_trunk(), plain_trunk()).assess()
        assert codes(found) == UNCERTAIN
        assert seen(found) == (None, None, None, None)

    def test_water_phantom_is_eligible_but_uncertain(self) -> None:
        assert codes(drawn(ellipse(air(), (0, 0), (100, 100), 0)).assess()) == UNCERTAIN

    def test_pelvis_is_complete_only_when_its_slices_reach_down(self) -> None:
        short, long = (drawn(abdomen(), abdomen(), *(hips() for _ in range(count))) for count in (4, 9))
        assert codes(short.assess()) == BOTH_ENDS
        assert codes(long.assess()) == {"abdomen-incomplete-top"}

    def test_extent_uses_the_slices_thickness_where_it_is_known(self) -> None:
        stats = [slice_stats(draw(), SPACING_YX_MM) for draw in (chest, abdomen, abdomen, hips)]
        found = assess([0, 1, 2, 3], stats, [0.0, -10.0, -15.0, -35.0], [10.0, 6.0, 12.0, 20.0])
        assert seen(found)[1] == pytest.approx(25 + (6 + 20) / 2)

    def test_statistics_must_belong_to_the_slices(self) -> None:
        with pytest.raises(ValueError, match="statistics"):
            assess([0, 1], [slice_stats(abdomen(), SPACING_YX_MM)], [0.0, 5.0])


def _textured(hu: Slice) -> HU:
    """With noise, as a scanner writes it."""
    noise = np.random.default_rng(1).normal(0, 12, hu.shape)
    return np.maximum(hu + noise, -1024)


def _windowed(hu: HU) -> HU:
    """Grey values 0 to 255 of the window -160 to 240."""
    return np.asarray(np.round(np.clip((hu + 160) / 400, 0, 1) * 255))


WRONG_VALUES: dict[str, Change] = {
    "8-bit picture": _windowed,
    "8-bit picture, inverted": lambda hu: 255 - _windowed(hu),
    "8-bit picture turned back into HU": lambda hu: _windowed(hu) / 255 * 400 - 160,
    "8-bit picture, inverted, as HU": lambda hu: 240 - _windowed(hu) / 255 * 400,
    "values of MR": lambda hu: _windowed(hu) / 255 * 4000,
    "1000 too high": lambda hu: hu + 1000,
    "1024 too high but padded": lambda hu: np.where(hu <= -1000, -1024, hu + 1024),
    "inverted": lambda hu: -hu,
    "tenfold": lambda hu: hu * 10,
    "a tenth": lambda hu: hu / 10,
    "constant": lambda hu: hu * 0,
    "constant fat": lambda hu: hu * 0 - 100,
}
NOTHING: dict[str, Change] = {
    "1000 too low": lambda hu: np.maximum(hu - 1000, -1024),
    "padding": lambda hu: hu * 0 - 1024,
    "air": lambda hu: np.minimum(hu, -970),
}


class TestValues:
    @pytest.mark.parametrize("change", WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
    def test_values_that_are_not_hu(self, change: Change) -> None:
        image = change(_textured(abdomen()))
        assert codes(Series(lambda _: image, [0.0, 5.0], SPACING_YX_MM).assess()) == {"hu-implausible"}

    @pytest.mark.real_data
    @pytest.mark.parametrize("change", WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
    @pytest.mark.parametrize("series", [chest_series, pelvis_series, dome_series])
    def test_values_of_real_series_that_are_not_hu(
        self,
        real_data: Path,
        series: Callable[[Path], Series],
        change: Change,
    ) -> None:
        found = series(real_data).changed(lambda hu: change(np.maximum(hu, -1024))).assess(7)
        assert codes(found) == {"hu-implausible"}

    @pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING.keys())
    def test_images_without_a_body(self, change: Change) -> None:
        image = change(_textured(abdomen()))
        assert codes(Series(lambda _: image, [0.0, 5.0], SPACING_YX_MM).assess()) == {"no-body"}

    def test_table_alone_is_no_body(self) -> None:
        table = air()
        table[180:183, 40:216] = 150
        assert codes(drawn(table, table).assess()) == {"no-body"}

    def test_values_cut_off_far_below_fat_are_hu(self) -> None:
        assert codes(drawn(np.clip(abdomen(), -500, 500)).assess()) == BOTH_ENDS

    def test_reasons_say_what_to_do_and_warnings_what_is_missing(self) -> None:
        reasons = [
            drawn(part).assess().reasons[0].detail for part in (head(), air(), np.zeros((64, 64), dtype=np.int16))
        ]
        assert all("nothing was scored" in text and "Send the" in text for text in reasons)
        warnings = drawn(abdomen()).assess().warnings
        assert all("cannot be excluded" in one.detail for one in warnings)
