"""Studies to upload: slices of the small phantom, as files in memory."""

import io
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from tests.support.small_phantom import small_phantom
from trauma_api.phantom.series import write_slices as write_dicom

DICOM = "application/dicom"


@cache
def phantom_slices(count: int = 48, seed: int = 7) -> tuple[bytes, ...]:
    """The middle ``count`` of the small phantom's 48 slices, head to feet, as DICOM files."""
    with tempfile.TemporaryDirectory() as folder:
        write_dicom(small_phantom(seed), Path(folder))
        paths = sorted(Path(folder).glob("*.dcm"))
        first = (len(paths) - count) // 2
        return tuple(path.read_bytes() for path in paths[first : first + count])


def write_slices(folder: Path, count: int, seed: int = 7) -> list[Path]:
    """Slices as files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.dcm" for index in range(count)]
    for path, content in zip(paths, phantom_slices(count, seed), strict=True):
        path.write_bytes(content)
    return paths


def zipped(contents: tuple[bytes, ...]) -> bytes:
    """A ZIP archive of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(contents):
            archive.writestr(f"series/{index}.dcm", content)
    return stream.getvalue()


def form_files(contents: tuple[bytes, ...], media_type: str = DICOM) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Files as httpx takes them."""
    return [("files", (f"{index}", content, media_type)) for index, content in enumerate(contents)]


def upload_slices(client: httpx.Client, count: int, seed: int = 7) -> dict[str, Any]:
    """Upload the middle slices of the phantom. Returns the study."""
    response = client.post("/v1/studies", files=form_files(phantom_slices(count, seed)))
    assert response.status_code == 201, response.text
    study: dict[str, Any] = response.json()
    return study
