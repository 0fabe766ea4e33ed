"""What the compute benchmark works on: studies, and checkpoints of real shapes. Made once, and kept in its folder."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pydicom

from big_shapes import write_gemma_shape, write_medgemma_shape, write_medsiglip_shape
from trauma_api.imaging.sandbox.client import Sandbox
from trauma_api.imaging.uploads import UploadedFile, read_upload
from trauma_api.phantom.draw import draw_phantom
from trauma_api.phantom.sample import SAMPLE_ACQUISITION, SAMPLE_SCENARIO, SAMPLE_SEED, write_sample_study
from trauma_api.phantom.series import write_slices
from trauma_api.services.study_storage import StoredStudy, StudyStorage
from trauma_api.settings import Settings

THIN_SLICE_MM = 2.0
KEPT_FOR_S = 24 * 60 * 60
"""No study expires while the benchmark runs."""


@dataclass(frozen=True)
class StudyPlace:
    """A study in a storage below ``root``."""

    root: Path
    study_id: str

    @property
    def storage(self) -> StudyStorage:
        """The storage that it is kept in."""
        return StudyStorage(self.root, ttl_s=KEPT_FOR_S)

    def open(self) -> StoredStudy:
        """The study, with nothing computed of it yet."""
        return self.storage.open(self.study_id)


class Inputs:
    """The inputs, each made when it is first asked for."""

    def __init__(self, folder: Path, slice_count: int) -> None:
        self._folder, self.slice_count = folder, slice_count

    def sample(self) -> list[Path]:
        """The slices of the built-in sample study."""
        return _files(self._made("sample", write_sample_study))

    def denser_sample(self, hu: int) -> list[Path]:
        """The sample, so many HU denser everywhere: a study of its own that is as much work."""
        return _files(self._made(f"sample-{hu}-hu-denser", partial(_write_denser, self.sample(), hu)))

    def thin_slices(self) -> list[Path]:
        """The sample's patient in slices of 2 mm: the middle ``slice_count`` of those from the chest to the thighs."""
        return _files(self._made(f"thin-{self.slice_count}", partial(_write_thin, self.slice_count)))

    def medsiglip_shape(self) -> str:
        """The folder of a triage checkpoint of MedSigLIP-448's shape."""
        return str(self._made("medsiglip", write_medsiglip_shape))

    def gemma_shape(self) -> str:
        """The folder of a reader checkpoint of Gemma 3 270M's shape."""
        return str(self._made("gemma", write_gemma_shape))

    def medgemma_shape(self) -> str:
        """The folder of a reader checkpoint of MedGemma 1.5 4B's shape, 9 GB."""
        return str(self._made("medgemma", write_medgemma_shape))

    @contextmanager
    def root(self) -> Iterator[Path]:
        """An empty folder for a storage, while the context is open."""
        with tempfile.TemporaryDirectory(prefix="studies-", dir=self._folder) as name:
            yield Path(name)

    def _made(self, name: str, write: Callable[[Path], None]) -> Path:
        """The folder of this name; what ``write`` writes appears in it whole or not at all."""
        folder = self._folder / name
        if not folder.is_dir():
            partly = self._folder / f"{name}.partly"
            shutil.rmtree(partly, ignore_errors=True)
            write(partly)
            partly.rename(folder)
        return folder


@contextmanager
def inputs_in(folder: Path | None, slice_count: int) -> Iterator[Inputs]:
    """Inputs that are kept in ``folder`` for the next run, or only while the context is open."""
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as name:
        Path(name).mkdir(parents=True, exist_ok=True)
        yield Inputs(Path(name), slice_count)


def cpu_settings(root: Path | None = None, **more: object) -> Settings:
    """The service's settings, on the CPU, with studies below ``root``."""
    return Settings.model_validate({"device": "cpu", "data_dir": root, "study_ttl_s": KEPT_FOR_S, **more})


def keep(root: Path, *uploads: Sequence[Path]) -> list[StudyPlace]:
    """Read the files of each upload as the service does, and keep the studies below ``root``."""
    storage = StudyStorage(root, ttl_s=KEPT_FOR_S)
    sandbox = Sandbox(1)
    places = []
    try:
        for paths in uploads:
            files = [UploadedFile(position, path) for position, path in enumerate(paths)]
            with tempfile.TemporaryDirectory(dir=storage.spool_root) as folder:
                places.append(StudyPlace(root, storage.save(read_upload(files, Path(folder), sandbox))))
    finally:
        sandbox.close()
    return places


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def _write_denser(sources: Sequence[Path], hu: int, folder: Path) -> None:
    folder.mkdir()
    for source in sources:
        dataset = pydicom.dcmread(source)
        dataset.RescaleIntercept = float(dataset.RescaleIntercept) + hu
        dataset.save_as(folder / source.name)


def _write_thin(slice_count: int, folder: Path) -> None:
    phantom = draw_phantom(SAMPLE_SEED, SAMPLE_SCENARIO, replace(SAMPLE_ACQUISITION, slice_mm=THIN_SLICE_MM))
    drawn = len(phantom.voxels_zyx_hu)
    if drawn < slice_count:
        raise ValueError(f"the phantom has {drawn} slices of {THIN_SLICE_MM} mm, not {slice_count}")
    part = slice((drawn - slice_count) // 2, (drawn - slice_count) // 2 + slice_count)
    write_slices(
        replace(phantom, voxels_zyx_hu=phantom.voxels_zyx_hu[part], labels_zyx=phantom.labels_zyx[part]), folder
    )
