"""The phantom that a service shows as its sample study."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from trauma_api.phantom.draw import Phantom, draw_phantom
from trauma_api.phantom.plan import Acquisition
from trauma_api.phantom.series import write_slices

SAMPLE_SCENARIO = "spleen-high-blush"
SAMPLE_SEED = 7
SAMPLE_ACQUISITION = Acquisition(pixel_mm=0.8, slice_mm=5.0, noise_hu=12.0)
"""Thick slices, so that two cores brief it in seconds."""


def write_sample_study(folder: Path) -> None:
    """Write the sample's CT slices, and nothing beside them, into ``folder``, which is made when absent.

    The first call draws them, which takes seconds. Raises OSError when the folder cannot be written.
    """
    write_slices(_sample(), folder)


@lru_cache(maxsize=1)
def _sample() -> Phantom:
    """The drawing, kept: a service reads its sample anew each time that it has expired or was deleted."""
    phantom = draw_phantom(SAMPLE_SEED, SAMPLE_SCENARIO, SAMPLE_ACQUISITION)
    # The labels, a third of its size, are not needed again.
    return replace(phantom, labels_zyx=phantom.labels_zyx[:0].copy())
