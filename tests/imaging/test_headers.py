"""What a slice record says is what its file says, in whatever encoding and place."""

from pathlib import Path
from typing import Any

import highdicom
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from tests.imaging.raw_files import ct_bytes, ct_dataset, element, image, scan_all, scan_bytes
from trauma_api.imaging.quiet import quiet_libraries
from trauma_api.imaging.slices import ScannedEntry, SliceHeader

SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def header_of(folder: Path, **overrides: Any) -> SliceHeader:
    (header,) = scan_bytes(ct_bytes(**overrides), folder).slices
    return header


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_encoding_gives_the_same_record(tmp_path: Path, syntax: str) -> None:
    stated = {
        "SOPInstanceUID": "1.2.3.4", "InstanceNumber": 7, "AcquisitionNumber": 2, "TemporalPositionIdentifier": 3,
        "FrameOfReferenceUID": "1.2.9", "AcquisitionTime": "010203.5", "ContrastBolusAgent": "Agent 350",
        "SeriesDescription": "Abdomen portalvenös", "ConvolutionKernel": "B30f", "BitsStored": 12,
    }  # fmt: skip

    header = header_of(tmp_path, transfer_syntax=syntax, **stated)

    assert header.transfer_syntax_uid == syntax
    assert (header.rows, header.columns, header.frame, header.modality) == (4, 3, 0, "CT")
    assert (header.series_uid, header.instance_uid, header.frame_of_reference_uid) == ("1.2.3", "1.2.3.4", "1.2.9")
    assert (header.instance_number, header.acquisition_number, header.temporal_index) == (7, 2, 3)
    assert header.position_mm == (-10.0, -20.0, 30.5)
    assert header.orientation == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert (header.spacing_yx_mm, header.thickness_mm) == ((0.8, 0.5), 2.5)
    assert (header.rescale, header.rescale_type) == ((1.0, -1024.0), "HU")
    assert header.acquired_at_s == 3723.5
    assert (header.phase, header.contrast_agent, header.sharp_kernel) == ("portal_venous", True, False)
    assert (header.lossy, header.localizer, header.derived, header.unplaced_frames) == (False, False, False, False)
    assert header.one_grey_channel
    layout = header.pixels
    assert (layout.bits_allocated, layout.bits_stored, layout.high_bit, layout.signed) == (16, 12, 11, False)
    assert (layout.frames, layout.length) == (1, 24)


@pytest.mark.parametrize(("representation", "signed"), [(0, False), (1, True), (None, False)])
def test_the_sign_is_what_the_file_states(tmp_path: Path, representation: int | None, signed: bool) -> None:
    assert header_of(tmp_path, PixelRepresentation=representation).pixels.signed is signed


def test_what_only_helps_is_none_where_it_is_damaged(tmp_path: Path) -> None:
    damaged = [(0x00180050, "DS", b"thin"), (0x00200013, "IS", b"1.5 "), (0x00080032, "TM", b"noon")]

    (header,) = scan_bytes(image(b"".join(element(*parts) for parts in damaged)), tmp_path).slices

    assert (header.thickness_mm, header.instance_number, header.acquired_at_s) == (None, None, None)


@pytest.mark.parametrize("tag", [0x00200032, 0x00280030, 0x00281053])
def test_damaged_geometry_and_rescale_are_damage(tmp_path: Path, tag: int) -> None:
    record = scan_bytes(image(element(0x00281052, "DS", b"0 ") + element(tag, "DS", b"1\\x\\3 ")), tmp_path)

    assert record.left_out is not None
    assert record.left_out.code == "malformed-dicom"


def test_what_is_absent_is_none(tmp_path: Path) -> None:
    (header,) = scan_bytes(image(b""), tmp_path).slices

    for absent in (
        header.series_uid, header.instance_uid, header.rescale, header.rescale_type, header.position_mm,
        header.orientation, header.spacing_yx_mm, header.thickness_mm, header.frame_of_reference_uid,
        header.instance_number, header.acquisition_number, header.temporal_index, header.stack_id,
        header.acquired_at_s, header.contrast_agent, header.sharp_kernel, header.pixels.bits_stored,
    ):  # fmt: skip
        assert absent is None
    assert header.phase == "unknown"


@pytest.mark.parametrize(
    ("slope", "rescale"), [("2.5", (2.5, -1024.0)), ("0", None), ("nan", None), ("inf", None), (None, None)]
)
def test_only_a_usable_rescale_counts(tmp_path: Path, slope: str | None, rescale: tuple[float, float] | None) -> None:
    quiet_libraries()

    middle = element(0x00281052, "DS", b"-1024 ")
    if slope is not None:
        middle += element(0x00281053, "DS", slope.encode().ljust(4))
    (header,) = scan_bytes(image(middle), tmp_path).slices

    assert header.rescale == rescale


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ({"AcquisitionTime": "235959"}, 86399.0),
        ({"AcquisitionTime": "10"}, 36000.0),
        ({"AcquisitionDateTime": "20240102030405.25+0100"}, 11045.25),
        ({"AcquisitionTime": "100000", "AcquisitionDateTime": "20240102030405"}, 36000.0),
        ({"AcquisitionDateTime": "20240102"}, None),
    ],
)
def test_acquisition_time_is_in_seconds_of_the_day(
    tmp_path: Path, stated: dict[str, str], seconds: float | None
) -> None:
    assert header_of(tmp_path, **stated).acquired_at_s == seconds


@pytest.mark.parametrize(
    ("agent", "stated"), [("Iohexol", True), ("", False), ("NONE", False), ("ohne KM", False), (None, None)]
)
def test_a_contrast_agent_is_stated_denied_or_absent(tmp_path: Path, agent: str | None, stated: bool | None) -> None:
    overrides = {} if agent is None else {"ContrastBolusAgent": agent}

    assert header_of(tmp_path, **overrides).contrast_agent is stated


def test_a_coded_contrast_agent_counts(tmp_path: Path) -> None:
    codes = DicomSequence([item(CodeValue="C-B0300", CodeMeaning="Contrast agent")])

    assert header_of(tmp_path, ContrastBolusAgentSequence=codes).contrast_agent is True


@pytest.mark.parametrize(
    ("image_type", "localizer", "derived"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], False, False),
        (["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"], True, False),
        (["ORIGINAL", "PRIMARY", "SCOUT"], True, False),
        (["DERIVED", "SECONDARY", "REFORMATTED"], False, True),
        (["ORIGINAL", "SECONDARY", "AXIAL"], False, True),
        (["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 MIP"], False, True),
        (["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], False, False),
        ("ORIGINAL", False, False),
        (None, False, False),
    ],
)
def test_the_image_type_is_read(tmp_path: Path, image_type: Any, localizer: bool, derived: bool) -> None:
    header = header_of(tmp_path, ImageType=image_type)

    assert (header.localizer, header.derived) == (localizer, derived)


def test_other_modalities_and_colours_are_told_apart(tmp_path: Path) -> None:
    assert header_of(tmp_path, Modality="MR").modality == "MR"
    assert header_of(tmp_path, Modality="US").modality == "OT"
    assert header_of(tmp_path, Modality=None).modality == "CT"
    assert not header_of(tmp_path, PhotometricInterpretation="MONOCHROME1").one_grey_channel
    assert not header_of(tmp_path, SamplesPerPixel=3).one_grey_channel


def test_frames_without_functional_groups_are_one_unplaced_record(tmp_path: Path) -> None:
    header = header_of(tmp_path, NumberOfFrames=2, PixelData=bytes(48))

    assert header.unplaced_frames
    assert header.pixels.frames == 2


def enhanced(**shared: Any) -> Dataset:
    """An enhanced CT of three frames, with everything that can differ from frame to frame."""
    groups = [
        item(
            FrameContentSequence=[
                item(FrameAcquisitionNumber=5, TemporalPositionIndex=frame, StackID="A",
                     FrameAcquisitionDateTime=f"2024010200000{frame}.5")
            ],
            PlanePositionSequence=[item(ImagePositionPatient=[0.0, 0.0, 3.0 * frame])],
            PixelValueTransformationSequence=[
                item(RescaleSlope=frame + 1.0, RescaleIntercept=-1000.0, RescaleType="HU")
            ],
        )
        for frame in range(3)
    ]  # fmt: skip
    common = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[0.7, 0.6], SliceThickness=2.0)],
        CTImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
        CTReconstructionSequence=[item(ConvolutionKernel="BONE")],
        **shared,
    )
    gone = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope",
            "RescaleIntercept", "RescaleType")  # fmt: skip
    removed: dict[str, Any] = dict.fromkeys(gone)
    return ct_dataset(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", NumberOfFrames=3, PixelData=bytes(72), InstanceNumber=1,
        PerFrameFunctionalGroupsSequence=groups, SharedFunctionalGroupsSequence=[common], **removed,
    )  # fmt: skip


def scan_dataset(dataset: Dataset, folder: Path) -> ScannedEntry:
    pydicom.dcmwrite(folder / "multi", dataset, enforce_file_format=True)
    (record,) = scan_all([folder / "multi"], folder / "scratch")
    return record


@pytest.mark.parametrize("undefined", [True, False])
def test_enhanced_ct_gives_one_record_a_frame(tmp_path: Path, undefined: bool) -> None:
    usage = item(ContrastBolusAgentAdministered="YES", ContrastBolusAgentPhase="PORTAL_VENOUS")
    dataset = enhanced(ContrastBolusUsageSequence=[usage])
    for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        dataset[name].is_undefined_length = undefined

    headers = scan_dataset(dataset, tmp_path).slices

    assert [header.frame for header in headers] == [0, 1, 2]
    assert [header.position_mm for header in headers] == [(0.0, 0.0, 0.0), (0.0, 0.0, 3.0), (0.0, 0.0, 6.0)]
    assert [header.rescale for header in headers] == [(1.0, -1000.0), (2.0, -1000.0), (3.0, -1000.0)]
    assert [header.temporal_index for header in headers] == [0, 1, 2]
    assert [header.acquired_at_s for header in headers] == [0.5, 1.5, 2.5]
    for header in headers:
        assert header.orientation == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        assert (header.spacing_yx_mm, header.thickness_mm) == ((0.7, 0.6), 2.0)
        assert (header.acquisition_number, header.stack_id, header.instance_number) == (5, "A", 1)
        assert (header.phase, header.contrast_agent, header.sharp_kernel) == ("portal_venous", True, True)
        assert (header.pixels.frames, header.unplaced_frames, header.rescale_type) == (3, False, "HU")


def test_enhanced_ct_whose_frames_lack_their_groups_is_damaged(tmp_path: Path) -> None:
    dataset = enhanced()
    dataset.NumberOfFrames = 4

    record = scan_dataset(dataset, tmp_path)

    assert record.left_out is not None
    assert record.left_out.code == "malformed-dicom"


def test_a_functional_group_that_is_cut_short_is_damage(tmp_path: Path) -> None:
    content = element(0x00209111, "SQ", element(0xFFFEE000, None) + b"\xfe\xff")
    per_frame = element(0x52009230, "SQ", element(0xFFFEE000, None, content))

    record = scan_bytes(image(per_frame), tmp_path)

    assert record.left_out is not None
    assert record.left_out.code == "malformed-dicom"


def test_legacy_converted_ct_gives_back_what_the_single_slices_said(tmp_path: Path) -> None:
    singles = [
        ct_dataset(
            StudyInstanceUID="1.2.8", PatientID="x", PatientBirthDate="", PatientSex="", StudyID="1", StudyDate="",
            StudyTime="", AccessionNumber="", ReferringPhysicianName="", Manufacturer="m", SeriesNumber=1,
            FrameOfReferenceUID="1.2.9", PositionReferenceIndicator="", PatientPosition="HFS",
            InstanceNumber=10 + number, ImagePositionPatient=[0.0, 0.0, 2.0 * number], AcquisitionNumber=4,
            BurnedInAnnotation="NO", PixelData=bytes(24),
        )
        for number in range(3)
    ]  # fmt: skip
    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=singles, series_instance_uid="1.2.4", series_number=2, sop_instance_uid="1.2.5",
        instance_number=1,
    )  # fmt: skip

    headers = scan_dataset(converted, tmp_path).slices

    assert sorted(header.position_mm for header in headers if header.position_mm) == [
        (0.0, 0.0, 0.0),
        (0.0, 0.0, 2.0),
        (0.0, 0.0, 4.0),
    ]
    for header in headers:
        assert (header.rescale, header.rescale_type) == ((1.0, -1024.0), "HU")
        assert (header.spacing_yx_mm, header.thickness_mm) == ((0.8, 0.5), 2.5)
        assert header.instance_number in {10, 11, 12}


def test_what_a_conversion_left_unassigned_is_found(tmp_path: Path) -> None:
    dataset = enhanced()
    for group in dataset.PerFrameFunctionalGroupsSequence:
        values = group.PixelValueTransformationSequence[0]
        del values.RescaleType
        group.UnassignedPerFrameConvertedAttributesSequence = [item(InstanceNumber=9, RescaleType="US")]

    headers = scan_dataset(dataset, tmp_path).slices

    assert {(header.instance_number, header.rescale_type) for header in headers} == {(9, "US")}


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["dicom_edge", "ct"])
def test_real_files_read_as_pydicom_reads_them(real_data: Path, tmp_path: Path, folder: str) -> None:
    quiet_libraries()
    paths = sorted(path for path in (real_data / folder).rglob("*") if path.is_file() and path.suffix != ".zip")
    compared = 0

    for record in scan_all(paths, tmp_path / "scratch"):
        if len(record.slices) != 1 or record.slices[0].modality not in {"CT", "MR"}:
            continue
        dataset = pydicom.dcmread(paths[record.entry.position], force=True)
        if record.entry.path.suffix == ".inflated" or "PerFrameFunctionalGroupsSequence" in dataset:
            continue
        header, compared = record.slices[0], compared + 1
        assert (header.rows, header.columns) == (dataset.Rows, dataset.Columns)
        assert (header.series_uid or "") == dataset.SeriesInstanceUID
        assert (header.instance_uid or "") == dataset.SOPInstanceUID
        position = dataset.get("ImagePositionPatient")
        assert header.position_mm == (tuple(float(value) for value in position) if position else None)
        assert header.pixels.bits_stored == dataset.BitsStored
        assert header.pixels.signed is (dataset.PixelRepresentation == 1)
        if "PixelData" in dataset and header.pixels.length is not None and header.pixels.offset is not None:
            content = record.entry.path.read_bytes()[header.pixels.offset :][: header.pixels.length]
            assert content == dataset.PixelData

    assert compared > 20
