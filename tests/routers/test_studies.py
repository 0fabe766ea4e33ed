"""Uploads in every form that is taken and in many that are not, and the pictures of what was kept."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.support.problems import problem_in
from tests.support.quick import quick_service, spooled
from tests.support.reading import read_files
from tests.support.service import RunningService
from tests.support.small_phantom import SPACING_ZYX_MM
from tests.support.studies import DICOM, form_files, phantom_slices, upload_slices, write_slices, zipped
from trauma_api.imaging.volume import CTVolume

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
SLICES = 6


@pytest.fixture(scope="module")
def quick() -> Iterator[tuple[RunningService, httpx.Client]]:
    """A service with small engines."""
    with quick_service() as both:
        yield both


@pytest.fixture
def client(quick: tuple[RunningService, httpx.Client]) -> httpx.Client:
    """A client of it."""
    return quick[1]


@pytest.fixture(scope="module")
def small() -> Iterator[tuple[RunningService, httpx.Client]]:
    """A service that takes little."""
    with quick_service(max_upload_bytes=100_000, max_json_bytes=2_000, max_upload_files=3) as both:
        yield both


@pytest.fixture(scope="module")
def study_id(quick: tuple[RunningService, httpx.Client]) -> str:
    """A study of five slices."""
    study_id: str = upload_slices(quick[1], 5, seed=8)["study_id"]
    return study_id


def phantom_nifti() -> bytes:
    """The phantom's slices as one NIfTI file in RAS."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_slices(Path(folder) / "slices", SLICES)
        stack = read_files(paths, Path(folder) / "scratch").stack
        assert isinstance(stack, CTVolume)
        assert stack.affine_lps is not None
        # (slice, row, column) to (column, row, slice), and LPS to RAS: x and y change their signs.
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ stack.affine_lps[:, [2, 1, 0, 3]]
        image = nib.Nifti1Image(stack.voxels_zyx_hu.transpose(2, 1, 0), affine)
        image.header.set_xyzt_units("mm")
        path = Path(folder) / "phantom.nii.gz"
        nib.save(image, path)
        return path.read_bytes()


def picture(grey: int = 128, size: tuple[int, int] = (30, 20)) -> bytes:
    """A PNG of one grey level; size is (columns, rows)."""
    stream = io.BytesIO()
    Image.new("L", size, grey).save(stream, "PNG")
    return stream.getvalue()


class TestUpload:
    def test_dicom_files_in_a_form_are_one_study(self, client: httpx.Client) -> None:
        response = client.post("/v1/studies", files=form_files(phantom_slices(SLICES)))
        assert response.status_code == 201
        study = response.json()
        assert response.headers["location"] == f"/v1/studies/{study['study_id']}"
        assert (study["source"], study["slice_count"], study["rows"], study["columns"]) == ("dicom", SLICES, 160, 160)
        assert study["spacing_zyx_mm"] == list(SPACING_ZYX_MM)
        assert study["slice_order"] == "head_to_feet"
        assert [(series["modality"], series["selected"], series["reason"]) for series in study["series"]] == [
            ("CT", True, "selected")
        ]
        fetched = client.get(response.headers["location"]).json()
        assert {**fetched, "expires_at": None} == {**study, "expires_at": None}

    def test_the_same_slices_are_the_same_study_in_any_packing(self, client: httpx.Client) -> None:
        contents = phantom_slices(SLICES)
        archive = zipped(contents)
        answers = [
            client.post("/v1/studies", files=form_files(contents)),
            client.post("/v1/studies", files=form_files(contents[::-1], "application/octet-stream")),
            client.post("/v1/studies", files=form_files((archive,), "application/zip")),
            client.post("/v1/studies", content=archive, headers={"Content-Type": "application/zip"}),
        ]
        assert [answer.status_code for answer in answers] == [201] * 4
        assert len({answer.json()["study_id"] for answer in answers}) == 1

    def test_of_several_kinds_dicom_is_taken_and_the_rest_left_out(self, client: httpx.Client) -> None:
        response = client.post("/v1/studies", files=form_files((picture(), *phantom_slices(2))))
        assert response.status_code == 201
        assert response.json()["source"] == "dicom"
        assert "other-images-left-out" in {warning["code"] for warning in response.json()["warnings"]}

    def test_one_raw_dicom_slice_is_a_study_without_a_slice_distance(self, client: httpx.Client) -> None:
        response = client.post("/v1/studies", content=phantom_slices(1)[0], headers={"Content-Type": DICOM})
        assert response.status_code == 201
        assert (response.json()["slice_count"], response.json()["spacing_zyx_mm"]) == (1, None)
        problem_in(client.post("/v1/volume", json={"study_id": response.json()["study_id"]}), 422, "no-spacing")

    def test_nifti_has_the_same_geometry_and_looks_the_same_as_dicom(self, client: httpx.Client) -> None:
        dicom = upload_slices(client, SLICES)
        response = client.post("/v1/studies", files=form_files((phantom_nifti(),), "application/octet-stream"))
        assert response.status_code == 201, response.text
        nifti = response.json()
        assert nifti["source"] == "nifti"
        for name in ("slice_count", "rows", "columns", "spacing_zyx_mm", "slice_order"):
            assert nifti[name] == dicom[name]
        for index in (0, SLICES - 1):
            shown = [
                client.get(f"/v1/studies/{study['study_id']}/slices/{index}.png").content for study in (dicom, nifti)
            ]
            assert shown[0] == shown[1]

    def test_pictures_without_a_spacing_have_none(self, client: httpx.Client) -> None:
        response = client.post("/v1/studies", files=form_files((picture(1), picture(2)), "image/png"))
        assert response.status_code == 201
        study = response.json()
        assert (study["source"], study["slice_order"], study["spacing_zyx_mm"]) == ("pictures", "as_sent", None)
        assert (study["slice_count"], study["rows"], study["columns"]) == (2, 20, 30)
        assert "no-hounsfield-units" in [warning["code"] for warning in study["warnings"]]
        problem_in(client.post("/v1/volume", json={"study_id": study["study_id"]}), 422, "no-spacing")

    def test_pictures_with_a_stated_spacing_and_window_are_measured(self, client: httpx.Client) -> None:
        response = client.post(
            "/v1/studies",
            files=form_files((picture(3), picture(4)), "image/png"),
            data={"spacing_mm": "5,0.8,0.5", "window_hu": "-150,250"},
        )
        assert response.status_code == 201
        study = response.json()
        assert study["spacing_zyx_mm"] == [5.0, 0.8, 0.5]
        assert "picture-window-assumed" not in [warning["code"] for warning in study["warnings"]]
        volume = client.post("/v1/volume", json={"study_id": study["study_id"]}).json()
        # The small segmenter marks 10 x 10 voxels of 5 x 0.8 x 0.5 = 2 mm3 in the first slice: 0.2 mL.
        assert volume["volume_ml"] == 0.2

    def test_another_spacing_is_another_study(self, client: httpx.Client) -> None:
        ids = {
            client.post(
                "/v1/studies", files=form_files((picture(5),), "image/png"), data={"spacing_mm": spacing}
            ).json()["study_id"]
            for spacing in ("5,1,1", "2,1,1")
        }
        assert len(ids) == 2

    def test_files_that_are_no_images_are_left_out_with_a_warning(self, client: httpx.Client) -> None:
        response = client.post("/v1/studies", files=form_files((*phantom_slices(4), b"a letter")))
        assert response.status_code == 201
        assert "files-left-out" in [warning["code"] for warning in response.json()["warnings"]]


class TestRefusedUpload:
    @pytest.mark.parametrize("media_type", ["application/json", "text/plain", "image/png", "application/pdf"])
    def test_other_media_types_are_415(self, client: httpx.Client, media_type: str) -> None:
        response = client.post("/v1/studies", content=b"{}", headers={"Content-Type": media_type})
        problem_in(response, 415, "unsupported-media-type")

    def test_no_media_type_is_415(self, client: httpx.Client) -> None:
        problem_in(client.post("/v1/studies", content=b"x"), 415, "unsupported-media-type")

    @pytest.mark.parametrize("media_type", ["application/zip", DICOM])
    def test_an_empty_body_is_refused(self, client: httpx.Client, media_type: str) -> None:
        problem_in(client.post("/v1/studies", headers={"Content-Type": media_type}), 422, "no-files")

    def test_a_form_without_files_is_refused(self, client: httpx.Client) -> None:
        # `files` as plain text is a field and not a file.
        plain: Any = {"files": (None, "text")}
        problem_in(client.post("/v1/studies", files=plain), 422, "no-files")

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("multipart/form-data", b"no boundary"),
            ("multipart/form-data; boundary=x", b"this is not the boundary"),
            ("multipart/form-data; boundary=x", b"--x\r\nno header here\r\n\r\n"),
        ],
    )
    def test_a_malformed_form_is_refused(self, client: httpx.Client, content_type: str, body: bytes) -> None:
        response = client.post("/v1/studies", content=body, headers={"Content-Type": content_type})
        problem_in(response, 422, "malformed-form")

    @pytest.mark.parametrize(
        "fields",
        [
            {"spacing_mm": "5,1"},
            {"spacing_mm": "5,1,zero"},
            {"spacing_mm": "5,1,0"},
            {"spacing_mm": "5,1,-1"},
            {"spacing_mm": "nan,1,1"},
            {"spacing_mm": "inf,1,1"},
            {"window_hu": "250,-150"},
            {"window_hu": "100,100"},
            {"window_hu": "100"},
        ],
    )
    def test_a_spacing_or_window_that_cannot_be_is_refused(self, client: httpx.Client, fields: dict[str, str]) -> None:
        response = client.post("/v1/studies", files=form_files((picture(),), "image/png"), data=fields)
        problem_in(response, 422, "malformed-form")

    def test_a_spacing_for_dicom_is_refused(self, client: httpx.Client) -> None:
        response = client.post("/v1/studies", files=form_files(phantom_slices(2)), data={"spacing_mm": "1,1,1"})
        problem_in(response, 422, "spacing-not-wanted")

    @pytest.mark.parametrize(
        ("media_type", "body", "code"),
        [
            (DICOM, b"garbage " * 100, "unrecognized-upload"),
            ("application/zip", b"PK\x03\x04" + b"\0" * 200, "broken-archive"),
            ("application/zip", zipped((b"a letter",)), "unrecognized-upload"),
            ("application/zip", zipped((zipped((b"x",)),)), "nested-archive"),
            (DICOM, PNG_MAGIC + b"\0" * 200, "malformed-picture"),
        ],
    )
    def test_a_body_that_is_no_image_is_refused_with_its_reason(
        self, client: httpx.Client, media_type: str, body: bytes, code: str
    ) -> None:
        problem_in(client.post("/v1/studies", content=body, headers={"Content-Type": media_type}), 422, code)

    def test_a_truncated_slice_is_refused(self, client: httpx.Client) -> None:
        content = phantom_slices(1)[0]
        response = client.post("/v1/studies", content=content[: len(content) // 2], headers={"Content-Type": DICOM})
        assert 400 <= response.status_code < 500
        problem_in(response, response.status_code, response.json()["code"])

    def test_nothing_is_left_behind_by_refused_uploads(self, quick: tuple[RunningService, httpx.Client]) -> None:
        service, client = quick
        kept = service.container.studies.storage.spool_root.parent / "kept"
        before = {folder.name for folder in kept.iterdir()}
        client.post("/v1/studies", content=b"garbage", headers={"Content-Type": DICOM})
        client.post("/v1/studies", content=zipped((b"x",) * 20), headers={"Content-Type": "application/zip"})
        client.post("/v1/studies", files=form_files((*phantom_slices(2), picture())))
        client.post("/v1/studies", content=b"{}", headers={"Content-Type": "application/json"})
        client.post("/v1/studies", files=form_files((picture(),)), data={"spacing_mm": "x"})
        assert spooled(service) == []
        assert {folder.name for folder in kept.iterdir()} == before


class TestLimits:
    def test_a_body_over_the_limit_is_413(self, small: tuple[RunningService, httpx.Client]) -> None:
        service, client = small
        for media_type in (DICOM, "application/zip"):
            response = client.post("/v1/studies", content=bytes(100_001), headers={"Content-Type": media_type})
            problem_in(response, 413, "body-too-large")
        response = client.post("/v1/studies", files=form_files((bytes(60_000), bytes(60_000))))
        problem_in(response, 413, "body-too-large")
        assert spooled(service) == []

    def test_a_body_without_a_length_is_counted_as_it_arrives(self, small: tuple[RunningService, httpx.Client]) -> None:
        service, client = small
        chunks = (bytes(10_000) for _ in range(11))
        response = client.post("/v1/studies", content=chunks, headers={"Content-Type": DICOM})
        assert "content-length" not in response.request.headers
        problem_in(response, 413, "body-too-large")
        assert spooled(service) == []

    def test_a_body_at_the_limit_is_read(self, small: tuple[RunningService, httpx.Client]) -> None:
        response = small[1].post("/v1/studies", content=bytes(100_000), headers={"Content-Type": DICOM})
        problem_in(response, 422, "unrecognized-upload")

    def test_json_has_a_limit_of_its_own(self, small: tuple[RunningService, httpx.Client]) -> None:
        body = b'{"study_id": "sample"' + b" " * 2_000 + b"}"
        response = small[1].post("/v1/triage", content=body, headers={"Content-Type": "application/json"})
        problem_in(response, 413, "body-too-large")

    def test_too_many_files_are_refused_alike_in_a_form_and_in_an_archive(
        self, small: tuple[RunningService, httpx.Client]
    ) -> None:
        four = (b"1", b"2", b"3", b"4")
        archive = small[1].post("/v1/studies", content=zipped(four), headers={"Content-Type": "application/zip"})
        problem_in(archive, 413, "too-many-files")
        problem_in(small[1].post("/v1/studies", files=form_files(four)), 413, "too-many-files")


class TestDescribeAndRemove:
    def test_the_sample_is_there_without_an_upload(self, client: httpx.Client) -> None:
        sample = client.get("/v1/studies/sample").json()
        assert (sample["source"], sample["rows"], sample["columns"]) == ("dicom", 512, 512)
        assert sample["spacing_zyx_mm"] == [5.0, 0.8, 0.8]
        assert client.get(f"/v1/studies/{sample['study_id']}").json()["study_id"] == sample["study_id"]

    def test_a_removed_study_is_gone(self, client: httpx.Client) -> None:
        study_id = upload_slices(client, 3)["study_id"]
        removed = client.delete(f"/v1/studies/{study_id}")
        assert (removed.status_code, removed.content) == (204, b"")
        problem_in(client.get(f"/v1/studies/{study_id}"), 404, "study-not-found")
        problem_in(client.get(f"/v1/studies/{study_id}/slices/0.png"), 404, "study-not-found")
        problem_in(client.delete(f"/v1/studies/{study_id}"), 404, "study-not-found")
        problem_in(client.post("/v1/triage", json={"study_id": study_id}), 404, "study-not-found")

    @pytest.mark.parametrize("study_id", ["short", "Z" * 32, "0" * 33, "..%2F..%2Fetc"])
    def test_what_is_no_id_never_reaches_the_disk(self, client: httpx.Client, study_id: str) -> None:
        response = client.get(f"/v1/studies/{study_id}")
        assert response.status_code in {404, 422}
        problem_in(response, response.status_code, response.json()["code"])
        assert response.json()["code"] in {"invalid-request", "no-such-url"}


class TestSlicePicture:
    def test_it_is_a_png_of_the_slice_that_no_cache_keeps(self, client: httpx.Client, study_id: str) -> None:
        response = client.get(f"/v1/studies/{study_id}/slices/0.png")
        assert response.status_code == 200
        assert response.headers["content-type"] == "image/png"
        assert response.headers["cache-control"] == "no-store"
        assert response.content.startswith(PNG_MAGIC)
        with Image.open(io.BytesIO(response.content)) as shown:
            assert min(shown.size) >= 160

    def test_windows_and_slices_look_different(self, client: httpx.Client, study_id: str) -> None:
        url = f"/v1/studies/{study_id}/slices"
        shown = [
            client.get(f"{url}/2.png", params={"window": window}).content
            for window in ("abdomen", "blood", "liver", "bone", "lung")
        ]
        shown.append(client.get(f"{url}/3.png").content)
        assert all(content.startswith(PNG_MAGIC) for content in shown)
        assert len(set(shown)) == 6
        assert client.get(f"{url}/2.png").content == shown[0]

    def test_an_overlay_needs_a_volume_first(self, client: httpx.Client) -> None:
        study_id = upload_slices(client, 4, seed=8)["study_id"]
        url = f"/v1/studies/{study_id}/slices"
        problem_in(client.get(f"{url}/0.png", params={"overlay": "true"}), 422, "no-mask")
        volume = client.post("/v1/volume", json={"study_id": study_id})
        assert volume.status_code == 200
        drawn = client.get(volume.json()["mask_url"].replace("{slice_index}", "0"))
        assert drawn.status_code == 200
        assert drawn.content.startswith(PNG_MAGIC)
        # The small segmenter marks a box in slice 0 and nothing in slice 1.
        assert drawn.content != client.get(f"{url}/0.png").content
        assert client.get(f"{url}/1.png", params={"overlay": "true"}).status_code == 200

    def test_a_slice_that_is_not_there_is_refused(self, client: httpx.Client, study_id: str) -> None:
        url = f"/v1/studies/{study_id}/slices"
        assert client.get(f"{url}/4.png").status_code == 200
        problem_in(client.get(f"{url}/5.png"), 422, "slice-out-of-range")
        problem_in(client.get(f"{url}/{10**30}.png"), 422, "slice-out-of-range")
        problem_in(client.get(f"{url}/-1.png"), 422, "invalid-request")
        problem_in(client.get(f"{url}/first.png"), 422, "invalid-request")
        problem_in(client.get(f"{url}/0.png", params={"window": "brain"}), 422, "invalid-request")
