"""DICOM files to one CT volume."""

import hashlib
from collections.abc import Sequence

from trauma_api.imaging.entries import Entry
from trauma_api.imaging.geometry import canonical
from trauma_api.imaging.headers import SliceHeader, read_headers
from trauma_api.imaging.pixels import decode_hu, has_air_or_fat
from trauma_api.imaging.series import NotHounsfieldError, choose_series
from trauma_api.imaging.study import ReadLimits, ReadStudy, StudyWarning
from trauma_api.imaging.volume import CTVolume


def read_dicom_headers(entries: Sequence[Entry]) -> tuple[list[SliceHeader], tuple[StudyWarning, ...]]:
    """The slices of all DICOM images; identical copies of a file count once.

    Raises MalformedDicomError.
    """
    unique = {entry.sha256: entry for entry in reversed(entries)}
    headers = [header for entry in reversed(unique.values()) for header in read_headers(entry)]
    copies = len(entries) - len(unique)
    if not copies:
        return headers, ()
    return headers, (StudyWarning("duplicate-files", f"{_files(copies)} sent more than once; one copy was used."),)


def read_dicom(headers: Sequence[SliceHeader], limits: ReadLimits) -> ReadStudy:
    """Choose the CT series, decode it and bring it into canonical order.

    Raises what `choose_series` and `decode_hu` raise, and NotHounsfieldError for values of unspecified unit that show
    neither air nor fat.
    """
    choice = choose_series(headers, limits)
    voxels_hu = decode_hu(choice.slices)
    if _unit_unspecified(choice.slices) and not has_air_or_fat(voxels_hu):
        raise NotHounsfieldError
    voxels, affine = canonical(voxels_hu, choice.geometry.affine_lps)
    digests = sorted({header.entry.sha256 for header in headers})
    return ReadStudy(
        digest=hashlib.sha256("".join(digests).encode("ascii")).hexdigest(),
        source="dicom",
        stack=CTVolume(voxels, affine if choice.geometry.has_distance else None),
        series=choice.summaries,
        warnings=(*choice.warnings, *_warnings(choice.slices)),
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


def _files(count: int) -> str:
    return "1 file was" if count == 1 else f"{count} files were"
