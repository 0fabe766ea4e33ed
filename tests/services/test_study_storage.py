"""Studies on disk: kept once, kept while used, gone when their time is over."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.reading import read_files, with_own_file
from trauma_api.imaging.uploads import ReadStudy
from trauma_api.imaging.volume import CTVolume
from trauma_api.services.study_storage import MaskRecord, StoredStudy, StudyNotFoundError, StudyStorage

TTL_S = 60
RECORD = MaskRecord(checkpoint_sha256="a" * 64, threshold=0.5, left_out_ml=1.5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the storage of these tests lies."""
    return tmp_path / "root"


@pytest.fixture
def short_lived(root: Path) -> StudyStorage:
    """A storage that keeps studies for a minute after last use."""
    return StudyStorage(root, ttl_s=TTL_S)


def age(path: Path, seconds: float) -> None:
    """As if it had last been used so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


class TestSave:
    def test_what_was_kept_is_what_is_opened(self, storage: StudyStorage, read_phantom: ReadStudy) -> None:
        opened = storage.open(storage.save(read_phantom))
        assert isinstance(opened.stack, CTVolume)
        assert isinstance(read_phantom.stack, CTVolume)
        np.testing.assert_array_equal(opened.stack.voxels_zyx_hu, read_phantom.stack.voxels_zyx_hu)
        assert opened.stack.voxels_zyx_hu.dtype == read_phantom.stack.voxels_zyx_hu.dtype
        assert opened.stack.spacing_zyx_mm == pytest.approx((5.0, 2.2, 2.2))
        assert opened.record.source == "dicom"

    def test_the_same_content_twice_is_one_study(
        self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy
    ) -> None:
        first, second = short_lived.save(read_phantom), short_lived.save(read_phantom)
        assert first == second
        assert [folder.name for folder in (root / "kept").iterdir()] == [first]

    def test_nothing_is_left_in_the_spool(self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy) -> None:
        short_lived.save(read_phantom)
        short_lived.save(read_phantom)
        assert list((root / "spool").iterdir()) == []

    def test_saving_again_keeps_the_mask(self, storage: StudyStorage, read_phantom: ReadStudy) -> None:
        study_id = storage.save(read_phantom)
        storage.save_mask(study_id, RECORD, np.ones((8, 160, 160), dtype=np.uint8))
        storage.save(read_phantom)
        assert storage.open_mask(study_id) is not None

    def test_folders_are_private(self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy) -> None:
        study_id = short_lived.save(read_phantom)
        for folder in (root / "kept", root / "spool", root / "kept" / study_id):
            assert folder.stat().st_mode & 0o077 == 0

    def test_many_at_once_keep_one_whole_study(
        self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy, tmp_path: Path
    ) -> None:
        saved: list[str] = []
        reads = [with_own_file(read_phantom, tmp_path) for _ in range(6)]
        threads = [threading.Thread(target=lambda read=read: saved.append(short_lived.save(read))) for read in reads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(saved) == 6
        assert len(set(saved)) == 1
        assert short_lived.open(saved[0]).stack.slice_count == 8
        assert list((root / "spool").iterdir()) == []

    def test_pictures_keep_their_stated_spacing_and_window(self, storage: StudyStorage, tmp_path: Path) -> None:
        from PIL import Image

        path = tmp_path / "picture.png"
        Image.new("L", (20, 10), 128).save(path)
        stated: dict[str, Any] = {"spacing_zyx_mm": (5.0, 0.8, 0.7), "window_hu": (-150.0, 250.0)}
        read = read_files([path], tmp_path / "scratch", **stated)
        opened = storage.open(storage.save(read))
        assert opened.stack.spacing_zyx_mm == (5.0, 0.8, 0.7)
        assert getattr(opened.stack, "window_hu", None) == (-150.0, 250.0)


class TestOpen:
    def test_an_unknown_study_is_not_found(self, storage: StudyStorage) -> None:
        with pytest.raises(StudyNotFoundError):
            storage.open("0" * 32)

    def test_a_study_whose_time_is_over_is_not_found_also_before_the_sweep(
        self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy
    ) -> None:
        study_id = short_lived.save(read_phantom)
        age(root / "kept" / study_id, TTL_S + 1)
        with pytest.raises(StudyNotFoundError):
            short_lived.open(study_id)
        with pytest.raises(StudyNotFoundError):
            short_lived.open_mask(study_id)
        with pytest.raises(StudyNotFoundError):
            short_lived.delete(study_id)

    def test_opening_moves_the_end_on(self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy) -> None:
        study_id = short_lived.save(read_phantom)
        folder = root / "kept" / study_id
        age(folder, TTL_S - 10)
        opened = short_lived.open(study_id)
        assert time.time() - folder.stat().st_mtime < 10
        assert opened.expires_at.timestamp() == pytest.approx(time.time() + TTL_S, abs=10)

    def test_saving_again_moves_the_end_on(
        self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy
    ) -> None:
        study_id = short_lived.save(read_phantom)
        age(root / "kept" / study_id, TTL_S + 1)
        assert short_lived.open(short_lived.save(read_phantom)).record.study_id == study_id

    def test_an_open_study_stays_readable_after_it_was_removed(self, storage: StudyStorage, study: StoredStudy) -> None:
        storage.delete(study.record.study_id)
        assert isinstance(study.stack, CTVolume)
        # Air around the phantom.
        assert int(study.stack.voxels_zyx_hu.min()) < -900


class TestDelete:
    def test_a_deleted_study_is_gone_from_disk_with_its_mask(
        self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy
    ) -> None:
        study_id = short_lived.save(read_phantom)
        short_lived.save_mask(study_id, RECORD, np.ones((8, 160, 160), dtype=np.uint8))
        short_lived.delete(study_id)
        assert list((root / "kept").iterdir()) == []
        with pytest.raises(StudyNotFoundError):
            short_lived.open(study_id)
        with pytest.raises(StudyNotFoundError):
            short_lived.delete(study_id)


class TestMask:
    def test_there_is_none_at_first_and_then_the_one_that_was_kept(
        self, storage: StudyStorage, study: StoredStudy
    ) -> None:
        study_id = study.record.study_id
        assert storage.open_mask(study_id) is None
        probability = np.arange(8 * 160 * 160, dtype=np.uint32).astype(np.uint8).reshape(8, 160, 160)
        storage.save_mask(study_id, RECORD, probability)
        kept = storage.open_mask(study_id)
        assert kept is not None
        assert kept.record == RECORD
        np.testing.assert_array_equal(kept.probability_zyx, probability)

    def test_a_mask_of_a_removed_study_is_refused_and_leaves_nothing(
        self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy
    ) -> None:
        study_id = short_lived.save(read_phantom)
        short_lived.delete(study_id)
        with pytest.raises(StudyNotFoundError):
            short_lived.save_mask(study_id, RECORD, np.ones((8, 160, 160), dtype=np.uint8))
        assert list((root / "kept").iterdir()) == []

    def test_a_mask_can_be_read_while_its_threshold_is_written_again(
        self, storage: StudyStorage, study: StoredStudy
    ) -> None:
        study_id = study.record.study_id
        storage.save_mask(study_id, RECORD, np.ones((8, 160, 160), dtype=np.uint8))
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                storage.save_mask_record(study_id, RECORD)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(2000):
                kept = storage.open_mask(study_id)
                assert kept is not None
                assert kept.record == RECORD
        finally:
            stop.set()
            writer.join()


class TestRemoveExpired:
    def test_only_studies_whose_time_is_over_are_removed(
        self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy
    ) -> None:
        study_id = short_lived.save(read_phantom)
        assert short_lived.remove_expired() == 0
        age(root / "kept" / study_id, TTL_S + 1)
        assert short_lived.remove_expired() == 1
        assert list((root / "kept").iterdir()) == []

    def test_spooled_uploads_that_nobody_finished_are_removed(self, root: Path, short_lived: StudyStorage) -> None:
        stale, fresh = root / "spool" / "stale", root / "spool" / "fresh"
        for folder in (stale, fresh):
            folder.mkdir()
            (folder / "0").write_bytes(b"part of a study")
        age(stale / "0", TTL_S + 1)
        age(stale, TTL_S + 1)
        assert short_lived.remove_expired() == 1
        assert list((root / "spool").iterdir()) == [fresh]

    def test_an_upload_that_is_still_arriving_stays(self, root: Path, short_lived: StudyStorage) -> None:
        arriving = root / "spool" / "arriving"
        arriving.mkdir()
        (arriving / "0").write_bytes(b"more comes")
        age(arriving, TTL_S + 1)
        assert short_lived.remove_expired() == 0
        assert arriving.exists()

    def test_an_entry_that_vanishes_meanwhile_does_not_stop_the_sweep(
        self, root: Path, short_lived: StudyStorage, read_phantom: ReadStudy
    ) -> None:
        # A request that ends removes its spool folder between the listing and the look at its age. A link to nowhere
        # is just that: listed, and not there when looked at.
        study_id = short_lived.save(read_phantom)
        age(root / "kept" / study_id, TTL_S + 1)
        (root / "kept" / "vanished").symlink_to(root / "nowhere")
        short_lived.remove_expired()
        assert not (root / "kept" / study_id).exists()
