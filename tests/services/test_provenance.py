"""Provenance: results of untrained weights say that they are random."""

from dataclasses import replace
from typing import get_args

import pytest

from tests.support.engines import ConstantSegmenter, engine_info
from trauma_api.engines.base import Role
from trauma_api.services.gate import ComputeGate
from trauma_api.services.ports import LocalSegmentation
from trauma_api.services.provenance import caveats_of, provenance_of
from trauma_api.services.study_storage import StoredStudy, StudyStorage
from trauma_api.services.volume import VolumeService

UNTRAINED = "untrained-checkpoint"


@pytest.mark.parametrize("role", get_args(Role))
def test_an_untrained_checkpoint_is_a_warning_and_a_trained_one_is_none(role: Role) -> None:
    trained = replace(engine_info("reader"), role=role, trained_on="some phantoms")
    assert caveats_of(trained) == []
    (caveat,) = caveats_of(replace(trained, trained_on="untrained"))
    assert caveat.code == UNTRAINED
    assert role in caveat.detail


@pytest.mark.parametrize(("trained_on", "warned"), [("untrained", True), ("some phantoms", False)])
async def test_a_result_holds_the_warning_and_what_the_weights_were_trained_on(
    trained_on: str, warned: bool, gate: ComputeGate, storage: StudyStorage, study: StoredStudy
) -> None:
    segmenter = ConstantSegmenter()
    segmenter.info = replace(segmenter.info, trained_on=trained_on)
    result = await VolumeService(LocalSegmentation(segmenter, gate), storage).run(study)
    assert [item.trained_on for item in result.provenance] == [trained_on]
    assert (UNTRAINED in [warning.code for warning in result.warnings]) == warned


def test_an_adapter_is_named_only_where_it_took_part() -> None:
    info = replace(engine_info("reader"), adapter="an-adapter")
    assert provenance_of(info, 0.12345).adapter == "an-adapter"
    assert provenance_of(info, 0.12345, adapter_on=False).adapter is None
    assert provenance_of(info, 0.12345).duration_s == 0.123
