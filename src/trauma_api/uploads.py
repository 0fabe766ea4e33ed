"""Uploads on their way in: multipart or raw bodies into private files, and out of the way again afterwards."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import Depends, Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from trauma_api.dependencies import get_container
from trauma_api.errors import InputError, UnsupportedMediaTypeError
from trauma_api.imaging.uploads import UploadedFile
from trauma_api.services.spool import spool_folder

RAW_TYPES = ("application/zip", "application/dicom", "application/x-zip-compressed", "application/octet-stream")


class NoFilesError(InputError):
    """A form without files, or an empty body."""

    code = "no-files"
    title = "No files"
    public_message = "The request holds no file. Send the study's files in the form field `files`, or as the body."


class MalformedFormError(InputError):
    """The multipart body, or a field in it, does not fit."""

    code = "malformed-form"
    title = "Malformed form"
    public_message = (
        "The form could not be read. Send multipart/form-data with the files in `files`; spacing_mm as three positive "
        "numbers 'slices,rows,columns' and window_hu as 'low,high' with low below high."
    )


@dataclass(frozen=True)
class SpooledUpload:
    """What was sent, in private files."""

    files: list[UploadedFile]
    folder: Path
    spacing_zyx_mm: tuple[float, float, float] | None
    window_hu: tuple[float, float] | None


async def spool_upload(request: Request) -> AsyncIterator[SpooledUpload]:
    """Write the request's files into a private folder, which is removed when the request has been answered.

    Raises UnsupportedMediaTypeError, MalformedFormError, NoFilesError.
    """
    container = get_container(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    async with spool_folder(container.studies.storage.spool_root) as folder:
        if media_type == "multipart/form-data":
            yield await _spool_form(request, folder, container.settings.max_upload_files)
        elif media_type in RAW_TYPES:
            yield await _spool_body(request, folder)
        else:
            raise UnsupportedMediaTypeError("Send multipart/form-data, application/zip or application/dicom.")


SpooledUploadDep = Annotated[SpooledUpload, Depends(spool_upload)]


async def _spool_body(request: Request, folder: Path) -> SpooledUpload:
    path = folder / "0"
    size = 0
    async with await anyio.open_file(path, "wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            await file.write(chunk)
    if size == 0:
        raise NoFilesError
    return SpooledUpload([UploadedFile(0, path)], folder, None, None)


async def _spool_form(request: Request, folder: Path, max_files: int) -> SpooledUpload:
    try:
        # One more than allowed gets through, so that reading refuses it as it refuses too many files in an archive.
        form = await request.form(max_files=max_files + 1, max_fields=10)
    except FormParserError as error:
        raise MalformedFormError from error
    except HTTPException as error:
        if error.status_code != HTTPStatus.BAD_REQUEST:
            raise
        raise MalformedFormError from error
    try:
        uploads = [item for item in form.getlist("files") if isinstance(item, UploadFile)]
        if not uploads:
            raise NoFilesError
        spacing, window = _numbers(form, "spacing_mm", 3), _numbers(form, "window_hu", 2)
        files = await anyio.to_thread.run_sync(_copy_out, uploads, folder)
    finally:
        await form.close()
    if spacing is not None and min(spacing) <= 0:
        raise MalformedFormError
    if window is not None and window[0] >= window[1]:
        raise MalformedFormError
    return SpooledUpload(
        files,
        folder,
        None if spacing is None else (spacing[0], spacing[1], spacing[2]),
        None if window is None else (window[0], window[1]),
    )


def _copy_out(uploads: list[UploadFile], folder: Path) -> list[UploadedFile]:
    files = []
    for position, upload in enumerate(uploads):
        path = folder / str(position)
        with path.open("wb") as target:
            shutil.copyfileobj(upload.file, target, 1024 * 1024)
        files.append(UploadedFile(position, path))
    return files


def _numbers(form: FormData, name: str, count: int) -> list[float] | None:
    text = form.get(name)
    if text is None or text == "":
        return None
    try:
        values = [float(part) for part in str(text).split(",")]
    except ValueError as error:
        raise MalformedFormError from error
    if len(values) != count or not all(abs(value) < 1e5 for value in values):
        raise MalformedFormError
    return values
