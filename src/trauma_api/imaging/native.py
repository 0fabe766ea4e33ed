"""Stored pixel values of uncompressed images, read straight from their place in the file."""

import os
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trauma_api.imaging.slices import PixelLayout, SliceHeader

ByteOrder = Literal["little", "big"]

_ALLOCATED = frozenset({8, 16, 32})


class NativeReader:
    """Reads single frames. The array that `read` gives is overwritten by the next one, to keep one slice in memory."""

    def __init__(self) -> None:
        self._buffer: NDArray[np.uint8] = np.empty(0, np.uint8)

    def read(self, descriptor: int, header: SliceHeader, byte_order: ByteOrder) -> NDArray[np.integer]:
        """Stored values (rows, columns) of a frame of native Pixel Data (PS3.5 section 8.1 and annex A.1 to A.3).

        Integers of the allocated width, with everything outside the stored bits cleared or sign-extended.
        Raises ValueError when the layout contradicts itself or the frame is not wholly in the value and in the file.
        """
        layout = header.pixels
        dtype = stored_dtype(layout)
        size = header.rows * header.columns * dtype.itemsize
        start = header.frame * size
        if layout.offset is None or layout.length is None or not 0 <= start <= layout.length - size:
            raise ValueError("the frame is outside the pixel data")
        if byte_order == "big" and dtype.itemsize == 1:
            raw = _swapped_bytes(descriptor, layout.offset, start, size)
        else:
            raw = self._bytes(descriptor, layout.offset + start, size)
        stored = raw.view(dtype).reshape(header.rows, header.columns)
        if byte_order == "big":
            stored.byteswap(inplace=True)
        return unpacked(stored, layout)

    def _bytes(self, descriptor: int, offset: int, size: int) -> NDArray[np.uint8]:
        if self._buffer.size != size:
            if os.fstat(descriptor).st_size < offset + size:
                raise ValueError("the file is cut short")
            self._buffer = np.empty(size, np.uint8)
        if os.preadv(descriptor, [self._buffer.data], offset) != size:
            raise ValueError("the file is cut short")
        return self._buffer


def stored_dtype(layout: PixelLayout) -> np.dtype[np.integer]:
    """The integers that stored values lie in. Raises ValueError when the layout contradicts itself (PS3.5 8.1.1)."""
    allocated, bits, high_bit = layout.bits_allocated, layout.bits_stored, layout.high_bit
    if allocated not in _ALLOCATED or bits is None or not 0 < bits <= allocated:
        raise ValueError("unusable bit layout")
    if high_bit is not None and not bits - 1 <= high_bit < allocated:
        raise ValueError("unusable bit layout")
    return np.dtype(f"{'i' if layout.signed else 'u'}{allocated // 8}")


def unpacked(stored: NDArray[np.integer], layout: PixelLayout) -> NDArray[np.integer]:
    """Clear the unused bits in place, or extend the sign into them; they may hold overlays or anything (PS3.5 8.1.1).

    The top stored bit is HighBit, which today is always BitsStored - 1; old files also have it higher.
    """
    if layout.bits_allocated is None or layout.bits_stored is None:
        raise ValueError("unusable bit layout")
    high_bit = layout.bits_stored - 1 if layout.high_bit is None else layout.high_bit
    if above := layout.bits_allocated - 1 - high_bit:
        np.left_shift(stored, above, out=stored)
    if unused := layout.bits_allocated - layout.bits_stored:
        np.right_shift(stored, unused, out=stored)
    return stored


def _swapped_bytes(descriptor: int, offset: int, start: int, size: int) -> NDArray[np.uint8]:
    """Big endian bytes; in Pixel Data of VR OW they are swapped in pairs, also across frames of odd size."""
    value_representation = os.pread(descriptor, 2, offset - 8)
    if value_representation != b"OW":
        data = os.pread(descriptor, size, offset + start)
        odd = 0
    else:
        odd = start % 2
        pairs = (odd + size + 1) // 2
        data = os.pread(descriptor, 2 * pairs, offset + start - odd)
        if len(data) == 2 * pairs:
            data = np.frombuffer(data, np.uint16).byteswap().tobytes()
    if len(data) < odd + size:
        raise ValueError("the file is cut short")
    return np.frombuffer(data, np.uint8)[odd : odd + size].copy()
