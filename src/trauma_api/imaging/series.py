"""Finds the CT series that can be worked on, from records of their slices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trauma_api.errors import InputError
from trauma_api.imaging.geometry import (
    MissingGeometryError,
    NotAxialError,
    Placement,
    StackGeometry,
    orientation_of,
    place,
    stack_geometry,
    unit_directions,
)
from trauma_api.imaging.grouping import HOUNSFIELD_TYPES, SliceGroup, group_slices
from trauma_api.imaging.pixels import check_decoder
from trauma_api.imaging.slices import SliceHeader
from trauma_api.imaging.study import Orientation, ReadLimits


class NoCTSeriesError(InputError):
    """No CT images in the upload."""

    code = "no-ct-series"
    title = "No CT series"
    public_message = "The upload holds no CT images. Send the axial CT series of the abdomen."


class LocalizerError(InputError):
    """Only localizer (scout, topogram) images."""

    code = "localizer"
    title = "Only localizer images"
    public_message = "The CT images are localizers. Send the axial CT series of the abdomen."


class NoRescaleError(InputError):
    """CT images that do not say how stored values become HU."""

    code = "no-rescale"
    title = "No rescale to Hounsfield units"
    public_message = (
        "The CT images do not state a rescale slope and intercept, so their values cannot be read as Hounsfield units. "
        "Send the original series."
    )


class NotHounsfieldError(InputError):
    """Values that are not Hounsfield units: screenshots, colour maps, label maps, material maps."""

    code = "not-hu"
    title = "Values are not Hounsfield units"
    public_message = (
        "The image values are not Hounsfield units, as in screenshots, label maps and material maps. "
        "Send the original CT series."
    )


class MultiFrameNotSupportedError(InputError):
    """A multi-frame file whose frames have no positions of their own."""

    code = "multi-frame-not-supported"
    title = "Multi-frame file without positions"
    public_message = "A multi-frame CT file does not place its frames. Send enhanced CT, or one file per slice."


class ImageTooLargeError(InputError):
    """More pixels than any CT has."""

    code = "image-too-large"
    title = "Images are too large"
    public_message = "The images have more rows, columns or slices than this service takes. Send one CT series."


class ImageTooSmallError(InputError):
    """Fewer pixels than any CT has."""

    code = "image-too-small"
    title = "Images are too small"
    public_message = (
        "The images have fewer rows or columns than this service takes, as icons and test images do. "
        "Send the original CT series."
    )


class NoSuchSeriesError(InputError):
    """The pinned series is not in the upload."""

    code = "no-such-series"
    title = "No such series"
    public_message = (
        "The upload holds no series with that id. Take series_id or series_uid from an earlier answer for the same "
        "files, or leave `series` out."
    )


@dataclass(frozen=True)
class Candidate:
    """A usable CT series."""

    group: SliceGroup
    slices: tuple[SliceHeader, ...]
    """Head to feet."""
    placement: Placement

    @property
    def series_id(self) -> str:
        """Made from the digests of its slices."""
        return self.group.series_id


@dataclass(frozen=True)
class FoundSeries:
    """One group of slices: a candidate, or why it is none."""

    group: SliceGroup
    orientation: Orientation | None
    spacing_zyx_mm: tuple[float, float, float] | None
    candidate: Candidate | None
    refusal: InputError | None

    @property
    def is_ct(self) -> bool:
        """Whether its modality is CT."""
        return self.group.first.modality == "CT"


@dataclass(frozen=True)
class Candidates:
    """What the headers say about an upload's series."""

    found: tuple[FoundSeries, ...]
    """All series, in the order in which the first slice of each was sent."""
    usable: tuple[Candidate, ...]
    """Those to choose from, never empty: with a pin only what it names."""
    pinned: bool

    def without(self, series_id: str, refusal: InputError) -> "Candidates":
        """The same with one candidate refused after all, such as for its pixels; raises the refusal if none is left."""
        usable = tuple(one for one in self.usable if one.series_id != series_id)
        if not usable:
            raise refusal
        found = tuple(
            replace(one, candidate=None, refusal=refusal) if one.group.series_id == series_id else one
            for one in self.found
        )
        return Candidates(found, usable, self.pinned)


def find_candidates(headers: Sequence[SliceHeader], limits: ReadLimits, pinned: str | None = None) -> Candidates:
    """Group slices and find the usable CT series among them, from headers alone.

    Usable means: CT, not a localizer, in HU, of a size within limits, axial, on one grid (even or in blocks of
    different slice distance), decodable here. ``pinned`` is a series_id or a SeriesInstanceUID and leaves only what it
    names. Raises NoSuchSeriesError for a pin that names nothing, the refusal of the largest CT series (of those pinned)
    when none is usable, and NoCTSeriesError when there is no CT.
    """
    found = tuple(_find(group, limits) for group in group_slices(headers))
    matching = [one for one in found if pinned is None or pinned in {one.group.series_id, one.group.first.series_uid}]
    if pinned is not None and not matching:
        raise NoSuchSeriesError
    usable = tuple(one.candidate for one in matching if one.candidate)
    if not usable:
        refused = sorted(matching, key=lambda one: (one.is_ct, len(one.group.slices), one.group.series_id))
        raise (refused[-1].refusal if refused else None) or NoCTSeriesError()
    return Candidates(found, usable, pinned is not None)


def _find(group: SliceGroup, limits: ReadLimits) -> FoundSeries:
    orientation: Orientation | None = None
    geometry: StackGeometry | None = None
    candidate: Candidate | None = None
    refusal: InputError | None = None
    try:
        directions = unit_directions(group.first.orientation or ())
        orientation = orientation_of(np.cross(directions[0], directions[1]))
        geometry = _geometry(group, directions)
    except InputError as error:
        refusal = error
    try:
        _check(group, limits)
        if orientation not in {None, "axial"}:
            raise NotAxialError
        if geometry is not None:
            candidate = _candidate(group, geometry)
    except InputError as error:
        refusal = error
    spacing = geometry.spacing_zyx_mm if geometry else None
    return FoundSeries(group, orientation, spacing, candidate, None if candidate else refusal)


def _check(group: SliceGroup, limits: ReadLimits) -> None:
    """Raise why a group is not usable, whatever its geometry."""
    first = group.first
    if first.modality != "CT":
        raise NoCTSeriesError
    if first.localizer:
        raise LocalizerError
    if not first.one_grey_channel or first.rescale_type not in HOUNSFIELD_TYPES:
        raise NotHounsfieldError
    if any(header.rescale is None for header in group.slices):
        raise NoRescaleError
    if min(first.rows, first.columns) < limits.min_side:
        raise ImageTooSmallError
    if max(first.rows, first.columns) > limits.max_side:
        raise ImageTooLargeError
    if len(group.slices) * first.rows * first.columns > limits.max_voxels:
        raise ImageTooLargeError
    if first.unplaced_frames:
        raise MultiFrameNotSupportedError
    encodings = {
        (header.entry.transfer_syntax_uid, header.transfer_syntax_uid, header.pixels.bits_stored): header
        for header in group.slices
    }
    for header in encodings.values():
        check_decoder(header)


def _geometry(group: SliceGroup, directions: NDArray[np.float64]) -> StackGeometry:
    spacing = group.first.spacing_yx_mm
    positions = [header.position_mm for header in group.slices if header.position_mm is not None]
    if spacing is None or min(spacing) <= 0 or len(positions) < len(group.slices):
        raise MissingGeometryError
    return stack_geometry(np.asarray(positions, dtype=np.float64), directions, (spacing[0], spacing[1]))


def _candidate(group: SliceGroup, geometry: StackGeometry) -> Candidate:
    placement = place(geometry, group.first.rows, group.first.columns)
    return Candidate(group, tuple(group.slices[index] for index in placement.order), placement)
