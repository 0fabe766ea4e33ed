"""One walk over the data elements of a DICOM file, without its values in memory: limits, and where things lie.

Elements as in DICOM PS3.5 sections 7.1 and 7.5. The walk is as lenient as pydicom about what files get wrong: absent
preamble, file meta or transfer syntax, implicit VR inside explicit, unknown VRs, broken contents of sequences whose own
length is known. Nested sequences are kept on a stack, so that no depth of nesting can exhaust the interpreter's.
"""

import os
import struct
from dataclasses import dataclass, field

from pydicom.datadict import dictionary_VR

from trauma_api.imaging.study import ReadLimits
from trauma_api.imaging.unusable import (
    DicomNestingError,
    DicomTextTooLongError,
    DicomTooManyElementsError,
    DicomTooManyFramesError,
    MalformedDicomError,
)

DEFLATED = b"1.2.840.10008.1.2.1.99"

_IMPLICIT_LITTLE, _EXPLICIT_BIG = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2"
_DIRECTORY_CLASS = b"1.2.840.10008.1.3.10"
_META_CLASS, _META_SYNTAX = 0x00020002, 0x00020010
_FRAMES, _ROWS, _COLUMNS = 0x00280008, 0x00280010, 0x00280011
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_PIXEL_DATA = 0x7FE00010
_FIRST_PIXELS = min(_PIXELS)
_PIXEL_GROUP = _FIRST_PIXELS >> 16
_NO_TAGS: frozenset[int] = frozenset()
_NEEDED = frozenset({_META_CLASS, _META_SYNTAX, _FRAMES, _ROWS})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_TEXT_VRS = frozenset(
    {b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"LO", b"LT", b"PN", b"SH", b"ST", b"TM", b"UC", b"UI", b"UR"}
)
_SHORT_VRS = (_TEXT_VRS - _LONG_VRS) | {b"AT", b"FD", b"FL", b"SL", b"SS", b"UL", b"US"}
_MAYBE_SEQUENCE = frozenset({None, b"SQ", b"UN"})
_ELEMENTS_PER_FRAME = 200
_WINDOW_BYTES = 2**16
_LONG_HEADER_BYTES = 12


@dataclass
class Outline:
    """Where things lie in one DICOM file."""

    implicit: bool = False
    little: bool = True
    meta_syntax: bytes | None = None
    """TransferSyntaxUID of the file meta."""
    data_start: int = 0
    """Byte at which the dataset starts, after preamble and file meta."""
    values: dict[int, tuple[bytes | None, bytes]] = field(default_factory=dict)
    """VR (None where it is implicit) and value of the wanted top-level attributes by tag."""
    sequences: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Where wanted top-level sequences start and end, header included."""
    pixel_offset: int | None = None
    pixel_bytes: int | None = None
    """Length of Pixel Data; None where it is undefined or there is none."""


@dataclass(slots=True)
class _Level:
    """Inside of a dataset, a sequence or a list of fragments."""

    end: int | None
    """None where a delimiter ends it."""
    bound: int
    """Its end, or the end of what surrounds it."""
    implicit: bool
    holds_items: bool = False
    fragments: bool = False


class _Order:
    """Layouts of element headers in one byte order."""

    def __init__(self, sign: str) -> None:
        self.explicit, self.implicit = struct.Struct(f"{sign}HH2sH"), struct.Struct(f"{sign}HHL")
        self.length = struct.Struct(f"{sign}L")
        self.item_mark = struct.pack(f"{sign}HH", _ITEM >> 16, _ITEM & 0xFFFF)


_LITTLE, _BIG = _Order("<"), _Order(">")


class _Unparsable(Exception):  # noqa: N818 - never leaves this module
    """The walk cannot go on at this place."""


def prescan(
    descriptor: int, head: memoryview, size: int, wanted: frozenset[int], limits: ReadLimits, *, bare: bool = False
) -> Outline:
    """Walk a DICOM file up to Pixel Data.

    ``head`` is the start of the file that ``descriptor`` reads, ``size`` its length in bytes; ``wanted`` are tags;
    ``bare`` means Explicit VR Little Endian without preamble and file meta. Of deflated files only the file meta is
    walked. Raises MalformedDicomError, also where an element is longer than the file, DicomNestingError,
    DicomTooManyFramesError, and for images DicomTooManyElementsError and DicomTextTooLongError.
    """
    walk = _Walk(descriptor, head, size, wanted, limits)
    try:
        if not bare:
            walk.meta()
        if walk.outline.meta_syntax != DEFLATED and not walk.is_directory():
            walk.dataset(bare=bare)
    except (_Unparsable, struct.error):
        raise MalformedDicomError from None
    except (DicomTooManyElementsError, DicomTextTooLongError):
        if not walk.is_no_image():
            raise
    return walk.outline


class _Walk:
    def __init__(
        self, descriptor: int, head: memoryview, size: int, wanted: frozenset[int], limits: ReadLimits
    ) -> None:
        self.outline = Outline()
        self._descriptor, self._window, self._base = descriptor, head, 0
        self._size, self._wanted, self._limits = size, wanted | _NEEDED, limits
        self._at = 0
        self._elements_left = limits.max_elements
        self._last_tag = 0
        self._levels: list[_Level] = []
        self._sequence: tuple[int, int] | None = None
        self._set_order(little=True)

    def meta(self) -> None:
        """Skip the preamble and walk group 0002, whatever its group length says (PS3.10 section 7.1)."""
        if self._peek(128, 4) == b"DICM":
            self._at = 132
        self._levels = [_Level(self._size, self._size, implicit=False)]
        while self._peek(self._at, 2) == b"\x02\x00":
            self._element(self._levels[0])
            if len(self._levels) > 1:
                raise _Unparsable
        self.outline.meta_syntax = self._meta(_META_SYNTAX)
        self.outline.data_start = self._at

    def is_directory(self) -> bool:
        """A DICOMDIR, which lists other files and holds no image."""
        return self._meta(_META_CLASS) == _DIRECTORY_CLASS

    def is_no_image(self) -> bool:
        """Whether the walk has come past where an image states its rows, without finding them."""
        return self._last_tag > _COLUMNS and _ROWS not in self.outline.values

    def dataset(self, *, bare: bool) -> None:
        """Walk the dataset up to Pixel Data or the end of the file; fewer than 8 bytes at the end are padding."""
        self._guess_encoding(bare=bare)
        self._levels = [_Level(self._size - 7, self._size, self.outline.implicit)]
        while self._levels:
            level = self._levels[-1]
            try:
                if level.end is not None and self._at >= level.end:
                    self._leave()
                elif level.holds_items:
                    self._item(level)
                else:
                    self._elements(level)
            except (_Unparsable, struct.error):
                self._resynchronise()

    def _meta(self, tag: int) -> bytes | None:
        stated = self.outline.values.get(tag)
        return stated[1].rstrip(b"\x00 ") if stated else None

    def _set_order(self, *, little: bool) -> None:
        self.outline.little = little
        order = _LITTLE if little else _BIG
        self._item_mark = order.item_mark
        self._unpack_explicit, self._unpack_implicit = order.explicit.unpack_from, order.implicit.unpack_from
        self._unpack_length = order.length.unpack_from

    def _guess_encoding(self, *, bare: bool) -> None:
        """By the transfer syntax; without one, or where it is not true, by the looks of the first element."""
        syntax = self.outline.meta_syntax
        start = self._peek(self._at, 6)
        looks_explicit = _looks_like_vr(start[4:])
        if syntax is None and not bare:
            # The group of a first element is small, and 0x0008 read in the wrong order is 0x0800.
            self._set_order(little=not looks_explicit or int.from_bytes(start[:2], "little") < 0x0400)
        else:
            self._set_order(little=syntax != _EXPLICIT_BIG)
        self.outline.implicit = not looks_explicit if start else syntax == _IMPLICIT_LITTLE

    def _place(self, count: int) -> int:
        """Where the next ``count`` bytes lie in the window, moved there if need be."""
        place = self._at - self._base
        if place + count > len(self._window):
            self._window = memoryview(os.pread(self._descriptor, _WINDOW_BYTES, self._at))
            self._base, place = self._at, 0
        return place

    def _peek(self, at: int, count: int) -> bytes:
        place = at - self._base
        if place + count > len(self._window):
            return os.pread(self._descriptor, count, at)
        return bytes(self._window[place : place + count])

    def _elements(self, level: _Level) -> None:
        """Pass the plain elements that most of a header consists of in one tight loop, then one of any kind."""
        if not level.implicit:
            unpack, window, longest, wanted = self._unpack_explicit, self._window, self._limits.max_text_bytes, _NO_TAGS
            place, limit = self._at - self._base, min(len(window), level.bound - self._base)
            if len(self._levels) == 1:
                wanted = self._wanted
            passed, tag = 0, self._last_tag
            while place + 8 <= limit:
                group, element, vr, length = unpack(window, place)
                value = place + 8
                if vr not in _SHORT_VRS or group >= _PIXEL_GROUP or length > longest or value + length > limit:
                    break
                tag = group << 16 | element
                place = value + length
                passed += 1
                if tag in wanted:
                    self._keep(tag, vr, bytes(window[value:place]))
            self._at = place + self._base
            if len(self._levels) == 1:
                self._last_tag = tag
            self._spend(passed)
        if level.end is None or self._at < level.end:
            self._element(level)

    def _element(self, level: _Level) -> None:
        """Walk one data element, or enter it where it is a sequence."""
        start, place = self._at, self._place(_LONG_HEADER_BYTES)
        vr: bytes | None = None
        if level.implicit:
            group, element, length = self._unpack_implicit(self._window, place)
            value = start + 8
        else:
            group, element, vr, length = self._unpack_explicit(self._window, place)
            value = start + 8
            if vr in _LONG_VRS:
                length = self._unpack_length(self._window, place + 8)[0]
                value = start + _LONG_HEADER_BYTES
            elif vr not in _SHORT_VRS and not _looks_like_vr(vr):
                vr, (_, _, length) = None, self._unpack_implicit(self._window, place)
        self._spend(1)
        tag = group << 16 | element
        self._at = value
        if tag >= _FIRST_PIXELS and self._is_end(tag, length):
            return
        if length != _UNDEFINED and vr not in _MAYBE_SEQUENCE:
            self._pass(level, tag, vr, length)
        else:
            self._enter_or_pass(level, tag, vr, length, start)

    def _pass(self, level: _Level, tag: int, vr: bytes | None, length: int) -> None:
        """Go past a value, keeping it where it is wanted."""
        end = self._at + length
        if end > level.bound:
            raise _Unparsable
        if length > self._limits.max_text_bytes:
            if _is_text(tag, vr):
                raise DicomTextTooLongError
        elif len(self._levels) == 1:
            self._last_tag = tag
            if tag in self._wanted:
                self._keep(tag, vr, self._peek(self._at, length))
        self._at = end

    def _enter_or_pass(self, level: _Level, tag: int, vr: bytes | None, length: int, start: int) -> None:
        starts_with_item = self._peek(self._at, 4) == self._item_mark
        if length != _UNDEFINED and not (length >= 8 and starts_with_item):
            self._pass(level, tag, vr, length)
            return
        end = None if length == _UNDEFINED else self._at + length
        if end is not None and end > level.bound:
            raise _Unparsable
        if len(self._levels) == 1:
            self._last_tag = tag
            self._sequence = (tag, start)
        if (len(self._levels) + 1) // 2 > self._limits.max_sequence_depth:
            raise DicomNestingError
        bound, fragments = end or level.bound, vr not in _MAYBE_SEQUENCE
        self._levels.append(_Level(end, bound, level.implicit, holds_items=True, fragments=fragments))

    def _is_end(self, tag: int, length: int) -> bool:
        """Whether this is Pixel Data, where the walk ends, or the end of an item."""
        top = len(self._levels) == 1
        if tag == _ITEM_END:
            self._leave()
            return True
        if not (top and tag in _PIXELS):
            return False
        if tag == _PIXEL_DATA:
            self.outline.pixel_offset = self._at
            self.outline.pixel_bytes = None if length == _UNDEFINED else length
        self._last_tag = tag
        self._levels.clear()
        return True

    def _item(self, level: _Level) -> None:
        """Walk an item of a sequence, or a fragment, or the delimiter after the last."""
        group, element, length = self._unpack_implicit(self._window, self._place(8))
        tag = group << 16 | element
        self._spend(1)
        self._at += 8
        if tag == _SEQUENCE_END:
            self._leave()
            return
        end = None if length == _UNDEFINED else self._at + length
        if tag != _ITEM or (end or 0) > level.bound or (level.fragments and end is None):
            raise _Unparsable
        if level.fragments and end is not None:
            self._at = end
            return
        implicit = level.implicit or not _looks_like_vr(self._peek(self._at + 4, 2))
        self._levels.append(_Level(end, end or level.bound, implicit))

    def _leave(self) -> None:
        """Go up one level; where that is the end of a wanted sequence, note it."""
        level = self._levels.pop()
        if self._levels and level.end is not None:
            self._at = level.end
        if len(self._levels) == 1 and self._sequence:
            tag, start = self._sequence
            self._sequence = None
            if tag in self._wanted:
                self.outline.sequences[tag] = (start, self._at)

    def _resynchronise(self) -> None:
        """Go on after the innermost sequence or item whose length is known; there is none in a broken file."""
        while len(self._levels) > 1:
            if self._levels[-1].end is not None:
                self._leave()
                return
            self._levels.pop()
        raise _Unparsable

    def _spend(self, elements: int) -> None:
        self._elements_left -= elements
        if self._elements_left < 0:
            raise DicomTooManyElementsError

    def _keep(self, tag: int, vr: bytes | None, value: bytes) -> None:
        self.outline.values[tag] = (vr, value)
        if tag != _FRAMES:
            return
        try:
            frames = int(value.strip(b"\x00 ") or 1)
        except ValueError:
            return
        if frames > self._limits.max_frames:
            raise DicomTooManyFramesError
        self._elements_left += _ELEMENTS_PER_FRAME * frames


def _looks_like_vr(vr: bytes) -> bool:
    return b"AA" <= vr <= b"ZZ" and vr.isalpha()


def _is_text(tag: int, vr: bytes | None) -> bool:
    if vr is not None:
        return vr in _TEXT_VRS
    try:
        return dictionary_VR(tag).encode("ascii") in _TEXT_VRS
    except KeyError:
        return False
