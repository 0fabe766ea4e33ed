"""Uploads on their way in: multipart or raw bodies into private files, and out of the way again afterwards."""

import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Protocol

import anyio
import anyio.to_thread
from fastapi import Depends, Query, Request
from pydantic import StringConstraints
from pydantic.json_schema import SkipJsonSchema
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from trauma_api.dependencies import get_container
from trauma_api.errors import BodyTooLargeError, InputError, TraumaAPIError, UnsupportedMediaTypeError
from trauma_api.imaging.study import UploadedFile
from trauma_api.imaging.uploads import Stated
from trauma_api.middleware import stated_body_bytes
from trauma_api.multipart import MalformedFormError, MultipartLimits, MultipartReader
from trauma_api.services.spool import Spool, open_spool
from trauma_api.settings import Settings

RAW_TYPES = ("application/zip", "application/dicom", "application/x-zip-compressed", "application/octet-stream")
CONTENT_TYPES = ("multipart/form-data", 'multipart/related; type="application/dicom"', *RAW_TYPES)
"""What `POST /v1/studies` takes."""

SERIES_PATTERN = r"^([0-9a-f]{1,64}|[0-9]+(\.[0-9]+)*)$"
"""A series_id, or a UID (DICOM PS3.5 section 9.1)."""
MAX_SERIES_CHARS = 64

_BATCH_BYTES = 256 * 1024
"""So much is gathered before a worker thread takes it. Larger batches are slower: each is memory not yet touched."""
_BATCH_CHUNKS = 1024


class NoFilesError(InputError):
    """A form without files, or an empty body."""

    code = "no-files"
    title = "No files"
    public_message = "The request holds no file. Send the study's files in the form field `files`, or as the body."


class UploadStalledError(TraumaAPIError):
    """Next to nothing has arrived for a while."""

    status = HTTPStatus.REQUEST_TIMEOUT
    code = "upload-stalled"
    title = "Upload stalled"
    public_message = "The upload stood still for too long and was given up. Send it again over a steady connection."
    retryable = True


class UploadInterruptedError(TraumaAPIError):
    """The client left while it was sending; nobody is there to read this."""

    status = HTTPStatus.BAD_REQUEST
    code = "upload-interrupted"
    title = "Upload interrupted"
    public_message = "The connection ended before the upload did. Send it again."
    retryable = True


@dataclass(frozen=True)
class SpooledUpload:
    """What was sent, in private files."""

    files: list[UploadedFile]
    folder: Path
    stated: Stated


SeriesQuery = Annotated[
    Annotated[str, StringConstraints(pattern=SERIES_PATTERN, max_length=MAX_SERIES_CHARS)] | SkipJsonSchema[None],
    Query(description="Use this series: its `series_id` or its UID. In a form it can be a field instead."),
]


async def spool_upload(request: Request, series: SeriesQuery = None) -> AsyncIterator[SpooledUpload]:
    """Write the request's files into a private folder, which is removed before the answer is sent.

    Raises UnsupportedMediaTypeError, BodyTooLargeError, MalformedFormError, NoFilesError, TooManyFilesError,
    UploadStalledError, UploadInterruptedError, InsufficientStorageError.
    """
    container = get_container(request)
    settings = container.settings
    _check_content_type(request)
    stated_bytes = stated_body_bytes(request.headers)
    if stated_bytes is not None and stated_bytes > settings.max_upload_bytes:
        raise BodyTooLargeError  # and not a want of disk for it
    root = container.studies.storage.spool_root
    async with open_spool(root, reserve_bytes=settings.disk_reserve_bytes, stated_bytes=stated_bytes) as spool:
        fields = await _receive(request, spool, settings)
        if not spool.paths:
            raise NoFilesError
        files = [UploadedFile(position, path) for position, path in enumerate(spool.paths)]
        stated = Stated(_spacing(fields), _window(fields), _series(series, fields))
        yield SpooledUpload(files, spool.folder, stated)


SpooledUploadDep = Annotated[SpooledUpload, Depends(spool_upload, scope="function")]


class _Reader(Protocol):
    """What takes the body's bytes to the spool, on a worker thread."""

    @property
    def fields(self) -> dict[str, str]: ...

    def feed(self, data: bytes) -> None: ...

    def finish(self) -> None: ...


class _RawReader:
    """A body that is one file as it is."""

    def __init__(self, spool: Spool) -> None:
        self.fields: dict[str, str] = {}
        self._spool = spool

    def feed(self, data: bytes) -> None:
        if not self._spool.paths:
            self._spool.begin_file()
        self._spool.write(memoryview(data))

    def finish(self) -> None:
        self._spool.end_file()


class _Body:
    """The request's body in batches. Gives a client up that sends less than the least rate.

    Only the time spent waiting for the client counts. It ends once the least that is expected of ``idle_s`` seconds
    has arrived, and begins anew.
    """

    def __init__(self, request: Request, *, idle_s: float, min_bytes_per_s: int) -> None:
        self._stream = request.stream()
        self._idle_s = idle_s
        self._expected_bytes = idle_s * min_bytes_per_s
        self._waited_s = 0.0
        self._arrived_bytes = 0

    async def batch(self) -> list[bytes]:
        """The next chunks; none at the end. Raises UploadStalledError, UploadInterruptedError."""
        chunks: list[bytes] = []
        size = 0
        while size < _BATCH_BYTES and len(chunks) < _BATCH_CHUNKS and (chunk := await self._chunk()):
            chunks.append(chunk)
            size += len(chunk)
        return chunks

    async def _chunk(self) -> bytes:
        began = time.monotonic()
        try:
            with anyio.fail_after(self._idle_s - self._waited_s):
                chunk = await anext(self._stream, b"")
        except TimeoutError:
            raise UploadStalledError from None
        except ClientDisconnect:
            raise UploadInterruptedError from None
        self._waited_s += time.monotonic() - began
        self._arrived_bytes += len(chunk)
        if self._arrived_bytes >= self._expected_bytes:
            self._waited_s, self._arrived_bytes = 0.0, 0
        return chunk


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_content_type(request: Request) -> None:
    media_type = _media_type(request)
    if media_type in {"multipart/form-data", *RAW_TYPES}:
        return
    _, options = parse_options_header(request.headers.get("content-type"))
    if media_type != "multipart/related" or options.get(b"type", b"").lower() != b"application/dicom":
        raise UnsupportedMediaTypeError(
            "Send multipart/form-data, application/zip, application/dicom, or multipart/related of application/dicom."
        )


async def _receive(request: Request, spool: Spool, settings: Settings) -> dict[str, str]:
    """Take the whole body to the spool. Returns the text fields of a form."""
    reader: _Reader = (
        _RawReader(spool)
        if _media_type(request) in RAW_TYPES
        else MultipartReader(request.headers["content-type"], spool, _limits(settings))
    )
    body = _Body(request, idle_s=settings.upload_idle_s, min_bytes_per_s=settings.upload_min_bytes_per_s)
    while batch := await body.batch():
        await anyio.to_thread.run_sync(_feed, reader, batch)
    await anyio.to_thread.run_sync(reader.finish)
    return reader.fields


def _feed(reader: _Reader, chunks: list[bytes]) -> None:
    for chunk in chunks:
        reader.feed(chunk)


def _limits(settings: Settings) -> MultipartLimits:
    return MultipartLimits(
        max_files=settings.max_upload_files,
        max_other_parts=settings.max_form_fields,
        max_header_bytes=settings.max_part_header_bytes,
        max_field_bytes=settings.max_form_field_bytes,
    )


def _spacing(fields: dict[str, str]) -> tuple[float, float, float] | None:
    values = _numbers(fields.get("spacing_mm", ""), 3)
    if not values:
        return None
    if min(values) <= 0:
        raise MalformedFormError
    return values[0], values[1], values[2]


def _window(fields: dict[str, str]) -> tuple[float, float] | None:
    values = _numbers(fields.get("window_hu", ""), 2)
    if not values:
        return None
    if values[0] >= values[1]:
        raise MalformedFormError
    return values[0], values[1]


def _numbers(text: str, count: int) -> list[float]:
    if text == "":
        return []
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise MalformedFormError from error
    if len(values) != count or not all(abs(value) < 1e5 for value in values):
        raise MalformedFormError
    return values


def _series(query: str | None, fields: dict[str, str]) -> str | None:
    field = fields.get("series", "").strip()
    if not field:
        return query
    if len(field) > MAX_SERIES_CHARS or not re.fullmatch(SERIES_PATTERN, field) or query not in {None, field}:
        raise MalformedFormError
    return field
