"""Values of top-level DICOM attributes, decoded one by one from the bytes that the prescan kept.

As pydicom decodes them, for the few value representations that a header pass needs, and without its cost per element.
"""

import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

from trauma_api.imaging.prescan import Outline

_NUMBERS: Mapping[bytes, str] = MappingProxyType(
    {b"US": "H", b"SS": "h", b"UL": "L", b"SL": "l", b"FL": "f", b"FD": "d", b"UV": "Q", b"SV": "q"}
)
_ONE_TEXT = frozenset({b"LT", b"ST", b"UT"})
_TIME = re.compile(r"(\d\d):?(\d\d)?:?(\d\d(?:\.\d{1,6})?)?")
_DATED_TIME = re.compile(rf"\d{{8}}{_TIME.pattern}")
_BYTES = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ"})


class Wanted:
    """Tags and dictionary VRs of the attributes that a header pass reads."""

    def __init__(self, keywords: Sequence[str]) -> None:
        self._known = {keyword: _tag_and_vr(keyword) for keyword in keywords}
        self.tags = frozenset(tag for tag, _ in self._known.values())

    def find(self, keyword: str) -> tuple[int, bytes]:
        """Tag and VR."""
        return self._known[keyword]


class Attributes:
    """The wanted top-level attributes of one file, by keyword, as ``get`` of a pydicom dataset gives them."""

    def __init__(self, outline: Outline, wanted: Wanted) -> None:
        self._values, self._wanted = outline.values, wanted
        self._order = "<" if outline.little else ">"

    def __contains__(self, keyword: str) -> bool:
        return self._wanted.find(keyword)[0] in self._values

    def get(self, keyword: str) -> Any:
        """A str, int or float, a list of them where there are several, None where there is none.

        Raises ValueError and struct.error for bytes that are no such value.
        """
        tag, usual_vr = self._wanted.find(keyword)
        if tag not in self._values:
            return None
        stated_vr, value = self._values[tag]
        vr = usual_vr if stated_vr is None or stated_vr == b"UN" else stated_vr
        if not value or vr in _BYTES:
            return None
        if code := _NUMBERS.get(vr):
            count = len(value) // struct.calcsize(code)
            return _one_or_list(struct.unpack(f"{self._order}{count}{code}", value))
        return _decode_text(value, vr)


def numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """``count`` finite numbers, or None. Raises ValueError for what are no numbers."""
    if value is None or isinstance(value, str | float | int) or len(value) != count:
        return None
    found = tuple(float(item) for item in value)
    return found if all(math.isfinite(number) for number in found) else None


def words(value: Any) -> list[str]:
    """The values of a text attribute."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(word) for word in value]


def helpful_number(get: Callable[[str], Any], keyword: str) -> float | None:
    """A number that does no more than help: where it is damaged, it is as if absent."""
    try:
        number = float(get(keyword))
    except (ValueError, TypeError, ArithmeticError, struct.error):
        return None
    return number if math.isfinite(number) else None


def helpful_whole(get: Callable[[str], Any], keyword: str) -> int | None:
    """The same for whole numbers."""
    number = helpful_number(get, keyword)
    return int(number) if number is not None and number.is_integer() else None


def seconds_of_day(stated: Any, *, dated: bool) -> float | None:
    """The time of a TM value, or with ``dated`` of a DT (PS3.5 section 6.2), in seconds; None unless it is one."""
    found = (_DATED_TIME if dated else _TIME).match(str(stated or "").strip())
    if found is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _tag_and_vr(keyword: str) -> tuple[int, bytes]:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise LookupError(keyword)
    return tag, dictionary_VR(tag).encode("ascii")


def _decode_text(value: bytes, vr: bytes) -> Any:
    text = _text(value).strip(" \x00") if vr != b"UI" else _text(value).rstrip(" \x00")
    if not text:
        return None
    if vr in _ONE_TEXT:
        return text
    convert = _CONVERTERS.get(vr, str.strip)
    return _one_or_list([convert(part) for part in text.split("\\")])


def _text(value: bytes) -> str:
    """UTF-8 or Latin-1, whatever the character set is said to be: what is looked for is digits and plain words."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


_CONVERTERS: Mapping[bytes, Callable[[str], Any]] = MappingProxyType({b"DS": float, b"IS": _whole})


def _one_or_list(values: Sequence[Any]) -> Any:
    if len(values) == 1:
        return values[0]
    return list(values) if values else None
