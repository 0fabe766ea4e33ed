"""Which slices belong together: series, orientations, and the passes over the body inside one series."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from trauma_api.errors import InputError
from trauma_api.imaging.geometry import unit_directions
from trauma_api.imaging.slices import SliceHeader
from trauma_api.imaging.spacing import SAME_POSITION_MM
from trauma_api.imaging.study import Phase

HOUNSFIELD_TYPES = frozenset({None, "HU", "US"})
"""Rescale types that can be HU (DICOM PS3.3 section C.11.1.1.2)."""

_SERIES_ID_DIGITS = 12
_SAME_GRID = 2e-3
"""How far cosines of the orientation, and millimetres of the pixel spacing, of one grid are apart at most."""


@dataclass(frozen=True)
class SliceGroup:
    """Slices of one series on one grid: same size, orientation, pixel spacing and frame of reference."""

    slices: tuple[SliceHeader, ...]
    """Sorted by digest and frame, so that nothing made from them depends on the order in which they were sent."""
    sent: int
    """Place of the first of them among all slices sent."""
    copies: int = 0
    """Further copies of slices, left out."""

    @property
    def first(self) -> SliceHeader:
        """The slice that stands for what all of them share."""
        return self.slices[0]

    @cached_property
    def series_id(self) -> str:
        """The first 12 hex digits of the sha256 over ``<file's digest>:<frame>`` and a newline for each slice."""
        lines = "".join(f"{header.entry.digest}:{header.frame}\n" for header in self.slices)
        return hashlib.sha256(lines.encode("ascii")).hexdigest()[:_SERIES_ID_DIGITS]

    @cached_property
    def phase(self) -> Phase:
        """The one contrast phase that slices state, else unknown."""
        stated = {header.phase for header in self.slices} - {"unknown"}
        return stated.pop() if len(stated) == 1 else "unknown"

    @cached_property
    def derived(self) -> bool:
        """Whether any slice is derived."""
        return any(header.derived for header in self.slices)

    @cached_property
    def lossy(self) -> bool:
        """Whether any slice lost information to compression."""
        return any(header.lossy for header in self.slices)

    @cached_property
    def sharp_kernel(self) -> bool | None:
        """Whether any slice has a kernel for bone or lung; None where no slice says so and not all deny it."""
        return _any(header.sharp_kernel for header in self.slices)

    @cached_property
    def contrast_agent(self) -> bool | None:
        """Whether any slice states a contrast agent; None where no slice does and not all deny it."""
        return _any(header.contrast_agent for header in self.slices)


def group_slices(headers: Sequence[SliceHeader]) -> list[SliceGroup]:
    """Slices by series, then by grid, then by pass over the body, sorted by their first slice's place in ``headers``.

    Without a SeriesInstanceUID all such slices are one series. Slices at the same position are told apart: copies of
    one slice (same SOPInstanceUID, same attributes, other bytes) count once; several passes in one series (phases,
    reconstructions) become groups of their own where an attribute, or the time of acquisition, separates them so that
    no position is left twice. A series without such slices is never split by these attributes. What stays inseparable
    stays one group. O(n log n) in the number of slices.
    """
    alike: dict[Hashable, list[_Slice]] = defaultdict(list)
    for sent, header in enumerate(headers):
        alike[_shared(header)].append(_Slice(header, sent))
    groups = [group for slices in alike.values() for grid in _grids(slices) for group in _passes(grid)]
    return sorted(groups, key=lambda group: group.sent)


class _Slice(NamedTuple):
    header: SliceHeader
    sent: int
    level: int = 0
    """Number of its position along the normal; slices at the same position have the same."""
    copies: int = 0


_Slices = list[_Slice]


def _any(values: Iterable[bool | None]) -> bool | None:
    found = set(values)
    return True if True in found else False if found == {False} else None


def _shared(header: SliceHeader) -> Hashable:
    return (
        header.series_uid,
        header.modality,
        (header.rows, header.columns),
        header.frame_of_reference_uid,
        (header.localizer, header.unplaced_frames),
        header.one_grey_channel and header.rescale_type in HOUNSFIELD_TYPES,
        (header.orientation is None, header.spacing_yx_mm is None),
    )


def _grids(slices: _Slices) -> Iterator[_Slices]:
    """Slices whose orientation and pixel spacing are alike."""
    by_grid: dict[tuple[float, ...], _Slices] = defaultdict(list)
    for one in slices:
        by_grid[(*(one.header.orientation or ()), *(one.header.spacing_yx_mm or ()))].append(one)
    for cluster in _clusters(list(by_grid), 0):
        yield [one for grid in cluster for one in by_grid[grid]]


def _clusters(grids: list[tuple[float, ...]], column: int) -> Iterator[list[tuple[float, ...]]]:
    """Cut where a value is further than the tolerance above the least of its cluster, column by column."""
    if len(grids) == 1 or column == len(grids[0]):
        yield grids
        return
    cluster: list[tuple[float, ...]] = []
    for grid in sorted(grids, key=lambda values: values[column]):
        if cluster and grid[column] - cluster[0][column] > _SAME_GRID:
            yield from _clusters(cluster, column + 1)
            cluster = []
        cluster.append(grid)
    yield from _clusters(cluster, column + 1)


def _passes(slices: _Slices) -> list[SliceGroup]:
    slices = sorted(slices, key=lambda one: (one.header.entry.digest, one.header.frame, one.sent))
    levelled = _levelled(slices)
    if levelled is None or _unique(levelled):
        return [_group(slices)]
    kept = _without_copies(levelled)
    return [_group(part) for part in ([kept] if _unique(kept) else _separated(kept))]


def _group(slices: _Slices) -> SliceGroup:
    return SliceGroup(
        tuple(one.header for one in slices), min(one.sent for one in slices), sum(one.copies for one in slices)
    )


def _unique(slices: _Slices) -> bool:
    return len({one.level for one in slices}) == len(slices)


def _levelled(slices: _Slices) -> _Slices | None:
    """The slices with their levels; None for what is no CT slice with a place."""
    first = slices[0].header
    positions = [one.header.position_mm for one in slices if one.header.position_mm is not None]
    placeable = first.modality == "CT" and not first.localizer and first.orientation is not None
    if len(slices) == 1 or not placeable or len(positions) < len(slices):
        return None
    try:
        directions = unit_directions(first.orientation or ())
    except InputError:
        return None
    along = np.asarray(positions, dtype=np.float64) @ np.cross(directions[0], directions[1])
    order = np.argsort(along, kind="stable")
    levels = np.zeros(len(slices), dtype=np.int64)
    levels[order[1:]] = np.cumsum(np.diff(along[order]) >= SAME_POSITION_MM)
    return [one._replace(level=level) for one, level in zip(slices, levels.tolist(), strict=True)]


def _without_copies(slices: _Slices) -> _Slices:
    """One of each set of copies: the lossless one, then the one with the lowest digest.

    SOPInstanceUIDs that are at several positions identify nothing, as after careless anonymisation.
    """
    levels: dict[tuple[str | None, int], set[int]] = defaultdict(set)
    for one in slices:
        levels[one.header.instance_uid, one.header.frame].add(one.level)
    kept: dict[Hashable, _Slice] = {}
    for one in sorted(slices, key=lambda one: one.header.lossy):
        identity = (one.header.instance_uid, one.header.frame)
        identified = one.header.instance_uid is not None and len(levels[identity]) == 1
        key = (identity, one.level, _attributes(one.header)) if identified else one.sent
        kept[key] = kept[key]._replace(copies=kept[key].copies + 1) if key in kept else one
    return sorted(kept.values(), key=lambda one: (one.header.entry.digest, one.header.frame, one.sent))


_TELLING: tuple[Callable[[SliceHeader], Hashable], ...] = (
    lambda header: header.temporal_index,
    lambda header: header.stack_id,
    lambda header: header.acquisition_number,
    lambda header: header.phase,
    lambda header: header.contrast_agent,
    lambda header: header.derived,
    lambda header: header.sharp_kernel,
    lambda header: header.thickness_mm,
    lambda header: header.rescale,
)
"""What tells passes apart, the most telling first; the time of acquisition follows the acquisition number."""
_ATTRIBUTES_BEFORE_TIME = 3
_MOST_TIMED_PASSES = 32
"""Bounds the search: perfusion scans have more, and state their temporal position."""


def _attributes(header: SliceHeader) -> Hashable:
    return header.acquired_at_s, *(attribute(header) for attribute in _TELLING)


def _separated(slices: _Slices) -> list[_Slices]:
    """The passes by the first attribute that leaves no position twice; all slices where none does.

    First with as many parts as slices lie at one position at most, then with up to twice as many, for passes that do
    not overlap everywhere. More parts would be pieces of passes, such as rotations, that happen not to overlap.
    """
    passes = max(Counter(one.level for one in slices).values())
    for most in (passes, 2 * passes):
        for attribute in _TELLING[:_ATTRIBUTES_BEFORE_TIME]:
            if parts := _parts(slices, attribute, most):
                return parts
        if parts := _parts_in_time(slices, most):
            return parts
        for attribute in _TELLING[_ATTRIBUTES_BEFORE_TIME:]:
            if parts := _parts(slices, attribute, most):
                return parts
    return [slices]


def _parts(slices: _Slices, attribute: Callable[[SliceHeader], Hashable], most: int) -> list[_Slices]:
    """The slices by an attribute; empty unless these are at most so many parts without a position twice."""
    by_value: dict[Hashable, _Slices] = defaultdict(list)
    for one in slices:
        by_value[attribute(one.header)].append(one)
    parts = list(by_value.values())
    return parts if len(parts) <= most and all(map(_unique, parts)) else []


def _parts_in_time(slices: _Slices, most: int) -> list[_Slices]:
    """The slices cut at the longest pauses of the acquisition, as few as leave no position twice; else empty."""
    stated = [one.header.acquired_at_s for one in slices if one.header.acquired_at_s is not None]
    if len(stated) < len(slices):
        return []
    times = np.unique(stated)
    longest = np.argsort(-np.diff(times), kind="stable")
    for cuts in range(1, min(most, _MOST_TIMED_PASSES, len(times))):
        starts = np.sort(times[1:][longest[:cuts]])
        by_part: dict[int, _Slices] = defaultdict(list)
        for part, one in zip(np.searchsorted(starts, stated, side="right").tolist(), slices, strict=True):
            by_part[part].append(one)
        if all(map(_unique, by_part.values())):
            return list(by_part.values())
    return []
