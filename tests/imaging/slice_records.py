"""Records of CT slices, as the header pass makes them, for tests that need no files."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trauma_api.imaging.slices import Entry, PixelLayout, SliceHeader
from trauma_api.imaging.study import Coverage, Eligibility

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_NUMBERS = itertools.count()


def record(position_mm: Sequence[float] | None, **attributes: Any) -> SliceHeader:
    """One slice of 512 x 512, in a file of its own content unless ``content`` is given."""
    number = next(_NUMBERS)
    content = str(attributes.pop("content", f"slice {number}"))
    header = SliceHeader(
        entry=Entry(number, None, Path("unread"), "dicom", hashlib.sha256(content.encode()).hexdigest()),
        frame=0,
        series_uid="1.2.3",
        instance_uid=f"1.2.3.{number}",
        modality="CT",
        rows=512,
        columns=512,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        pixels=PixelLayout(16, 12, 11, signed=False, frames=1, offset=1_000, length=2 * 512 * 512),
        lossy=False,
        localizer=False,
        derived=False,
        unplaced_frames=False,
        one_grey_channel=True,
        rescale_type="HU",
        rescale=(1.0, -1024.0),
        position_mm=None if position_mm is None else tuple(position_mm),
        orientation=AXIAL,
        spacing_yx_mm=(0.8, 0.8),
        thickness_mm=3.0,
        frame_of_reference_uid="1.2.9",
        instance_number=number,
        acquisition_number=1,
        temporal_index=None,
        stack_id=None,
        acquired_at_s=None,
        phase="unknown",
        contrast_agent=None,
        sharp_kernel=None,
    )
    return replace(header, **attributes)


def stack(levels_mm: Sequence[float], **attributes: Any) -> list[SliceHeader]:
    """Axial slices at distances below the head end, in that order; ``content`` names the files' content."""
    content = attributes.pop("content", None)
    headers = []
    for index, level in enumerate(levels_mm):
        own: dict[str, Any] = {"position_mm": (0.0, 0.0, -level)}
        if content:
            own["content"] = f"{content} {index}"
        headers.append(record(**(own | attributes)))
    return headers


def evenly(count: int, slice_mm: float = 3.0, start_mm: float = 0.0) -> list[float]:
    """Levels ``slice_mm`` apart."""
    return [start_mm + slice_mm * index for index in range(count)]


def levels(*distances_mm: float) -> list[float]:
    """Levels from 0 with these distances."""
    return list(itertools.accumulate(distances_mm, initial=0.0))


def shuffled(headers: Sequence[SliceHeader], seed: int = 0) -> list[SliceHeader]:
    """The same in an order that looks random and is always the same."""
    return [headers[index] for index in np.random.default_rng(seed).permutation(len(headers))]


def seen(extent_mm: float | None = 300.0, *, eligible: bool = True, top: bool | None = True) -> Eligibility:
    """What the pixels of a series showed: so much abdomen, or none."""
    return Eligibility(
        "eligible" if eligible else "ineligible",
        coverage=Coverage(None if extent_mm is None else (0, 9), extent_mm, top, True),
    )
