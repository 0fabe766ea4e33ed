"""Compressed frames give the same HU as the native image, from the one decoder of their syntax; damage is refused."""

import base64
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gdcm  # type: ignore[import-untyped]
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.imaging.pixel_files import AS_IT_IS, decoded, records, write_compressed, write_dicom, write_native
from trauma_api.imaging.pixels import (
    NoDecoderError,
    UndecodablePixelsError,
    check_decoder,
    decode_into,
    stack_dtype,
    supported_transfer_syntaxes,
)
from trauma_api.imaging.slices import SliceHeader

# (16, 16) of 13 * n modulo 4096, encoded with OpenJPH 0.26.
HTJ2K_RAMP = base64.b64decode(
    "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQ"
    "kJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAH0AAf+TwAAmGfgFB3QAAMAAEsAAEwDsAQd0ANj+Awd0AMAAE0AAE4A0/QCC"
    "dABoR/sAo1QAwAAVEAAFWBhj/KpwAnUApps2bfrAQgHstgDAACsgABaQiIiIiOfAp6enwngAnj09PT09PT39jGB79jGB7LoA/9k="
)
# The image `CTImage.dcm` in every syntax; how far a lossy one may be off, in HU.
LOSSLESS = ("1.2.1", "1.2", "1.2.2", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90", "1.2.5")
LOSSY_HU = {"1.2.4.50": 65.0, "1.2.4.51": 36.0, "1.2.4.81": 1.0, "1.2.4.91": 5.0}


def image(bits: int, seed: int = 0, *, signed: bool = False, rows: int = 40, columns: int = 36) -> NDArray[np.generic]:
    """Smooth with noise, over all of the range, as 16-bit words."""
    noise = np.random.default_rng(seed).integers(0, 2 ** (bits - 2), (rows, columns))
    values = np.linspace(0, 2**bits - 1, rows * columns).astype(np.int64).reshape(rows, columns) ^ noise
    values.flat[:2] = 0, 2**bits - 1
    return (values - 2 ** (bits - 1) if signed else values).astype(np.int16 if signed else np.uint16)


def by_pydicom(path: Path, stored: NDArray[np.generic], uid: str, bits: int, *, signed: bool) -> Path:
    native = write_native(
        path, stored[None], BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(signed), RescaleIntercept=-9
    )
    dataset = pydicom.dcmread(native)
    dataset.compress(uid, generate_instance_uid=False)
    dataset.save_as(path)
    return path


def by_gdcm(path: Path, stored: NDArray[np.generic], uid: str, bits: int, *, signed: bool) -> Path:
    native = write_native(
        path, stored[None], BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(signed), RescaleIntercept=-9
    )
    reader, writer, change = gdcm.ImageReader(), gdcm.ImageWriter(), gdcm.ImageChangeTransferSyntax()
    reader.SetFileName(str(native))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(uid)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    return path


@pytest.mark.parametrize(
    ("uid", "write"),
    [
        (RLELossless, by_pydicom),
        (JPEG2000Lossless, by_pydicom),
        (JPEGLSLossless, by_pydicom),
        (JPEGLossless, by_gdcm),
        (JPEGLosslessSV1, by_gdcm),
    ],
)
@pytest.mark.parametrize("bits", [10, 12, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_a_lossless_syntax_gives_the_values_that_were_stored(
    tmp_path: Path, uid: str, write: Callable[..., Path], bits: int, signed: bool
) -> None:
    stored = image(bits, signed=signed)
    slices = records(write(tmp_path / "file", stored, uid, bits, signed=signed))
    dtype = "<f4" if bits == 16 and not signed else stack_dtype(slices)

    expected = np.maximum(stored.astype(np.int64) - 9, -1024)[None]
    np.testing.assert_array_equal(decoded(slices, tmp_path / "stack", dtype), expected)


def test_high_throughput_jpeg_2000_is_decoded(tmp_path: Path) -> None:
    path = write_compressed(tmp_path / "file", [HTJ2K_RAMP], HTJ2KLossless, (16, 16), BitsStored=16)

    voxels = decoded(records(path), tmp_path / "stack")

    np.testing.assert_array_equal(voxels, np.arange(256).reshape(1, 16, 16) * 13 % 4096)


def test_jpeg_extended_of_12_bits_is_decoded(tmp_path: Path) -> None:
    """Within the loss of its quantisation; 8-bit decoders would refuse it or be 16 times off."""
    stored = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    slices = records(by_gdcm(tmp_path / "file", stored, JPEGExtended12Bit, 12, signed=False))

    assert slices[0].transfer_syntax_uid == JPEGExtended12Bit
    voxels = decoded(slices, tmp_path / "stack").astype(np.int64)
    assert np.abs(voxels - np.maximum(stored.astype(np.int64) - 9, -1024)).max() <= 40


def j2k_frames(folder: Path, count: int) -> tuple[list[bytes], NDArray[np.generic]]:
    stored = np.stack([image(12, seed) for seed in range(count)])
    streams = []
    for number, frame in enumerate(stored):
        path = by_pydicom(folder / f"frame {number}", frame, JPEG2000Lossless, 12, signed=False)
        streams.append(next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)))
    return streams, stored


def in_items(*values: bytes) -> bytes:
    items = (b"\xfe\xff\x00\xe0" + len(value).to_bytes(4, "little") + value for value in values)
    return b"".join(items) + b"\xfe\xff\xdd\xe0\0\0\0\0"


def halves(stream: bytes) -> tuple[bytes, bytes]:
    middle = len(stream) // 4 * 2
    return stream[:middle], stream[middle:] + b"\0" * (len(stream) % 2)


@pytest.mark.parametrize("table", ["offsets", "none"])
@pytest.mark.parametrize("fragmented", [False, True])
def test_frames_are_found_in_any_order_and_fragmentation(tmp_path: Path, table: str, fragmented: bool) -> None:
    streams, stored = j2k_frames(tmp_path, 4)
    fragments = [halves(stream) if fragmented else (stream + b"\0" * (len(stream) % 2),) for stream in streams]
    sizes = [sum(8 + len(part) for part in parts) for parts in fragments]
    offsets = np.array([0, *np.cumsum(sizes)[:-1]], dtype="<u4").tobytes() if table == "offsets" else b""
    data = in_items(offsets, *(part for parts in fragments for part in parts))
    rows, columns = stored.shape[1:]
    size = {"NumberOfFrames": 4, "Rows": rows, "Columns": columns, "BitsStored": 12, "HighBit": 11}
    slices = records(write_dicom(tmp_path / "file", data, JPEG2000Lossless, **size))

    voxels = decoded([slices[index] for index in (3, 0, 2)], tmp_path / "stack")

    np.testing.assert_array_equal(voxels, stored[[3, 0, 2]])


def test_damaged_streams_are_refused(tmp_path: Path) -> None:
    (stream,), stored = j2k_frames(tmp_path, 1)
    rows, columns = stored.shape[1:]
    attributes = {"NumberOfFrames": 1, "Rows": rows, "Columns": columns, "BitsStored": 12, "HighBit": 11}
    vast = bytearray(stream)
    vast[8:16] = b"\x00\x00\xff\xff" * 2
    three_channels = bytearray(stream)
    three_channels[40:42] = b"\x00\x03"
    item = b"\xfe\xff\x00\xe0"
    damaged = {
        "cut": in_items(b"", stream[: len(stream) // 4 * 2]),
        "vast": in_items(b"", bytes(vast)),
        "three channels": in_items(b"", bytes(three_channels)),
        "no stream": in_items(b"", b"\0" * 64),
        "no fragments": in_items(b""),
        "no offset table": in_items(),
        "4 GiB": in_items(b"")[:-8] + item + b"\xf0\xff\xff\xff" + stream,
        "broken offset table": in_items(b"\0" * 3, stream),
        "no items": b"\0" * 64,
    }
    target = tmp_path / "stack"
    target.write_bytes(bytes(2 * rows * columns))

    for name, data in damaged.items():
        header = records(write_dicom(tmp_path / "good", in_items(b"", stream), JPEG2000Lossless, **attributes))[0]
        path = tmp_path / name
        path.write_bytes(header.entry.path.read_bytes()[: header.pixels.offset] + data)
        with pytest.raises(UndecodablePixelsError):
            list(decode_into([replace(header, entry=replace(header.entry, path=path))], [0], AS_IT_IS, target, "<i2"))
    assert target.read_bytes() == bytes(2 * rows * columns)


def test_frames_that_contradict_the_header_are_refused(tmp_path: Path) -> None:
    streams, stored = j2k_frames(tmp_path, 2)
    shape = (stored.shape[1], stored.shape[2])
    path = write_compressed(tmp_path / "file", streams, JPEG2000Lossless, shape, BitsStored=12, HighBit=11)
    header = records(path)[0]
    contradicting: dict[str, SliceHeader] = {
        "more rows": replace(header, rows=header.rows + 1),
        "turned": replace(header, rows=header.columns, columns=header.rows),
        "frame beyond": replace(header, frame=2),
        "more frames": replace(header, pixels=replace(header.pixels, frames=3)),
        "high bit": replace(header, pixels=replace(header.pixels, high_bit=15)),
        "narrow": replace(header, pixels=replace(header.pixels, bits_allocated=8, bits_stored=8, high_bit=7)),
        "another codec": replace(header, transfer_syntax_uid=JPEGLSLossless),
        "run lengths": replace(header, transfer_syntax_uid=RLELossless),
    }
    target = tmp_path / "stack"
    target.write_bytes(bytes(4 * shape[0] * shape[1]))

    for contradiction in contradicting.values():
        with pytest.raises(UndecodablePixelsError):
            list(decode_into([contradiction], [0], AS_IT_IS, target, "<i2"))


def test_damaged_run_lengths_are_refused_or_decoded_and_never_panic(tmp_path: Path) -> None:
    path = by_pydicom(tmp_path / "file", image(12), RLELossless, 12, signed=False)
    header = records(path)[0]
    content = path.read_bytes()
    start = (header.pixels.offset or 0) + 16
    target = tmp_path / "stack"
    target.write_bytes(bytes(2 * header.rows * header.columns))
    rng = np.random.default_rng(1)
    refused = 0

    for _ in range(200):
        damaged = bytearray(content)
        for place in rng.integers(start, len(content) - 8, 3):
            damaged[place] = rng.integers(256)
        (tmp_path / "damaged").write_bytes(damaged)
        entry = replace(header.entry, path=tmp_path / "damaged")
        try:
            list(decode_into([replace(header, entry=entry)], [0], AS_IT_IS, target, "<i2"))
        except UndecodablePixelsError:
            refused += 1
    assert refused > 20


def test_a_syntax_without_a_decoder_is_refused_by_its_name(tmp_path: Path) -> None:
    header = records(write_native(tmp_path / "file", np.zeros((1, 4, 4), np.uint16)))[0]

    with pytest.raises(NoDecoderError, match=r"JPEG Full Progression.*1\.2\.840\.10008\.1\.2\.4\.55"):
        check_decoder(replace(header, transfer_syntax_uid="1.2.840.10008.1.2.4.55"))
    with pytest.raises(NoDecoderError) as refusal:
        check_decoder(replace(header, transfer_syntax_uid="1.2.999.12345"))
    assert "12345" not in refusal.value.detail
    with pytest.raises(NoDecoderError):
        list(
            decode_into(
                [replace(header, transfer_syntax_uid="1.2.840.10008.1.2.4.53")],
                [0],
                AS_IT_IS,
                header.entry.path,
                "<i2",
            )
        )


def test_every_published_syntax_has_its_decoder(tmp_path: Path) -> None:
    header = records(write_native(tmp_path / "file", np.zeros((1, 4, 4), np.uint16)))[0]
    published = {syntax.uid: syntax for syntax in supported_transfer_syntaxes()}

    for uid in published:
        check_decoder(replace(header, transfer_syntax_uid=uid))
    assert len(published) == 16
    assert published[JPEGLosslessSV1].decoder == "gdcm"
    assert published[ExplicitVRLittleEndian].decoder == "native"
    assert {uid.removeprefix("1.2.840.10008.") for uid, syntax in published.items() if syntax.lossy} == {
        "1.2.4.50", "1.2.4.51", "1.2.4.81", "1.2.4.91", "1.2.4.203",
    }  # fmt: skip


def same_image(real_data: Path, uid_end: str) -> Path:
    (path,) = (real_data / "dicom_edge/transfer_syntax_same_image").glob(f"*_1.2.840.10008.{uid_end}.dcm")
    return path


def reference_hu(path: Path) -> NDArray[np.int64]:
    dataset = pydicom.dcmread(path)
    return np.maximum(dataset.pixel_array.astype(np.int64) + int(dataset.RescaleIntercept), -1024)[None]


@pytest.mark.parametrize("uid_end", LOSSLESS)
def test_real_lossless_encodings_of_one_image_give_identical_hu(real_data: Path, tmp_path: Path, uid_end: str) -> None:
    native = reference_hu(same_image(real_data, "1.2.1"))

    np.testing.assert_array_equal(decoded(records(same_image(real_data, uid_end)), tmp_path / "stack"), native)


@pytest.mark.parametrize("uid_end", LOSSY_HU)
def test_real_lossy_encodings_are_within_their_loss(real_data: Path, tmp_path: Path, uid_end: str) -> None:
    native = reference_hu(same_image(real_data, "1.2.1"))
    slices = records(same_image(real_data, uid_end))

    voxels = decoded(slices, tmp_path / "stack", stack_dtype(slices))

    assert 0 < np.abs(voxels.astype(np.float64) - native).max() <= LOSSY_HU[uid_end]


def test_an_inflated_file_is_read_in_the_syntax_that_it_was_inflated_to(real_data: Path, tmp_path: Path) -> None:
    deflated = same_image(real_data, "1.2.1.99").read_bytes()
    meta_length = 132 + 12 + int.from_bytes(deflated[140:144], "little")
    inflated = tmp_path / "inflated"
    inflated.write_bytes(zlib.decompress(deflated[meta_length:], -zlib.MAX_WBITS))
    slices = [
        replace(header, transfer_syntax_uid="1.2.840.10008.1.2.1.99")
        for header in records(inflated, ExplicitVRLittleEndian)
    ]

    np.testing.assert_array_equal(decoded(slices, tmp_path / "stack"), reference_hu(same_image(real_data, "1.2.1")))


@pytest.mark.parametrize("uid_end", ["1.2.4.53", "1.2.4.55"])
def test_real_files_without_a_decoder_are_refused(real_data: Path, uid_end: str) -> None:
    with pytest.raises(NoDecoderError, match=uid_end):
        check_decoder(records(same_image(real_data, uid_end))[0])
