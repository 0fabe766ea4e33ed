"""The study service: the sample is always there, and drawn anew when it was removed."""

import os
import time
from pathlib import Path

import anyio.to_thread
import pytest

from tests.support.studies import write_slices
from trauma_api.imaging.uploads import Stated, UploadedFile
from trauma_api.services.studies import SliceOutOfRangeError, StudyService
from trauma_api.services.study_storage import StudyNotFoundError


class TestSample:
    async def test_it_is_a_study_like_any_other(self, studies: StudyService) -> None:
        sample = await studies.describe("sample")
        assert (sample.source, sample.rows, sample.columns) == ("dicom", 512, 512)
        assert sample.spacing_zyx_mm == [5.0, 0.8, 0.8]
        assert sample.eligibility.status == "eligible"
        assert sample.warnings == []
        by_id = await studies.describe(sample.study_id)
        assert by_id.model_dump(exclude={"expires_at"}) == sample.model_dump(exclude={"expires_at"})

    async def test_it_is_drawn_anew_under_the_same_id_after_it_was_deleted(self, studies: StudyService) -> None:
        first = await studies.describe("sample")
        await studies.delete("sample")
        with pytest.raises(StudyNotFoundError):
            await studies.describe(first.study_id)
        again = await studies.describe("sample")
        assert again.study_id == first.study_id
        assert again.slice_count == first.slice_count

    async def test_it_is_drawn_anew_after_its_time_was_over(self, studies: StudyService, tmp_path: Path) -> None:
        first = await studies.describe("sample")
        long_ago = time.time() - 10_000
        os.utime(tmp_path / "studies" / "kept" / first.study_id, (long_ago, long_ago))
        assert (await studies.describe("sample")).study_id == first.study_id
        assert list(studies.storage.spool_root.iterdir()) == []

    async def test_many_who_ask_at_once_are_given_the_same(self, studies: StudyService) -> None:
        opened: list[str] = []

        async def ask() -> None:
            opened.append((await studies.open("sample")).record.study_id)

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(ask)
        assert len(opened) == 50
        assert len(set(opened)) == 1

    async def test_it_is_known_by_both_names(self, studies: StudyService) -> None:
        sample = await studies.describe("sample")
        assert studies.is_sample("sample")
        assert studies.is_sample(sample.study_id)
        assert not studies.is_sample("0" * 32)


class TestIngest:
    async def test_the_order_of_the_files_does_not_change_the_study(
        self, studies: StudyService, tmp_path: Path
    ) -> None:
        paths = await anyio.to_thread.run_sync(write_slices, tmp_path / "slices", 6)
        ids = set()
        for number, order in enumerate((paths, paths[::-1])):
            scratch = tmp_path / f"scratch{number}"
            scratch.mkdir()
            files = [UploadedFile(position, path) for position, path in enumerate(order)]
            ids.add((await studies.ingest(files, scratch, Stated())).study_id)
        assert len(ids) == 1

    async def test_many_uploads_at_once_wait_for_each_other_and_are_all_read(
        self, studies: StudyService, tmp_path: Path
    ) -> None:
        paths = await anyio.to_thread.run_sync(write_slices, tmp_path / "slices", 9)
        ids: list[str] = []

        async def ingest(number: int) -> None:
            folder = anyio.Path(tmp_path / f"upload{number}")
            await folder.mkdir()
            files = [UploadedFile(position, path) for position, path in enumerate(paths[: number // 8 + 1])]
            ids.append((await studies.ingest(files, Path(folder), Stated())).study_id)

        async with anyio.create_task_group() as group:
            for number in range(64):
                group.start_soon(ingest, number)
        assert len(ids) == 64
        assert len(set(ids)) == 8


class TestPicture:
    async def test_the_last_slice_is_shown_and_the_one_after_it_is_refused(self, studies: StudyService) -> None:
        last = (await studies.describe("sample")).slice_count - 1
        picture = await studies.picture("sample", last, "abdomen", overlay=False)
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        with pytest.raises(SliceOutOfRangeError):
            await studies.picture("sample", last + 1, "abdomen", overlay=False)
