"""Which decoder reads which transfer syntax. Each syntax has one, so that its bytes meet no other C code."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from trauma_api.imaging.encapsulated import check_run_lengths, claimed_image
from trauma_api.imaging.native import ByteOrder, stored_dtype, unpacked
from trauma_api.imaging.slices import SliceHeader

NATIVE: Mapping[str, ByteOrder] = MappingProxyType(
    {ImplicitVRLittleEndian: "little", ExplicitVRLittleEndian: "little", ExplicitVRBigEndian: "big"}
)
"""Uncompressed syntaxes. Deflated files are inflated to Explicit VR Little Endian before their pixels are read."""

MAYBE_LOSSY: frozenset[str] = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K})
"""Syntaxes with which information may have been lost."""

_TWELVE_BIT_PLUGIN = "gdcm-12-bit"
# pydicom's names of its plugins; where several are exact, the fastest.
_PLUGINS: Mapping[str, str] = MappingProxyType(
    {
        JPEGBaseline8Bit: "pillow",
        JPEGExtended12Bit: _TWELVE_BIT_PLUGIN,
        JPEGLossless: "gdcm",
        JPEGLosslessSV1: "gdcm",
        JPEGLSLossless: "pyjpegls",
        JPEGLSNearLossless: "pyjpegls",
        JPEG2000Lossless: "pylibjpeg",
        JPEG2000: "pylibjpeg",
        HTJ2KLossless: "pylibjpeg",
        HTJ2KLosslessRPCL: "pylibjpeg",
        HTJ2K: "pylibjpeg",
        RLELossless: "pylibjpeg",
    }
)
SYNTAXES: tuple[str, ...] = (*NATIVE, DeflatedExplicitVRLittleEndian, *_PLUGINS)
"""All syntaxes that can be decoded where every decoder is installed."""

get_decoder(JPEGExtended12Bit).add_plugin(_TWELVE_BIT_PLUGIN, ("trauma_api.imaging.extended_jpeg", "decode_frame"))


def plugin_for(uid: str, bits_stored: int | None) -> str | None:
    """The decoder that reads a syntax here: a plugin of pydicom's, or ``native``; None where none is installed."""
    if uid in NATIVE or uid == DeflatedExplicitVRLittleEndian:
        return "native"
    plugin = "pillow" if uid == JPEGExtended12Bit and bits_stored == 8 else _PLUGINS.get(uid)
    return plugin if plugin and plugin in get_decoder(UID(uid)).available_plugins else None


def decode_frame(encoded: bytes, header: SliceHeader, uid: str) -> NDArray[np.integer]:
    """Stored values (rows, columns) of one compressed frame.

    Raises ValueError when the stream claims another size than the header, and whatever pydicom and the decoders raise.
    """
    layout = header.pixels
    dtype = stored_dtype(layout)
    plugin = plugin_for(uid, layout.bits_stored)
    if plugin is None:
        raise ValueError("no decoder")
    # Run lengths hold the allocated words as they are; their unused bits are treated as those of native data.
    packed_words = uid == RLELossless
    if packed_words:
        check_run_lengths(encoded, dtype.itemsize)
    else:
        _check_claims(encoded, header, 8 * dtype.itemsize)
    options = _image_attributes(header, layout.bits_allocated if packed_words else layout.bits_stored)
    source = encapsulate([encoded], has_bot=False)
    with _panics_as_errors():
        stored, _ = get_decoder(UID(uid)).as_array(source, index=0, raw=True, decoding_plugin=plugin, **options)
    if stored.shape != (header.rows, header.columns) or stored.dtype != dtype:
        raise ValueError("decoded to another size")
    return unpacked(stored, layout) if packed_words else stored


@contextmanager
def _panics_as_errors() -> Iterator[None]:
    """The decoder of run lengths is in Rust, whose panic is a BaseException of a type that cannot be imported."""
    try:
        yield
    except BaseException as failure:
        if type(failure).__name__ != "PanicException":
            raise
        raise ValueError("the decoder gave up") from None


def _check_claims(encoded: bytes, header: SliceHeader, most_bits: int) -> None:
    layout = header.pixels
    if layout.bits_stored is None or layout.high_bit not in {None, layout.bits_stored - 1}:
        raise ValueError("a high bit that means nothing in a compressed stream")
    claimed = claimed_image(encoded)
    if claimed[:3] != (header.rows, header.columns, 1) or claimed.bits > most_bits:
        raise ValueError("the stream is of another size than the header")


def _image_attributes(header: SliceHeader, bits_stored: int | None) -> dict[str, Any]:
    return {
        "rows": header.rows,
        "columns": header.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": header.pixels.bits_allocated,
        "bits_stored": bits_stored,
        "pixel_representation": int(header.pixels.signed),
        "pixel_keyword": "PixelData",
    }
