"""Compressed frames in encapsulated Pixel Data (DICOM PS3.5 annex A.4): where they lie, and what size they claim."""

import os
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from trauma_api.imaging.slices import PixelLayout

_ITEM = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0"
_MAX_FRAGMENTS = 100_000
_JPEG_END = b"\xff\xd9"
_JPEG_END_WITHIN = 10
"""Bytes at the end of a frame in which its end marker lies: some writers pad by more than one."""

# ISO 10918-1 table B.1 and ISO 14495-1 section C.1.1: the markers that start a frame, and those without a length.
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_START_OF_SCAN = 0xDA
_RLE_HEADER = struct.Struct("<16I")

Span = tuple[int, int]
"""Offset in the file and length, in bytes."""


class ClaimedImage(NamedTuple):
    """What the header of a compressed stream says."""

    rows: int
    columns: int
    components: int
    bits: int
    """Of the first component."""


class EncapsulatedFrames:
    """The compressed frames of one file, each read when asked for."""

    def __init__(self, descriptor: int, layout: PixelLayout) -> None:
        """Find the frames by walking over the fragments' lengths. Raises ValueError when they are not in the file."""
        if layout.offset is None:
            raise ValueError("no pixel data")
        self._descriptor = descriptor
        table, *fragments = _items(descriptor, layout.offset)
        self._frames = self._grouped(fragments, self._offsets(table), layout.frames)

    def read(self, frame: int) -> bytes:
        """The compressed bytes of a frame. Raises LookupError when there are fewer frames."""
        return b"".join(os.pread(self._descriptor, length, offset) for offset, length in self._frames[frame])

    def _offsets(self, table: Span) -> tuple[int, ...]:
        offset, length = table
        if length % 4:
            raise ValueError("a broken offset table")
        return struct.unpack(f"<{length // 4}I", os.pread(self._descriptor, length, offset))

    def _grouped(self, fragments: list[Span], offsets: tuple[int, ...], frames: int) -> Sequence[Sequence[Span]]:
        if len(fragments) == frames:
            return [[fragment] for fragment in fragments]
        if frames == 1:
            return [fragments]
        if len(offsets) == frames:
            return _by_offsets(fragments, offsets)
        return self._by_end_markers(fragments, frames)

    def _by_end_markers(self, fragments: list[Span], frames: int) -> list[list[Span]]:
        grouped: list[list[Span]] = [[]]
        for offset, length in fragments:
            grouped[-1].append((offset, length))
            tail = min(length, _JPEG_END_WITHIN)
            if _JPEG_END in os.pread(self._descriptor, tail, offset + length - tail):
                grouped.append([])
        if grouped.pop() or len(grouped) != frames:
            raise ValueError("fragments do not make up the frames")
        return grouped


def _items(descriptor: int, offset: int) -> Iterator[Span]:
    """The values of a sequence's items, the offset table first."""
    size = os.fstat(descriptor).st_size
    for count in range(_MAX_FRAGMENTS):
        head = os.pread(descriptor, 8, offset)
        if count and (head[:4] == _SEQUENCE_END or not head):
            return
        length = int.from_bytes(head[4:], "little")
        if len(head) < 8 or head[:4] != _ITEM or offset + 8 + length > size:
            raise ValueError("fragments are cut short")
        yield offset + 8, length
        offset += 8 + length
    raise ValueError("too many fragments")


def _by_offsets(fragments: list[Span], offsets: tuple[int, ...]) -> list[list[Span]]:
    """Offsets are from the first fragment's item to the item in which each frame starts."""
    first = fragments[0][0]
    starts = {offset - first: index for index, (offset, _) in enumerate(fragments)}
    bounds = [*(starts[offset] for offset in offsets), len(fragments)]
    if bounds[0] != 0 or bounds != sorted(set(bounds)):
        raise ValueError("a broken offset table")
    return [fragments[start:stop] for start, stop in pairwise(bounds)]


def check_run_lengths(encoded: bytes, segments: int) -> None:
    """Raise ValueError unless an RLE frame's header (PS3.5 annex G.5) places so many segments inside the frame."""
    if len(encoded) < _RLE_HEADER.size:
        raise ValueError("no header of run lengths")
    count, *offsets = _RLE_HEADER.unpack_from(encoded)
    bounds = [*offsets[:segments], len(encoded)]
    if count != segments or bounds[0] != _RLE_HEADER.size or bounds != sorted(set(bounds)):
        raise ValueError("a broken header of run lengths")


def claimed_image(encoded: bytes) -> ClaimedImage:
    """What a JPEG, JPEG-LS or JPEG 2000 stream claims to hold, looked at before any decoder makes room for it.

    Raises ValueError without such a header.
    """
    if encoded.startswith(b"\xff\xd8"):
        return _claimed_jpeg(encoded)
    # ISO 15444-1 section A.5.1; inside a JP2 file the code stream follows the boxes.
    start = encoded.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(encoded) < start + 43:
        raise ValueError("no header of an image")
    right, bottom, left, top = struct.unpack_from(">4I", encoded, start + 8)
    components, depth = struct.unpack_from(">HB", encoded, start + 40)
    return ClaimedImage(bottom - top, right - left, components, (depth & 0x7F) + 1)


def _claimed_jpeg(encoded: bytes) -> ClaimedImage:
    place = 2
    while place + 4 <= len(encoded) and encoded[place] == 0xFF:
        marker = encoded[place + 1]
        if marker in _START_OF_FRAME and place + 10 <= len(encoded):
            bits, rows, columns, components = struct.unpack_from(">BHHB", encoded, place + 4)
            return ClaimedImage(rows, columns, components, bits)
        if marker == _START_OF_SCAN:
            break
        if marker == 0xFF:
            place += 1
        elif marker in _WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    raise ValueError("no header of an image")
