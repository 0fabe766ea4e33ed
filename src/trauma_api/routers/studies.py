"""Studies: upload, look at, remove."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response, status
from fastapi.openapi.models import Example

from trauma_api.dependencies import ContainerDep, StudyIdPath
from trauma_api.errors import BodyTooLargeError, InputError, InsufficientStorageError, UnsupportedMediaTypeError
from trauma_api.imaging.archives import TooManyFilesError
from trauma_api.imaging.inflate import ExpandedTooLargeError
from trauma_api.multipart import MalformedFormError
from trauma_api.routers.problems import problems
from trauma_api.schemas.studies import Study
from trauma_api.services.studies import NoMaskError, ReadingUnavailableError, SliceOutOfRangeError
from trauma_api.services.study_storage import StudyNotFoundError
from trauma_api.uploads import (
    MAX_SERIES_CHARS,
    SERIES_PATTERN,
    NoFilesError,
    SpooledUploadDep,
    UploadStalledError,
)

router = APIRouter(prefix="/v1/studies", tags=["Studies"])

WindowName = Literal["abdomen", "blood", "liver", "bone", "lung"]

_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "DICOM files, a ZIP, a NIfTI file, or PNG/JPEG pictures.",
                        },
                        "spacing_mm": {
                            "type": "string",
                            "description": "Pictures only: distance between slices, rows and columns, as `5,0.8,0.8`.",
                        },
                        "window_hu": {
                            "type": "string",
                            "description": "Pictures only: HU that black and white stand for, as `-150,250`.",
                        },
                        "series": {
                            "type": "string",
                            "maxLength": MAX_SERIES_CHARS,
                            "pattern": SERIES_PATTERN,
                            "description": "Use this series: its `series_id` or its UID.",
                        },
                    },
                }
            },
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
            "application/dicom": {"schema": {"type": "string", "format": "binary"}},
            "multipart/related": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": 'With `type="application/dicom"`: each part one DICOM file.',
                }
            },
        },
    }
}


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Upload a CT study",
    responses=problems(
        InputError,
        MalformedFormError,
        NoFilesError,
        UnsupportedMediaTypeError,
        BodyTooLargeError,
        TooManyFilesError,
        ExpandedTooLargeError,
        UploadStalledError,
        InsufficientStorageError,
        ReadingUnavailableError,
    ),
    openapi_extra=_UPLOAD_BODY,
)
async def create_study(container: ContainerDep, upload: SpooledUploadDep, response: Response) -> Study:
    """Take DICOM files, a ZIP, NIfTI or pictures; answer with the series found, which was selected and why.

    Files are identified by content. The same content is the same study. To try the service without a file, use the
    study id `sample` in the other operations.
    """
    study = await container.studies.ingest(upload.files, upload.folder, upload.stated)
    response.headers["Location"] = f"/v1/studies/{study.study_id}"
    return study


@router.get("/{study_id}", summary="Describe a study", responses=problems(StudyNotFoundError))
async def get_study(container: ContainerDep, study_id: StudyIdPath) -> Study:
    """Geometry, series and warnings of a study that is kept."""
    return await container.studies.describe(study_id)


@router.delete(
    "/{study_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Remove a study",
    responses=problems(StudyNotFoundError),
)
async def delete_study(container: ContainerDep, study_id: StudyIdPath) -> None:
    """Remove the study and its mask from disk now, and not 30 minutes after last use."""
    await container.studies.delete(study_id)


@router.get(
    "/{study_id}/slices/{slice_index}.png",
    summary="Show a slice",
    response_class=Response,
    responses={
        200: {
            "description": "PNG picture, patient's right on its left.",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problems(StudyNotFoundError, SliceOutOfRangeError, NoMaskError),
    },
)
async def get_slice_picture(
    container: ContainerDep,
    study_id: StudyIdPath,
    slice_index: Annotated[int, Path(ge=0, description="From 0.", openapi_examples={"middle": Example(value=24)})],
    window: Annotated[WindowName, Query(description="HU window.")] = "abdomen",
    overlay: Annotated[bool, Query(description="Draw the hemorrhage mask in; needs a volume first.")] = False,
) -> Response:
    """A slice as a picture for people, marked as not for diagnosis."""
    picture = await container.studies.picture(study_id, slice_index, window, overlay=overlay)
    return Response(picture, media_type="image/png", headers={"Cache-Control": "no-store"})
