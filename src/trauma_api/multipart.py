"""Multipart bodies, taken apart as they arrive: files to the spool, short text fields to memory, names nowhere."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from trauma_api.errors import InputError
from trauma_api.imaging.archives import TooManyFilesError
from trauma_api.services.spool import Spool

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FILES_PART = "files"
FIELDS = frozenset({"spacing_mm", "window_hu", "series"})
MAX_BOUNDARY_CHARS = 70
"""RFC 2046 section 5.1.1."""


class MalformedFormError(InputError):
    """The multipart body, or a field in it, does not fit."""

    code = "malformed-form"
    title = "Malformed form"
    public_message = (
        "The form could not be read. Send multipart/form-data with the files in `files`; spacing_mm as three positive "
        "numbers 'slices,rows,columns', window_hu as 'low,high' with low below high, and series as the series_id or "
        "the UID of one series."
    )


@dataclass(frozen=True)
class MultipartLimits:
    """How much a multipart body may hold beside the bytes of its files."""

    max_files: int
    max_other_parts: int
    max_header_bytes: int
    """All headers of one part."""
    max_field_bytes: int
    """One text field."""


class MultipartReader:
    """Takes one body apart (RFC 2046 section 5.1, RFC 7578, RFC 2387). Blocks: for worker threads, one at a time.

    Of a form the parts `files` that have a file name are files; of a related body every part is one. The one header
    that is looked at is Content-Disposition, and the file name in it is dropped at once.
    """

    def __init__(self, content_type: str, spool: Spool, limits: MultipartLimits) -> None:
        """Raises MalformedFormError when the content type names no boundary, or too long a one."""
        media_type, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not 0 < len(boundary) <= MAX_BOUNDARY_CHARS:
            raise MalformedFormError("Name the multipart body's boundary, of 1 to 70 characters, in Content-Type.")
        self.fields: dict[str, str] = {}
        self._spool = spool
        self._limits = limits
        self._all_files = media_type != b"multipart/form-data"
        self._other_parts = 0
        self._ended = False
        self._begin_part()
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_data,
            "on_part_end": self._end_part,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, callbacks, max_header_size=limits.max_header_bytes)

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises MalformedFormError, TooManyFilesError, InsufficientStorageError."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedFormError from error

    def finish(self) -> None:
        """There are no more bytes. Raises MalformedFormError when the closing boundary has not been seen."""
        if not self._ended:
            raise MalformedFormError("The multipart body ends before its closing boundary. Send it again, whole.")

    def _begin_part(self) -> None:
        self._header_bytes = 0
        self._header_name, self._header_value = bytearray(), bytearray()
        self._disposition: str | None = None
        self._is_file = False
        self._field: str | None = None
        self._text = bytearray()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _count_header(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > self._limits.max_header_bytes:
            raise MalformedFormError("A part of the multipart body has too long headers. Send shorter ones.")

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value.decode("latin-1")
        self._header_name, self._header_value = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._disposition = None
        name = options.get(b"name", b"").decode("latin-1")
        if self._all_files or (name == FILES_PART and b"filename" in options):
            self._begin_file()
            return
        self._other_parts += 1
        if self._other_parts > self._limits.max_other_parts:
            raise MalformedFormError("The form has too many fields. Send only the files and the known fields.")
        if name in FIELDS:
            if name in self.fields:
                raise MalformedFormError(f"The form states {name} twice. State it once.")
            self._field = name

    def _begin_file(self) -> None:
        if len(self._spool.paths) >= self._limits.max_files:
            raise TooManyFilesError
        self._is_file = True
        self._spool.begin_file()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._spool.write(memoryview(data)[start:end])
        elif self._field is not None:
            self._text += data[start:end]
            if len(self._text) > self._limits.max_field_bytes:
                raise MalformedFormError(f"The form's {self._field} is too long. State it as documented.")

    def _end_part(self) -> None:
        if self._is_file:
            self._spool.end_file()
        elif self._field is not None:
            try:
                self.fields[self._field] = self._text.decode("utf-8")
            except UnicodeDecodeError:
                raise MalformedFormError from None

    def _on_end(self) -> None:
        self._ended = True
