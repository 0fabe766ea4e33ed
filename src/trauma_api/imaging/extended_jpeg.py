"""A decoder plugin for pydicom: 12-bit JPEG Extended (Process 2 and 4) by GDCM, which pydicom's own plugin leaves out.

GDCM reads the precision from the stream and decodes 12 bits with its 12-bit build of the reference JPEG code.
The names and signatures here are those that pydicom's `Decoder.add_plugin` asks for.
"""

from importlib.util import find_spec

from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGExtended12Bit

DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("python-gdcm>=3.2.6",)}


def is_available(uid: str) -> bool:
    """Whether GDCM is installed."""
    return uid in DECODER_DEPENDENCIES and find_spec("gdcm") is not None


def decode_frame(encoded: bytes, runner: DecodeRunner) -> bytes:
    """Decode one grey frame to unsigned little endian values of the allocated width."""
    import gdcm  # type: ignore[import-untyped]

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    bits = runner.bits_stored
    image.SetPixelFormat(gdcm.PixelFormat(1, runner.bits_allocated, bits, bits - 1, runner.pixel_representation))
    # GDCM hands char* out as str.
    decoded: str = image.GetBuffer()
    return decoded.encode("utf-8", "surrogateescape")
