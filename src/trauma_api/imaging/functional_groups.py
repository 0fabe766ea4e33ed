"""Functional groups of enhanced multi-frame images: what is different from frame to frame, and what is shared.

DICOM PS3.3 section C.7.6.16. pydicom parses the bytes of these two sequences alone, whose limits the prescan has
checked.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from trauma_api.imaging.attributes import Wanted
from trauma_api.imaging.prescan import Outline

PER_FRAME, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
_UNASSIGNED = "UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence"
"""What the conversion of single slices to a multi-frame image found no better place for."""


class Frame:
    """One frame's attributes: in its own functional groups, in the shared ones, or left unassigned in either."""

    def __init__(self, groups: Sequence[Dataset]) -> None:
        self._groups = groups

    def get(self, macro: str, keyword: str) -> Any:
        """The value of an attribute of a functional group macro; None where no group has it."""
        for sequence in (macro, *_UNASSIGNED):
            for group in self._groups:
                items = group.get(sequence)
                value = items[0].get(keyword) if items else None
                if value is not None and value != "":
                    return value
        return None


def frames_of(path: Path, outline: Outline, wanted: Wanted, count: int) -> tuple[Frame, ...]:
    """The frames in order; none where the file has no per-frame groups.

    Raises ValueError unless each of the ``count`` frames has its groups, and whatever pydicom raises on damaged ones.
    """
    per_frame, shared = _groups(path, outline, wanted, PER_FRAME), _groups(path, outline, wanted, SHARED)
    if per_frame and len(per_frame) != count:
        raise ValueError("frames without functional groups")
    return tuple(Frame((own, *shared)) for own in per_frame)


def _groups(path: Path, outline: Outline, wanted: Wanted, keyword: str) -> Sequence[Dataset]:
    tag, _ = wanted.find(keyword)
    if tag not in outline.sequences:
        return ()
    start, end = outline.sequences[tag]
    with path.open("rb") as stream:
        content = os.pread(stream.fileno(), end - start, start)
    dataset = read_dataset(io.BytesIO(content), outline.implicit, outline.little)
    items: Sequence[Dataset] = dataset.get(keyword) or ()
    return items
