"""The sample study: the scenario that it says, on thick slices, as files of one CT series and nothing else."""

from pathlib import Path

import pydicom
import pytest

from tests.imaging.series_builder import read
from trauma_api.imaging.volume import CTVolume
from trauma_api.phantom.sample import SAMPLE_SEED, write_sample_study


def test_it_is_an_abdomen_that_the_service_has_nothing_to_say_about(tmp_path: Path) -> None:
    write_sample_study(tmp_path / "sample")

    paths = sorted((tmp_path / "sample").iterdir())
    study = read(paths, tmp_path)

    assert {path.suffix for path in paths} == {".dcm"}
    assert isinstance(study.stack, CTVolume)
    assert study.stack.slice_count == len(paths)
    assert study.stack.shape_yx == (512, 512)
    assert study.stack.spacing_zyx_mm == pytest.approx((5.0, 0.8, 0.8))
    assert study.eligibility.status == "eligible"
    assert study.warnings == ()
    assert pydicom.dcmread(paths[0]).PatientID == f"PHANTOM-{SAMPLE_SEED}"
