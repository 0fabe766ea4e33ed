"""DICOM slices to one CT volume on disk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trauma_api.errors import InputError
from trauma_api.imaging.anatomy import SliceStats
from trauma_api.imaging.choice import choose
from trauma_api.imaging.eligibility import assess, slices_to_look_at
from trauma_api.imaging.geometry import Placement
from trauma_api.imaging.pixels import BELOW_SOFT_TISSUE_HU, StackType, stack_dtype
from trauma_api.imaging.sandbox.jobs import Reading, WideRangeStackError, decode_slices
from trauma_api.imaging.series import Candidate, Candidates, NotHounsfieldError, find_candidates
from trauma_api.imaging.slices import ScannedEntry, SliceHeader
from trauma_api.imaging.study import Eligibility, SeriesSummary, StudyWarning
from trauma_api.imaging.volume import CTVolume

_MOST_PROBED = 6
"""Candidates whose pixels are looked at before one is chosen."""
_PROBE_SLICES = 9


@dataclass(frozen=True)
class DicomStudy:
    """The chosen series, decoded, with all that is to be said of it."""

    series_id: str
    volume: CTVolume
    series: tuple[SeriesSummary, ...]
    warnings: tuple[StudyWarning, ...]
    eligibility: Eligibility


def read_dicom(reading: Reading, headers: Sequence[SliceHeader], target: Path, pinned: str | None) -> DicomStudy:
    """Choose the CT series, or take the pinned one, decode it into the file ``target`` and judge it by its pixels.

    A series whose pixels turn out to be damaged is passed over for the next best one, unless it was pinned. Raises what
    `find_candidates` and `decode_slices` raise, and NotHounsfieldError for values of unspecified unit that show neither
    air nor fat.
    """
    candidates = find_candidates(headers, reading.limits, pinned)
    seen = _probe(reading, candidates, target.parent)
    while True:
        choice = choose(candidates, seen)
        chosen = choice.candidate
        try:
            stack, stats = _decode(reading, chosen, target)
            break
        except InputError as refusal:
            # With nothing else left to take, this raises the refusal itself.
            candidates = candidates.without(chosen.series_id, refusal)
    eligibility = _assess(chosen, stats)
    return DicomStudy(
        series_id=chosen.series_id,
        volume=stack,
        series=choice.summaries,
        warnings=(*choice.warnings, *_warnings(chosen.slices)),
        eligibility=eligibility,
    )


def unique_slices(scanned: Sequence[ScannedEntry]) -> tuple[list[SliceHeader], tuple[StudyWarning, ...]]:
    """The slices of all DICOM images; identical copies of a file count once."""
    unique = {one.entry.digest: one for one in reversed(scanned) if one.slices}
    headers = [header for one in reversed(unique.values()) for header in one.slices]
    copies = sum(bool(one.slices) for one in scanned) - len(unique)
    if not copies:
        return headers, ()
    files = "1 file was" if copies == 1 else f"{copies} files were"
    return headers, (StudyWarning("duplicate-files", f"{files} sent more than once; one copy was used."),)


def _probe(reading: Reading, candidates: Candidates, folder: Path) -> dict[str, Eligibility]:
    """What a few slices of each candidate show; nothing is decoded where there is no choice."""
    seen: dict[str, Eligibility] = {}
    if len(candidates.usable) < 2:
        return seen
    for candidate in sorted(candidates.usable, key=lambda one: -len(one.slices))[:_MOST_PROBED]:
        placement = candidate.placement
        indices = slices_to_look_at(placement.slice_centres_mm, _PROBE_SLICES)
        slices = [candidate.slices[index] for index in indices]
        target = folder / f"probe-{candidate.series_id}.raw"
        try:
            _size(target, "<f4", len(slices), placement)
            stats = decode_slices(
                reading,
                slices,
                placement.in_plane,
                target,
                "<f4",
                frozenset(range(len(slices))),
                placement.spacing_yx_mm,
            )
        except InputError:
            continue  # told when it is chosen and decoded as a whole
        finally:
            target.unlink(missing_ok=True)
        seen[candidate.series_id] = assess(
            indices, [stats[number] for number in range(len(slices))], placement.slice_centres_mm
        )
    return seen


def _decode(reading: Reading, chosen: Candidate, target: Path) -> tuple[CTVolume, dict[int, SliceStats]]:
    placement, slices = chosen.placement, chosen.slices
    look_at = frozenset(slices_to_look_at(placement.slice_centres_mm))
    dtype: StackType = stack_dtype(slices)
    while True:
        _size(target, dtype, len(slices), placement)
        try:
            stats = decode_slices(reading, slices, placement.in_plane, target, dtype, look_at, placement.spacing_yx_mm)
            break
        except WideRangeStackError:
            dtype = "<f4"
    if _unit_unspecified(slices) and min(one.minimum_hu for one in stats.values()) >= BELOW_SOFT_TISSUE_HU:
        raise NotHounsfieldError
    return (
        CTVolume(
            np.memmap(target, dtype, "r", shape=(len(slices), *placement.shape_yx)),
            placement.affine_lps,
            placement.slice_thickness_mm,
        ),
        stats,
    )


def _size(target: Path, dtype: StackType, count: int, placement: Placement) -> None:
    """An empty file of the size of the stack, which children fill slice by slice."""
    item_bytes = int(dtype[-1])
    with target.open("wb") as file:
        file.truncate(item_bytes * count * math.prod(placement.shape_yx))


def _assess(chosen: Candidate, stats: dict[int, SliceStats]) -> Eligibility:
    indices = sorted(stats)
    placement = chosen.placement
    return assess(
        indices, [stats[index] for index in indices], placement.slice_centres_mm, placement.slice_thickness_mm
    )


def _warnings(slices: Sequence[SliceHeader]) -> list[StudyWarning]:
    warnings = []
    if len(slices) == 1:
        warnings.append(
            StudyWarning(
                "no-slice-distance", "One slice alone has no slice distance, so no volume can be measured in it."
            )
        )
    if any(header.lossy for header in slices):
        warnings.append(
            StudyWarning("lossy-source", "The images were compressed with loss, so their HU are approximate.")
        )
    if _unit_unspecified(slices):
        warnings.append(
            StudyWarning(
                "rescale-type-unspecified", "The CT images leave their unit unspecified; their values were taken as HU."
            )
        )
    return warnings


def _unit_unspecified(slices: Sequence[SliceHeader]) -> bool:
    """RescaleType US, unspecified (DICOM PS3.3 section C.11.1.1.2): HU of enhanced CT, or of anything made from it."""
    return any(header.rescale_type == "US" for header in slices)
