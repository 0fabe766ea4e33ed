"""Groups slices into series and chooses the one CT series to work on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trauma_api.errors import InputError
from trauma_api.imaging.geometry import (
    MissingGeometryError,
    NotAxialError,
    StackGeometry,
    orientation_of,
    stack_geometry,
    unit_directions,
)
from trauma_api.imaging.headers import SliceHeader
from trauma_api.imaging.pixels import check_decoder
from trauma_api.imaging.study import Orientation, ReadLimits, SeriesSummary, StudyWarning

_SAME_ORIENTATION = 1e-3
_SAME_SPACING_MM = 1e-3


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


@dataclass(frozen=True)
class SliceGroup:
    """Slices of one series with the same size, orientation and pixel spacing."""

    slices: tuple[SliceHeader, ...]

    @property
    def first(self) -> SliceHeader:
        """The slice that stands for what all of them share."""
        return self.slices[0]


@dataclass(frozen=True)
class Choice:
    """The chosen slices with their geometry, and what was found besides."""

    slices: tuple[SliceHeader, ...]
    """Sorted along the normal of the slices."""
    geometry: StackGeometry
    summaries: tuple[SeriesSummary, ...]
    warnings: tuple[StudyWarning, ...]


def group_slices(headers: Sequence[SliceHeader]) -> list[SliceGroup]:
    """Slices by series, then by size, orientation and pixel spacing, in the order in which they first appear.

    Without a SeriesInstanceUID all such slices are one series.
    """
    by_series: dict[str | None, list[list[SliceHeader]]] = defaultdict(list)
    for header in headers:
        groups = by_series[header.series_uid]
        for group in groups:
            if _alike(group[0], header):
                group.append(header)
                break
        else:
            groups.append([header])
    return [SliceGroup(tuple(group)) for groups in by_series.values() for group in groups]


def choose_series(headers: Sequence[SliceHeader], limits: ReadLimits) -> Choice:
    """Take the usable CT series with the most slices; on a tie the finer one, then the one that was sent first.

    Usable means: CT, not a localizer, in HU, axial, on one regular grid, decodable here. Raises the refusal of the
    largest CT series when none is usable, and NoCTSeriesError when there is none at all.
    """
    groups = group_slices(headers)
    usable: list[tuple[SliceGroup, StackGeometry]] = []
    refusals: dict[int, InputError] = {}
    for index, group in enumerate(groups):
        try:
            usable.append((group, _check(group, limits)))
        except InputError as refusal:
            refusals[index] = refusal
    if not usable:
        of_ct = [index for index in refusals if groups[index].first.modality == "CT"]
        raise refusals[max(of_ct, key=lambda index: len(groups[index].slices))] if of_ct else NoCTSeriesError()
    chosen, geometry = min(usable, key=lambda found: (-len(found[0].slices), _slice_mm(found[1])))
    codes = [_reason(group, chosen, refusals.get(index)) for index, group in enumerate(groups)]
    return Choice(
        slices=tuple(chosen.slices[index] for index in geometry.order),
        geometry=geometry,
        summaries=tuple(_summary(group, code) for group, code in zip(groups, codes, strict=True)),
        warnings=tuple(_warnings(groups, codes, len(chosen.slices))),
    )


def _alike(one: SliceHeader, other: SliceHeader) -> bool:
    return (
        (one.rows, one.columns) == (other.rows, other.columns)
        and (one.localizer, one.unplaced_frames) == (other.localizer, other.unplaced_frames)
        and _close(one.orientation, other.orientation, _SAME_ORIENTATION)
        and _close(one.spacing_yx_mm, other.spacing_yx_mm, _SAME_SPACING_MM)
    )


def _close(one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _check(group: SliceGroup, limits: ReadLimits) -> StackGeometry:
    """The geometry of a usable CT group; raises the reason why it is not usable."""
    first = group.first
    if first.modality != "CT":
        raise NoCTSeriesError
    if first.localizer:
        raise LocalizerError
    if not all(header.one_grey_channel and header.rescale_type in {None, "HU", "US"} for header in group.slices):
        raise NotHounsfieldError
    if any(header.rescale is None for header in group.slices):
        raise NoRescaleError
    if max(first.rows, first.columns) > limits.max_side:
        raise ImageTooLargeError
    if len(group.slices) * first.rows * first.columns > limits.max_voxels:
        raise ImageTooLargeError
    if first.unplaced_frames:
        raise MultiFrameNotSupportedError
    geometry = _geometry(group)
    for header in group.slices:
        check_decoder(header)
    return geometry


def _geometry(group: SliceGroup) -> StackGeometry:
    first = group.first
    positions = [header.position_mm for header in group.slices if header.position_mm is not None]
    if first.orientation is None or first.spacing_yx_mm is None or len(positions) < len(group.slices):
        raise MissingGeometryError
    row_mm, column_mm = first.spacing_yx_mm
    if min(row_mm, column_mm) <= 0:
        raise MissingGeometryError
    directions = unit_directions(first.orientation)
    if orientation_of(np.cross(directions[0], directions[1])) != "axial":
        raise NotAxialError
    return stack_geometry(np.asarray(positions, dtype=np.float64), directions, (row_mm, column_mm))


def _slice_mm(geometry: StackGeometry) -> float:
    return geometry.spacing_zyx_mm[0] if geometry.spacing_zyx_mm else 0.0


def _reason(group: SliceGroup, chosen: SliceGroup, refusal: InputError | None) -> str:
    if group is chosen:
        return "selected"
    if group.first.modality != "CT":
        return "not-ct"
    if refusal is not None:
        return refusal.code
    return "same-slice-count" if len(group.slices) == len(chosen.slices) else "fewer-slices"


def _summary(group: SliceGroup, reason: str) -> SeriesSummary:
    first = group.first
    spacing, orientation = _spacing_and_orientation(group)
    return SeriesSummary(
        series_uid=first.series_uid,
        modality=first.modality,
        slice_count=len(group.slices),
        rows=first.rows,
        columns=first.columns,
        spacing_zyx_mm=spacing,
        orientation=orientation,
        lossy=any(header.lossy for header in group.slices),
        transfer_syntax_uid=first.transfer_syntax_uid,
        selected=reason == "selected",
        reason=reason,
    )


def _spacing_and_orientation(
    group: SliceGroup,
) -> tuple[tuple[float, float, float] | None, Orientation | None]:
    first = group.first
    positions = [header.position_mm for header in group.slices if header.position_mm is not None]
    orientation: Orientation | None = None
    try:
        if first.orientation is None:
            return None, None
        directions = unit_directions(first.orientation)
        orientation = orientation_of(np.cross(directions[0], directions[1]))
        if first.spacing_yx_mm is None or min(first.spacing_yx_mm) <= 0 or len(positions) < len(group.slices):
            return None, orientation
        row_mm, column_mm = first.spacing_yx_mm
        geometry = stack_geometry(np.asarray(positions, dtype=np.float64), directions, (row_mm, column_mm))
    except InputError:
        return None, orientation
    return geometry.spacing_zyx_mm, orientation


def _warnings(groups: Sequence[SliceGroup], codes: Sequence[str], chosen_count: int) -> list[StudyWarning]:
    warnings = []
    for group, code in zip(groups, codes, strict=True):
        if group.first.modality == "CT" and len(group.slices) > chosen_count:
            warnings.append(
                StudyWarning("larger-series-left-out", f"A CT series with more slices was left out for: {code}.")
            )
    if "same-slice-count" in codes:
        warnings.append(
            StudyWarning(
                "several-candidates",
                "Several CT series have as many slices as the selected one; send one series alone to be sure of it.",
            )
        )
    return warnings
