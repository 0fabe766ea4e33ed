"""Keeps the file libraries from writing what they read: their warnings quote patient data."""

import logging
import warnings

import pydicom.config
from PIL import Image

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def quiet_libraries() -> None:
    """Silence pydicom, its decoders and nibabel, and make Pillow's warning about huge pictures an error.

    Idempotent. Called before each upload is read, because another thread that leaves ``warnings.catch_warnings``
    puts back the filters that it found.
    """
    for library in ("pydicom", "nibabel", "pylibjpeg", "openjpeg", "rle"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
