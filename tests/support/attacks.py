"""Files made to bring a reader down. Each is small on the wire, whatever it claims to be or unpacks to."""

import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

GIB = 2**30
MIB = 2**20
ANY_REFUSAL = "*"
READ = ""


@dataclass(frozen=True)
class Attack:
    """One upload, with the code of the refusal that it must meet; READ where it must be read as if nothing were."""

    name: str
    build: Callable[[], bytes]
    code: str


def attacks() -> list[Attack]:
    """Bombs, forged sizes, deep and wide structures, hostile archives, polyglots."""
    return [
        Attack("deflated DICOM that unpacks to 1 GiB", lambda: deflated_bomb(GIB), "expanded-too-large"),
        Attack("ZIP entry that unpacks to 1 GiB", lambda: zip_bomb(GIB), "expanded-too-large"),
        Attack("ZIP of 200 overlapping entries", overlapping_zip, "broken-archive"),
        Attack("ZIP that lies about its entry's size", lying_zip, "broken-archive"),
        Attack("ZIP of 200,000 entries", lambda: many_entries(200_000), "too-many-files"),
        Attack("ZIP in a ZIP", nested_zip, "nested-archive"),
        Attack("ZIP with an encrypted entry", encrypted_zip, "encrypted-archive"),
        Attack("ZIP cut short", lambda: traversal_zip()[:-40], "broken-archive"),
        Attack("ZIP with names that climb out", traversal_zip, READ),
        Attack("ZIP with a symbolic link", symlink_zip, READ),
        Attack("gzip that unpacks to 1 GiB", lambda: gzip_bomb(GIB), "expanded-too-large"),
        Attack("RLE frame of 65535 x 65535", rle_bomb, ANY_REFUSAL),
        Attack("RLE segment that unpacks to too much", rle_overrun, "undecodable-pixels"),
        Attack("JPEG 2000 that claims 60000 x 60000", jpeg2000_bomb, "undecodable-pixels"),
        Attack("Rows and Columns of 65535, no pixels", lambda: ct(Rows=65535, Columns=65535), "image-too-large"),
        Attack("999,999 frames", lambda: ct(NumberOfFrames=999_999), ANY_REFUSAL),
        Attack("element of 4 GiB in a file of 1 KiB", four_gib_element, "malformed-dicom"),
        Attack("pixel data of 4 GiB with 16 bytes there", four_gib_pixels, "undecodable-pixels"),
        Attack("17 sequences deep", lambda: nested(17, undefined=False), "dicom-nesting"),
        Attack("10,000 sequences deep, undefined length", lambda: nested(10_000, undefined=True), "dicom-nesting"),
        Attack("1,000 sequences deep, stated length", lambda: nested(1_000, undefined=False), "dicom-nesting"),
        Attack("3,000,000 elements", lambda: wide(3_000_000), "dicom-too-many-elements"),
        Attack("text of 8 MiB", lambda: long_text(8 * MIB), "dicom-text-too-long"),
        Attack("PNG that claims 50000 x 50000", png_bomb, "image-too-large"),
        Attack("NIfTI that claims 30000 x 30000 x 30000", lambda: nifti((30_000, 30_000, 30_000)), "image-too-large"),
        Attack("executable with a CT behind it", lambda: polyglot(b"MZ\x90\x00"), READ),
        Attack("PDF with a CT behind it", lambda: polyglot(b"%PDF-1.7\n"), READ),
        Attack("ZIP mark with a CT behind it", lambda: polyglot(b"PK\x03\x04"), READ),
    ]


def ct(**changes: object) -> bytes:
    """One CT slice of 64 x 64: a disc of soft tissue in air. Keywords change or, with None, remove attributes."""
    return _written(_slice(**changes))


def _slice(**changes: object) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = CTImageStorage, "1.2.3.1", "1.2.3"
    dataset.PatientName, dataset.Modality, dataset.ImageType = "SECRET^NAME", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.RescaleSlope, dataset.RescaleIntercept = [5, 5], 1, -1024
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    y, x = np.mgrid[-32:32, -32:32]
    dataset.PixelData = np.where(x**2 / 900 + y**2 / 500 < 1, 1064, 24).astype("<u2").tobytes()
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def _written(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _meta(transfer_syntax: UID) -> bytes:
    """A preamble and the file meta information alone."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = transfer_syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, UID("1.2.3.1")
    stream = DicomBytesIO()
    write_file_meta_info(stream, meta)
    return bytes(128) + b"DICM" + stream.getvalue()


def _squeezed(size: int, deflate: "zlib._Compress") -> Iterator[bytes]:
    block = bytes(4 * MIB)
    for _ in range(size // len(block)):
        yield deflate.compress(block)
    yield deflate.flush()


def deflated_bomb(size: int) -> bytes:
    """Deflated DICOM whose one private element holds ``size`` zeros."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = deflate.compress(b"\x09\x00\x01\x10OB\x00\x00" + struct.pack("<I", size))
    return _meta(DeflatedExplicitVRLittleEndian) + start + b"".join(_squeezed(size, deflate))


def zip_bomb(size: int) -> bytes:
    """One entry of zeros."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("0", "w", force_zip64=True) as entry,
    ):
        for _ in range(size // (4 * MIB)):
            entry.write(bytes(4 * MIB))
    return stream.getvalue()


def gzip_bomb(size: int) -> bytes:
    """A NIfTI header, and zeros."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    return deflate.compress(nifti((512, 512, 4096))) + b"".join(_squeezed(size, deflate))


def overlapping_zip() -> bytes:
    """Entries of the directory that all point to the same compressed bytes, as in Fifield's bombs."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0", bytes(50_000))
        info = archive.infolist()[0]
        for number in range(1, 200):
            twin = zipfile.ZipInfo(f"{number}")
            twin.compress_type, twin.CRC = info.compress_type, info.CRC
            twin.compress_size, twin.file_size, twin.header_offset = (
                info.compress_size,
                info.file_size,
                info.header_offset,
            )
            archive.filelist.append(twin)
    return stream.getvalue()


def lying_zip() -> bytes:
    """The directory says 100 bytes; 64 MiB come out."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0", bytes(64 * MIB))
        archive.infolist()[0].file_size = 100
    return stream.getvalue()


def many_entries(count: int) -> bytes:
    """Empty entries."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}", b"")
    return stream.getvalue()


def nested_zip() -> bytes:
    """A ZIP archive as the only entry."""
    return _zip({"inner.zip": _zip({"0": ct()})})


def encrypted_zip() -> bytes:
    """An entry that is marked as encrypted."""
    stream = io.BytesIO(_zip({"0": ct()}))
    content = bytearray(stream.getvalue())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    return bytes(content)


def traversal_zip() -> bytes:
    """A CT under names that would leave the folder."""
    return _zip({"../../../../tmp/trauma-escape": ct(), "/tmp/trauma-escape-2": b"text", "a\x00b": b"text"})  # noqa: S108


def symlink_zip() -> bytes:
    """A CT, and a symbolic link to a file of the host."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("0", ct())
        link = zipfile.ZipInfo("1")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return stream.getvalue()


def _zip(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _encapsulated(transfer_syntax: UID, frame: bytes, **changes: object) -> bytes:
    dataset = _slice(**changes)
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return _written(dataset)


def _rle_frame(segment: bytes) -> bytes:
    return struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13) + segment * 2


def rle_bomb() -> bytes:
    """An RLE frame of a few bytes that claims to be 65535 x 65535."""
    return _encapsulated(RLELossless, _rle_frame(b"\x81\x00"), Rows=65535, Columns=65535)


def rle_overrun() -> bytes:
    """RLE runs for a hundred times the pixels that the header states."""
    return _encapsulated(RLELossless, _rle_frame(b"\x81\x00" * (64 * 64 * 100 // 128)))


def jpeg2000_bomb() -> bytes:
    """A real JPEG 2000 frame whose size marker was changed."""
    dataset = _slice()
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    frame = bytearray(next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)))
    size = frame.index(b"\xff\x51") + 6
    frame[size : size + 8] = struct.pack(">II", 60_000, 60_000)
    return _encapsulated(JPEG2000Lossless, bytes(frame))


def four_gib_element() -> bytes:
    """A private element that claims 4 GiB."""
    return _meta(ExplicitVRLittleEndian) + b"\x08\x00\x01\x10OB\x00\x00\xf0\xff\xff\xff" + bytes(64)


def four_gib_pixels() -> bytes:
    """A whole CT header whose Pixel Data claim 4 GiB."""
    content = bytearray(ct())
    start = content.index(b"\xe0\x7f\x10\x00")
    content[start + 8 : start + 12] = b"\xf0\xff\xff\xff"
    return bytes(content[: start + 28])


def nested(depth: int, *, undefined: bool) -> bytes:
    """Private sequences within sequences, before a CT's own attributes."""
    inner = b""
    if undefined:
        start = b"\x07\x00\x01\x10SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
        end = b"\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
        inner = start * depth + end * depth
    else:
        for _ in range(depth):
            item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
            inner = b"\x07\x00\x01\x10SQ\x00\x00" + struct.pack("<I", len(item)) + item
    return _with_elements(inner)


def wide(count: int) -> bytes:
    """Very many empty private elements."""
    return _with_elements(b"\x07\x00\x01\x10LO\x00\x00" * count)


def long_text(size: int) -> bytes:
    """A private text of unlimited length."""
    return _with_elements(b"\x07\x00\x01\x10UC\x00\x00" + struct.pack("<I", size) + b"A" * size)


def _with_elements(elements: bytes) -> bytes:
    content = ct()
    start = content.index(b"\x08\x00\x08\x00")  # Image Type, the first of the dataset
    return content[:start] + elements + content[start:]


def png_bomb() -> bytes:
    """A PNG header that claims 50000 x 50000, with few pixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(MIB), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def nifti(shape: tuple[int, int, int]) -> bytes:
    """A NIfTI-1 header for a volume of int16 that is not there."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[123] = 2
    struct.pack_into("<hh", header, 252, 0, 1)
    for row in range(3):
        struct.pack_into("<4f", header, 280 + 16 * row, *[float(row == column) for column in range(3)], 0.0)
    header[344:348] = b"n+1\x00"
    return bytes(header)


def polyglot(mark: bytes) -> bytes:
    """A CT whose preamble starts as another kind of file does."""
    content = bytearray(ct())
    content[: len(mark)] = mark
    return bytes(content)


def mutations(sources: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Files damaged at random: bits and bytes changed, lengths forged, pieces cut, doubled, moved or overwritten."""
    chance = random.Random(seed)  # noqa: S311
    ways = (_bytes_changed, _length_forged, _cut, _doubled, _overwritten, _tag_changed)
    for number in range(count):
        content = bytearray(sources[number % len(sources)])
        for _ in range(chance.randint(1, 4)):
            if content:
                chance.choice(ways)(content, chance)
        yield bytes(content)


def _place(content: bytearray, chance: random.Random) -> int:
    # Headers hold more to be damaged than pixels do.
    return chance.randrange(min(len(content), 4096) if chance.random() < 0.8 else len(content))


def _bytes_changed(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 4, 32))):
        content[_place(content, chance)] = chance.randrange(256)


def _length_forged(content: bytearray, chance: random.Random) -> None:
    place = _place(content, chance)
    forged = chance.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF))
    content[place : place + 4] = forged.to_bytes(4, "little")


def _cut(content: bytearray, chance: random.Random) -> None:
    place = _place(content, chance)
    del content[place : place + chance.choice((1, 2, 16, 1024, len(content)))]


def _doubled(content: bytearray, chance: random.Random) -> None:
    place = _place(content, chance)
    content[place:place] = content[place : place + chance.choice((1, 8, 64, 1024))] * chance.choice((1, 3, 200))


def _overwritten(content: bytearray, chance: random.Random) -> None:
    place, size = _place(content, chance), chance.choice((2, 16, 256))
    content[place : place + size] = chance.choice((b"\x00", b"\xff", b"A")) * size


def _tag_changed(content: bytearray, chance: random.Random) -> None:
    tags = (0x00280010, 0x00280011, 0x00280008, 0x00280100, 0x00280101, 0x00280103, 0x7FE00010, 0x00200032, 0x00281053)
    old, new = chance.choice(tags), chance.choice(tags)
    place = content.find(struct.pack("<HH", old >> 16, old & 0xFFFF))
    if place >= 0:
        content[place : place + 4] = struct.pack("<HH", new >> 16, new & 0xFFFF)


def mutation_sources() -> list[bytes]:
    """Small good files of every kind, to be damaged."""
    rle, j2k, implicit, deflated = _slice(), _slice(), _slice(), _slice()
    rle.compress(RLELossless)
    j2k.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    volume = nifti((16, 16, 4)) + np.full(1024, -1000, "<i2").tobytes()
    return [
        ct(),
        *map(_written, (rle, j2k, implicit, deflated)),
        volume,
        gzip.compress(volume),
        _zip({"0": ct(), "1": ct(InstanceNumber=2)}),
    ]
